// One sweep: progress, curves, leading rows, and the table of all rows.

import { LineChart, legend } from "./chart.js";
import { accuracyScale, accuracyTicks, cellLink, chip, commandLine, cost, duration, h, percent, pill, plural, progressBar, setProgress, setText, setting, tile } from "./dom.js";
import { Sweep } from "./model.js";

const GRAY_CURVES = 200;
const LEADING = 10;
const RUNNING = 12;
const PAGE = 50; // rows of the table that are shown first

export const statusText = (row, cell) => {
  if (row.status === "training") return `epoch ${row.epoch} of ${cell.epochs}`;
  if (row.status === "waiting") return "waiting for another process";
  if (row.status === "queued" && row.epoch) return `paused after epoch ${row.epoch}`;
  if (row.status === "stopped") return row.epoch ? `stopped after epoch ${row.epoch}` : "stopped";
  return row.status;
};

// Whether a row can be among the leading ones.
const leads = ({ row }) => row.status !== "stopped" && (row.accuracy ?? row.at ?? null) !== null;

export class SweepView {
  constructor(name) {
    this.sweep = new Sweep(name);
    this.streams = [name];
    this.sort = { column: "rank", descending: false };
    this.words = "";
    this.limit = PAGE;
    this.cost = 0; // milliseconds that the last redraw took
  }

  mount(header, content) {
    this.header = header;
    this.content = content;
    this.ticker = setInterval(() => this.tick(), 500);
  }

  unmount() {
    clearInterval(this.ticker);
    clearTimeout(this.due);
    this.charts?.forEach((chart) => chart.close());
  }

  receive(message) {
    // A page that connects again gets all cells again, but is not built again. When a search has
    // added cells, it is, but keeps its filter and its order.
    const first = !this.sweep.ready || this.sweep.head.error || (message.cells && message.generation !== this.sweep.generation);
    this.sweep.apply(message);
    if (first) this.rebuild();
    // A redraw takes longer the more cells there are, and should take at most a fifth of the time.
    if (!this.due) this.due = setTimeout(() => { this.due = null; this.update(); }, first ? 0 : Math.max(100, 5 * this.cost));
  }

  rebuild() {
    const isFiltering = document.activeElement?.id === "filter";
    const { scrollY } = window;
    this.build();
    this.update();
    if (isFiltering) document.getElementById("filter")?.focus();
    window.scrollTo(0, scrollY);
  }

  build() {
    const { sweep } = this;
    this.charts?.forEach((chart) => chart.close());
    document.title = `${sweep.name} - lenet-sweep`;
    this.state = h("span");
    this.tiles = h("dl", { class: "tiles" });
    this.whole = progressBar(0, "Cells done");
    this.stage = h("p", { class: "stage", hidden: true });
    this.header.replaceChildren(
      h("p", { class: "brand" }, h("a", { href: "#/" }, "All sweeps")),
      h("h1", {}, sweep.name, " ", this.state));
    if (sweep.head.error) {
      this.state.replaceChildren(pill(sweep.head));
      this.content.replaceChildren(h("section", {}, h("p", { class: "banner" }, sweep.head.error)));
      return;
    }
    const varied = sweep.varied;
    this.header.append(
      h("p", { class: "lead" }, varied.map(([heading, values]) => {
        const shown = values.slice(0, 12).map(setting).join(", ");
        return [chip(heading, values.length > 12 ? `${shown}, ... (${values.length})` : shown), " "];
      })), this.tiles, this.stage, this.whole);
    this.charts = [
      new LineChart({ title: "Test accuracy (%)", kind: "accuracy", format: (value) => `${percent(value)}%` }),
      new LineChart({ title: "Cost on the training set", kind: "cost", format: cost }),
    ];
    this.legend = h("div");
    this.running = h("ul", { class: "runs" });
    this.runningSection = h("section", { "aria-labelledby": "running-h", id: "running" },
      h("h2", { id: "running-h" }, "Training now"), this.running);
    this.leading = h("div", { class: "leading" });
    this.notes = h("div");
    this.rowsBox = h("div", { class: "scroll", role: "group", "aria-label": "Rows", tabindex: 0 });
    this.count = h("output", { id: "count" });
    this.more = h("button", { type: "button", onclick: () => { this.limit = Infinity; this.update(); } });
    const filter = h("input", { id: "filter", type: "search", placeholder: "adam batch=64 accuracy>98", autocomplete: "off", spellcheck: "false", value: this.words,
      oninput: () => { this.words = filter.value; this.update(); } });
    this.lines = new Map();
    this.signature = null;
    this.buildTable();
    this.content.replaceChildren(
      this.notes,
      this.runningSection,
      this.curvesSection = h("section", { "aria-labelledby": "curves-h", id: "curves" }, h("h2", { id: "curves-h" }, "Learning curves"),
        h("div", { class: "pair" }, this.charts.map((chart) => chart.element)), this.legend),
      h("section", { "aria-labelledby": "leading-h", id: "leading" }, h("h2", { id: "leading-h" }, "Leading rows"), this.leading),
      h("section", { "aria-labelledby": "table-h", id: "table" }, h("h2", { id: "table-h" }, "Table"),
        h("div", { class: "tools" }, h("label", { for: "filter" }, "Filter"), filter, this.count),
        this.rowsBox, h("p", { class: "more" }, this.more)),
      this.commandSection = h("section", { "aria-labelledby": "command-h" }, h("h2", { id: "command-h" }, "Command"), h("div")));
  }

