// The ranked table: its rows as groups (a row, or a setting with its seeds), sorting, and seeds.

const table = document.getElementById("ranked"); // null if no cell has a result
const visibleText = (cell) => [...cell.childNodes]
  .filter((part) => part.nodeType === Node.TEXT_NODE).map((part) => part.textContent).join("").trim();
const headings = table ? [...table.tHead.rows[0].cells].slice(0, -1) : []; // without the commands
const headingTexts = headings.map((heading) => heading.firstChild.textContent);
const columnNames = headings.map((heading) => heading.dataset.name);
const groups = [...(table?.tBodies ?? [])].map((body, index) => {
  const lines = [...body.rows].map((row) => {
    const cells = [...row.cells].map((cell) => ({
      key: cell.dataset.key ? Number(cell.dataset.key) : null,
      text: cell.dataset.text ?? visibleText(cell),
    }));
    return { row, cells, words: [...row.cells].map(visibleText).join(" ").toLowerCase() };
  });
  return { body, index, lines };
});

// ---------------------------------------------------------------- sorting

function sortTable(column, descending) {
  const numeric = groups.some((group) => group.lines[0].cells[column].key !== null);
  const missing = (cell) => (numeric ? cell.key === null : cell.text === "");
  const compare = (a, b) => {
    const [x, y] = [a.lines[0].cells[column], b.lines[0].cells[column]];
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
}

headings.forEach((heading, column) => {
  const text = heading.firstChild;
  const button = element("button", { type: "button", class: "sort" }, element("span", {}, text.textContent));
  text.replaceWith(button);
  button.addEventListener("click", () => {
    const current = heading.getAttribute("aria-sort");
    // The first click on an accuracy sorts the best rows to the top.
    const descending = current
      ? current === "ascending"
      : ["accuracy", "interval", "holdout_accuracy"].includes(columnNames[column]);
    sortTable(column, descending);
  });
});

// ---------------------------------------------------------------- seeds

const keepTabStop = table ? makeRoving(table, ".track") : () => {};

function foldSeeds(group, folded) {
  const button = group.body.querySelector("button.seeds");
  if (!button) return;
  button.setAttribute("aria-expanded", String(!folded));
  for (const line of group.lines.slice(1)) line.row.hidden = folded;
}

for (const group of groups) {
  const button = group.body.querySelector("button.seeds");
  if (!button) continue;
  button.hidden = false;
  button.addEventListener("click", () => {
    foldSeeds(group, button.getAttribute("aria-expanded") === "true");
    keepTabStop();
  });
  foldSeeds(group, true);
}
const allSeeds = document.getElementById("all-seeds");
allSeeds?.addEventListener("click", () => {
  const expanded = allSeeds.getAttribute("aria-pressed") !== "true";
  allSeeds.setAttribute("aria-pressed", String(expanded));
  for (const group of groups) foldSeeds(group, !expanded);
  keepTabStop();
});
