"""Interaction with report.html in Chromium: values, ranges, comparisons, saving, and copying."""

import csv
import io
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_sweeps import fail, launched, settings, store_all

from lenet_sweep.analysis import loading
from lenet_sweep.core.text import one_line
from lenet_sweep.report import latex_text, page_data, page_files
from lenet_sweep.report.text_tables import escape_markdown
from lenet_sweep.results.csv_file import FORMULA_STARTS
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.search import Stop
from lenet_sweep.storage.store import Store

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
HOSTILE = "=HYPERLINK(1)|*_$&amp;<img src=x onerror=alert(1)>\\ www.x \u738b"
SIGNS = (
    "\u0105\xe9\xf1\xfc\u011f\u0131\xdf\xe6\xd8\u0153\u0141\xc5\u015f\u01d6\u1eb9\u0300x\u2013\u2014\u2026"
    "\u2018\u2019\u201c\u201d\xb1\xd7\u2212\xb7\u2264\u2265\xa0\u738b\U0001f642"
)
# Keeps what is copied, without the clipboard API, which not every browser has for files.
COPIES = """
  delete Navigator.prototype.clipboard;
  document.addEventListener("copy", () => { window.copied = document.activeElement.value; });
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, small_folder):
    """8 settings with two seeds each, a ninth that failed, and a tenth that a search stopped."""
    out = tmp_path_factory.mktemp("interaction")
    axes = {"recipe": ["ce_sgd", "nll_adam"], "batch": [8, 16], "seed": [0, 1], "person": HOSTILE}
    cells, options = settings(small_folder(), out, lr=[0.1, 0.001], **axes)
    more, _ = settings(small_folder(), out, lr=[9.0, 5.0], **(axes | {"recipe": "ce_sgd", "seed": 0,
                                                                     "batch": 8}))  # fmt: skip
    random = np.random.default_rng(0)
    wrong = [random.choice(200, 4 + 3 * n, replace=False) for n in range(len(cells))]
    wrong[0] = [0, 1, 150, 199]
    store_all(cells, out, small_folder(), lambda n: wrong[n], person=HOSTILE)
    fail(more[0], out)
    folder = launched([*cells, *more], replace(options, name="it")).sweep.folder
    table = ResultsTable(Store(out), HOSTILE)
    table.add_stored([*cells, *more])
    table.add_stops({more[1].run_id: Stop(1, "worse")}, [*cells, *more])
    table.write(folder)
    page_files.write_page(load_sweep(folder), on_message=print)
    return load_sweep(folder)


@pytest.fixture(scope="module")
def tab(sweep):
    """One page for all tests, which logs no error and requests nothing."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.add_init_script(COPIES)
        problems, path = [], sweep.folder / "report.html"
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(dialog.message))
        tab.on("request", lambda r: r.url.startswith("data:") or problems.append(r.url))
        tab.goto(path.as_uri())
        yield tab
        assert [text for text in problems if not re.fullmatch(r"file://.*/report.html", text)] == []
        browser.close()


@pytest.fixture
def page(tab):
    tab.mouse.move(1, 1)
    tab.reload()
    return tab


@pytest.fixture(scope="module")
def means(sweep):
    """Name and mean accuracy of each setting, as the table shows it, from results.csv."""
    table = pd.read_csv(sweep.folder / "results.csv")
    table = table[table["status"] == "ok"]
    groups = table.groupby(["lr", "batch", "optimizer"])["accuracy"].mean()
    return groups.sort_values(ascending=False)


def shown(page, name):
    """The texts in a column of the visible settings, from top to bottom."""
    return page.evaluate(
        """async (name) => {
          await new Promise(requestAnimationFrame);
          const index = [...document.querySelector("#ranked").tHead.rows[0].cells]
            .findIndex((cell) => cell.dataset.name === name);
          return [...document.querySelectorAll("#ranked tbody:not([hidden])")]
            .map((body) => body.rows[0].cells[index].innerText.trim());
        }""",
        name,
    )


