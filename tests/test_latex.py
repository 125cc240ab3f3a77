"""results.tex and statistics.tex compile in a document, and all of their text fits on the page."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import PAYLOADS
from test_results import FAILED, rows

from lenet_sweep.report import latex, latex_text
from lenet_sweep.report.text_tables import text_tables, to_latex

ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"),
    )
    for name in ("pdflatex", "xelatex")
]
FONTS = subprocess.run(["fc-list"], capture_output=True, text=True, check=False).stdout
PDFTOTEXT = shutil.which("pdftotext")
DOCUMENT = r"""\documentclass{article}
\usepackage{array, booktabs, longtable}
\begin{document}
\listoftables
%s
\end{document}
"""
TIES = "= the best row of all and what is tied with it by the same test images (McNemar, Holm)."


@pytest.fixture
def typeset(tmp_path):
    """Typeset fragments in one document; returns the text of its pages, and the log."""
    if PDFTOTEXT is None:
        pytest.skip("pdftotext is not installed: apt-get install poppler-utils")

    def compile_document(engine, *fragments):
        for n, text in enumerate(fragments):
            (tmp_path / f"part{n}.tex").write_text(text, encoding="utf-8")
        inputs = "\n".join(rf"\input{{part{n}}}" for n in range(len(fragments)))
        (tmp_path / "doc.tex").write_text(DOCUMENT % inputs)
        for _ in range(2):  # longtable and the list of tables need a second pass
            done = subprocess.run(
                [engine, "-halt-on-error", "-interaction=nonstopmode", "doc.tex"],
                cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
            log = (tmp_path / "doc.log").read_text(errors="replace")
            assert done.returncode == 0, [line for line in log.splitlines() if line[:1] == "!"]
        command = [PDFTOTEXT, "-layout", "doc.pdf", "-"]
        text = subprocess.run(
            command, cwd=tmp_path, capture_output=True, check=True
        ).stdout.decode()
        return text, log

    return compile_document


def tables(frame):
    """The text tables of a frame, with the caption that tables with ties have."""
    return [t._replace(caption=f"{t.caption} {TIES}".strip()) for t in text_tables(frame)]


def long():
    changes = ({"accuracy": 99 - n / 100, "lr": 10.0 ** -(n % 5)} for n in range(90))
    return rows(*changes)


def wide():
    """All columns vary, and two rows have failed."""
    changes = (
        {"accuracy": 98 - n / 10, "optimizer": "sgd", "seed": n,
         "activation": ("relu", "tanh")[n % 2], "lr": 10.0 ** -n, "batch": 2**n,
         "dataset": ("mnist first 6000, shuffled", "fashion_mnist less 5000")[n % 2],
         "person": ("Ada Lovelace-Byron", "Bo")[n % 2], "holdout_accuracy": 97.0 + n / 7,
         "engine": ("native", "torch")[n % 2], "device": ("cpu", "cuda")[n % 2], "epochs": 9 + n}
        for n in range(12)
    )  # fmt: skip
    failed = FAILED | {"status": "timed-out", "error": f"RuntimeError: {'/usr/lib/python3' * 20}"}
    return rows(*changes, failed | {"optimizer": "sgd"}, failed)


def many():
    """A table with more columns than fit on a line."""
    names = [f"optimizer.option_{n}" for n in range(24)]
    body = tuple(tuple(f"{row}.{n:04d}" for n in range(24)) for row in range(7))
    return latex.to_latex([latex.Table("many", "", tuple(names), (True,) * 24, body)], "many")


@pytest.mark.parametrize("engine", ENGINES)
def test_long_and_wide_tables_fit(typeset, engine) -> None:
    """90 rows continue on further pages, and no line of a wide table is too long."""
    fragments = [to_latex(tables(f), stem) for f, stem in ((long(), "a"), (wide(), "b"))]
    text, log = typeset(engine, *fragments, many())
    assert "Overfull" not in log
    assert "multiply" not in log
    for n in range(90):
        assert len(re.findall(rf"^ *\d+ +{99 - n / 100:.2f} ", text, re.MULTILINE)) >= 1, n
    last = [f"{97.0 + n / 7:.2f}" for n in range(12)]
    assert all(value in text for value in last)
    assert text.count("timed") == 2
    assert text.count("learning") >= 3
    assert "List of Tables" in text
    assert text.count("nll + adam") >= 4


NAMES = ["王小明", "Łukasz Żółć", "Nguyễn Văn Ệ", "Zoë 😀", "Иван", "Ærøskøbing", "Ñandú", "Straße"]


@pytest.mark.parametrize("engine", ENGINES)
def test_names_in_all_scripts_are_typeset(typeset, engine) -> None:
    """XeLaTeX shows them; pdfLaTeX shows accents, and codes for letters that it does not have."""
    frame = rows(*({"person": name, "accuracy": 99 - n} for n, name in enumerate(NAMES)))
    text, log = typeset(engine, to_latex(text_tables(frame)))
    assert "Overfull" not in log
    assert "Missing character" not in log
    assert len(re.findall(r"^ *\d +9\d\.00 ", text, re.MULTILINE)) == len(NAMES)
    if engine == "pdflatex":
        assert "U+738BU+5C0FU+660E" in text
        assert "Zo" in text
        assert "\u0141ukasz" in text or "ukasz" in text
    else:
        latin = [name for name in NAMES if name[0] not in "王ИZ"]
        assert [name for name in latin if name not in text] == []
        if any(name in FONTS for name in latex_text.FONTS[:3]):
            assert "王小明" in text


@pytest.mark.parametrize("engine", ENGINES)
def test_untrusted_text_is_typeset_literally(typeset, engine) -> None:
    """Text with LaTeX commands and special characters compiles and is shown as it is."""
    frame = rows(*({"person": text, "error": text, "accuracy": 50 + n / 10}
                   for n, text in enumerate(PAYLOADS)))  # fmt: skip
    text, log = typeset(engine, to_latex(text_tables(frame)))
    assert "Overfull" not in log
    accuracies = set(re.findall(r"^ *\d+ +(\d\d\.\d0)(?: |$)", text, re.MULTILINE))
    assert sorted(accuracies) == [f"{50 + n / 10:.2f}" for n in range(len(PAYLOADS))]
    assert r"\input{/etc/passwd}" in text.replace(" ", "")


WORDS = st.text(st.sampled_from("aWi_=1. -/é王"), max_size=30)


@settings(max_examples=60)
@given(st.data())
def test_no_table_is_wider_than_a_line(data) -> None:
    """For arbitrary cells, columns and gaps fit into a line, and no column or row is lost."""
    columns = data.draw(st.integers(1, 20))
    header = tuple(data.draw(WORDS) for _ in range(columns))
    numeric = tuple(data.draw(st.booleans()) for _ in range(columns))
    count = data.draw(st.integers(1, 6))
    body = tuple(tuple(data.draw(WORDS) for _ in range(columns)) for _ in range(count))
    parts = latex._fit(latex.Table("t", "", header, numeric, body))
    for table, layout in parts:
        widths = [
            latex._column_width(table, n, layout.size, stacked=layout.stacked) if w is None else w
            for n, w in enumerate(layout.widths)
        ]
        assert sum(widths) + layout.gap * (len(widths) - 1) <= latex.WIDTH + 0.01
        assert len(table.rows) == count
    caption = parts[0][0].caption
    for n, name in enumerate(header):
        values = [row[n] for row in body]
        assert (
            set(values) == {""}
            or f"{name} {values[0]}" in caption
            or any(
                (name, *values) == column
                for table, _ in parts
                for column in zip(table.header, *table.rows, strict=True)
            )
        )


def test_required_packages_captions_and_labels() -> None:
    """A comment at the top names the packages, and each table has a caption and a unique label."""
    text = to_latex([*tables(long()), *tables(long())], "statistics")
    first = text[: text.index("{\\fontsize")]
    assert all(line.startswith("%") for line in first.splitlines() if line)
    assert r"\usepackage{array, booktabs, longtable}" in first
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == ["tab:statistics-nll-adam", "tab:statistics-nll-adam-2"]
    assert text.count(r"\caption[nll" if r"\caption[nll" in text else r"\caption[{nll") == 2
