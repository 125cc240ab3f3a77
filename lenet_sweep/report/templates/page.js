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

  // ---------------------------------------------------------------- saving charts

  // In the light colors, whatever the page has now: a saved chart is for paper and slides.
  const light = document.styleSheets[0].cssRules[0].style;
  const resolved = (text) => {
    const next = text.replace(/var\((--[\w-]+)\)/g, (_, name) => light.getPropertyValue(name).trim());
    return next === text ? text : resolved(next);
  };
  const space = "http://www.w3.org/2000/svg";
  const added = (parent, name, attributes, text = "") => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    parent.append(element);
    return element;
  };

  // The chart as a file of its own: [text, width, height]. The legend beside it goes below it.
  const alone = (chart) => {
    const copy = chart.cloneNode(true);
    const [, , across, tall] = chart.getAttribute("viewBox").split(" ").map(Number);
    const font = getComputedStyle(document.body).fontFamily.replaceAll('"', "'");
    const entries = [...chart.closest("section").querySelectorAll(".legend li")];
    const height = tall + (entries.length && 18 * entries.length + 8);
    const width = Math.max(across, ...entries.map((entry) => 60 + 7 * entry.textContent.trim().length));
    copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.setAttribute("style", `font-family: ${font}; stroke-linejoin: round; background: var(--paper)`);
    copy.removeAttribute("class");
    entries.forEach((entry, place) => {
      const key = entry.querySelector("svg").cloneNode(true);
      const series = [...key.classList].find((name) => name.startsWith("series-"));
      const color = `var(--${series || "faint"})`;
      for (const [name, value] of [["x", 12], ["y", tall + 18 * place], ["fill", color], ["stroke", color], ["stroke-width", 0]])
        key.setAttribute(name, value);
      key.removeAttribute("class");
      copy.append(key);
      added(copy, "text", { x: 46, y: tall + 18 * place + 10, fill: "var(--ink)", "font-size": 11 }, entry.textContent.trim());
    });
    const ground = added(copy, "rect", { width, height, fill: "var(--paper)" });
    copy.querySelector("title").after(ground);
    return [resolved(new XMLSerializer().serializeToString(copy)), width, height];
  };

  const download = (address, name) => {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
    tell(`Saved: ${name}`);
  };

  const save = (host, kind) => {
    const chart = [...host.querySelectorAll("svg.chart")].find((each) => each.checkVisibility());
    const name = `${chart.getAttribute("aria-labelledby").replace(/-title$/, "")}.${kind}`;
    const [text, width, height] = alone(chart);
    const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    if (kind === "svg") {
      download(address, name);
      return;
    }
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [3 * width, 3 * height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      download(canvas.toDataURL("image/png"), name);
    };
    image.onerror = () => tell("This browser cannot draw the chart: save it as SVG");
    image.src = address;
  };

  for (const host of new Set([...document.querySelectorAll("svg.chart")].map((chart) => chart.closest("figure")))) {
    const row = document.createElement("p");
    row.className = "save";
    for (const kind of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `Save as ${kind.toUpperCase()}`;
      button.setAttribute("aria-label", `${button.textContent}: ${host.querySelector("figcaption").textContent}`);
      button.addEventListener("click", () => save(host, kind));
      row.append(button);
    }
    host.append(row);
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
