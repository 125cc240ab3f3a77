// Buttons that save each chart as SVG or PNG.

// Saved charts always have the light colors, since they end up on paper and slides.
const lightColors = document.styleSheets[0].cssRules[0].style;
function resolveColors(text) {
  const next = text.replace(/var\((--[\w-]+)\)/g, (_, name) => lightColors.getPropertyValue(name).trim());
  return next === text ? text : resolveColors(next);
}

// A copy of a chart without what the script has added to it.
function plainCopy(chart) {
  const copy = chart.cloneNode(true);
  for (const part of copy.querySelectorAll("metadata, .ring, .controls")) part.remove();
  for (const part of copy.querySelectorAll("[data-mark]")) {
    if (part.classList.contains("dropped")) part.setAttribute("opacity", "0.08");
    part.removeAttribute("data-mark");
    part.removeAttribute("class");
  }
  const { width, height } = chart.viewBox.baseVal;
  const title = chart.getAttribute("aria-label");
  for (const { name } of [...copy.attributes]) if (!name.startsWith("xmlns")) copy.removeAttribute(name);
  const named = appendSvg(copy, "title", {}, title);
  copy.prepend(named);
  return { copy, named, width, height };
}

// A chart as a file of its own, with its legend below: [text, width, height].
function standalone(chart) {
  const { copy, named, width: chartWidth, height: chartHeight } = plainCopy(chart);
  const font = getComputedStyle(document.body).fontFamily.replaceAll('"', "'");
  const entries = [...chart.closest("section").querySelectorAll(".legend li")];
  const height = chartHeight + (entries.length && 18 * entries.length + 8);
  const width = Math.max(chartWidth, ...entries.map((entry) => 60 + 7 * entry.textContent.trim().length));
  copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("style", `font-family: ${font}; stroke-linejoin: round; background: var(--paper)`);
  entries.forEach((entry, index) => {
    const symbol = entry.querySelector("svg").cloneNode(true);
    const series = [...symbol.classList].find((name) => name.startsWith("series-"));
    const color = `var(--${series || "faint"})`;
    const place = chartHeight + 18 * index;
    for (const [name, value] of [["x", 12], ["y", place], ["fill", color], ["stroke", color], ["stroke-width", 0]])
      symbol.setAttribute(name, value);
    symbol.removeAttribute("class");
    copy.append(symbol);
    const text = { x: 46, y: place + 10, fill: "var(--ink)", "font-size": 11 };
    appendSvg(copy, "text", text, entry.textContent.trim());
  });
  named.after(appendSvg(copy, "rect", { width, height, fill: "var(--paper)" }));
  return [resolveColors(new XMLSerializer().serializeToString(copy)), width, height];
}

function download(url, name) {
  element("a", { href: url, download: name }).click();
  notify(`Saved: ${name}`);
}

function saveChart(figure, format) {
  const chart = [...figure.querySelectorAll("svg.chart")].find((svg) => svg.checkVisibility());
  const name = `${pageData.name}-${chart.dataset.name}.${format}`;
  const [text, width, height] = standalone(chart);
  const url = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  if (format === "svg") {
    download(url, name);
    return;
  }
  const image = new Image();
  image.onload = () => {
    const canvas = element("canvas", { width: Math.round(2 * width), height: Math.round(2 * height) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    download(canvas.toDataURL("image/png"), name);
  };
  image.onerror = () => notify("This browser cannot convert the chart to PNG. Save it as SVG.");
  image.src = url;
}

function addSaveButtons(figure) {
  const row = element("p", { class: "save" });
  for (const format of ["svg", "png"]) {
    const label = `Save as ${format.toUpperCase()}`;
    const caption = figure.querySelector("figcaption").textContent;
    const button = element("button", { type: "button", "aria-label": `${label}: ${caption}` }, label);
    button.addEventListener("click", () => saveChart(figure, format));
    row.append(button);
  }
  figure.append(row);
}

for (const figure of new Set([...document.querySelectorAll("svg.chart")].map((chart) => chart.closest("figure"))))
  addSaveButtons(figure);