def tip(page):
    """The tooltip: its heading, and its values by name."""
    names, values = (page.locator(f"#tip {kind}").all_inner_texts() for kind in ("dt", "dd"))
    return page.locator("#tip p").inner_text(), dict(zip(names, values, strict=True))


def center(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_values_are_shown_on_focus_and_on_hover(page, means) -> None:
    """At the last epoch of a curve, the chart shows the accuracy that results.csv has."""
    chart = page.locator("#curves svg.chart:visible").nth(1)
    chart.focus()
    page.keyboard.press("End")
    for (lr, batch, optimizer), accuracy in means.items():
        heading, values = tip(page)
        assert heading == f"lr {lr:g}, batch {batch}, {optimizer}"
        assert values["epoch"] == "3"
        assert values["accuracy (%)"] == f"{accuracy:.2f}"
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    by_key = tip(page)
    announced = chart.locator("xpath=following-sibling::p[@aria-live]").inner_text()
    assert by_key[1]["accuracy (%)"] in announced
    ring = center(chart.locator(".ring"))
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.mouse.move(ring[0] + 2, ring[1] + 2)
    assert tip(page) == by_key
    opacity = "(lines) => lines.map((line) => Number(getComputedStyle(line).opacity))"
    page.wait_for_timeout(200)  # the transition
    opacities = chart.locator("[data-mark]").evaluate_all(opacity)
    assert sorted(set(opacities)) == [0.22, 1.0]
    page.mouse.move(1, 1)
    assert not page.locator("#tip").is_visible()


def test_every_chart_has_values_for_the_keyboard(page) -> None:
    """Each chart is one tab stop that shows a name and values beside a mark, inside the window."""
    charts = page.locator("svg.chart:visible")
    assert charts.count() >= 6
    for chart in charts.all():
        chart.focus()
        page.keyboard.press("ArrowRight")
        heading, values = tip(page)
        assert heading
        assert values
        box = page.locator("#tip").bounding_box()
        assert 0 <= box["x"] <= 1280 - box["width"]
        assert 0 <= box["y"] <= 900 - box["height"]
    square = page.locator("table.map td").first
    square.focus()
    assert "no accuracy" in page.locator("#tip").inner_text()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    lines = page.locator("#tip p").all_inner_texts()
    assert lines[0].endswith(", lr 0.1, batch 16")
    assert lines[1].startswith(page.locator("td:focus").inner_text().split()[-1] + "%, mean of 2")
    assert page.evaluate("document.activeElement.cellIndex") == 2


def test_ranges_filter_the_table_with_the_other_filters(page) -> None:
    """Ranges of several axes and words apply together, and one button clears them all."""
    section = page.locator("#parallel")
    section.scroll_into_view_if_needed()
    lr = section.locator(".controls > .area").nth(2)
    box = lr.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + box["height"] / 3)
    page.mouse.down()
    page.mouse.move(x, y, steps=3)
    page.mouse.up()
    assert set(shown(page, "lr")) == {"0.1"}
    assert section.locator("output").inner_text() == "4 of 10 settings with lr 0.1"
    assert section.locator("[data-mark].dropped").count() == 4
    page.get_by_label("Filter", exact=True).fill("adam")
    assert set(shown(page, "optimizer")) == {"adam"}
    assert page.locator("#count").inner_text() == "2 of 10 settings with lr 0.1"
    highest = section.get_by_role("slider", name="accuracy (%), highest value")
    highest.focus()
    best = highest.get_attribute("aria-valuetext")
    for _ in range(8):
        if len(shown(page, "rank")) == 2:
            page.keyboard.press("ArrowDown")
    (accuracy,) = shown(page, "accuracy")
    assert float(accuracy) <= float(highest.get_attribute("aria-valuetext")) < float(best)
    section.get_by_role("button", name="Clear filter").click()
    assert len(shown(page, "rank")) == 10
    assert page.get_by_role("button", name="Clear filter").count() == 0
    assert page.evaluate("document.activeElement.closest('section').id") == "parallel"


