// Compares two rows of the ranked table: settings, learning curves, and test images.

const compareSection = element("section", { id: "compare", "aria-labelledby": "compare-h", tabindex: "-1", hidden: "" },
  element("h2", { id: "compare-h" }, `Comparison of two ${rowsNoun}s`), element("div", { id: "compared" }));
const checked = []; // the checked groups, in the order of checking

// The misclassified test images of a run and their predicted classes; see page_data.py.
function decodeErrors(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const errors = new Map();
  let [at, index] = [0, -1];
  const read = () => { // a base-128 number
    let [number, shift] = [0, 0];
    for (; bytes[at] & 128; shift += 7) number |= (bytes[at++] & 127) << shift;
    return number | (bytes[at++] << shift);
  };
  while (at < bytes.length) {
    index += read();
    errors.set(index, read());
  }
  return errors;
}

// ---------------------------------------------------------------- choosing rows

const compareStatus = element("span", { class: "compare-status", hidden: "" });

function addCheckboxes() {
  const corner = element("td", { class: "pick" }, element("span", { class: "visually-hidden" }, "compare"));
  table.tHead.rows[0].prepend(corner);
  for (const group of groups) {
    const { name, unfinished } = pageData.rows[group.index];
    const cell = element("td", { class: "pick" });
    if (unfinished) {
      cell.dataset.tip = `Not compared. ${unfinished}`;
      cell.append(element("span", { class: "visually-hidden" }, cell.dataset.tip));
    } else {
      group.box = element("input", { type: "checkbox", "aria-label": `Compare ${name}` });
      group.box.addEventListener("change", () => choose(group));
      cell.append(element("label", {}, group.box));
    }
    group.lines[0].row.prepend(cell);
    for (const line of group.lines.slice(1)) line.row.prepend(element("td", { class: "pick" }));
  }
  document.querySelector("#tools .matches").after(compareStatus);
  document.getElementById("filter-help").append(` Check two ${rowsNoun}s to compare them.`);
}

function choose(group) {
  if (checked.includes(group)) checked.splice(checked.indexOf(group), 1);
  else checked.push(group);
  while (checked.length > 2) checked.shift().box.checked = false; // the one that was checked first
  showChoice();
}

function showChoice() {
  compareStatus.hidden = !checked.length;
  compareSection.hidden = checked.length < 2;
  if (checked.length === 2) {
    renderComparison();
    const show = element("button", { type: "button", class: "primary" }, "Show the comparison");
    show.addEventListener("click", () => {
      compareSection.scrollIntoView();
      compareSection.focus({ preventScroll: true });
    });
    compareStatus.replaceChildren(show);
    notify("The comparison is below the table.");
  } else if (checked.length) {
    compareStatus.replaceChildren(`1 ${rowsNoun} checked; check another one to compare the two.`);
  }
}

// ---------------------------------------------------------------- settings and results

function sideBySide(heads, lines, caption) {
  const head = element("tr", {}, element("td"), ...heads.map((name) => element("th", { scope: "col" }, name)));
  const body = lines.map(([name, a, b, differs]) =>
    element("tr", differs ? { class: "differs" } : {}, element("th", { scope: "row" }, name),
      element("td", {}, a), element("td", {}, b)));
  return element("div", { class: "scroll", role: "group", "aria-label": caption, tabindex: "0" },
    element("table", { class: "sides" }, element("caption", { class: "visually-hidden" }, caption),
      element("thead", {}, head), element("tbody", {}, ...body)));
}

// Lines with the results of the two groups, as in the table.
function resultLines(pair) {
  const lines = [];
  headings.forEach((_, column) => {
    if (pageData.settings.includes(columnNames[column]) || columnNames[column] === "rank") return;
    lines.push([headingTexts[column], ...pair.map((group) => group.lines[0].cells[column].text), false]);
  });
  const verdicts = pair.map((group) => group.lines[0].row.querySelector("th .visually-hidden").textContent.trim());
  if (verdicts.some(Boolean)) lines.push(["compared with the best", ...verdicts, false]);
  return lines;
}

function settingLines(pair) {
  const [a, b] = pair.map((group) => ({ ...pageData.shared, ...pageData.rows[group.index].settings }));
  return pageData.settings.map((name) => [name, a[name], b[name], a[name] !== b[name]]);
}

// ---------------------------------------------------------------- learning curves

function curveFigures(pair, names) {
  const curves = pair.map((group) => pageData.rows[group.index].curve);
  if (curves.some((curve) => !curve))
    return [element("p", { class: "aside" }, "This page does not contain both learning curves.")];
  const figures = ["cost", "accuracy"].map((quantity) => {
    const caption = quantity === "cost" ? "Cost on the training set (mean of each epoch)"
      : "Test accuracy after each epoch";
    const [svg, data] = drawCurves(curves, names, quantity, `${caption} of ${names.join(" and ")}`);
    const figure = element("figure", {}, element("figcaption", {}, caption), svg);
    addValues(svg, data);
    return figure;
  });
  return [element("div", { class: "pair" }, ...figures), curveLegend(names)];
}

function curveLegend(names) {
  const entries = names.map((name, n) => {
    const entry = element("li");
    const symbol = appendSvg(entry, "svg", {
      viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true", class: `series-${n}`,
    });
    appendSvg(symbol, "path", { d: "M1 6H25", "stroke-width": 2.4, fill: "none" });
    appendSvg(symbol, "path", { d: n ? "M9.2 2.2h7.6v7.6H9.2z" : "M17 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0" });
    entry.append(` ${name}`);
    return entry;
  });
  return element("ul", { class: "legend", "aria-label": "The two curves" }, ...entries);
}

