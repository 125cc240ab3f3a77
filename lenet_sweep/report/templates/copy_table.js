// Copies the ranked table as it is shown: TSV, Markdown or LaTeX.

// The functions for cells follow csv_file.py, text_tables.py and latex_text.py; tests compare them.

// A leading apostrophe keeps spreadsheets from evaluating the text.
function tsvCell(text) {
  const safe = text.replace(/\s+/g, " ");
  if (safe !== "" && Number.isFinite(Number(safe))) return safe; // such as a negative number
  return pageData.formulaStarts.some((start) => safe.startsWith(start)) ? `'${safe}` : safe;
}

function markdownCell(text) {
  const escaped = text.replace(/([\\|`*_<>[\]~$@]|&(?=[#_\p{L}\p{N}])|:(?=\/\/))/gu, "\\$1");
  return escaped.replace(/(?<![_\p{L}\p{N}])(www)\./giu, "$1\\.");
}

function latexCell(text) {
  const { commands, signs, accents } = pageData.latex;
  const letter = (c) => {
    if (Object.hasOwn(commands, c)) return commands[c];
    if (Object.hasOwn(signs, c)) return signs[c];
    if (c.codePointAt(0) < 128) return c;
    const [base, ...marks] = c.normalize("NFD");
    if (/^[A-Za-z]$/.test(base) && marks.length && marks.every((mark) => Object.hasOwn(accents, mark))) {
      const dotless = !"\u0323\u0327".includes(marks.at(-1)) && "ij".includes(base);
      return marks.reduce((inner, mark) => `\\${accents[mark]}{${inner}}`, dotless ? `\\${base}` : base);
    }
    return `\\sweepunicode{${c}}{${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}}`;
  };
  const letters = [...text.normalize("NFC")];
  return letters.map((c, n) => {
    const ligature = ["--", "''", "?`", "!`"].includes(c + (letters[n + 1] ?? ""));
    return letter(c) + (ligature ? "{}" : "");
  }).join("");
}

// ---------------------------------------------------------------- tables

const tableFormats = {
  tsv: (header, rows) => [header, ...rows].map((row) => `${row.map(tsvCell).join("\t")}\n`).join(""),
  markdown(header, rows, numeric) {
    const rule = numeric.map((number) => (number ? "---:" : "---"));
    const lines = [header.map(markdownCell), rule, ...rows.map((row) => row.map(markdownCell))];
    return lines.map((line) => `| ${line.join(" | ")} |\n`).join("");
  },
  latex(header, rows, numeric) {
    const line = (row) => `${row.map(latexCell).join(" & ")} \\\\\n`;
    const body = `\\begin{tabular}{@{}${numeric.map((number) => (number ? "r" : "l")).join("")}@{}}\n`
      + `\\toprule\n${line(header)}\\midrule\n${rows.map(line).join("")}\\bottomrule\n\\end{tabular}\n`;
    const unicode = body.includes("\\sweepunicode") ? pageData.latex.unicode : "";
    return `% The preamble needs \\usepackage{booktabs}.\n${unicode}${body}`;
  },
};

// The header and the visible lines of the table, in the order shown.
function shownTable() {
  const lineOf = new Map(groups.flatMap((group) => group.lines.map((line) => [line.row, line])));
  const rows = [...table.tBodies].filter((body) => !body.hidden)
    .flatMap((body) => [...body.rows]).filter((row) => !row.hidden)
    .map((row) => lineOf.get(row).cells.slice(0, headings.length).map((cell) => cell.text));
  const numeric = headings.map((heading) => heading.classList.contains("number"));
  return [headingTexts, rows, numeric];
}

for (const button of document.querySelectorAll(".copy-table button")) {
  button.parentElement.hidden = false;
  button.addEventListener("click", async () => {
    const [header, rows, numeric] = shownTable();
    const done = await copyText(tableFormats[button.dataset.format](header, rows, numeric));
    button.focus();
    notify(done ? `Copied ${plural(rows.length, "row")} of the table.`
      : "The browser did not allow copying. The table is also in results.csv and results.md.");
  });
}
