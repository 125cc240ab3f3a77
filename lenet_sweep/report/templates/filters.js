// Filters of the ranked table. A row is shown if all filters accept it.

const rowsNoun = allSeeds ? "setting" : "row";
// A filter has accepts(), which returns a function of a group, active(), clear(), and perhaps
// text(), which describes it.
const filters = [];
const afterFiltering = [keepTabStop]; // functions that are called after each change

const printedCount = element("p", { class: "print-only" });
table?.closest(".scroll").before(printedCount);

function applyFilters() {
  const conditions = filters.map((filter) => filter.accepts());
  for (const group of groups) group.body.hidden = !conditions.every((accepts) => accepts(group));
  const shown = groups.filter((group) => !group.body.hidden).length;
  const active = filters.some((filter) => filter.active());
  const texts = filters.map((filter) => filter.text?.()).filter(Boolean).join("; ");
  const counted = `${shown} of ${plural(groups.length, rowsNoun)}${texts ? ` with ${texts}` : ""}`;
  for (const matches of document.querySelectorAll(".matches")) {
    matches.hidden = matches.classList.contains("only-filtered") && !active;
    matches.querySelector("output").textContent = counted;
    matches.querySelector("button").hidden = !active;
  }
  printedCount.hidden = !active;
  printedCount.textContent = `Filtered: ${counted} ${shown === 1 ? "is" : "are"} shown.`;
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

// The column with this name or heading, which is typed without its unit and spaces; -1: none.
function columnOf(typed) {
  const names = columnNames.map((name) => name.toLowerCase());
  if (names.includes(typed)) return names.indexOf(typed);
  return headingTexts.findIndex((text) => text.replace(/\(.*\)|\s/g, "").toLowerCase() === typed);
}

// A term, such as adam or lr<=0.01: whether it is a comparison with a column, and a function that
// says whether the term holds for a line of the table.
function parseTerm(term) {
  const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(term);
  const column = parts ? columnOf(parts[1]) : -1;
  if (column < 0) return { comparison: false, holds: (line) => line.words.includes(term) };
  const [, , operator, operand] = parts;
  const number = Number(operand);
  const holds = (line) => {
    const { key, text } = line.cells[column];
    if (key === null || Number.isNaN(number)) return operator === "=" && text.toLowerCase() === operand;
    // Compare the rounded number that the table shows.
    const value = Number.isNaN(Number(text)) ? key : Number(text);
    return { "=": value === number, "<": value < number, ">": value > number,
             "<=": value <= number, ">=": value >= number }[operator];
  };
  return { comparison: true, holds };
}

if (table) {
  filters.push({
    accepts() {
      const terms = filterField.value.toLowerCase().split(/\s+/).filter(Boolean).map(parseTerm);
      // A comparison is with the setting, and not with one of its seeds.
      return (group) => terms.every(({ comparison, holds }) =>
        (comparison ? holds(group.lines[0]) : group.lines.some(holds)));
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
