// One cell: its numbers, curves, settings, failure, and the test images it misclassifies.

import { LineChart, legend } from "./chart.js";
import { commandLine, cost, h, percent, plural, setText, sweepLink, tile } from "./dom.js";
import { Sweep } from "./model.js";
import { statusText } from "./sweep_view.js";

const RELOAD = 10000; // milliseconds between two readings of the details while the cell trains

export class CellView {
  constructor(name, id) {
    this.sweep = new Sweep(name);
    this.id = id;
    this.streams = [name];
    this.details = null;
  }

  mount(header, content) {
    this.header = header;
    this.content = content;
  }

  unmount() {
    clearTimeout(this.due);
    this.charts?.forEach((chart) => chart.close());
    this.closed = true;
  }

  receive(message) {
    this.sweep.apply(message);
    if (!this.sweep.ready) return;
    const index = this.sweep.cells.findIndex((cell) => cell.id === this.id);
    if (this.sweep.head.error || index < 0) {
      this.header.replaceChildren(h("p", { class: "brand" }, h("a", { href: "#/" }, "All sweeps")), h("h1", {}, this.id));
      this.content.replaceChildren(h("section", {}, h("p", { class: "banner" }, this.sweep.head.error || "This sweep has no such cell.")));
      return;
    }
    this.cell = this.sweep.cells[index];
    this.row = this.sweep.rows[index];
    if (!this.charts) this.build();
    if (!this.due) this.due = setTimeout(() => { this.due = null; this.update(); }, 100);
  }

  build() {
    const { sweep, cell } = this;
    document.title = `${cell.name} - lenet-sweep`;
    this.tiles = h("dl", { class: "tiles" });
    this.header.replaceChildren(
      h("p", { class: "brand" }, h("a", { href: "#/" }, "All sweeps"), " / ", h("a", { href: sweepLink(sweep.name) }, sweep.name)),
      h("h1", {}, cell.name), this.tiles);
    this.charts = [
      new LineChart({ title: "Accuracy (%)", kind: "accuracy", format: (value) => `${percent(value)}%`, height: 260 }),
      new LineChart({ title: "Cost", kind: "cost", format: cost, height: 260 }),
    ];
    this.legend = h("div");
    this.stopped = h("p", { class: "banner", hidden: true });
    this.samples = h("section", { "aria-labelledby": "samples-h" }, h("h2", { id: "samples-h" }, "Misclassified test images"), h("div", {}, h("p", { class: "aside" }, "Loading ...")));
    this.failure = h("section", { "aria-labelledby": "failure-h", hidden: true }, h("h2", { id: "failure-h" }, "Failure"), h("div"));
    this.settings = h("section", { "aria-labelledby": "settings-h" }, h("h2", { id: "settings-h" }, "Settings"), h("div"));
    this.content.replaceChildren(this.stopped,
      h("section", { "aria-labelledby": "curves-h" }, h("h2", { id: "curves-h" }, "Learning curves"), h("div", { class: "pair" }, this.charts.map((chart) => chart.element)), this.legend),
      this.failure, this.samples, this.settings);
  }

  update() {
    const { sweep, cell, row } = this;
    const accuracy = row.accuracy ?? row.at ?? null;
    const tiles = [tile("Accuracy", accuracy === null ? "\u2013" : `${percent(accuracy)}%`, row.status === "ok" ? "on the test images" : statusText(row, cell), "accuracy")];
    if ((row.holdout ?? null) !== null) tiles.push(tile("Held-out accuracy", `${percent(row.holdout)}%`, "determines the rank"));
    tiles.push(tile("Epochs", `${row.epoch ?? 0} / ${cell.epochs}`, row.status === "ok" && row.epoch < cell.epochs ? "ended early" : "", "epochs"));
    if ((row.cost ?? null) !== null) tiles.push(tile("Cost", cost(row.cost), "mean training loss of the last epoch"));
    if ((row.seconds ?? null) !== null) tiles.push(tile("Seconds per epoch", `${percent(row.seconds)} s`, ""));
    this.tiles.replaceChildren(...tiles);
    this.stopped.hidden = row.status !== "stopped";
    setText(this.stopped, row.status === "stopped" ? `Search: ${row.error}.` : "");
    const live = row.status === "training";
    const until = ([epoch]) => epoch <= cell.epochs;
    const curve = (quantity, name, slot, dash) => ({ id: name, name, slot, dash, live, points: sweep.curve(cell.run, quantity).filter(until) });
    const accuracies = [curve("accuracy", "test images", 0, ""), curve("holdout", "held-out images", 1, "5 4")];
    const costs = [curve("cost", "training images", 2, ""), curve("testCost", "test images", 0, "")];
    this.charts[0].set(accuracies, `Accuracy over epochs of ${cell.name}`);
    this.charts[1].set(costs, `Cost over epochs of ${cell.name}`);
    const held = accuracies[1].points.length ? [accuracies[1]] : [];
    this.legend.replaceChildren(legend([costs[1], costs[0], ...held], ""));
    this.reload();
  }