def test_a_range_stays_when_the_finger_is_lifted(page) -> None:
    """Also after a drag that the browser canceled to scroll the page; and it shows no values."""
    section = page.locator("#parallel")
    area = section.locator(".controls > .area").nth(2)

    def touch(kind, place):
        box = area.bounding_box()
        point = {
            "clientX": box["x"] + box["width"] / 2,
            "clientY": box["y"] + place * box["height"],
        }
        more = {"pointerId": 1, "pointerType": "touch", "buttons": 1, "bubbles": True}
        area.dispatch_event(kind, point | more)

    area.evaluate("(area) => { area.setPointerCapture = () => {}; }")  # the pointer is made up
    for kind, place in (("pointerdown", 0.1), ("pointercancel", 0.1), ("pointerdown", 0.0),
                        ("pointermove", 0.3)):  # fmt: skip
        touch(kind, place)
    assert page.locator("#tip:visible").all_inner_texts() == ["lr 0.1"]
    touch("pointerup", 0.3)
    assert set(shown(page, "lr")) == {"0.1"}
    assert not page.locator("#tip").is_visible()


def test_comparisons_are_with_the_setting(page, means) -> None:
    """A comparison holds for the mean, not for one of the seeds; words may be those of a seed."""
    field = page.get_by_label("Filter", exact=True)
    field.fill(f"accuracy>{means.iloc[0]:.2f}")
    assert shown(page, "rank") == []
    field.fill(f"accuracy>={means.iloc[1]:.2f} seed")
    assert len(shown(page, "rank")) == 2


def test_filter_accepts_the_headings_of_the_table(page) -> None:
    """Without units and spaces, in any case. A row without a rank is in no range of ranks."""
    everything = {
        name: shown(page, name) for name in ("lr", "train_loss", "seconds_per_epoch", "sd")
    }
    for typed, name in (("learningRate", "lr"), ("cost", "train_loss"), ("sd", "sd"),
                        ("s/epoch", "seconds_per_epoch")):  # fmt: skip
        numbers = [float(text) for text in everything[name] if text]
        page.get_by_label("Filter", exact=True).fill(f"{typed}<={numbers[0]}")
        assert [text for text in everything[name] if text and float(text) <= numbers[0]] == shown(
            page, name
        )
    page.get_by_label("Filter", exact=True).fill("rank>0")
    assert len(shown(page, "rank")) == 8


def test_two_settings_are_compared(page, sweep) -> None:
    """The numbers of images are those of the stored predictions, for each pair of seeds."""
    table = sweep.table
    results = loading.load_results_of(table, loading.sources(sweep, table), sweep.test_images)
    correct = {
        (r.cell.lr, r.cell.batch, r.cell.optimizer.name, r.cell.seed): r.correct
        for r in results
        if r.status == "ok"
    }
    first, second = (0.1, 8, "sgd"), (0.001, 16, "adam")
    page.get_by_label("Compare lr 0.001, batch 16, adam").check()
    assert not page.locator("#compare").is_visible()
    page.get_by_label("Compare lr 0.1, batch 8, sgd").check()
    section = page.locator("#compare")
    differing = section.locator("tr.differs th").all_inner_texts()
    assert set(differing) >= {"lr", "batch", "optimizer", "loss"}
    assert "activation" not in differing
    for seed in (0, 1):
        section.get_by_label("seed of B").select_option(str(seed))
        a, b = correct[*first, 0], correct[*second, seed]
        text = section.inner_text()
        assert f"both classify {(a & b).sum()} correctly and misclassify {(~a & ~b).sum()}" in text
        for line, images in (("A right, B wrong", a & ~b), ("B right, A wrong", b & ~a)):
            assert re.search(rf"{line}: {images.sum()} images?", text)
        shown_images = section.locator(".pictures .picture").count()
        assert shown_images == (a ^ b).sum()
    chart = section.locator("svg.chart").nth(1)
    chart.focus()
    page.keyboard.press("End")
    assert tip(page)[0].startswith("A: lr 0.1, batch 8, sgd")
    page.get_by_role("button", name="Show the comparison").click()
    assert page.evaluate("document.activeElement.id") == "compare"
    page.get_by_role("button", name="Uncheck both").click()
    assert not section.is_visible()


