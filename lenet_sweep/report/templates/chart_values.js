// The values of a chart at the pointer, or at the point chosen with the arrow keys.

const REACH = 28; // pixels between the pointer and the mark that it shows

// A point of the window in the coordinates of an SVG, and the reverse.
const toSvg = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM().inverse());
const toWindow = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());

// The squared distance from (x, y) to the segment from (x0, y0) to (x1, y1).
function distanceToSegment(x, y, x0, y0, x1, y1) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const along = length ? Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
  return (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2;
}

// The squared distance from (x, y) to a mark, and its closest point.
function closestPoint(mark, x, y, lines) {
  let [distance, index, toPoint] = [Infinity, 0, Infinity];
  for (let n = 0; n < mark.x.length; n++) {
    const point = (x - mark.x[n]) ** 2 + (y - mark.y[n]) ** 2;
    if (point < toPoint) [toPoint, index] = [point, n];
    const line = lines && n
      ? distanceToSegment(x, y, mark.x[n - 1], mark.y[n - 1], mark.x[n], mark.y[n]) : point;
    distance = Math.min(distance, line, point);
  }
  return { distance, index };
}

class ChartValues {
  // svg: the chart. data: its marks, as marks.py describes them.
  constructor(svg, data) {
    Object.assign(this, { svg, data, chosen: null, index: 0 });
    this.ring = appendSvg(svg, "circle", { class: "ring", r: 6, visibility: "hidden" });
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-roledescription", "chart");
    svg.setAttribute("aria-describedby", "chart-help");
    this.status = element("p", { class: "visually-hidden", "aria-live": "polite" });
    svg.after(this.status);
    svg.addEventListener("pointermove", (event) => this.follow(event));
    svg.addEventListener("pointerdown", (event) => this.follow(event)); // touch
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !isAtRest(event)) this.hide();
    });
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && this.show(this.first(), 0, true));
    svg.addEventListener("blur", () => this.hide());
    svg.addEventListener("keydown", (event) => this.move(event));
  }

  // The marks that no filter hides.
  get marks() {
    return this.data.marks.filter((mark) => !mark.dropped);
  }

  first() {
    return this.chosen && !this.chosen.dropped ? this.chosen : this.marks[0];
  }

  follow(event) {
    const isDrag = event.type === "pointermove" && event.buttons && event.pointerType === "mouse";
    if (isDrag || isAtRest(event)) return;
    const { x, y } = toSvg(this.svg, event.clientX, event.clientY);
    let best = null;
    for (const mark of this.marks) {
      const found = closestPoint(mark, x, y, this.data.lines);
      if (!best || found.distance < best.distance) best = { mark, ...found };
    }
    const reach = REACH / this.svg.getScreenCTM().a;
    if (best && best.distance <= reach ** 2) this.show(best.mark, best.index);
    else this.hide();
  }

  // Values of the point with this index: [name, text] pairs.
  pairs(mark, index) {
    const texts = mark.values.map((value) => (typeof value === "string" ? value : value[index]));
    return this.data.columns.map((name, n) => [name, texts[n]]).filter(([, text]) => text);
  }

  show(mark, index, announced = false) {
    if (!mark) return;
    this.chosen = mark;
    this.index = Math.min(index, mark.x.length - 1);
    const [x, y] = [mark.x[this.index], mark.y[this.index]];
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    this.ring.setAttribute("visibility", "visible");
    this.highlight(mark.key);
    const anchor = () => {
      const { x: left, y: top } = toWindow(this.svg, x, y);
      return new DOMRect(left - 4, top - 4, 8, 8);
    };
    const pairs = this.pairs(mark, this.index);
    showTip(anchor, mark.name, pairs, announced);
    if (announced)
      this.status.textContent = [mark.name, ...pairs.map((pair) => pair.join(" "))].join(", ");
  }

  // Emphasize the line with this key; null: all lines alike.
  highlight(key) {
    const found = key !== null && this.data.lines;
    this.svg.classList.toggle("focused", found);
    for (const part of this.svg.querySelectorAll("[data-mark]"))
      part.classList.toggle("active", found && Number(part.dataset.mark) === key);
  }

  hide() {
    this.ring.setAttribute("visibility", "hidden");
    this.highlight(null);
    hideTip();
  }

  move(event) {
    if (event.target !== this.svg) return;
    const marks = this.marks;
    const place = marks.indexOf(this.first());
    if (place < 0) return;
    const { x } = marks[place];
    const last = x.length - 1;
    const across = { ArrowDown: place + 1, ArrowUp: place - 1 }[event.key];
    const along = { ArrowRight: this.index + 1, ArrowLeft: this.index - 1, Home: 0, End: last }[event.key];
    if (across === undefined && along === undefined) return;
    event.preventDefault();
    if (across !== undefined) {
      const mark = marks[(across + marks.length) % marks.length];
      this.show(mark, this.data.lines ? indexAt(mark, x[this.index]) : 0, true);
    } else if (last === 0) { // single points: the arrow keys move between marks
      const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: marks.length - 1 }[event.key];
      this.show(marks[(next + marks.length) % marks.length], 0, true);
    } else {
      this.show(marks[place], Math.max(0, Math.min(last, along)), true);
    }
  }
}

// The index of the point of a mark that is closest to x.
function indexAt(mark, x) {
  let best = 0;
  mark.x.forEach((value, n) => {
    if (Math.abs(value - x) < Math.abs(mark.x[best] - x)) best = n;
  });
  return best;
}

const charts = new WeakMap(); // by SVG
function addValues(svg, data) {
  charts.set(svg, new ChartValues(svg, data));
}

document.body.append(element("p", { id: "chart-help", hidden: "" },
  "Left and right arrow keys: move between points. Up and down arrow keys: move between lines."));
for (const svg of document.querySelectorAll("svg.chart")) {
  const title = svg.querySelector("title"); // which the browser would show as another tooltip
  svg.dataset.name = title.id.replace(/-title$/, "");
  svg.removeAttribute("aria-labelledby");
  svg.setAttribute("aria-label", title.textContent);
  title.remove();
  const metadata = svg.querySelector("metadata");
  if (metadata) addValues(svg, JSON.parse(metadata.textContent));
}

// An entry of a legend emphasizes its line in all visible charts of its section.
for (const entry of document.querySelectorAll(".legend li[data-key]")) {
  const each = (key) => {
    for (const svg of entry.closest("section").querySelectorAll("svg.chart"))
      charts.get(svg)?.highlight(key);
  };
  entry.addEventListener("pointerenter", () => each(Number(entry.dataset.key)));
  entry.addEventListener("pointerleave", () => each(null));
}

for (const figure of document.querySelectorAll("figure.switched")) {
  figure.addEventListener("change", (event) => {
    for (const part of figure.querySelectorAll("[data-scale]"))
      part.hidden = part.dataset.scale !== event.target.value;
  });
}
