// Several sweeps side by side: their best curves, their numbers, and their leading rows together.

import { LineChart, legend } from "./chart.js";
import { cellLink, cost, duration, h, percent, pill, plural, sweepLink } from "./dom.js";
import { Sweep } from "./model.js";

const BEST = 5; // curves of each sweep
const ROWS = 25;

export class CompareView {
  constructor(names) {
    this.streams = names;
    this.sweeps = new Map(names.map((name) => [name, new Sweep(name)]));
  }

  mount(header, content) {
    document.title = `${plural(this.streams.length, "sweep")} compared - lenet-sweep`;
    header.replaceChildren(h("p", { class: "brand" }, h("a", { href: "#/" }, "All sweeps")), h("h1", {}, `${plural(this.streams.length, "sweep")} compared`));
    this.charts = [
      new LineChart({ title: "Test accuracy (%) of the best runs of each sweep", kind: "accuracy", format: (value) => `${percent(value)}%` }),
      new LineChart({ title: "Cost on the training set of these runs", kind: "cost", format: cost }),
    ];
    this.legend = h("div");
    this.sides = h("div", { class: "scroll", role: "group", tabindex: 0, "aria-label": "Sweeps side by side" });
    this.rows = h("div", { class: "scroll", role: "group", tabindex: 0, "aria-label": "Leading rows" });
    content.replaceChildren(
      h("section", { "aria-labelledby": "sides-h" }, h("h2", { id: "sides-h" }, "Side by side"), this.sides),
      h("section", { "aria-labelledby": "curves-h" }, h("h2", { id: "curves-h" }, "Best curves"),
        h("div", { class: "pair" }, this.charts.map((chart) => chart.element)), this.legend),
      h("section", { "aria-labelledby": "rows-h" }, h("h2", { id: "rows-h" }, "Leading rows of all sweeps"), this.rows));
  }

  unmount() {
    clearTimeout(this.due);
    this.charts.forEach((chart) => chart.close());
  }

  receive(message) {
    this.sweeps.get(message.sweep)?.apply(message);
    if (!this.due) this.due = setTimeout(() => { this.due = null; this.update(); }, 200);
  }

  update() {
    const known = [...this.sweeps.values()].filter((sweep) => sweep.ready);
    const shown = known.filter((sweep) => !sweep.head.error);
    const color = (sweep) => this.streams.indexOf(sweep.name) % 6;
    const of = new Map(shown.map((sweep) => [sweep, { ranked: sweep.ranked(), leaders: sweep.leaders() }]));
    const series = (quantity) => {
      const lists = shown.map((sweep) => of.get(sweep).leaders.slice(0, BEST).map((each, place) => ({
        ...each, slot: place === 0 ? color(sweep) : -1, name: `${sweep.name}: ${each.name}`,
        points: sweep.curve(each.run, quantity), href: sweepLink(sweep.name),
      })));
      return lists.flat();
    };
    const lines = series("accuracy");
    this.charts[0].set(lines, `Test accuracy over epochs of the best runs of ${shown.map((sweep) => sweep.name).join(", ")}`);
    this.charts[1].set(series("cost"), "Cost over epochs of these runs");
    this.legend.replaceChildren(legend(lines, lines.some((each) => each.slot < 0) ? `the ${BEST - 1} next-best runs of each sweep` : ""));
    this.updateSides(known, of, color);
    this.updateRows(shown, of, color);
  }

  updateSides(known, of, color) {
    const best = (sweep) => {
      const first = of.get(sweep)?.ranked[0];
      return first && first.rank !== null ? first : null;
    };
    const epochs = (sweep) => sweep.curves.reduce((sum, _, run) => sum + (sweep.last(run)?.epoch ?? 0), 0);
    const row = (name, text) => h("tr", {}, h("th", { scope: "row" }, name), known.map((sweep) => h("td", {}, sweep.head.error ? "" : text(sweep))));
    const values = (sweep) => sweep.varied.map(([heading, list]) => `${heading} ${list.slice(0, 6).join(", ")}${list.length > 6 ? ", ..." : ""}`).join("; ");
    this.sides.replaceChildren(h("table", { class: "sides" },
      h("caption", { class: "visually-hidden" }, "One column per sweep"),
      h("thead", {}, h("tr", {}, h("td"), known.map((sweep) => h("th", { scope: "col" }, h("span", { class: `dot series-${color(sweep)}`, "aria-hidden": true }), h("a", { href: sweepLink(sweep.name) }, sweep.name))))),
      h("tbody", {},
        h("tr", {}, h("th", { scope: "row" }, "state"), known.map((sweep) => h("td", {}, pill(sweep.head), sweep.head.error ? ` ${sweep.head.error}` : ""))),
        row("best accuracy", (sweep) => (best(sweep) ? h("b", {}, `${percent(best(sweep).row.accuracy)}%`) : "\u2013")),
        row("best row", (sweep) => (best(sweep) ? h("a", { href: cellLink(sweep.name, best(sweep).cell.id) }, best(sweep).cell.name) : "\u2013")),
        row("cells done", (sweep) => `${sweep.head.done} of ${sweep.head.total}${sweep.head.failed ? `, ${sweep.head.failed} failed` : ""}${sweep.head.stopped ? `, ${sweep.head.stopped} stopped` : ""}`),
        row("epochs trained", (sweep) => (epochs(sweep) || "\u2013").toLocaleString("en-US")),
        row("time left", (sweep) => (sweep.head.state === "running" ? `${sweep.head.at_most && sweep.head.left !== null ? "at most " : ""}${duration(sweep.head.left)}` : "\u2013")),
        row("hyperparameters that vary", values))));
  }

  updateRows(shown, of, color) {
    const rows = shown.flatMap((sweep) => of.get(sweep).ranked.filter((entry) => entry.rank !== null).slice(0, ROWS).map((entry) => ({ ...entry, sweep })));
    const key = rows.every((entry) => entry.sweep.rankedBy === "holdout") ? "holdout" : "accuracy";
    rows.sort((a, b) => b.row[key] - a.row[key]);
    if (!rows.length) {
      this.rows.replaceChildren(h("p", { class: "aside" }, "No cell is finished yet."));
      return;
    }
    this.rows.replaceChildren(h("table", { class: "plain" },
      h("caption", { class: "visually-hidden" }, "The best rows of all sweeps"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "accuracy (%)"), h("th", { scope: "col" }, "sweep"), h("th", { scope: "col", class: "number" }, "rank in its sweep"), h("th", { scope: "col", class: "number" }, "epochs"), h("th", { scope: "col" }, "hyperparameters that vary in its sweep"))),
      h("tbody", {}, rows.slice(0, ROWS).map((entry) => h("tr", {},
        h("td", { class: "number" }, percent(entry.row.accuracy)),
        h("td", {}, h("span", { class: `dot series-${color(entry.sweep)}`, "aria-hidden": true }), entry.sweep.name),
        h("td", { class: "number" }, String(entry.rank)),
        h("td", { class: "number" }, String(entry.cell.epochs)),
        h("td", {}, h("a", { href: cellLink(entry.sweep.name, entry.cell.id) }, entry.cell.name)))))));
  }
}