def test_nothing_overflows_on_a_phone(page) -> None:
    """With a comparison and a filter, the page is as wide as the screen, and values are inside."""
    page.set_viewport_size({"width": 375, "height": 812})
    for box in page.locator(".pick input").all()[:2]:
        box.check()
    page.locator("#parallel .handle").first.focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for chart in page.locator("#compare svg.chart, #curves svg.chart:visible").all():
        chart.focus()
        page.keyboard.press("End")
        box = page.locator("#tip").bounding_box()
        assert 0 <= box["x"] <= 375 - box["width"]
    page.set_viewport_size({"width": 1280, "height": 900})


def test_arrow_keys_follow_the_visible_bars(page) -> None:
    """They follow the order after sorting; a hidden bar passes its tab stop to a visible one."""
    stop = page.locator("#ranked .track[tabindex='0']")
    page.get_by_role("button", name="accuracy (%)").click()
    page.get_by_role("button", name="accuracy (%)").click()  # ascending
    page.locator("#ranked .line .track").first.focus()
    focused = []
    for _ in shown(page, "accuracy"):
        focused.append(page.evaluate("document.activeElement.closest('tr').cells[2].innerText"))
        page.keyboard.press("ArrowDown")
    assert focused[:8] == shown(page, "accuracy")[:8]
    for name in ("adam", "sgd"):
        page.get_by_label("Filter", exact=True).fill(name)
        assert stop.is_visible()
        page.get_by_role("button", name="Show all seeds").click()
        page.locator("#ranked .seed .track:visible").first.click()
        page.keyboard.press("ArrowDown")
        assert page.locator("#ranked .seed .track:focus").count() == 1
        page.get_by_role("button", name="Show all seeds").click()
        assert stop.is_visible()  # and the only one


def test_arrow_keys_start_at_the_first_point(page) -> None:
    """Also if a click on an empty part has focused the chart, without values."""
    chart = page.locator("#curves svg.chart:visible").nth(1)
    chart.click(position={"x": 2, "y": 2})
    assert not page.locator("#tip").is_visible()
    page.keyboard.press("ArrowLeft")
    assert tip(page)[1]["epoch"] == "1"


def test_a_filtered_table_is_printed_with_a_note(page) -> None:
    """It says how many settings are shown, and keeps the colors of outcomes."""
    note = page.locator(".print-only")
    edge = "(cell) => getComputedStyle(cell).borderLeft"
    colors = page.locator(".line > :first-child").evaluate_all(f"(all) => all.map({edge})")
    assert len(set(colors)) > 1
    page.emulate_media(media="print")
    assert not note.is_visible()
    assert page.locator(".line > .rank").evaluate_all(f"(all) => all.map({edge})") == colors
    page.get_by_label("Filter", exact=True).evaluate(
        "(field) => { field.value = 'adam'; field.dispatchEvent(new Event('input')); }"
    )
    assert note.inner_text() == "Filtered: 4 of 10 settings are shown."
    assert note.is_visible()
    page.emulate_media(media="screen")
    assert not note.is_visible()


def test_a_comparison_without_pictures_says_so(page) -> None:
    """The page has pictures of some test images only, perhaps of none that differ."""
    page.evaluate("pageData.tests.indices.splice(0)")
    for box in (page.locator(".pick input").first, page.locator(".pick input").last):
        box.check()
    assert page.locator("#compare").get_by_text("shows none of these images").count() == 2


def test_unfinished_rows_are_not_compared(page) -> None:
    """Rows that a search stopped, and failed rows, have no checkbox, and the reason is given."""
    assert page.locator(".pick input").count() == 8
    reasons = page.locator(".pick .visually-hidden").all_inner_texts()
    assert "Not compared. The search stopped it before its last epoch or seed." in reasons
    assert "Not compared. It has no accuracy." in reasons