// ---------------------------------------------------------------- test images

// A list of test images that one run misclassifies and the other does not.
function imageList(indices, errors, label) {
  const { tests } = pageData;
  const short = tests.classes.every((name) => name.length <= 3);
  const place = new Map(tests.indices.map((index, n) => [index, n]));
  const items = indices.filter((index) => place.has(index)).map((index) => {
    const at = place.get(index);
    const [truth, wrong] = [tests.classes[tests.labels[at]], tests.classes[errors.get(index)]];
    const picture = element("span", { class: "picture", role: "img" });
    picture.style.setProperty("--x", at % tests.sprite.columns);
    picture.style.setProperty("--y", Math.floor(at / tests.sprite.columns));
    const description = `test image ${index}: ${tests.noun} ${truth}, classified as ${wrong}`;
    picture.setAttribute("aria-label", description);
    const lines = short ? [`${truth}\u2192${wrong}`] : [truth, `\u2192 ${wrong}`];
    return element("li", { "data-tip": description }, picture,
      ...lines.map((line) => element("span", { class: "line", "aria-hidden": "true" }, line)));
  });
  const note = element("p", { class: "aside" },
    `This page shows ${items.length || "none"} of these images.`);
  if (!items.length) return indices.length ? [note] : [];
  const kind = `pictures${short ? "" : " named"}${tests.photos ? " photos" : ""}`;
  const list = element("ul", { class: kind, "aria-label": label }, ...items);
  makeRoving(list, "li");
  return [element("div", { class: items.length > 60 ? "box" : "" }, list),
    ...(items.length === indices.length ? [] : [note])];
}

// The differences of two runs, each as {seed, errors}.
function imageDifferences(runs) {
  const { tests } = pageData;
  const [a, b] = runs.map((run) => decodeErrors(run.errors));
  const onlyB = [...b.keys()].filter((index) => !a.has(index)); // A is right, B is wrong
  const onlyA = [...a.keys()].filter((index) => !b.has(index));
  const both = a.size - onlyA.length;
  const right = tests.total - both - onlyA.length - onlyB.length;
  return [
    element("p", {}, `Of ${plural(tests.total, "test image")}, both classify ${right.toLocaleString("en-US")} `
      + `correctly and misclassify ${both.toLocaleString("en-US")}.`),
    element("h3", {}, `A right, B wrong: ${plural(onlyB.length, "image")}`),
    ...imageList(onlyB, b, "Images that A classifies correctly and B does not"),
    element("h3", {}, `B right, A wrong: ${plural(onlyA.length, "image")}`),
    ...imageList(onlyA, a, "Images that B classifies correctly and A does not"),
  ];
}

function seedMenu(runs, letter, chosen) {
  const menu = element("select", {}, ...runs.map((run, n) => element("option", { value: n }, run.seed)));
  menu.value = chosen;
  return [menu, element("label", {}, `seed of ${letter} `, menu)];
}

function imageSection(pair) {
  const heading = element("h3", {}, "Test images");
  const runs = pair.map((group) => pageData.rows[group.index].seeds.filter((run) => run.errors !== null));
  if (!pageData.tests || runs.some((known) => !known.length))
    return [heading, element("p", { class: "aside" },
      "This page does not contain the predictions of both on the same test images.")];
  const results = element("div");
  const common = runs[1].findIndex((run) => run.seed === runs[0][0].seed);
  const menus = [seedMenu(runs[0], "A", 0), seedMenu(runs[1], "B", Math.max(0, common))];
  const update = () =>
    results.replaceChildren(...imageDifferences(menus.map(([menu], n) => runs[n][Number(menu.value)])));
  for (const [menu] of menus) menu.addEventListener("change", update);
  update();
  const choice = runs.some((known) => known.length > 1)
    ? [element("p", { class: "tools" }, "Predictions: ", ...menus.map(([, label]) => label))] : [];
  return [heading, ...choice, results];
}

// ---------------------------------------------------------------- the section

function renderComparison() {
  const pair = [...checked].sort((a, b) => a.index - b.index);
  const names = pair.map((group, n) => `${"AB"[n]}: ${pageData.rows[group.index].name}`);
  const settings = settingLines(pair);
  const same = settings.filter(([, , , differs]) => !differs);
  const lines = [...settings.filter(([, , , differs]) => differs), ...resultLines(pair)];
  const uncheck = element("button", { type: "button" }, "Uncheck both");
  uncheck.addEventListener("click", () => {
    for (const group of checked.splice(0)) group.box.checked = false;
    showChoice();
    groups.find((group) => group.box)?.box.focus();
  });
  const details = element("details", {},
    element("summary", {}, `${plural(same.length, "value")} ${same.length === 1 ? "is" : "are"} the same`),
    sideBySide(names, same, "Values that are the same"));
  document.getElementById("compared").replaceChildren(
    sideBySide(names, lines, "Values that differ, and results"),
    ...(same.length ? [details] : []),
    ...curveFigures(pair, names),
    ...imageSection(pair),
    element("p", { class: "save" }, uncheck));
  for (const figure of compareSection.querySelectorAll("figure")) addSaveButtons(figure);
}

if (groups.length > 1 && pageData.rows.length === groups.length) {
  document.getElementById("table").after(compareSection);
  const sprite = pageData.tests?.sprite;
  if (sprite) {
    compareSection.style.setProperty("--sheet", `url("${sprite.uri}")`);
    compareSection.style.setProperty("--columns", sprite.columns);
    compareSection.style.setProperty("--rows", sprite.rows);
  }
  addCheckboxes();
}
