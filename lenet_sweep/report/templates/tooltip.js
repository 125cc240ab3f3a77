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

// The items that match a selector are one tab stop; the arrow keys move between the visible ones.
// columns: of a table, else 1. Returns a function to call after items were hidden, so that a
// visible one is the tab stop.
function makeRoving(container, selector, columns = 1) {
  const items = [...container.querySelectorAll(selector)];
  let stop = items[0];
  const moveTo = (item) => {
    stop.tabIndex = -1;
    stop = item;
    stop.tabIndex = 0;
  };
  for (const item of items) {
    item.tabIndex = item === stop ? 0 : -1;
    item.setAttribute("aria-describedby", "tip");
  }
  container.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (!step || !items.includes(event.target)) return;
    event.preventDefault();
    const ordered = [...container.querySelectorAll(selector)]; // a table may have been sorted
    const visible = ordered.filter((item) => item.checkVisibility());
    const next = visible[visible.indexOf(event.target) + step];
    if (!next) return;
    moveTo(next);
    next.focus();
  });
  return () => {
    if (!stop || stop.checkVisibility()) return;
    const visible = [...container.querySelectorAll(selector)].find((item) => item.checkVisibility());
    if (visible) moveTo(visible);
  };
}
for (const table of document.querySelectorAll("table.map"))
  makeRoving(table, "tbody td", table.tHead.rows[0].cells.length - 1);
for (const list of document.querySelectorAll("ul.pictures")) makeRoving(list, "li");