def test_the_table_is_copied_as_shown(page) -> None:
    """The copy has the visible rows in their order, in each format, and no formula."""
    page.get_by_label("Filter", exact=True).fill("adam")
    page.get_by_role("button", name="learning rate").click()
    page.locator("tbody:not([hidden]) button.seeds").first.click()
    page.get_by_role("button", name="Copy as TSV").click()
    header, *rows = csv.reader(io.StringIO(page.evaluate("copied")), delimiter="\t", quotechar=None,
                               quoting=csv.QUOTE_NONE)  # fmt: skip
    assert header[:5] == ["rank", "accuracy (%)", "95% interval", "sd (points)", "seeds"]
    assert len(rows) == 4 + 2
    place = header.index("learning rate")
    assert [row[place] for row in rows if row[0]] == shown(page, "lr")
    assert [row[1] for row in rows if row[0]] == shown(page, "accuracy")
    assert [row[4] for row in rows[1:3]] == ["seed 0", "seed 1"]
    assert {row[header.index("person")] for row in rows} == {f"'{one_line(HOSTILE)}"}
    assert not any(cell.startswith(FORMULA_STARTS) for row in rows for cell in row)
    texts = [header, *([cell.removeprefix("'") for cell in row] for row in rows)]
    page.get_by_role("button", name="Copy as Markdown").click()
    lines = page.evaluate("copied").splitlines()
    assert lines[0] == "| " + " | ".join(map(escape_markdown, texts[0])) + " |"
    assert lines[2:] == ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in texts[1:]]
    page.get_by_role("button", name="Copy as LaTeX").click()
    copied = page.evaluate("copied")
    for row in texts:
        assert " & ".join(map(latex_text.escape, row)) + r" \\" in copied
    assert copied.count(latex_text.UNICODE) == 1


def test_the_script_escapes_like_the_package(page) -> None:
    """Hostile texts as in results.md and results.tex; in TSV, negative numbers stay numbers."""
    everything = "".join(map(chr, range(32, 127))) + SIGNS
    texts = [one_line(text) for text in (
        everything, "-- '' ?` !` --- ''' \\", "www.x.org \xe9www.y WWW.z", "&#1; &\xe9 & a://b @me",
        HOSTILE, "e\u0301i\u0307j\u030c q\u0301 o\u0323\u0302", "{}%$#_~^\\textbf{x}\\input|y", "",
    )]  # fmt: skip
    latex, markdown = (page.evaluate(f"(texts) => texts.map({name})", texts)
                       for name in ("latexCell", "markdownCell"))  # fmt: skip
    assert page.evaluate("['-1.5', '-x'].map(tsvCell)") == ["-1.5", "'-x"]
    assert latex == [latex_text.escape(text) for text in texts]
    assert markdown == [escape_markdown(text) for text in texts]


def test_encoded_predictions_are_decoded(page) -> None:
    """The script reads what the package writes, also for images that are far apart."""
    labels = np.zeros(100_000, np.uint16)
    predictions = labels.copy()
    predictions[[0, 1, 128, 129, 400, 20_000, 99_999]] = [1, 255, 128, 127, 256, 999, 9]
    encoded = page_data.encode_errors(labels, predictions)
    decoded = page.evaluate("(text) => [...decodeErrors(text)]", encoded)
    assert decoded == [[int(n), int(predictions[n])] for n in np.flatnonzero(predictions)]


@pytest.mark.slow
def test_predictions_beyond_the_limit_are_left_out(sweep, page, monkeypatch, tmp_path) -> None:
    """The best rows keep theirs, and the page says which comparison it cannot make."""
    monkeypatch.setattr(page_data, "MAX_PREDICTIONS", 100)
    page_files.rebuild_page([sweep.folder], tmp_path / "small", None)
    page.goto((tmp_path / "small" / "report.html").as_uri())
    boxes = page.locator(".pick input")
    boxes.first.check()
    boxes.last.check()
    assert "does not contain the predictions of both" in page.locator("#compare").inner_text()
    page.goto((sweep.folder / "report.html").as_uri())
