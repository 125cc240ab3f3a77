"""report.html in Chromium: sorting, filtering, keyboard, layout, colors, and no network access."""

import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from made_results import first_correct, grid, history
from made_sweeps import fail, launched, settings, store_all
from PIL import Image

from lenet_sweep.config.studies import Claim, Study, StudyRow
from lenet_sweep.report import charts, collect, curve_charts
from lenet_sweep.report.assets import asset
from lenet_sweep.report.compared_items import compared_items
from lenet_sweep.runner import outputs

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
TABLE = "#ranked"
HOSTILE = "<script>document.title = 'stolen'</script>"
WIDTHS = [(1280, 900), pytest.param((375, 812), marks=pytest.mark.slow)]

# The contrast ratio of each text to its background, from the colors that the browser computed.
CONTRAST = """
() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [r * scale, g * scale, b * scale, a];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement)
      layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const texts = [...document.querySelectorAll("body *")].filter((e) =>
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
    && e.checkVisibility() && !e.closest("svg, .visually-hidden, #toast, .skip"));
  return texts.map((element) => {
    const ground = behind(element);
    const text = over(parse(getComputedStyle(element).color), ground);
    const [a, b] = [luminance(text), luminance(ground)].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 90)];
  });
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, small_folder):
    """The page of a sweep with two recipes, ties, and a failed cell."""
    out = tmp_path_factory.mktemp("browser") / "out"
    cells, options = settings(
        small_folder(), out, recipe=["ce_sgd", "nll_adam"], lr=[0.1, 0.001], batch=[8, 16],
        epochs=[3, 6],
    )  # fmt: skip
    store_all(cells, out, small_folder(), lambda n: range(n, 5 * n + 4 - n % 2))
    broken, _ = settings(small_folder(), out, lr=[9.0])
    fail(broken[0], out, reason=HOSTILE, traceback="line 1")
    outcome = launched([*cells, *broken], replace(options, name="it"))
    outputs.write_page(outcome, options, print)
    return outcome.sweep.folder / "report.html"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, small_folder):
    """The page of a study whose rows are settings with three seeds each."""
    out = tmp_path_factory.mktemp("seeds") / "out"
    cells, options = settings(small_folder(), out, lr=[0.1, 0.01, 0.001], seed=[0, 1, 2])
    store_all(cells, out, small_folder(), lambda n: range(n * n % 7 + 9 * (n // 3)))
    reported = enumerate([98.0, 50.0, 95.0], 1)
    rows = [StudyRow(n, cells[3 * n - 3].setting, r, "cpu", HOSTILE) for n, r in reported]
    claims = (
        Claim(HOSTILE, "larger_is_better", keys=("lr",)),
        Claim("x", "best_accuracy", "", (), 9.0),
    )
    options = replace(options, study=Study(HOSTILE, HOSTILE, tuple(rows), claims))
    outcome = launched(cells, options)
    outputs.write_page(outcome, options, print)
    return outcome.sweep.folder / "report.html"


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Open a page, and check at the end that it logged no error and requested no other URL."""

    @contextmanager
    def open_page(path, size=(1280, 900), scheme="light", **more):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **more
        )
        page = context.new_page()
        messages, urls = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(path.as_uri())
        yield page
        context.close()
        assert messages == []
        assert [url for url in urls if not url.startswith("data:")] == [path.as_uri()]

    return open_page


def column(page, name):
    """The texts in a column of the visible rows, from top to bottom."""
    return page.evaluate(
        """(name) => {
          const table = document.getElementById("ranked");
          const index = [...table.tHead.rows[0].cells].findIndex((c) => c.dataset.name === name);
          const visible = [...table.tBodies].filter((body) => !body.hidden);
          return visible.map((body) => body.rows[0].cells[index].innerText.trim());
        }""",
        name,
    )


