// Filters of the ranked table. A row is shown if all filters accept it.

const rowsNoun = allSeeds ? "setting" : "row";
// A filter has accepts(), which returns a function of a group, active(), clear(), and perhaps
// text(), which describes it.
const filters = [];
const afterFiltering = []; // functions that are called after each change

function applyFilters() {
  const conditions = filters.map((filter) => filter.accepts());
  for (const group of groups) group.body.hidden = !conditions.every((accepts) => accepts(group));
  const shown = groups.filter((group) => !group.body.hidden).length;
  const active = filters.some((filter) => filter.active());
  const texts = filters.map((filter) => filter.text?.()).filter(Boolean).join("; ");
  for (const matches of document.querySelectorAll(".matches")) {
    matches.hidden = matches.classList.contains("only-filtered") && !active;
    const counted = `${shown} of ${plural(groups.length, rowsNoun)}`;
    matches.querySelector("output").textContent = texts ? `${counted} with ${texts}` : counted;
    matches.querySelector("button").hidden = !active;
  }
  for (const react of afterFiltering) react();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.clear-filter");
  if (!button) return;
  const focused = button.closest("section");
  for (const filter of filters) filter.clear();
  applyFilters();
  focused.querySelector("#filter, svg.chart").focus({ preventScroll: true }); // the button is hidden
});

// ---------------------------------------------------------------- words and comparisons

const filterField = document.getElementById("filter");
const hideWorse = document.getElementById("hide-worse");

// A function that says whether a line of the table meets a term, such as adam or lr<=0.01.
function parseTerm(term) {
  const parts = /^([\w./ ]+?)(<=|>=|=|<|>)(.+)$/.exec(term);
  const column = parts ? columnNames.findIndex((name) => name?.toLowerCase() === parts[1]) : -1;
  if (column < 0) return (line) => line.words.includes(term);
  const [, , operator, operand] = parts;
  const number = Number(operand);
  return (line) => {
    const { key, text } = line.cells[column];
    if (key === null || Number.isNaN(number)) return operator === "=" && text.toLowerCase() === operand;
    // Compare the rounded number that the table shows.
    const value = Number.isNaN(Number(text)) ? key : Number(text);
    return { "=": value === number, "<": value < number, ">": value > number,
             "<=": value <= number, ">=": value >= number }[operator];
  };
}

if (table) {
  filters.push({
    accepts() {
      const terms = filterField.value.toLowerCase().split(/\s+/).filter(Boolean).map(parseTerm);
      return (group) => group.lines.some((line) => terms.every((holds) => holds(line)));
    },
    active: () => filterField.value.trim() !== "",
    clear: () => { filterField.value = ""; },
  });
  filterField.addEventListener("input", applyFilters);
}
if (hideWorse) {
  const isWorse = (group) =>
    group.body.dataset.outcome === "worse" || group.lines[0].row.classList.contains("failed");
  filters.push({
    accepts: () => (group) => !hideWorse.checked || !isWorse(group),
    active: () => hideWorse.checked,
    clear: () => { hideWorse.checked = false; },
  });
  hideWorse.addEventListener("change", applyFilters);
}
if (table) {
  document.getElementById("tools").hidden = false;
  applyFilters();
}
