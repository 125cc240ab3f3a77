// The list of all sweeps, as cards.

import { ago, duration, h, percent, pill, plural, progressBar, sweepLink } from "./dom.js";

const ORDER = { running: 0, interrupted: 1, finished: 1 };

export class ListView {
  constructor() {
    this.streams = [];
    this.chosen = new Set();
  }

  mount(header, content) {
    document.title = "Sweeps - lenet-sweep";
    this.heading = h("h1", {}, "Sweeps");
    this.lead = h("p", { class: "lead" });
    header.replaceChildren(h("p", { class: "brand" }, "lenet-sweep"), this.heading, this.lead);
    this.compare = h("a", { class: "compare", hidden: true });
    this.list = h("ul", { class: "cards" });
    content.replaceChildren(this.list, this.compare);
    this.ticker = setInterval(() => this.message && this.update(), 30000);
  }

  unmount() {
    clearInterval(this.ticker);
  }

  receive(message) {
    this.message = message;
    this.update();
  }

  update() {
    const { sweeps, folder, reading, left_out: older } = this.message;
    const running = sweeps.filter((head) => head.state === "running").length;
    this.lead.textContent = sweeps.length || reading
      ? `${plural(sweeps.length, "sweep")} in ${folder}${running ? `, ${running} running` : ""}${reading ? `, loading ${reading} more ...` : ""}${older ? ` (${older} older ${older === 1 ? "one is" : "ones are"} not listed)` : ""}`
      : `There are no sweeps in ${folder} yet. They appear here as soon as they start.`;
    const focused = document.activeElement?.dataset?.sweep;
    const sorted = [...sweeps].sort((a, b) => (ORDER[a.state] ?? 2) - (ORDER[b.state] ?? 2) || (b.changed ?? 0) - (a.changed ?? 0));
    this.list.replaceChildren(...sorted.map((head) => this.card(head)));
    if (focused) this.list.querySelector(`input[data-sweep="${CSS.escape(focused)}"]`)?.focus();
    this.updateLink();
  }

  card(head) {
    const box = head.error ? null : h("label", { class: "check" },
      h("input", { type: "checkbox", "data-sweep": head.sweep, checked: this.chosen.has(head.sweep), onchange: (event) => {
        if (event.target.checked) this.chosen.add(head.sweep);
        else this.chosen.delete(head.sweep);
        this.updateLink();
      } }), " compare");
    if (head.error) return h("li", { class: "card" }, h("div", { class: "top" }, h("span", { class: "title" }, head.sweep), pill(head)), h("p", { class: "aside" }, head.error));
    const parts = [plural(head.total, "cell")];
    if (head.failed) parts.push(`${head.failed} failed`);
    if (head.stopped) parts.push(`${head.stopped} stopped`);
    if (head.changed) parts.push(ago(Date.now() / 1000 - head.changed));
    return h("li", { class: `card ${head.state}` },
      h("div", { class: "top" }, h("a", { class: "title", href: sweepLink(head.sweep) }, head.sweep), pill(head)),
      h("p", { class: "best" }, head.best === null ? "\u2013" : `${percent(head.best)}%`, h("span", {}, head.best === null ? " no accuracy yet" : " best accuracy")),
      progressBar(head.fraction, `Cells of ${head.sweep} that are done`),
      h("p", { class: "foot" }, h("span", {}, `${head.done} / ${head.total} done`),
        h("span", {}, head.state === "running" && head.left !== null ? `${head.at_most ? "at most " : ""}${duration(head.left)} left` : "")),
      head.stage ? h("p", { class: "foot" }, head.stage) : null,
      h("p", { class: "foot" }, h("span", {}, parts.slice(1).join(", ")), box));
  }

  updateLink() {
    const names = [...this.chosen].slice(0, 8);
    this.compare.hidden = names.length < 2;
    this.compare.textContent = `Compare ${names.length} sweeps`;
    this.compare.href = `#/compare/${names.map(encodeURIComponent).join("/")}`;
  }
}
