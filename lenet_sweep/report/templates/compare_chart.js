// Charts of two learning curves, in the style of the other charts.

const FRAME = { width: 360, height: 230, left: 58, right: 8, top: 8, bottom: 34 };

// Round numbers from low to high, about `count` of them.
function roundTicks(low, high, count) {
  const power = 10 ** Math.floor(Math.log10((high - low) / count || 1));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power * count >= high - low);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high + step / 1e6; n++)
    ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

// Axes: `height` is increasing, `ticks` are values between two others.
const linearAxis = { height: (value) => value, ticks: (low, high) => roundTicks(low, high, 5) };
const logAxis = {
  height: (value) => Math.log10(Math.max(value, 1e-12)),
  ticks(low, high) {
    const powers = Array.from({ length: 51 }, (_, n) => 10 ** (n - 12));
    const ticks = powers.flatMap((power) => [1, 2, 5].map((factor) => Number((factor * power).toPrecision(3))));
    return ticks.filter((tick) => tick >= low && tick <= high);
  },
};
const errorAxis = { // logarithmic in the error, like stretch() in encodings.py
  height: (accuracy) => -Math.log10(Math.max(100.005 - accuracy, 1e-3)),
  ticks(low, high) {
    const ticks = [0, 20, 50, 70, 80, 90, 93, 95, 97, 98, 98.5, 99, 99.3, 99.5, 99.7, 99.8, 99.9, 100];
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    return inside.length > 2 ? inside : roundTicks(low, high, 4).filter((tick) => tick <= 100);
  },
};

function costAxis(costs) {
  const positive = costs.every((cost) => cost > 0);
  return positive && Math.max(...costs) > 10 * Math.min(...costs) ? logAxis : linearAxis;
}

// An SVG with the curves of two rows, and its marks. quantity: "cost" or "accuracy". names: of the
// rows.
function drawCurves(curves, names, quantity, title) {
  const { width, height, left, right, top: above, bottom: below } = FRAME;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({
    class: "chart", viewBox: `0 0 ${width} ${height}`, style: `--width:${width}px`, "aria-label": title,
  })) svg.setAttribute(name, value);
  svg.dataset.name = `comparison-${quantity}`;
  const values = curves.flatMap((curve) => curve[quantity]);
  const axis = quantity === "cost" ? costAxis(values) : errorAxis;
  const [lowest, highest] = [Math.min(...values), Math.max(...values)];
  const [low, high] = [axis.height(lowest), axis.height(highest)];
  const margin = 0.05 * (high - low) || 0.05;
  const last = Math.max(...curves.map((curve) => curve.epochs.at(-1)));
  const x = (epoch) => left + 6 + ((epoch - 1) / Math.max(1, last - 1)) * (width - left - right - 12);
  const y = (value) => height - below
    - ((axis.height(value) - low + margin) / (high - low + 2 * margin)) * (height - above - below);

  const text = (attributes, content) =>
    appendSvg(svg, "text", { fill: "var(--quiet)", style: "font-size:11px", ...attributes }, content);
  const line = (attributes) => appendSvg(svg, "line", { stroke: "var(--line)", ...attributes });
  let previous = Infinity;
  for (const tick of axis.ticks(lowest, highest)) {
    if (previous - y(tick) < 15) continue;
    previous = y(tick);
    line({ x1: left, x2: width - right, y1: y(tick), y2: y(tick) });
    text({ x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
  }
  for (const epoch of roundTicks(1, Math.max(2, last), 6).filter((tick) => Number.isInteger(tick) && tick >= 1))
    text({ x: x(epoch), y: height - below + 15, "text-anchor": "middle" }, String(epoch));
  line({ x1: left, x2: left, y1: above, y2: height - below, stroke: "var(--quiet)" });
  line({ x1: left, x2: width - right, y1: height - below, y2: height - below, stroke: "var(--quiet)" });
  text({ x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "Epoch");
  const middle = (above + height - below) / 2;
  const label = quantity === "cost" ? `Cost${axis === logAxis ? " (log scale)" : ""}` : "Accuracy (%), log error scale";
  text({ transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, label);

  const marks = curves.map((curve, key) => ({
    key, name: names[key],
    x: curve.epochs.map(x),
    y: curve[quantity].map(y),
    values: [curve.epochs.map(String),
             curve[quantity].map((value) => (quantity === "cost" ? String(value) : value.toFixed(2)))],
  }));
  for (const mark of [...marks].reverse()) {
    const color = `var(--series-${mark.key})`;
    const group = appendSvg(svg, "g", { "data-mark": mark.key });
    const points = mark.x.map((value, n) => `${value.toFixed(1)},${mark.y[n].toFixed(1)}`).join(" ");
    appendSvg(group, "polyline", { points, fill: "none", stroke: color, "stroke-width": 2 });
    const every = Math.ceil(mark.x.length / 12);
    mark.x.forEach((value, n) => {
      if (n % every) return;
      const place = { fill: color, stroke: "var(--paper)", "stroke-width": 0.6 };
      if (mark.key) appendSvg(group, "rect", { ...place, x: value - 3, y: mark.y[n] - 3, width: 6, height: 6 });
      else appendSvg(group, "circle", { ...place, cx: value, cy: mark.y[n], r: 3.4 });
    });
  }
  const unit = quantity === "cost" ? "cost" : "accuracy (%)";
  return [svg, { columns: ["epoch", unit], lines: true, marks }];
}