  // ---------------------------------------------------------------- updates

  update() {
    const { sweep } = this;
    if (!sweep.ready || sweep.head.error) {
      if (sweep.ready && this.charts) this.build();
      return;
    }
    const begin = performance.now();
    this.ranked = sweep.ranked();
    this.updateHead();
    this.updateRunning();
    this.updateCurves();
    this.updateLeading();
    this.updateTable();
    this.cost = performance.now() - begin;
  }

  updateHead() {
    const { sweep, ranked } = this;
    const { head } = sweep;
    this.state.replaceChildren(pill(head));
    const best = ranked[0]?.rank === null ? null : ranked[0];
    const first = ranked.find(leads);
    const tiles = [best || !first
      ? tile("Best accuracy", best ? `${percent(best.row.accuracy)}%` : "\u2013", best ? best.cell.name : "no epoch has ended yet", "best")
      : tile("Best accuracy so far", `${percent(first.row.at)}%`, `${first.cell.name}, after epoch ${first.row.epoch}`, "best")];
    const missed = [head.failed && `${head.failed} failed`, head.stopped && `${head.stopped} stopped by the search`].filter(Boolean).join(", ");
    tiles.push(tile("Cells done", `${head.done} / ${head.total}`, missed || (head.done === head.total ? (head.stage ? "of the search so far" : "all finished") : `${head.total - head.done} to go`), "done"));
    if (head.state === "running") {
      const now = head.running.filter((state) => state.training).length;
      tiles.push(tile("Time left", duration(sweep.secondsLeft), head.left === null ? "not known yet" : head.at_most ? "at most; estimated from the epochs so far" : "estimated from the epochs so far", "left"));
      tiles.push(tile("Training now", plural(now, "run"), head.workers ? `on ${plural(head.workers, "worker")}` : "", "running"));
    } else if (head.state === "interrupted") {
      tiles.push(tile("Left", plural(head.total - head.done, "cell"), "the same command resumes the sweep", "left"));
    }
    this.tiles.replaceChildren(...tiles);
    this.stage.hidden = !head.stage;
    setText(this.stage, head.stage ? `Search: ${head.stage}` : "");
    setProgress(this.whole, head.fraction);
    const report = head.report ? [" ", h("a", { href: `report?sweep=${encodeURIComponent(sweep.name)}`, target: "_blank", rel: "noreferrer" }, "Open the report with statistics"), "."] : null;
    this.notes.replaceChildren(...head.notes.map((note) => h("p", { class: "banner" }, `${note}.`)),
      ...(report && head.state !== "running" ? [h("p", { class: "banner" }, "This sweep has ended.", report)] : []));
    if (this.commandSection.dataset.command !== head.command) {
      this.commandSection.dataset.command = head.command;
      this.commandSection.hidden = !head.command;
      this.commandSection.lastChild.replaceChildren(commandLine(head.command, "the command of this sweep"));
    }
  }

  updateRunning() {
    const { sweep } = this;
    const states = sweep.head.running;
    this.runningSection.hidden = sweep.head.state !== "running";
    const known = new Map([...this.running.children].map((item) => [Number(item.dataset.run), item]));
    const items = states.slice(0, RUNNING).map((state) => {
      const item = known.get(state.run) ?? h("li", { "data-run": state.run },
        h("a", { class: "name", href: cellLink(sweep.name, this.cellOf(state).id) }, sweep.runNames[state.run]),
        progressBar(0, sweep.runNames[state.run]), h("span", { class: "epoch" }), h("span", { class: "value" }), h("span", { class: "eta" }));
      item.state = state;
      return item;
    });
    if (!items.length) items.push(h("li", { class: "aside" }, "Waiting for a run to start ..."));
    if (states.length > RUNNING) items.push(h("li", { class: "aside" }, `and ${states.length - RUNNING} more`));
    if (items.length !== this.running.children.length || items.some((item, at) => item !== this.running.children[at])) this.running.replaceChildren(...items);
    this.tick();
  }

  cellOf(state) {
    const cells = this.sweep.cellsOfRun[state.run].map((index) => this.sweep.cells[index]);
    return cells.reduce((a, b) => (b.epochs > a.epochs ? b : a));
  }

