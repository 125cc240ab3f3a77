// Ranges on the axes of the parallel coordinates, which filter the table.

class RangeAxis {
  // levels: of one axis, as marks.py describes them. changed: called after each change.
  constructor(svg, levels, changed) {
    Object.assign(this, { svg, levels, changed, range: null });
    this.last = levels.y.length - 1;
    const group = appendSvg(svg, "g", { class: "controls" });
    const [bottom, upper] = [levels.y[0], levels.y[this.last]];
    this.area = appendSvg(group, "rect", {
      class: "area", x: levels.x - 12, width: 24, y: upper - 12, height: bottom - upper + 24,
    });
    this.bar = appendSvg(group, "rect", { class: "range", x: levels.x - 5, width: 10, rx: 3 });
    this.handles = [0, 1].map((end) => this.addHandle(group, end));
    this.area.addEventListener("pointerdown", (event) => this.drag(event));
    this.draw();
  }

  // The handle of the low (0) or the high end (1).
  addHandle(group, end) {
    const handle = appendSvg(group, "g", {
      class: "handle", role: "slider", tabindex: 0, "aria-orientation": "vertical",
      "aria-label": `${this.levels.name}, ${end ? "highest" : "lowest"} value`,
      "aria-valuemin": 0, "aria-valuemax": this.last,
    });
    appendSvg(handle, "rect", { class: "area", x: -12, y: -8, width: 24, height: 16 });
    appendSvg(handle, "rect", { class: "grip", x: -7, y: -2.5, width: 14, height: 5, rx: 2.5 });
    handle.addEventListener("keydown", (event) => this.press(event, end));
    handle.addEventListener("focus", () => this.tell());
    handle.addEventListener("blur", hideTip);
    handle.addEventListener("pointerdown", (event) => this.drag(event, end));
    return handle;
  }

  get ends() {
    return this.range ?? [0, this.last];
  }

  set(low, high) {
    const range = low <= 0 && high >= this.last ? null : [Math.max(0, low), Math.min(this.last, high)];
    if (String(range) === String(this.range)) return;
    this.range = range;
    this.draw();
    this.changed();
    this.tell();
  }

  // The range as text, such as "lr 0.001 to 0.01".
  get text() {
    const [from, to] = this.ends.map((level) => this.levels.labels[level]);
    return `${this.levels.name} ${from}${from === to ? "" : ` to ${to}`}`;
  }

  // Show the range beside the axis.
  tell() {
    showTip(() => this.handles[1].getBoundingClientRect(), this.text, [], true);
  }

  draw() {
    const [low, high] = this.ends;
    const places = [this.levels.y[low] + 8, this.levels.y[high] - 8];
    this.handles.forEach((handle, end) => {
      handle.setAttribute("transform", `translate(${this.levels.x} ${places[end]})`);
      handle.setAttribute("aria-valuenow", [low, high][end]);
      handle.setAttribute("aria-valuetext", this.levels.labels[[low, high][end]]);
    });
    this.bar.setAttribute("y", places[1]);
    this.bar.setAttribute("height", places[0] - places[1]);
    this.bar.setAttribute("visibility", this.range ? "visible" : "hidden");
  }

  press(event, end) {
    const page = Math.max(1, Math.round(this.last / 10));
    const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: page, PageDown: -page,
                   Home: -this.last, End: this.last }[event.key];
    if (event.key === "Escape" || event.key === "Delete") this.set(0, this.last);
    if (!step) return;
    event.preventDefault();
    const [low, high] = this.ends;
    if (end) this.set(low, Math.min(this.last, Math.max(low, high + step)));
    else this.set(Math.max(0, Math.min(high, low + step)), high);
  }

  // Drag a new range, or one end of the range. A click selects the level there, or clears the range.
  drag(event, end) {
    if (event.button > 0) return;
    event.preventDefault();
    event.stopPropagation();
    const place = (moved) => toSvg(this.svg, moved.clientX, moved.clientY).y;
    const start = end === undefined ? place(event) : this.levels.y[this.ends[1 - end]];
    const source = event.currentTarget;
    let moved = false;
    const listeners = new AbortController(); // a canceled drag must not leave a listener behind
    const follow = (later) => {
      later.stopPropagation(); // the chart does not show values during a drag
      if (Math.abs(place(later) - place(event)) > 3) moved = true;
      if (moved) this.select(start, place(later), end);
    };
    const finish = (later) => {
      listeners.abort();
      if (moved) hideTip();
      if (!moved && end === undefined && later.type === "pointerup") this.click(place(event));
    };
    source.setPointerCapture(event.pointerId);
    for (const [type, listener] of [["pointermove", follow], ["pointerup", finish], ["pointercancel", finish]])
      source.addEventListener(type, listener, { signal: listeners.signal });
  }

  // Select the levels between two heights; at least the closest one if an end is dragged.
  select(from, to, end) {
    const [above, below] = [Math.min(from, to) - 3, Math.max(from, to) + 3];
    const inside = this.levels.y.flatMap((y, level) => (y >= above && y <= below ? [level] : []));
    if (inside.length) this.set(inside[0], inside.at(-1));
    else if (end === undefined) this.set(0, this.last);
  }

  click(height) {
    const distances = this.levels.y.map((y) => Math.abs(y - height));
    const closest = distances.indexOf(Math.min(...distances));
    if (this.range || distances[closest] > 10) this.set(0, this.last);
    else this.set(closest, closest);
  }

  accepts(row) {
    const level = this.levels.rows[row];
    return !this.range || (level !== null && level >= this.range[0] && level <= this.range[1]);
  }
}

function addRanges(svg, data) {
  let frame = 0;
  const changed = () => { // filter a large table at most once per frame
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      applyFilters();
    });
  };
  const rangeAxes = data.levels.map((levels) => new RangeAxis(svg, levels, changed));
  filters.push({
    accepts: () => (group) => rangeAxes.every((axis) => axis.accepts(group.index)),
    active: () => rangeAxes.some((axis) => axis.range),
    text: () => rangeAxes.filter((axis) => axis.range).map((axis) => axis.text).join(", "),
    clear() {
      for (const axis of rangeAxes) {
        axis.range = null;
        axis.draw();
      }
    },
  });
  const lines = new Map([...svg.querySelectorAll("[data-mark]")].map((line) => [Number(line.dataset.mark), line]));
  afterFiltering.push(() => {
    for (const mark of data.marks) {
      mark.dropped = groups[mark.key].body.hidden;
      lines.get(mark.key)?.classList.toggle("dropped", mark.dropped);
    }
  });
  const matches = element("p", { class: "matches only-filtered", hidden: "" },
    element("output", { "aria-live": "off" }), " ",
    element("button", { type: "button", class: "clear-filter" }, "Clear filter"), " ",
    element("a", { href: "#table" }, "Show the table"));
  const figure = svg.closest("figure");
  figure.querySelector(".scroll").after(matches);
  figure.querySelector("figcaption").append(
    " To filter the table, drag along an axis, or move its handles with the arrow keys.");
  applyFilters();
}

for (const svg of document.querySelectorAll("svg.chart")) {
  const { data } = charts.get(svg) ?? {};
  if (table && data?.levels) addRanges(svg, data);
}
