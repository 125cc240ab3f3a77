"""Text from outside stays plain text in results.csv, Markdown, LaTeX, terminal and figures."""

import io
import re
from html import unescape

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from payloads import PAYLOADS, PLOT
from rich.console import Console

from lenet_sweep.config import validation
from lenet_sweep.config.keys import defaults
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import one_line
from lenet_sweep.report import figures, latex, latex_text
from lenet_sweep.report.histories import Curve
from lenet_sweep.report.text_tables import text_tables, to_latex, to_markdown
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui import tables

ROW = {
    "accuracy": None, "batch": 64, "lr": 0.1, "epochs": 1, "person": "Ada", "device": "cpu",
    "loss": "nll", "optimizer": "adam", "activation": "relu", "seed": 0, "status": "failed",
    "train_loss": -0.5, "seconds_per_epoch": None, "seconds": None, "engine": "torch",
    "dataset": "mnist", "error": "", "cell": "0-e1",
}  # fmt: skip
FORMULA_STARTS = (*"=+-@\t\r", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u2212")
FIELDS = ("person", "dataset", "error")  # fields with text from outside


def frame(text: str) -> pd.DataFrame:
    """A table with the text in each of FIELDS, and a row without it."""
    return ranked_table([ROW | dict.fromkeys(FIELDS, text), ROW | {"cell": "1-e1"}])


def letters(text: str) -> str:
    return "".join(re.findall(r"\w", text, re.ASCII))


def test_there_are_at_least_fifty_payloads() -> None:
    """The list covers many kinds of text."""
    assert len(PAYLOADS) >= 50


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_csv_contains_text_only(tmp_path, text: str) -> None:
    """In results.csv, the text is one line in its field, and not a formula."""
    write_csv(frame(text), tmp_path / "r.csv")
    restored = pd.read_csv(tmp_path / "r.csv", keep_default_na=False)
    assert len(restored) == 2
    assert list(restored.columns) == list(frame("plain").columns)
    row = restored[restored["cell"] == "0-e1"].iloc[0]
    for field in FIELDS:
        assert isinstance(row[field], str)
        assert not row[field].startswith(FORMULA_STARTS)
        assert row[field].isprintable()
        assert letters(text) in letters(row[field]) or not text.isprintable()
    assert row["train_loss"] == -0.5
    assert (tmp_path / "r.csv").read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_markdown_contains_text_only(text: str) -> None:
    """results.md renders as a table with the text in it, without markup, links or HTML from it."""
    markdown = to_markdown(text_tables(frame(text)))
    parser = MarkdownIt("gfm-like", {"linkify": False}).enable("table")
    html = parser.render(markdown)
    texts = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html)]
    assert one_line(text) in texts
    assert html.count("<table>") == 1
    assert html.count("<tr>") == 3
    columns = html.count("<th")
    assert html.count("<td") == 2 * (columns - 1)  # "<th" also matches "<thead"
    tags = set(re.findall(r"<(/?\w+)", html))
    allowed = {"h3", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags <= allowed | {f"/{tag}" for tag in allowed}
    assert all(c.isprintable() or c == "\n" for c in markdown)
    # GitHub would also render mathematics and turn addresses into links.
    assert not re.search(r"(?<!\\)\$|(?<!\\)://|www\.|(?<!\\)@", markdown)


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_latex_contains_text_only(text: str) -> None:
    """The text adds no command, comment or special character to results.tex."""
    written = to_latex(text_tables(frame(text)))
    assert all(c.isprintable() or c == "\n" for c in written)
    table, plain = (
        text[text.index("{\\fontsize") :] for text in (written, to_latex(text_tables(frame("x"))))
    )
    # Commands for escaped characters: signs, accents, line breaks, characters by their number.
    signs = "".join([*latex_text._COMMANDS.values(), *latex_text._SIGNS.values()])
    spelled = set(re.findall(r"\\[A-Za-z]+", signs + latex_text.BREAK + latex._column(False, 1.0)))
    used = set(re.findall(r"\\[A-Za-z]+", table)) - spelled - {"\\sweepunicode"}
    assert used <= set(re.findall(r"\\[A-Za-z]+", plain))
    own = r"\\[A-Za-z]+(?:\{\})?|\\[&%$#_{}]|\\\\|\\[`'^~=.\"]\{\w\}"
    rest = re.sub(own, "", table)
    for sign in "%#$^~":
        assert sign not in rest
    assert len({line.count("&") for line in rest.splitlines() if "&" in line}) == 1
    assert rest.count("{") == rest.count("}")


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_the_terminal_prints_text_only(text: str) -> None:
    """The text adds no control sequence and no markup to the printed table."""
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None)
    tables.print_tables(console, frame(text))
    printed = console.file.getvalue()
    assert all(c.isprintable() or c == "\n" for c in re.sub(r"\x1b\[[0-9;]*m", "", printed))
    assert printed.count("\x1b]") == 0
    if text.isprintable() and text.isascii() and text == " ".join(text.split()):
        assert text in printed


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("text", [*PLOT, *PAYLOADS[::4]], ids=ascii)
def test_figures_draw_text_only(tmp_path, text: str) -> None:
    """A label is drawn as typed, even if it looks like mathematics."""
    curves = [Curve(f"{text} {n}", [1, 2], [1.0, 0.5], [90.0, 95.0]) for n in range(2)]
    for figure in (figures.cost_figure(curves[0]), figures.overlay_figure(curves)):
        labels = "".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
        assert letters(one_line(text)) in letters(labels)
        figure.savefig(tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_a_person_is_kept_or_rejected(text: str) -> None:
    """A person is one line of printable characters; others are rejected with a one-line error."""
    if text.isprintable() and "${" not in text:
        assert validation.validate_cell(defaults() | {"person": text}, NATIVE)[1].person == text
    else:
        with pytest.raises(UsageError) as error:
            validation.validate_cell(defaults() | {"person": text}, NATIVE)
        assert str(error.value).isprintable()