  // Read the details again if the cell has changed since.
  async reload() {
    const state = `${this.row.status} ${this.row.epoch}`;
    if (this.state === state || this.loading) return;
    const wait = (this.loadedAt ?? -Infinity) + RELOAD - performance.now();
    if (wait > 0 && this.row.status === "training") {
      this.due ??= setTimeout(() => { this.due = null; this.update(); }, wait);
      return;
    }
    this.loading = true;
    this.state = state;
    try {
      const answer = await fetch(`cell?sweep=${encodeURIComponent(this.sweep.name)}&cell=${encodeURIComponent(this.id)}`);
      this.show(answer.ok ? await answer.json() : { settings: [], command: "", notes: [await answer.text()], failure: null, samples: null });
    } catch {
      this.state = null; // the server is not reachable; the next message tries again
    }
    this.loading = false;
    this.loadedAt = performance.now();
    if (!this.closed && this.state !== `${this.row.status} ${this.row.epoch}`) this.due ??= setTimeout(() => { this.due = null; this.update(); }, 500);
  }

  show(details) {
    this.settings.lastChild.replaceChildren(
      h("dl", { class: "facts" }, details.settings.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      details.command ? commandLine(details.command, "the command that trains this cell") : "");
    const { failure } = details;
    this.failure.hidden = !failure;
    if (failure) {
      const where = failure.epoch ? ` in epoch ${failure.epoch}` : "";
      this.failure.lastChild.replaceChildren(h("p", {}, h("b", {}, `${failure.status}${where}: `), failure.reason),
        failure.traceback ? h("div", { class: "failure" }, h("pre", { tabindex: 0 }, failure.traceback)) : "");
    }
    this.samples.lastChild.replaceChildren(...details.notes.map((note) => h("p", { class: "aside" }, note)), ...(details.samples ? this.images(details.samples) : []));
  }

  images(samples) {
    const { names, items, sprite, noun } = samples;
    const label = (number) => names[number] ?? String(number);
    const share = `${percent((100 * samples.wrong) / samples.images)}%`;
    const sentence = h("p", {}, `After epoch ${samples.epoch}, ${samples.wrong.toLocaleString("en-US")} of ${plural(samples.images, "test image")} (${share}) ${samples.wrong === 1 ? "is" : "are"} misclassified${items.length < samples.wrong ? `; ${items.length} of them are shown` : ""}.`);
    const parts = [sentence];
    if (sprite) {
      const short = names.every((name) => name.length <= 3);
      const list = h("ul", { class: `pictures${short ? "" : " named"}${samples.inverted ? "" : " photos"}`, "aria-label": "Misclassified test images",
        style: { "--columns": sprite.columns, "--rows": sprite.rows, "--sheet": `url("${sprite.uri}")` } },
      items.map(([index, truth, predicted], place) => {
        const text = `test image ${index}: ${noun} ${label(truth)}, classified as ${label(predicted)}`;
        const caption = short ? [`${label(truth)}\u2192${label(predicted)}`] : [label(truth), `\u2192 ${label(predicted)}`];
        return h("li", { title: text }, h("span", { class: "picture", role: "img", "aria-label": text, style: { "--x": place % sprite.columns, "--y": Math.floor(place / sprite.columns) } }),
          caption.map((line) => h("span", { class: "line", "aria-hidden": true }, line)));
      }));
      parts.push(h("div", { class: "box", tabindex: 0, role: "group", "aria-label": "Misclassified test images" }, list));
    }
    if (samples.confusion) parts.push(this.confusion(samples, label));
    return parts;
  }

  confusion({ confusion, noun, names }, label) {
    const most = Math.max(1, ...confusion.flatMap((counts, truth) => counts.filter((_, predicted) => predicted !== truth)));
    const wide = names.some((name) => name.length > 3);
    const heading = (number) => h("th", { scope: "col", class: "class" }, h("span", {}, label(number)));
    return h("div", { class: "scroll", role: "group", tabindex: 0, "aria-label": "Confusion matrix" },
      h("table", { class: `confusion${wide ? " wide" : ""}${names.length > 12 ? " dense" : ""}` },
        h("caption", {}, `Test images by true ${noun} (rows) and predicted ${noun} (columns)`),
        h("thead", {}, h("tr", {}, h("td", { class: "corner" }), names.map((_, number) => heading(number)))),
        h("tbody", {}, confusion.map((counts, truth) => h("tr", {}, h("th", { scope: "row", class: "class" }, h("span", {}, label(truth))),
          counts.map((count, predicted) => {
            if (predicted === truth) return h("td", { class: "correct" }, String(count));
            const cell = h("td", { class: count ? "" : "none" }, String(count));
            if (count) {
              cell.style.setProperty("--shade", (count / most).toFixed(3));
            }
            return cell;
          }))))));
  }
}