def test_headings_sort(report, opened) -> None:
    """A click on a heading sorts, a second one reverses; rows without a value come last."""
    with opened(report) as page:
        first = column(page, "accuracy")
        assert first[:-1] == sorted(first[:-1], key=float, reverse=True)
        assert first[-1] == "failed"
        page.get_by_role("button", name="learning rate").click()
        assert column(page, "lr") == ["0.001"] * 8 + ["0.1"] * 8 + ["9"]
        heading = page.locator(f"{TABLE} th[data-name=lr]")
        assert heading.get_attribute("aria-sort") == "ascending"
        assert page.locator(f"{TABLE} th[aria-sort]").count() == 1
        page.get_by_role("button", name="learning rate").click()
        assert column(page, "lr")[0] == "9"
        assert heading.get_attribute("aria-sort") == "descending"
        for direction in (list, reversed):
            page.get_by_role("button", name="accuracy (%)").click()
            numbers = [float(text) for text in column(page, "accuracy")[:-1]]
            assert numbers == list(direction(sorted(numbers, reverse=True)))
            assert column(page, "accuracy")[-1] == "failed"
        page.get_by_role("button", name="rank").click()
        assert column(page, "accuracy") == first


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("adam", 8), ("ADAM batch=16", 4), ("accuracy>90", 4), ("lr<=0.001 epochs=6", 4),
        ("failed", 1), ("loss=NLL", 8), ("nothing like it", 0), ("", 17), ("(", 0), ("batch=", 0),
    ],
)  # fmt: skip
def test_filter(report, opened, query, rows) -> None:
    """Rows that match all words and comparisons stay, and the page shows their number."""
    with opened(report) as page:
        page.get_by_label("Filter").fill(query)
        visible = len(column(page, "rank"))
        if query == "accuracy>90":
            rows = sum(float(a) > 90 for a in
                       page.locator(f"{TABLE} .line .accuracy").all_inner_texts()[:-1])  # fmt: skip
        assert visible == rows
        assert page.locator("#count").inner_text() == f"{rows} of 17 rows"


def test_hide_worse_and_failed(report, opened) -> None:
    """The checkbox leaves the best row and those tied with it."""
    with opened(report) as page:
        page.get_by_label("Hide worse and failed").check()
        ranks = column(page, "rank")
        assert 1 < len(ranks) < 17
        assert all(rank.startswith(("best", "=")) for rank in ranks)


def test_seeds_can_be_expanded(seeds, opened) -> None:
    """Seeds are hidden until a button shows those of one setting or of all settings."""
    with opened(seeds) as page:
        visible = page.locator(f"{TABLE} tr.seed:visible")
        assert visible.count() == 0
        assert len(column(page, "rank")) == 3
        page.locator("button.seeds").first.click()
        assert visible.count() == 3
        assert page.locator("button.seeds").first.get_attribute("aria-expanded") == "true"
        page.get_by_role("button", name="Show all seeds").click()
        assert visible.count() == 9
        page.get_by_label("Filter").fill("lr=0.01")
        assert page.locator("#count").inner_text() == "1 of 3 settings"


def test_section_of_a_study(seeds, opened) -> None:
    """It has rows, claims, and a chart, and it shows untrusted text literally."""
    with opened(seeds) as page:
        study = page.locator("#study")
        assert study.locator("tbody tr:not(.note)").count() == 3
        assert study.locator("tr.not-reproduced td:last-child").first.inner_text() == "no"
        assert study.locator(".claims li").count() == 2
        assert study.locator(".claims li.does-not-hold").count() == 1
        assert study.locator("svg.chart").is_visible()
        assert HOSTILE in study.inner_text()
        assert page.title() != "stolen"


def test_curves_switch_between_scales(report, opened) -> None:
    """Cost and accuracy switch between logarithmic and linear independently."""
    with opened(report) as page:
        cost = page.locator("figure.switched").first
        log, linear = cost.locator("[data-scale=log]"), cost.locator("[data-scale=linear]")
        assert (log.is_visible(), linear.is_visible()) == (True, False)
        cost.get_by_role("radio", name="linear").check()
        assert (log.is_visible(), linear.is_visible()) == (False, True)
        other = page.locator("figure.switched").nth(1)
        assert other.locator("[data-scale=log]").is_visible()
        cost.get_by_role("radio", name="log").check()
        assert log.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_saved(report, opened, chromium, tmp_path, scheme) -> None:
    """Charts are saved with the keyboard as standalone files in light colors, with their legend."""
    with opened(report, scheme=scheme) as page:
        figures = page.locator("figure:has(svg.chart)")
        assert figures.count() >= 5
        saved = []
        for index in range(figures.count()):
            button = figures.nth(index).get_by_role("button", name=re.compile("^Save as SVG: "))
            button.focus()
            with page.expect_download() as waiting:
                page.keyboard.press("Enter")
            saved.append(tmp_path / waiting.value.suggested_filename)
            waiting.value.save_as(saved[-1])
        with page.expect_download() as waiting:
            page.get_by_role("button", name=re.compile("^Save as PNG: Cost")).click()
        waiting.value.save_as(tmp_path / "cost.png")
    assert waiting.value.suggested_filename == "it-cost-log.png"
    names = [path.name for path in saved]
    assert names[:2] == ["it-recipes.svg", "it-cost-log.svg"]
    assert len(set(names)) == len(names)
    picture = Image.open(tmp_path / "cost.png").convert("RGB")
    assert picture.getpixel((1, 1)) == (255, 255, 255)
    assert len(picture.getcolors(1 << 20)) > 50
    for path in saved:
        text = path.read_text()
        assert not re.search(r"var\(|<(metadata|script)|class=|data-", text)
        assert all(link.startswith("#") for link in re.findall(r"(?:href=\"|url\()([^\")]*)", text))
        root = ET.fromstring(text)  # noqa: S314 - written by this package
        assert root.find("{http://www.w3.org/2000/svg}title").text
    cost = (tmp_path / "it-cost-log.svg").read_text()
    assert cost.count("lr 0.001") >= 3  # in its legend
    assert picture.width == round(2 * float(ET.fromstring(cost).get("width")))  # noqa: S314 - written by this package
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "it-cost-log.svg").as_uri())
    assert page.evaluate("getComputedStyle(document.querySelector('text')).fill") != "rgb(0, 0, 0)"
    page.screenshot(path=tmp_path / "saved.png")
    assert Image.open(tmp_path / "saved.png").convert("RGB").getpixel((4, 4)) == (255, 255, 255)
    context.close()


