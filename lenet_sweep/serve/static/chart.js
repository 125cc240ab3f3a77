// A line chart that is redrawn while it grows.

import { accuracyTicks, h, setText, stretch, svg } from "./dom.js";

const MARKERS = {
  0: (x, y) => svg("circle", { cx: x, cy: y, r: 3 }),
  1: (x, y) => svg("rect", { x: x - 2.8, y: y - 2.8, width: 5.6, height: 5.6 }),
  2: (x, y) => svg("path", { d: `M${x} ${y - 4}L${x + 4} ${y}L${x} ${y + 4}L${x - 4} ${y}Z` }),
  3: (x, y) => svg("path", { d: `M${x} ${y - 3.8}L${x + 3.8} ${y + 3}L${x - 3.8} ${y + 3}Z` }),
  4: (x, y) => svg("path", { d: `M${x} ${y + 3.8}L${x + 3.8} ${y - 3}L${x - 3.8} ${y - 3}Z` }),
  5: (x, y) => svg("path", { d: `M${x - 1.3} ${y - 4}h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7Z` }),
};

const linear = { to: (value) => value, valid: () => true };
const logarithmic = { to: (value) => Math.log10(value), valid: (value) => value > 0 };
const error = { to: stretch, valid: () => true };

const round = (number) => Number(number.toPrecision(12));

// Round numbers from `low` to `high`, about `count` of them.
const roundTicks = (low, high, count) => {
  const raw = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(round(tick));
  return ticks;
};

