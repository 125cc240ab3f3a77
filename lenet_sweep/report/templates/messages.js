// Messages at the bottom of the page, the clipboard, and small helpers for building elements.

const toast = document.getElementById("toast");
let toastTimer;

function notify(text) {
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("shown"), 6000);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea"); // without the clipboard API
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const done = await copyText(button.dataset.copy);
  button.focus();
  notify((done ? "Copied: " : "Could not copy. Copy it by hand: ") + button.dataset.copy);
});

// An HTML element with attributes and children; strings become text, never markup.
function element(name, attributes = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

// An SVG element with attributes, appended to `parent`.
function appendSvg(parent, name, attributes = {}, text = "") {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.textContent = text;
  parent.append(created);
  return created;
}

const plural = (count, noun) => `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;

const pageData = JSON.parse(document.getElementById("page-data").textContent);