def test_commands_are_copied(report, opened) -> None:
    """A button copies the whole command and announces it, also to screen readers."""
    with opened(report, permissions=["clipboard-read", "clipboard-write"]) as page:
        button = page.locator(f"{TABLE} button.copy").first
        button.click()
        page.locator("#toast.shown").wait_for()
        command = button.get_attribute("data-copy")
        assert page.evaluate("navigator.clipboard.readText()") == command
        assert page.get_by_role("status").last.inner_text() == f"Copied: {command}"


def test_page_works_with_the_keyboard_alone(report, opened) -> None:
    """Skipping to the content, sorting, filtering, and opening a traceback need no mouse."""
    with opened(report) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#content"
        focused = []
        for _ in range(400):
            page.keyboard.press("Tab")
            focused.append(page.evaluate(
                "(() => { const e = document.activeElement;"
                "return e.id || e.getAttribute('aria-label') || e.innerText || e.tagName; })()"
            ))  # fmt: skip
            if focused[-1] == "filter":
                page.keyboard.type("adam")
                assert len(column(page, "rank")) == 8
            elif focused[-1] == "epochs":
                page.keyboard.press("Enter")
                assert column(page, "epochs") == ["3"] * 4 + ["6"] * 4
            elif "document.title" in focused[-1]:
                page.keyboard.press("Enter")
                break
        assert {"filter", "epochs", "Ranked table"} <= set(focused)
        assert page.locator("details.failure").get_attribute("open") is not None
        assert page.locator("details.failure pre").is_visible()


def test_script_in_an_error_message_is_not_executed(report, opened) -> None:
    """It is shown as text."""
    with opened(report) as page:
        assert page.title().endswith("- lenet-sweep")
        assert "<script>document.title" in page.locator("details.failure").inner_text()


