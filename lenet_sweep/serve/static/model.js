// The state of a sweep in the browser, from the messages of the server.

import { stretch } from "./dom.js";

export const COLORS = 6; // --series-0 to --series-5 of style.css
const UNFINISHED = new Set(["queued", "training", "waiting"]);

export class Sweep {
  constructor(name) {
    this.name = name;
    this.head = null;
    this.columns = [];
    this.cells = [];
    this.rows = [];
    this.curves = []; // by run: {epochs, points}, where points maps an epoch to its numbers
    this.receivedAt = 0; // performance.now() of the last head
    this.epochAt = new Map(); // by run: [epoch, performance.now()] of its last epoch
    this.slots = new Array(COLORS).fill(null); // the run that has each color
  }

  apply(message) {
    if (message.cells) {
      this.generation = message.generation;
      this.columns = message.columns;
      this.cells = message.cells;
      this.rows = new Array(message.cells.length);
      this.runNames = message.runs;
      this.curves = message.runs.map(() => new Map());
      this.cellsOfRun = message.runs.map(() => []);
      this.cells.forEach((cell, index) => this.cellsOfRun[cell.run].push(index));
    }
    for (const [index, row] of message.rows ?? []) this.rows[index] = row;
    for (const [run, epoch, cost, accuracy, testCost, holdout] of message.points ?? []) {
      const curve = this.curves[run];
      if (cost === null && accuracy === null && testCost === null) {
        // Either the run starts again after this epoch, or it has diverged.
        for (const later of [...curve.keys()]) if (later > epoch) curve.delete(later);
      } else curve.set(epoch, { cost, accuracy, testCost, holdout });
    }
    if (message.head) {
      this.head = message.head;
      this.receivedAt = performance.now();
      for (const state of message.head.running ?? []) {
        const last = this.epochAt.get(state.run);
        if (!last || last[0] !== state.epoch) this.epochAt.set(state.run, [state.epoch, performance.now()]);
      }
    }
  }

  get ready() {
    return this.head !== null && (this.head.error || this.cells.length > 0);
  }

  // Points of a run as [epoch, value], in ascending order of the epochs.
  curve(run, quantity) {
    const points = [];
    for (const [epoch, values] of this.curves[run]) {
      if (values[quantity] !== null) points.push([epoch, values[quantity]]);
    }
    return points.sort((a, b) => a[0] - b[0]);
  }

  last(run) {
    let last = 0;
    for (const epoch of this.curves[run].keys()) if (epoch > last) last = epoch;
    return last ? { epoch: last, ...this.curves[run].get(last) } : null;
  }

  // The quantity that ranks the rows: the accuracy on held-out images if all finished rows have it.
  get rankedBy() {
    const ok = this.rows.filter((row) => row.status === "ok");
    return ok.length && ok.every((row) => row.holdout !== null && row.holdout !== undefined) ? "holdout" : "accuracy";
  }

  // All rows, best first: {index, cell, row, rank}. Rows without an accuracy follow: running,
  // partly trained, stopped, failed, queued.
  ranked() {
    const key = this.rankedBy;
    const order = { ok: 0, training: 1, waiting: 2, stopped: 4, queued: 6 };
    const entries = this.rows.map((row, index) => ({ index, row, cell: this.cells[index], rank: null }));
    const group = ({ row }) => (row.status === "queued" && row.epoch ? 3 : order[row.status] ?? 5);
    const value = (entry) => (entry.row.status === "ok" ? entry.row[key] : entry.row.at) ?? -1;
    entries.sort((a, b) => group(a) - group(b) || value(b) - value(a) || a.cell.epochs - b.cell.epochs || a.index - b.index);
    entries.forEach((entry, place) => {
      if (entry.row.status !== "ok" || entry.row[key] === null) return;
      const before = entries[place - 1];
      entry.rank = before && before.rank !== null && value(before) === value(entry) ? before.rank : place + 1;
    });
    return entries;
  }

  isUnfinished(row) {
    return UNFINISHED.has(row.status);
  }

  // The runs with curves, best first by their last accuracy: {run, name, last, live, slot}.
  leaders() {
    const running = new Set((this.head?.running ?? []).map((state) => state.run));
    const runs = this.curves.map((_, run) => ({ run, last: this.last(run), live: running.has(run) })).filter((each) => each.last);
    const height = (each) => (each.last.accuracy === null ? -9 : stretch(each.last.accuracy));
    runs.sort((a, b) => height(b) - height(a) || a.run - b.run);
    // A run keeps its color while it is among the first.
    const first = new Set(runs.slice(0, COLORS).map((each) => each.run));
    this.slots = this.slots.map((run) => (first.has(run) ? run : null));
    for (const run of first) if (!this.slots.includes(run)) this.slots[this.slots.indexOf(null)] = run;
    return runs.map((each) => ({ ...each, name: this.runNames[each.run], slot: this.slots.indexOf(each.run) }));
  }

  // Epochs trained of a running run, with the current epoch as far as its pace suggests.
  position(state) {
    const [, since] = this.epochAt.get(state.run) ?? [0, performance.now()];
    if (!state.training || !state.pace) return state.epoch;
    return Math.min(state.of, state.epoch + Math.min(0.97, (performance.now() - since) / 1000 / state.pace));
  }

  get secondsLeft() {
    if (!this.head || this.head.left === null || this.head.left === undefined) return null;
    return Math.max(0, this.head.left - (performance.now() - this.receivedAt) / 1000);
  }

  // The settings that vary, with their values: [heading, text].
  get varied() {
    return this.columns.map((column, at) => {
      const values = [...new Set(this.cells.map((cell) => cell.values[at]))].filter((value) => value !== null);
      if (values.every((value) => typeof value === "number")) values.sort((a, b) => a - b);
      return [column.heading, values];
    }).filter(([, values]) => values.length > 1);
  }
}
