"use strict";
(() => {
  const table = document.getElementById("ranked");
  const told = document.getElementById("told");
  let silence;

  const tell = (text) => {
    told.textContent = text;
    told.classList.add("shown");
    clearTimeout(silence);
    silence = setTimeout(() => told.classList.remove("shown"), 6000);
  };

  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea"); // where the clipboard is not to be had
      area.value = text;
      area.className = "unseen";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const done = await copied(button.dataset.copy);
    button.focus();
    tell((done ? "Copied: " : "Copy this: ") + button.dataset.copy);
  });

  for (const figure of document.querySelectorAll("figure.switched")) {
    figure.addEventListener("change", (event) => {
      for (const part of figure.querySelectorAll("[data-scale]"))
        part.hidden = part.dataset.scale !== event.target.value;
    });
  }

  if (!table) return;
  const headings = [...table.tHead.rows[0].cells].slice(0, -1);
  const names = headings.map((heading) => heading.dataset.name);
  const seen = (cell) => [...cell.childNodes]
    .filter((part) => part.nodeType === Node.TEXT_NODE).map((part) => part.textContent).join("").trim();
  const groups = [...table.tBodies].map((body, place) => {
    const lines = [...body.rows].map((row) => {
      const cells = [...row.cells].map((cell) => ({
        key: cell.dataset.key ? Number(cell.dataset.key) : null,
        text: seen(cell),
      }));
      return { row, cells, words: cells.map((cell) => cell.text).join(" ").toLowerCase() };
    });
    return { body, place, lines };
  });

  // ---------------------------------------------------------------- sorting

  const sort = (column, down) => {
    const numbers = groups.some((group) => group.lines[0].cells[column].key !== null);
    const missing = (cell) => numbers ? cell.key === null : cell.text === "";
    const compared = (a, b) => {
      const x = a.lines[0].cells[column], y = b.lines[0].cells[column];
      const last = missing(x) - missing(y);
      if (last) return last; // what has no value comes last either way
      const order = x.key !== null && y.key !== null ? x.key - y.key : x.text.localeCompare(y.text);
      return (down ? -order : order) || a.place - b.place;
    };
    table.append(...groups.slice().sort(compared).map((group) => group.body));
    headings.forEach((heading, place) => {
      if (place === column) heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    const label = document.createElement("span");
    const first = heading.firstChild;
    label.textContent = first.textContent;
    button.append(label);
    first.replaceWith(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      // What is best high is first sorted down.
      const down = now ? now === "ascending" : ["accuracy", "interval", "holdout_accuracy"].includes(names[column]);
      sort(column, down);
    });
  });

  // ---------------------------------------------------------------- seeds

  const fold = (group, folded) => {
    const button = group.body.querySelector("button.seeds");
    if (!button) return;
    button.setAttribute("aria-expanded", String(!folded));
    for (const line of group.lines.slice(1)) line.row.hidden = folded;
  };
  for (const group of groups) {
    const button = group.body.querySelector("button.seeds");
    if (!button) continue;
    button.hidden = false;
    button.addEventListener("click", () => fold(group, button.getAttribute("aria-expanded") === "true"));
    fold(group, true);
  }
  const every = document.getElementById("all-seeds");
  if (every) every.addEventListener("click", () => {
    const shown = every.getAttribute("aria-pressed") !== "true";
    every.setAttribute("aria-pressed", String(shown));
    for (const group of groups) fold(group, !shown);
  });

  // ---------------------------------------------------------------- filtering

  const filter = document.getElementById("filter");
  const hideWorse = document.getElementById("hide-worse");
  const count = document.getElementById("count");

  const test = (word) => {
    const parts = /^([\w./ ]+?)(<=|>=|=|<|>)(.+)$/.exec(word);
    const column = parts ? names.findIndex((name) => name.toLowerCase() === parts[1]) : -1;
    if (column < 0) return (line) => line.words.includes(word);
    const [, , sign, wanted] = parts, number = Number(wanted);
    return (line) => {
      const { key, text } = line.cells[column];
      if (key === null || Number.isNaN(number)) return sign === "=" && text.toLowerCase() === wanted;
      // Accuracies are compared as they are printed.
      const shown = Number.isNaN(Number(text)) ? key : Number(text);
      return { "=": shown === number, "<": shown < number, ">": shown > number,
               "<=": shown <= number, ">=": shown >= number }[sign];
    };
  };

  const apply = () => {
    const tests = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(test);
    let shown = 0;
    for (const group of groups) {
      const found = group.lines.some((line) => tests.every((passes) => passes(line)));
      const behind = group.body.dataset.outcome === "worse" || group.lines[0].row.classList.contains("failed");
      group.body.hidden = !found || (hideWorse && hideWorse.checked && behind);
      shown += !group.body.hidden;
    }
    count.textContent = `${shown} of ${groups.length} ${every ? "settings" : "rows"}`;
  };
  document.getElementById("tools").hidden = false;
  filter.addEventListener("input", apply);
  if (hideWorse) hideWorse.addEventListener("change", apply);
  apply();
})();