def test_columns_are_below_their_headings(report, seeds, opened) -> None:
    """Each cell of the ranked table starts where the heading of its column starts."""
    for path in (report, seeds):
        with opened(path) as page:
            lefts = page.evaluate("""table => [...document.querySelectorAll(`${table} tr`)]
                .filter((row) => row.checkVisibility())
                .map((row) => [...row.cells].map((c) => Math.round(c.getBoundingClientRect().x)))
            """, TABLE)  # fmt: skip
            assert len(lefts) > 3
            assert all(row == lefts[0] for row in lefts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_layout_and_contrast(report, seeds, opened, tmp_path, size, scheme) -> None:
    """On desktop and phone, light and dark, nothing overflows and the contrast is at least AA."""
    for path in (report, seeds):
        with opened(path, size, scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            low = [text for ratio, text in page.evaluate(CONTRAST) if ratio < 4.5]
            assert low == []
            for svg in page.locator("svg.chart:visible").all():
                box = svg.bounding_box()
                assert box["width"] > 200
                assert box["height"] > 80
            shot = tmp_path / "shot.png"
            page.screenshot(path=shot, full_page=True)
            corner = Image.open(shot).convert("L").getpixel((2, 2))
            assert (corner > 200) == (scheme == "light")


def test_charts_follow_the_color_scheme(report, opened) -> None:
    """The text of charts is light on the dark page."""
    color = "getComputedStyle(document.querySelector('svg.chart text')).fill"
    seen = set()
    for scheme in ("light", "dark"):
        with opened(report, scheme=scheme) as page:
            first, *_ = map(int, re.findall(r"\d+", page.evaluate(color)))
            seen.add(first > 128)
    assert seen == {True, False}


CLIPPED_TEXTS = """
() => [...document.querySelectorAll("svg.chart")].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 0.5 || box.right > frame.right + 0.5
      || box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5;
  }).map((text) => `${svg.querySelector("title").textContent}: ${text.textContent}`);
})
"""
RANGES = [  # of two settings: costs by epoch, and accuracies
    ([[2.3, 0.0002, 0.00011], [2.0, 0.1, 0.0004]], [99.1, 98.0]),
    ([[2.3, 1e-12, 1e-30], [2.0, 1.9, 1.8]], [100.0, 11.35]),
    ([[2.3, 0.0, 0.0], [2.0, 1e-7, 0.0]], [100.0, 100.0]),
    ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [100.0, 99.99]),
    ([[1e25, 1e12, 1e3], [123456.7, 1e5, 99999.9]], [9.8, 10.1]),
    ([[2.3, 9e37, 5e37], [2.0, 1.0, 2e38]], [9.8, 98.0]),  # the second diverges in its last epoch
    ([[0.0012345, 0.0012344, 0.0012343], [0.00123, 0.00122, 0.00121]], [0.0, 0.01]),
    ([[-5.5, -12345.678, -20000.0], [2.0, 1.0, 0.5]], [98.76, 98.77]),
]
LONG = {"optimizer": "sgd", "optimizer.momentum": [0.123456789], "optimizer.weight_decay": [1e-30]}


def charts_of(costs, accuracies, seconds, **axes):
    """All charts of two settings with these histories, as SVGs."""
    cells = grid(**{k.replace(".", "__"): v for k, v in axes.items()})
    rows = []
    for index, (cell, cost, accuracy) in enumerate(zip(cells, costs, accuracies, strict=True)):
        result = first_correct(cell, accuracy, history(cost, [50.0, 90.0, accuracy]))
        record = {"accuracy": accuracy, "seconds": seconds[index], "status": "ok"}
        rows.append(
            collect.Row(index, record | {"rank": index + 1}, result, None, None, None, None, None)
        )
    report = SimpleNamespace(rows=rows, statistics=None)
    compared = compared_items(report)
    curves = curve_charts.curves(report)
    by_recipe = [(f"{item.cell.loss.name} + {item.cell.optimizer}", [item]) for item in compared]
    front = charts.front(compared)
    sections = [(section, section.draw(report)) for section in charts.SECTIONS]
    svgs = [*curves.cost, *curves.accuracy, charts.recipes(by_recipe), front and front.svg]
    return [
        svg
        for svg in [*svgs, *(chart and section.to_svg(chart) for section, chart in sections)]
        if svg
    ]


@pytest.mark.parametrize("size", WIDTHS)
def test_charts_clip_no_text(opened, tmp_path, size) -> None:
    """Every text lies inside its chart, for extreme values and long names."""
    svgs = []
    for n, (costs, accuracies) in enumerate(RANGES):
        recipes = {"loss": ["cross_entropy"], "lr": [0.1, 1e-12]} | (LONG if n % 2 else {})
        seconds = [(0.001, 2e7), (3.0, 3.1), (1e5, 9e5)][n % 3]
        svgs += charts_of(costs, accuracies, seconds, **recipes)
    svgs += charts_of(*RANGES[0], (1, 2), loss=["cross_entropy", "nll"], optimizer=["adam"])
    numbered = [re.sub(r'(id="|#|by=")', rf"\g<1>n{n}-", svg) for n, svg in enumerate(svgs)]
    path = tmp_path / "charts.html"
    body = "".join(f"<figure>{svg}</figure>" for svg in numbered)
    path.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>"
                    f"<style>{asset('style.css')}</style>{body}")  # fmt: skip
    with opened(path, size) as page:
        assert page.locator("svg.chart text").count() > 300
        assert page.evaluate(CLIPPED_TEXTS) == []


def test_pages_clip_no_text_of_charts(report, seeds, opened) -> None:
    """This also holds for the charts on a page."""
    for path in (report, seeds):
        with opened(path) as page:
            assert page.evaluate(CLIPPED_TEXTS) == []


def test_printing(report, opened, tmp_path) -> None:
    """The printed page has no buttons and no scroll boxes, and is light in dark mode too."""
    with opened(report, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator(".copy:visible, .seeds:visible, .save:visible").count() == 0
        assert page.locator("nav:visible, #tools:visible").count() == 0
        style = "getComputedStyle(document.querySelector('{}'))"
        background = page.evaluate(style.format("body") + ".backgroundColor")
        assert background == "rgb(255, 255, 255)"
        assert page.evaluate(style.format(".box") + ".maxHeight") == "none"
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_page_works_without_javascript(report, seeds, chromium) -> None:
    """All rows and seeds are visible, and controls that need scripts are hidden."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(seeds.as_uri())
    assert page.locator(f"{TABLE} tr.seed:visible").count() == 9
    page.goto(report.as_uri())
    assert page.locator(f"{TABLE} tbody:visible").count() == 17
    assert page.locator("#tools:visible, .copy:visible, .switch:visible").count() == 0
    context.close()
