// Elements and texts. Text from outside becomes a text node, so it is never markup.

const SVG = "http://www.w3.org/2000/svg";

const build = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(2)) {
    if (child !== null && child !== undefined && child !== false && child !== "") element.append(child);
  }
  return element;
};

export const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

// Sets the text of an element only if it differs, so that selections and screen readers are left alone.
export const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

let timer;
export const notify = (text) => {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("shown"), 6000);
};

export const copyButton = (text, label) => h("button", {
  type: "button", class: "copy", "aria-label": `Copy ${label}`,
  onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      notify(`Copied: ${text}`);
    } catch {
      notify(`Could not copy. Copy it by hand: ${text}`);
    }
  },
}, "Copy");

export const commandLine = (text, label) =>
  h("div", { class: "command", role: "group", "aria-label": label }, h("code", { tabindex: 0 }, text), copyButton(text, label));

// ---------------------------------------------------------------- numbers and times

export const percent = (value) => (value === null || value === undefined ? "" : value.toFixed(2));

export const cost = (value) => {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return value === 0 || (size >= 1e-3 && size < 1e4) ? value.toFixed(4) : value.toExponential(1);
};

export const setting = (value) => {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : value;
};

export const plural = (number, thing) => `${number.toLocaleString("en-US")} ${thing}${number === 1 ? "" : "s"}`;

export const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return "\u2013";
  const total = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (hours >= 100) return `${hours} h`;
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
};

export const ago = (seconds) => {
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${plural(Math.floor(seconds / 60), "minute")} ago`;
  if (seconds < 86400) return `${plural(Math.floor(seconds / 3600), "hour")} ago`;
  return `${plural(Math.floor(seconds / 86400), "day")} ago`;
};

// ---------------------------------------------------------------- shared parts

const STATES = { running: "Running", finished: "Finished", interrupted: "Not running", error: "Cannot be shown" };

export const pill = (head) => {
  const state = head.error ? "error" : head.state;
  return h("span", { class: `pill ${state}` }, STATES[state] ?? state);
};

export const progressBar = (fraction, label, kind = "") => {
  const share = Math.min(1, Math.max(0, fraction));
  const fill = h("i", { style: { width: `${(100 * share).toFixed(2)}%` } });
  return h("span", {
    class: `progress ${kind}`, role: "progressbar", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * share),
  }, fill);
};

export const setProgress = (bar, fraction) => {
  const share = Math.min(1, Math.max(0, fraction));
  bar.firstChild.style.width = `${(100 * share).toFixed(2)}%`;
  bar.setAttribute("aria-valuenow", Math.round(100 * share));
};

export const tile = (name, value, note, id) =>
  h("div", { "data-tile": id ?? name }, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "small" }, note));

export const chip = (name, values) => h("span", { class: "chip" }, h("b", {}, name), ` ${values}`);

// The position of an accuracy on an axis that is logarithmic in the error, as on the report page.
export const stretch = (accuracy) => -Math.log10(Math.max(100.005 - accuracy, 1e-3));

export const accuracyScale = (accuracies) => {
  const heights = (accuracies.length ? accuracies : [0, 100]).map(stretch);
  const [low, high] = [Math.min(...heights), Math.max(...heights)];
  const margin = Math.max(0.04 * (high - low), 0.02);
  return (accuracy) => (100 * (stretch(accuracy) - low + margin)) / (high - low + 2 * margin);
};

// Round accuracies between `low` and `high` with places at least `distance` apart: [accuracy, place].
// Those with an error of 1, 2 or 5 times a power of ten come first, then others fill the gaps.
export const accuracyTicks = (low, high, place, distance) => {
  const candidates = [100, 99.5, 0];
  for (const factors of [[1, 2, 5], [3, 4, 6, 7, 8, 9], [1.5, 2.5]]) {
    for (const power of [10, 1, 0.1, 0.01]) candidates.push(...factors.map((factor) => 100 - factor * power));
  }
  const taken = [];
  for (const accuracy of candidates) {
    const at = place(accuracy);
    if (accuracy >= low && accuracy <= high && taken.every(([, other]) => Math.abs(other - at) >= distance)) taken.push([accuracy, at]);
  }
  return taken.map(([accuracy, at]) => [Number(accuracy.toFixed(3)), at]);
};

export const sweepLink = (name) => `#/sweep/${encodeURIComponent(name)}`;
export const cellLink = (name, cell) => `${sweepLink(name)}/${encodeURIComponent(cell)}`;