  tick() {
    const { sweep } = this;
    if (!sweep.ready || sweep.head.error || !this.running) return;
    for (const item of this.running.children) {
      const { state } = item;
      if (!state) continue;
      const position = sweep.position(state);
      setProgress(item.querySelector(".progress"), position / state.of);
      setText(item.querySelector(".epoch"), state.training ? `epoch ${Math.min(state.of, state.epoch + 1)} of ${state.of}` : "waiting for another process");
      setText(item.querySelector(".value"), state.accuracy === null ? "" : `${percent(state.accuracy)}%`);
      setText(item.querySelector(".eta"), state.pace ? `${duration(state.pace * (state.of - position))} left` : "");
    }
    const left = this.tiles.querySelector('[data-tile="left"] dd');
    if (left && sweep.head.state === "running") setText(left, duration(sweep.secondsLeft));
  }

  updateCurves() {
    const { sweep } = this;
    const leaders = sweep.leaders();
    const shown = leaders.filter((each) => each.slot >= 0 || each.live).concat(leaders.filter((each) => each.slot < 0 && !each.live).slice(0, GRAY_CURVES));
    const series = (quantity) => shown.map((each) => ({
      ...each, points: sweep.curve(each.run, quantity), href: cellLink(sweep.name, this.cellOf(each).id),
    }));
    this.curvesSection.hidden = !leaders.length && sweep.head.state !== "running";
    const best = leaders[0];
    const note = best ? `${plural(leaders.length, "run")}; the highest accuracy so far is that of ${best.name}.` : "0 runs; no epoch has ended yet.";
    this.charts[0].set(series("accuracy"), `Test accuracy over epochs of ${note}`);
    this.charts[1].set(series("cost"), `Cost over epochs of ${note}`);
    const others = leaders.length - leaders.filter((each) => each.slot >= 0).length;
    const gray = others ? (others > GRAY_CURVES ? `the best ${GRAY_CURVES} of ${others} other runs` : plural(others, "other run")) : "";
    const { hidden } = this.charts[0];
    const below = hidden ? `, ${hidden < others ? `${hidden} ` : ""}below the axis` : "";
    this.legend.replaceChildren(legend(series("accuracy"), gray + below));
  }

  updateLeading() {
    const { sweep, ranked } = this;
    const leading = ranked.filter(leads).slice(0, LEADING);
    if (!leading.length) {
      this.leading.replaceChildren(h("p", { class: "aside" }, "No cell has an accuracy yet."));
      return;
    }
    const value = (entry) => entry.row.accuracy ?? entry.row.at;
    const at = accuracyScale(leading.map(value));
    const values = leading.map(value);
    const placed = accuracyTicks(Math.min(...values), Math.max(...values), at, 12);
    this.leading.replaceChildren(h("ol", { class: "bars" }, leading.map((entry) => {
      const isOk = entry.row.status === "ok";
      return h("li", { class: isOk ? "" : "unfinished" },
        h("span", { class: "rank" }, entry.rank ?? "\u2026"),
        h("a", { class: "name", href: cellLink(sweep.name, entry.cell.id) }, entry.cell.name),
        h("span", { class: "bar" }, h("i", { style: { width: `${Math.max(1, at(value(entry))).toFixed(2)}%` } })),
        h("span", { class: "value" }, `${percent(value(entry))}%`),
        h("span", { class: "state" }, isOk ? "" : statusText(entry.row, entry.cell)));
    }), h("li", { class: "scale", "aria-hidden": true }, h("span"), h("span"), h("span", { class: "ticks" },
      placed.map(([tick, place]) => h("i", { style: { left: `${place.toFixed(2)}%` } }, String(tick)))), h("span"), h("span"))),
    h("p", { class: "aside" }, `Bar lengths are logarithmic in the error (100% minus the accuracy).${sweep.rankedBy === "holdout" ? " Rows are ranked by their accuracy on held-out images." : ""}`));
  }

  // ---------------------------------------------------------------- the table

  buildTable() {
    const { sweep } = this;
    const people = () => new Set(sweep.rows.map((row) => row.person).filter(Boolean)).size > 1;
    const fixed = [
      { name: "rank", heading: "rank", number: true, of: (entry) => entry.rank ?? "", key: (entry) => entry.place },
      { name: "accuracy", heading: "accuracy (%)", number: true, of: (entry) => percent(entry.row.accuracy), key: (entry) => entry.row.accuracy },
      { name: "holdout", heading: "held-out (%)", number: true, of: (entry) => percent(entry.row.holdout), key: (entry) => entry.row.holdout, when: () => sweep.rows.some((row) => (row.holdout ?? null) !== null) },
      { name: "status", heading: "status", of: (entry) => statusText(entry.row, entry.cell) },
    ];
    const settings = sweep.columns.map((column, at) => ({
      ...column, of: (entry) => String(setting(entry.cell.values[at])), key: column.number ? (entry) => entry.cell.values[at] : undefined,
    }));
    const measured = [
      { name: "person", heading: "person", of: (entry) => entry.row.person ?? "", when: people },
      { name: "cost", heading: "cost", number: true, of: (entry) => cost(entry.row.cost), key: (entry) => entry.row.cost },
      { name: "seconds", heading: "s/epoch", number: true, of: (entry) => percent(entry.row.seconds), key: (entry) => entry.row.seconds },
    ];
    this.allColumns = [...fixed, ...settings, ...measured];
  }

