// One tooltip for the whole page, and arrow keys that move the focus within tables and lists.

const tip = element("div", { id: "tip", role: "tooltip", hidden: "" });
document.body.append(tip);

let tipAnchor = () => new DOMRect();
let tipFromKeyboard = false;
const pointer = { x: NaN, y: NaN };
addEventListener("pointermove", (event) => Object.assign(pointer, { x: event.clientX, y: event.clientY }));

// Whether the page moved below a resting pointer, which leaves the values at the keyboard focus.
function isAtRest(event) {
  return tipFromKeyboard && !tip.hidden && event.clientX === pointer.x && event.clientY === pointer.y;
}

// Show lines of text and [name, value] pairs beside a rectangle of the window, which `anchor`
// returns. The first of several lines, or the only line above pairs, is a heading.
function showTip(anchor, text, pairs = [], fromKeyboard = false) {
  const list = element("dl");
  for (const [name, value] of pairs) list.append(element("dt", {}, name), element("dd", {}, value));
  const lines = text.split("\n").map((line) => element("p", {}, line));
  tip.replaceChildren(...lines, ...(pairs.length ? [list] : []));
  tip.hidden = false;
  tipAnchor = anchor;
  tipFromKeyboard = fromKeyboard;
  placeTip();
}

function placeTip() {
  if (tip.hidden) return;
  const mark = tipAnchor();
  const { width, height } = tip.getBoundingClientRect();
  const fitsRight = mark.right + 10 + width <= document.documentElement.clientWidth - 4;
  const fitsLeft = mark.left - 10 - width >= 4;
  const left = fitsRight ? mark.right + 10 : fitsLeft ? mark.left - 10 - width : (mark.left + mark.right - width) / 2;
  const above = mark.top - height - 8;
  const most = document.documentElement.clientWidth - width - 4;
  tip.style.left = `${Math.max(4, Math.min(left, most))}px`;
  tip.style.top = `${above >= 4 ? above : Math.min(mark.bottom + 8, innerHeight - height - 4)}px`;
}

function hideTip() {
  tip.hidden = true;
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
document.addEventListener("scroll", placeTip, { capture: true, passive: true });

// Elements with a title show it in the tooltip, which is faster and also works with the keyboard.
for (const titled of document.querySelectorAll("main [title]:not(button)")) {
  titled.dataset.tip = titled.title;
  titled.removeAttribute("title");
}

function showTitle(event) {
  const text = event.target.closest?.("[data-tip]")?.dataset.tip;
  if (!text || isAtRest(event)) return;
  const titled = event.target.closest("[data-tip]");
  showTip(() => titled.getBoundingClientRect(), text, [], event.type === "focusin");
}

function hideTitle(event) {
  if (event.target.closest?.("[data-tip]") && !isAtRest(event)) hideTip();
}
for (const type of ["pointerover", "focusin"]) document.addEventListener(type, showTitle);
for (const type of ["pointerout", "focusout"]) document.addEventListener(type, hideTitle);

// The items are one tab stop; the arrow keys move between them. columns: of a table, else 1.
function makeRoving(container, items, columns = 1) {
  if (!items.length) return;
  items.forEach((item, index) => {
    item.tabIndex = index ? -1 : 0;
    item.setAttribute("aria-describedby", "tip");
  });
  container.addEventListener("keydown", (event) => {
    const index = items.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (index < 0 || !step) return;
    event.preventDefault();
    const visible = items.filter((item) => item.checkVisibility());
    const next = visible[visible.indexOf(event.target) + step];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
for (const table of document.querySelectorAll("table.map")) {
  const columns = table.tHead.rows[0].cells.length - 1;
  makeRoving(table, [...table.querySelectorAll("tbody td")], columns);
}
for (const list of document.querySelectorAll("ul.pictures")) makeRoving(list, [...list.children]);
