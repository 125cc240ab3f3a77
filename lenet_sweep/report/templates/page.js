"use strict";
(() => {
  const table = document.getElementById("ranked");
  const toast = document.getElementById("toast");
  let toastTimer;

  const notify = (text) => {
    toast.textContent = text;
    toast.classList.add("shown");
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => toast.classList.remove("shown"), 6000);
  };

  const copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea"); // without the clipboard API
      area.value = text;
      area.className = "visually-hidden";
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
    const done = await copyText(button.dataset.copy);
    button.focus();
    notify((done ? "Copied: " : "Could not copy. Copy it by hand: ") + button.dataset.copy);
  });

  for (const figure of document.querySelectorAll("figure.switched")) {
    figure.addEventListener("change", (event) => {
      for (const part of figure.querySelectorAll("[data-scale]"))
        part.hidden = part.dataset.scale !== event.target.value;
    });
  }

  // ---------------------------------------------------------------- saving charts

  // Saved charts always have the light colors, since they end up on paper and slides.
  const light = document.styleSheets[0].cssRules[0].style;
  const resolveColors = (text) => {
    const next = text.replace(/var\((--[\w-]+)\)/g, (_, name) => light.getPropertyValue(name).trim());
    return next === text ? text : resolveColors(next);
  };
  const namespace = "http://www.w3.org/2000/svg";
  const append = (parent, name, attributes, text = "") => {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    parent.append(element);
    return element;
  };

  // A chart as a file of its own, with its legend below: [text, width, height].
  const standalone = (chart) => {
    const copy = chart.cloneNode(true);
    const [, , chartWidth, chartHeight] = chart.getAttribute("viewBox").split(" ").map(Number);
    const font = getComputedStyle(document.body).fontFamily.replaceAll('"', "'");
    const entries = [...chart.closest("section").querySelectorAll(".legend li")];
    const height = chartHeight + (entries.length && 18 * entries.length + 8);
    const width = Math.max(chartWidth, ...entries.map((entry) => 60 + 7 * entry.textContent.trim().length));
    copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.setAttribute("style", `font-family: ${font}; stroke-linejoin: round; background: var(--paper)`);
    copy.removeAttribute("class");
    entries.forEach((entry, index) => {
      const symbol = entry.querySelector("svg").cloneNode(true);
      const series = [...symbol.classList].find((name) => name.startsWith("series-"));
      const color = `var(--${series || "faint"})`;
      const top = chartHeight + 18 * index;
      for (const [name, value] of [["x", 12], ["y", top], ["fill", color], ["stroke", color], ["stroke-width", 0]])
        symbol.setAttribute(name, value);
      symbol.removeAttribute("class");
      copy.append(symbol);
      append(copy, "text", { x: 46, y: top + 10, fill: "var(--ink)", "font-size": 11 }, entry.textContent.trim());
    });
    const background = append(copy, "rect", { width, height, fill: "var(--paper)" });
    copy.querySelector("title").after(background);
    return [resolveColors(new XMLSerializer().serializeToString(copy)), width, height];
  };

  const download = (url, name) => {
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    notify(`Saved: ${name}`);
  };

  const save = (figure, format) => {
    const chart = [...figure.querySelectorAll("svg.chart")].find((svg) => svg.checkVisibility());
    const name = `${chart.getAttribute("aria-labelledby").replace(/-title$/, "")}.${format}`;
    const [text, width, height] = standalone(chart);
    const url = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    if (format === "svg") {
      download(url, name);
      return;
    }
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [3 * width, 3 * height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      download(canvas.toDataURL("image/png"), name);
    };
    image.onerror = () => notify("This browser cannot convert the chart to PNG. Save it as SVG.");
    image.src = url;
  };

  for (const figure of new Set([...document.querySelectorAll("svg.chart")].map((chart) => chart.closest("figure")))) {
    const row = document.createElement("p");
    row.className = "save";
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `Save as ${format.toUpperCase()}`;
      button.setAttribute("aria-label", `${button.textContent}: ${figure.querySelector("figcaption").textContent}`);
      button.addEventListener("click", () => save(figure, format));
      row.append(button);
    }
    figure.append(row);
  }

  if (!table) return;
  const headings = [...table.tHead.rows[0].cells].slice(0, -1);
  const names = headings.map((heading) => heading.dataset.name);
  const visibleText = (cell) => [...cell.childNodes]
    .filter((part) => part.nodeType === Node.TEXT_NODE).map((part) => part.textContent).join("").trim();
  const groups = [...table.tBodies].map((body, index) => {
    const lines = [...body.rows].map((row) => {
      const cells = [...row.cells].map((cell) => ({
        key: cell.dataset.key ? Number(cell.dataset.key) : null,
        text: visibleText(cell),
      }));
      return { row, cells, words: cells.map((cell) => cell.text).join(" ").toLowerCase() };
    });
    return { body, index, lines };
  });

  // ---------------------------------------------------------------- sorting

  const sort = (column, descending) => {
    const numeric = groups.some((group) => group.lines[0].cells[column].key !== null);
    const missing = (cell) => numeric ? cell.key === null : cell.text === "";
    const compare = (a, b) => {
      const x = a.lines[0].cells[column], y = b.lines[0].cells[column];
      const last = missing(x) - missing(y);
      if (last) return last; // missing values come last in both directions
      const order = x.key !== null && y.key !== null ? x.key - y.key : x.text.localeCompare(y.text);
      return (descending ? -order : order) || a.index - b.index;
    };
    table.append(...groups.slice().sort(compare).map((group) => group.body));
    headings.forEach((heading, index) => {
      if (index === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    const label = document.createElement("span");
    const text = heading.firstChild;
    label.textContent = text.textContent;
    button.append(label);
    text.replaceWith(button);
    button.addEventListener("click", () => {
      const current = heading.getAttribute("aria-sort");
      // The first click on an accuracy sorts the best rows to the top.
      const descending = current
        ? current === "ascending"
        : ["accuracy", "interval", "holdout_accuracy"].includes(names[column]);
      sort(column, descending);
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
  const allSeeds = document.getElementById("all-seeds");
  if (allSeeds) allSeeds.addEventListener("click", () => {
    const expanded = allSeeds.getAttribute("aria-pressed") !== "true";
    allSeeds.setAttribute("aria-pressed", String(expanded));
    for (const group of groups) fold(group, !expanded);
  });

  // ---------------------------------------------------------------- filtering

  const filter = document.getElementById("filter");
  const hideWorse = document.getElementById("hide-worse");
  const count = document.getElementById("count");

  const parseTerm = (term) => {
    const parts = /^([\w./ ]+?)(<=|>=|=|<|>)(.+)$/.exec(term);
    const column = parts ? names.findIndex((name) => name.toLowerCase() === parts[1]) : -1;
    if (column < 0) return (line) => line.words.includes(term);
    const [, , operator, operand] = parts, number = Number(operand);
    return (line) => {
      const { key, text } = line.cells[column];
      if (key === null || Number.isNaN(number)) return operator === "=" && text.toLowerCase() === operand;
      // Compare the rounded number that the table shows.
      const value = Number.isNaN(Number(text)) ? key : Number(text);
      return { "=": value === number, "<": value < number, ">": value > number,
               "<=": value <= number, ">=": value >= number }[operator];
    };
  };

  const apply = () => {
    const conditions = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(parseTerm);
    let shown = 0;
    for (const group of groups) {
      const matches = group.lines.some((line) => conditions.every((holds) => holds(line)));
      const worse = group.body.dataset.outcome === "worse" || group.lines[0].row.classList.contains("failed");
      group.body.hidden = !matches || (hideWorse && hideWorse.checked && worse);
      shown += !group.body.hidden;
    }
    count.textContent = `${shown} of ${groups.length} ${allSeeds ? "settings" : "rows"}`;
  };
  document.getElementById("tools").hidden = false;
  filter.addEventListener("input", apply);
  if (hideWorse) hideWorse.addEventListener("change", apply);
  apply();
})();