  updateTable() {
    const { sweep, ranked } = this;
    ranked.forEach((entry, place) => { entry.place = place; });
    const columns = this.allColumns.filter((column) => !column.when || column.when());
    const signature = columns.map((column) => column.name).join();
    if (signature !== this.signature) {
      this.signature = signature;
      this.lines.clear();
      this.headings = columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : "", "data-name": column.name },
        h("button", { type: "button", class: "sort", onclick: () => this.sortBy(column) }, column.heading)));
      this.body = h("tbody");
      this.rowsBox.replaceChildren(h("table", { class: "ranked live-table", id: "ranked" },
        h("caption", { class: "visually-hidden" }, "All rows, best first"), h("thead", {}, h("tr", {}, this.headings)), this.body));
    }
    const column = columns.find((each) => each.name === this.sort.column) ?? columns[0];
    const sorted = column.name === "rank" && !this.sort.descending ? ranked : [...ranked].sort((a, b) => this.compare(column, a, b));
    const holds = this.condition(columns);
    const matching = holds ? sorted.filter(holds) : sorted;
    const shown = matching.slice(0, this.limit);
    const lines = shown.map((entry) => this.line(entry, columns));
    if (lines.length !== this.body.children.length || lines.some((line, at) => line !== this.body.children[at])) this.body.replaceChildren(...lines);
    this.headings.forEach((heading) => {
      if (heading.dataset.name === column.name) heading.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    setText(this.count, `${matching.length.toLocaleString("en-US")} of ${plural(sweep.rows.length, "row")}`);
    this.more.hidden = shown.length === matching.length;
    setText(this.more, `Show all ${plural(matching.length, "row")}`);
  }

  // The line of a row; its cells change only if their texts do.
  line(entry, columns) {
    const texts = columns.map((column) => String(column.of(entry)));
    let line = this.lines.get(entry.index);
    if (!line) {
      const cells = columns.map((column) => h("td", { class: column.number ? "number" : "" }));
      line = h("tr", { class: "line" }, cells);
      const link = h("a", { href: cellLink(this.sweep.name, entry.cell.id), title: entry.cell.name, "aria-label": `Details of ${entry.cell.name}` });
      cells[0].append(link);
      line.link = link;
      this.lines.set(entry.index, line);
    }
    texts.forEach((text, at) => {
      if (at > 0) setText(line.children[at], text);
    });
    setText(line.link, texts[0] || "\u2013");
    const { status, error: reason } = entry.row;
    const known = status === "stopped" || this.sweep.isUnfinished(entry.row);
    line.className = `line ${status === "ok" ? "" : known ? status : "failed"}`;
    if (reason) line.title = reason;
    else line.removeAttribute("title");
    return line;
  }

  sortBy(column) {
    const same = this.sort.column === column.name;
    this.sort = { column: column.name, descending: same ? !this.sort.descending : ["accuracy", "holdout"].includes(column.name) };
    this.update();
  }

  compare(column, a, b) {
    const direction = this.sort.descending ? -1 : 1;
    if (column.key) {
      const [x, y] = [column.key(a) ?? null, column.key(b) ?? null];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      return direction * (x - y) || a.place - b.place;
    }
    return direction * String(column.of(a)).localeCompare(String(column.of(b))) || a.place - b.place;
  }

  // Whether a row matches all words and comparisons of the filter; null if there are none.
  condition(columns) {
    const terms = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    if (!terms.length) return null;
    const tests = terms.map((term) => {
      const parts = /^([\w./]+?)(<=|>=|=|<|>)(.+)$/.exec(term);
      const column = parts && columns.find((each) => [each.name, each.heading].some((name) => name.toLowerCase() === parts[1]));
      if (!column) return (entry) => columns.some((each) => String(each.of(entry)).toLowerCase().includes(term));
      const number = Number(parts[3]);
      return (entry) => {
        const text = String(column.of(entry));
        const value = Number(text);
        if (text === "" || Number.isNaN(value) || Number.isNaN(number)) return parts[2] === "=" && text.toLowerCase() === parts[3];
        return { "=": value === number, "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[parts[2]];
      };
    });
    return (entry) => tests.every((test) => test(entry));
  }
}