const logTicks = (low, high) => {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of [1, 2, 5]) ticks.push(round(factor * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
};

const tickText = (tick) => (tick !== 0 && (Math.abs(tick) < 1e-3 || Math.abs(tick) >= 1e5) ? tick.toExponential(0) : String(round(tick)));

export class LineChart {
  // kind: "accuracy" (percent, the log scale is that of the error) or "cost".
  constructor({ title, kind, format, height = 300 }) {
    this.kind = kind;
    this.format = format;
    this.height = height;
    this.scale = "log";
    this.series = [];
    this.svg = svg("svg", { class: "live-chart", role: "img", height });
    this.tip = h("div", { class: "tip", hidden: true });
    const name = `scale-${Math.random().toString(36).slice(2)}`;
    this.name = name;
    this.hidden = 0; // curves that are outside the axis
    const radio = (value) => h("label", {}, h("input", {
      type: "radio", name, value, checked: value === "log",
      onchange: () => { this.scale = value; this.draw(); },
    }), ` ${value}`);
    this.element = h("figure", { class: "switched live-figure" },
      h("figcaption", {}, title),
      h("fieldset", { class: "switch" }, h("legend", { class: "visually-hidden" }, `Scale of ${title}`), radio("log"), radio("linear")),
      h("div", { class: "plot" }, this.svg, this.tip));
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.unpoint());
    this.width = 0;
    this.observer = new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - this.width) > 1) {
        this.width = entry.contentRect.width;
        this.draw();
      }
    });
    this.observer.observe(this.element);
  }

  // series: {id, name, slot, points, live, href}, best first; slot -1: gray. dash: "" or a pattern.
  set(series, description) {
    this.series = series.filter((each) => each.points.length);
    this.svg.setAttribute("aria-label", description);
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const { width, height } = this;
    const transform = this.scale === "linear" ? linear : this.kind === "accuracy" ? error : logarithmic;
    const box = { left: 46, right: width - 14, top: 10, bottom: height - 38 };
    // The colored curves fit; gray ones may be worse than the axis shows.
    const isFitted = ({ slot }) => slot >= 0 || this.series.every((each) => each.slot < 0);
    const worse = this.kind === "accuracy" ? (value) => value < low : (value) => value > high;
    let [lastX, low, high] = [1, Infinity, -Infinity];
    for (const each of [...this.series].sort((a, b) => isFitted(b) - isFitted(a))) {
      for (const [x, y] of each.points) {
        if (!transform.valid(y)) continue;
        if (x > lastX) lastX = x;
        if (!isFitted(each) && worse(y)) continue;
        if (y < low) low = y;
        if (y > high) high = y;
      }
    }
    this.hidden = this.series.filter(({ points }) => points.every(([, y]) => !transform.valid(y) || worse(y))).length;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    if (low > high) {
      this.svg.replaceChildren(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "axis" }, "No epoch has ended yet."));
      return;
    }
    let [bottom, top] = [transform.to(low), transform.to(high)];
    const margin = Math.max(0.05 * (top - bottom), 1e-3 * Math.max(1, Math.abs(top)));
    [bottom, top] = [bottom - margin, top + margin];
    const firstX = lastX > 1 ? 1 : 0;
    const x = (epoch) => box.left + ((epoch - firstX) / Math.max(1, lastX - firstX)) * (box.right - box.left);
    const y = (value) => box.bottom - ((transform.to(value) - bottom) / (top - bottom)) * (box.bottom - box.top);
    this.places = { x, y, box, transform, bottom, top };
    const parts = [...this.axes(lastX, firstX, low, high, transform)];
    const path = (points) => {
      let d = "";
      for (const [epoch, value] of points) {
        if (transform.valid(value)) d += `${d ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`;
      }
      return d;
    };
    const gray = this.series.filter((each) => each.slot < 0).map((each) => path(each.points)).join("");
    if (gray) {
      const id = `clip-${this.name}`;
      const area = svg("rect", { x: box.left, y: 0, width: width - box.left, height: box.bottom });
      parts.push(svg("clipPath", { id }, area), svg("path", { d: gray, class: "gray", "clip-path": `url(#${id})` }));
    }
    // The best curve is on top, and a curve that is part of a longer one is not hidden.
    for (const each of this.series.filter((one) => one.slot >= 0).reverse().sort((a, b) => b.points.length - a.points.length)) {
      const group = svg("g", { class: `series-${each.slot}` },
        svg("path", { d: path(each.points), class: "line", "stroke-dasharray": each.dash }));
      const step = Math.floor(each.points.length / 12) + 1;
      each.points.forEach(([epoch, value], at) => {
        const isLast = at === each.points.length - 1;
        if (!transform.valid(value) || each.dash || !(isLast || at % step === 0)) return;
        if (isLast && each.live) group.append(svg("circle", { cx: x(epoch), cy: y(value), r: 7, class: "pulse" }));
        const marker = MARKERS[each.slot](x(epoch), y(value));
        marker.setAttribute("class", "marker");
        group.append(marker);
      });
      parts.push(group);
    }
    this.cross = svg("g", { class: "cross" });
    this.svg.replaceChildren(...parts, this.cross);
    if (this.pointer) this.show(...this.pointer);
  }

  * axes(lastX, firstX, low, high, transform) {
    const { x, y, box } = this.places;
    const count = Math.max(2, Math.floor((box.bottom - box.top) / 42));
    let ticks = roundTicks(low, high, count);
    if (transform === error) ticks = accuracyTicks(low, high, y, 32).map(([tick]) => tick).concat(stretch(high) - stretch(low) < 0.1 ? ticks : []);
    if (transform === logarithmic) ticks = [...logTicks(low, high), ...(high / low < 4 ? ticks : [])];
    let taken = [];
    for (const tick of [...new Set(ticks)].sort((a, b) => a - b)) {
      const place = y(tick);
      if (!Number.isFinite(place) || taken.some((other) => Math.abs(other - place) < 20)) continue;
      taken.push(place);
      yield svg("line", { x1: box.left, x2: box.right, y1: place, y2: place, class: "grid" });
      yield svg("text", { x: box.left - 7, y: place + 4, "text-anchor": "end", class: "axis" }, tickText(tick));
    }
    taken = [];
    for (const tick of roundTicks(firstX, lastX, Math.max(2, (box.right - box.left) / 70))) {
      if (!Number.isInteger(tick)) continue;
      yield svg("line", { x1: x(tick), x2: x(tick), y1: box.bottom, y2: box.bottom + 4, class: "tick" });
      yield svg("text", { x: x(tick), y: box.bottom + 17, "text-anchor": "middle", class: "axis" }, tickText(tick));
    }
    yield svg("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "tick" });
    yield svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 33, "text-anchor": "middle", class: "axis" }, "Epoch");
  }

  // ---------------------------------------------------------------- what the pointer shows

  point(event) {
    const frame = this.svg.getBoundingClientRect();
    this.pointer = [event.clientX - frame.left, event.clientY - frame.top];
    this.show(...this.pointer);
  }

  unpoint() {
    this.pointer = null;
    this.tip.hidden = true;
    this.cross?.replaceChildren();
  }

  show(left, top) {
    const { x, y, transform, bottom, top: highest } = this.places ?? {};
    if (!x) return;
    let [nearest, distance] = [null, 60 ** 2];
    for (const series of this.series) {
      for (const [epoch, value] of series.points) {
        if (!transform.valid(value) || transform.to(value) < bottom || transform.to(value) > highest) continue;
        const away = (x(epoch) - left) ** 2 + (y(value) - top) ** 2 * (series.slot < 0 ? 2 : 1);
        if (away < distance) [nearest, distance] = [{ series, epoch, value }, away];
      }
    }
    this.tip.hidden = !nearest;
    this.cross.replaceChildren();
    if (!nearest) return;
    const [placeX, placeY] = [x(nearest.epoch), y(nearest.value)];
    this.cross.append(svg("circle", { cx: placeX, cy: placeY, r: 5.5, class: "pointed" }));
    setText(this.tip, `${nearest.series.name}: ${this.format(nearest.value)} after epoch ${nearest.epoch}`);
    this.tip.style.left = `${Math.min(Math.max(placeX, 90), this.width - 90)}px`;
    this.tip.style.top = `${placeY}px`;
    this.tip.classList.toggle("below", placeY < 70);
  }

  close() {
    this.observer.disconnect();
  }
}

// A legend of the colored series, with links to their cells.
export const legend = (series, gray) => h("ul", { class: "legend" },
  series.filter((each) => each.slot >= 0).map((each) => {
    const symbol = svg("svg", { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": true, class: `series-${each.slot}` },
      svg("path", { d: "M1 5H25", class: "line", "stroke-dasharray": each.dash }));
    if (!each.dash) {
      const marker = MARKERS[each.slot](13, 5);
      marker.setAttribute("class", "marker");
      symbol.append(marker);
    }
    return h("li", { class: each.live ? "now" : "" }, symbol, " ", each.href ? h("a", { href: each.href }, each.name) : each.name,
      each.live ? h("span", { class: "visually-hidden" }, " (running)") : null);
  }),
  gray ? h("li", { class: "others" }, svg("svg", { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": true }, svg("path", { d: "M1 5H25", class: "gray" })), ` ${gray}`) : null);
