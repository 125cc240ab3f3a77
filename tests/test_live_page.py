"""The live page in Chromium: sweeps while they run, many cells and pages, layout, hostile texts."""

import contextlib
import os
import re
from dataclasses import replace

import pytest
from made_sweeps import fail, launched, settings, store_all
from served import RunningSweep, free_port, server_process, serving, small_sweep
from test_browser import CHROMIUM, CONTRAST, sync_api

from lenet_sweep.core.events import CellFinished, Failed, Failure, Finished, Started, Stopped
from lenet_sweep.serve import served_folder
from lenet_sweep.storage.files import read_json, write_json

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
HOSTILE = "<img src=x onerror=\"document.title='stolen'\">"
PATIENCE = 60_000  # milliseconds; the page itself takes less than one second
expect = sync_api.expect
SIZES = [(1280, 900), (390, 844)]


@pytest.fixture(scope="module")
def chromium():
    expect.set_options(timeout=PATIENCE)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        yield browser
        browser.close()
    expect.set_options(timeout=5000)


@pytest.fixture
def opened(chromium):
    """Open the URL of a server, and check at the end that the page reported no error."""

    @contextlib.contextmanager
    def open_page(url, route="#/", size=SIZES[0], scheme="light", *, lost=False):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        messages, urls = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(url)
        page.wait_for_url(re.compile("/[0-9a-f]{24}/"))
        page.goto(page.url + route)
        yield page
        context.close()
        assert lost or messages == []
        port = re.search(r":\d+/", url)[0]
        assert [url for url in urls if port not in url and not url.startswith("data:")] == []

    return open_page


@pytest.fixture
def running(tmp_path, small_folder):
    """A sweep of four cells whose events come from the test."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01], batch=[16, 32])
    sweep = RunningSweep(cells, replace(options, name="it"))
    yield sweep
    sweep.end()


def tile(page, name):
    return page.locator(f'[data-tile="{name}"] dd').first


def column(page, name):
    """The texts of a column of the table."""
    return page.evaluate(
        """(name) => {
          const table = document.getElementById("ranked");
          const at = [...table.tHead.rows[0].cells].findIndex((c) => c.dataset.name === name);
          return [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.trim());
        }""",
        name,
    )


def test_a_sweep_grows_on_the_page(running, opened, tmp_path, small_folder) -> None:
    """Each epoch moves the bars, the curves and the leading rows; each end ranks a row."""
    with (
        serving(tmp_path / "out") as server,
        opened(server.url, "#/sweep/it") as page,
    ):
        expect(page.locator("h1 .pill")).to_have_text("Running")
        expect(tile(page, "done")).to_have_text("0 / 4")
        expect(page.locator("#running")).to_contain_text("Waiting for a run to start")
        running.start(0)
        running.epoch(0, 1, 91.5)
        expect(page.locator("#running li .value")).to_have_text("91.50%")
        expect(page.locator("#running li .epoch")).to_have_text("epoch 2 of 3")
        expect(page.locator(".bars li").first).to_contain_text("91.50%")
        running.start(1)
        running.epoch(1, 1, 93.5)
        running.epoch(0, 2, 92.5)
        expect(page.locator(".bars li .value")).to_have_text(["93.50%", "92.50%"])
        expect(page.locator(".live-chart").first.locator("g.series-0, g.series-1")).to_have_count(2)
        expect(page.locator(".live-chart .pulse")).to_have_count(4)
        running.epoch(0, 3, 95.25)
        run = running.runs[0]
        running.record(CellFinished(run, 3))
        running.record(Finished(run))
        expect(tile(page, "best")).to_have_text("95.25%")
        expect(tile(page, "done")).to_have_text("1 / 4")
        expect(tile(page, "left")).to_have_text(re.compile(r"\d+:\d\d"))
        expect(page.locator("#ranked tbody tr").first).to_contain_text("ok")
        assert column(page, "status") == ["ok", "epoch 1 of 3", "queued", "queued"]
        failure = Failure("failed", 2, HOSTILE, "line 1")
        running.record(Failed(running.runs[1], failure))
        running.record(Stopped(running.runs[2], 0, "far behind"))
        expect(tile(page, "done")).to_have_text("3 / 4")
        expect(page.locator('[data-tile="done"]')).to_contain_text("1 failed, 1 stopped")
        running.end()
        expect(page.locator("h1 .pill")).to_have_text("Not running")
        expect(page.locator('[data-tile="left"]')).to_contain_text("resumes the sweep")


def test_a_run_that_is_retried_starts_over(running, opened, tmp_path) -> None:
    """The epochs after the one that it starts from disappear from its curve."""
    with serving(tmp_path / "out") as server, opened(server.url, "#/sweep/it") as page:
        running.start(0)
        for epoch in (1, 2, 3):
            running.epoch(0, epoch, 90.0 + epoch)
        markers = page.locator(".live-chart").first.locator(".marker")
        expect(markers).to_have_count(3)
        running.record(Started(running.runs[0], 1))
        expect(markers).to_have_count(1)
        running.epoch(0, 2, 95.0)
        expect(markers).to_have_count(2)


def test_a_search_in_rounds(running, opened, tmp_path) -> None:
    """Progress and time left are those of the search; a stopped setting has its reason."""
    with serving(tmp_path / "out") as server, opened(server.url, "#/sweep/it") as page:
        running.round("rung 1 of 2, epoch 1: 4 of 4 settings", range(4), 1, later=((2, 2),))
        expect(page.locator(".stage")).to_have_text("Search: rung 1 of 2, epoch 1: 4 of 4 settings")
        for number in range(4):
            running.start(number)
            running.epoch(number, 1, 94.0 - number)
            running.record(Finished(running.runs[number]))
        progress = page.locator("header > .progress")
        expect(progress).to_have_attribute("aria-valuenow", "50")  # 4 of 8 epochs
        expect(page.locator("#ranked tbody tr").first).to_contain_text("paused after epoch 1")
        expect(page.locator('[data-tile="best"]')).to_contain_text("Best accuracy so far94.00%")
        running.record(Stopped(running.runs[2], 1, HOSTILE))
        running.record(Stopped(running.runs[3], 1, "stopped after epoch 1 at 91.00%"))
        running.round("rung 2 of 2, epoch 3: 2 of 4 settings", [0, 1], 3, 1, at_most=True)
        running.start(0, after=1)
        running.epoch(0, 2, 95.0)
        expect(page.locator(".stage")).to_have_text(
            "Search: rung 2 of 2, epoch 3: 2 of 4 settings; 4 epochs skipped so far"
        )
        expect(progress).to_have_attribute("aria-valuenow", "63")  # 5 of 8
        expect(page.locator('[data-tile="left"]')).to_contain_text("at most")
        assert column(page, "status") == [
            "epoch 2 of 3", "paused after epoch 1", *["stopped after epoch 1"] * 2,
        ]  # fmt: skip
        expect(page.locator("#ranked tbody tr.stopped").first).to_have_attribute("title", HOSTILE)
        page.locator("#ranked tbody tr.stopped a").last.click()
        expect(page.locator(".banner")).to_have_text("Search: stopped after epoch 1 at 91.00%.")


def test_a_search_that_samples_settings(opened, tmp_path, small_folder) -> None:
    """The page gets the cells of each wave, and keeps its filter."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01, 0.05, 0.03])
    sweep = RunningSweep(cells[:2], replace(options, name="it"))
    with serving(tmp_path / "out") as server, opened(server.url, "#/sweep/it") as page:
        sweep.round("wave 1 of 2: 2 runs", [0, 1], 3, later=((2, 3),))
        for number in range(2):
            sweep.start(number)
            for epoch in (1, 2, 3):
                sweep.epoch(number, epoch, 90.0 + epoch)
            sweep.record(CellFinished(sweep.runs[number], 3))
            sweep.record(Finished(sweep.runs[number]))
        expect(tile(page, "done")).to_have_text("2 / 2")
        expect(page.locator("header > .progress")).to_have_attribute("aria-valuenow", "50")
        page.get_by_label("Filter").fill("lr<0.08")
        expect(page.locator("#count")).to_have_text("1 of 2 rows")
        sweep.grow(cells[2:])
        sweep.round("wave 2 of 2: 2 runs", [2, 3], 3)
        sweep.start(2)
        sweep.epoch(2, 1, 95.0)
        expect(page.locator(".stage")).to_have_text("Search: wave 2 of 2: 2 runs")
        expect(page.locator("#count")).to_have_text("3 of 4 rows")
        expect(page.get_by_label("Filter")).to_be_focused()
        expect(page.locator("header > .progress")).to_have_attribute("aria-valuenow", "58")
        assert column(page, "status") == ["ok", "epoch 1 of 3", "queued"]
    sweep.end()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_folder):
    """A store with two finished sweeps, one of them with a failed cell and hostile texts."""
    out = tmp_path_factory.mktemp("finished") / "out"
    cells, options = settings(small_folder(), out, lr=[0.1, 0.01], batch=[8, 16])
    options = replace(options, person=HOSTILE)
    store_all(cells, out, small_folder(), lambda n: range(3 * n + 1), person=HOSTILE)
    broken, _ = settings(small_folder(), out, lr=[9.0])
    fail(broken[0], out, reason=HOSTILE, traceback=HOSTILE, person=HOSTILE)
    launched([*cells, *broken], replace(options, name="one"))
    others, options = settings(small_folder(), out, optimizer=["sgd", "adam"], epochs=6)
    store_all(others, out, small_folder(), range)
    folder = launched(others, replace(options, name=f"two {HOSTILE[:40].replace('/', '')}")).sweep
    manifest = read_json(folder.folder / "sweep.json")
    manifest["launches"][0]["command"] = HOSTILE
    write_json(folder.folder / "sweep.json", manifest)
    return out


@pytest.fixture(scope="module")
def shared(finished, small_folder):
    with serving(finished, data_root=small_folder()) as server:
        yield server


def test_the_list_leads_to_sweeps_cells_and_comparisons(shared, opened, monkeypatch) -> None:
    """Sweeps are cards; chosen ones are compared; a row leads to its details."""
    monkeypatch.setattr(served_folder, "MAX_SWEEPS", 1)
    with opened(shared.url) as page:
        expect(page.locator(".lead")).to_have_text("1 sweep in out (1 older one is not listed)")
        monkeypatch.undo()
        expect(page.locator(".card")).to_have_count(2)
        for box in page.get_by_role("checkbox").all():
            box.check()
        page.get_by_role("link", name="Compare 2 sweeps").click()
        expect(page.locator("h1")).to_have_text("2 sweeps compared")
        expect(page.locator(".sides thead th")).to_have_count(2)
        expect(page.locator(".plain tbody tr")).to_have_count(6)
        expect(page.locator(".live-chart").first.locator("g.series-0, g.series-1")).to_have_count(2)
        page.locator(".sides thead").get_by_role("link", name="one", exact=True).click()
        expect(page.locator("#ranked tbody tr")).to_have_count(5)
        page.locator("#ranked tbody tr").first.get_by_role("link").click()
        expect(page.locator(".pictures li")).to_have_count(1)
        expect(page.locator("#samples-h + div")).to_contain_text("1 of 200 test images (0.50%)")
        expect(page.locator(".confusion tbody tr")).to_have_count(10)
        page.go_back()
        expect(page.locator("#ranked tbody tr")).to_have_count(5)


def test_held_out_images_decide_which_row_is_best(opened, tmp_path, small_folder) -> None:
    """As in the ranking, on the cards and beside other sweeps; the accuracy is on test images."""
    for number, lrs in enumerate([[0.1, 0.2], [0.3, 0.4]]):
        cells, options = settings(small_folder(), tmp_path / "out", lr=lrs, holdout=100)
        for at, cell in enumerate(cells):  # with 2 to 5 of 200 test images wrong
            wrong = 2 * at + number + 2
            store_all([cell], tmp_path / "out", small_folder(), lambda _, wrong=wrong: range(wrong),
                      holdout=90.0 + wrong)  # fmt: skip
        launched(cells, replace(options, name=f"it{number}"))
    with serving(tmp_path / "out") as server, opened(server.url) as page:
        expect(page.locator(".best")).to_have_count(2)
        best = sorted(text.split()[0] for text in page.locator(".best").all_inner_texts())
        assert best == ["97.50%", "98.00%"]
        for box in page.get_by_role("checkbox").all():
            box.check()
        page.get_by_role("link", name="Compare 2 sweeps").click()
        expect(page.locator(".plain tbody tr td:first-child")).to_have_text(
            ["97.50", "98.00", "98.50", "99.00"]
        )


def test_the_table_is_sorted_and_filtered(shared, opened) -> None:
    with opened(shared.url, "#/sweep/one") as page:
        expect(page.locator("#ranked tbody tr")).to_have_count(5)
        accuracies = column(page, "accuracy")
        assert accuracies[:4] == sorted(accuracies[:4], reverse=True)
        assert accuracies[4] == ""
        page.get_by_role("button", name="learning rate").click()
        assert column(page, "lr") == ["0.01", "0.01", "0.1", "0.1", "9"]
        page.get_by_role("button", name="learning rate").click()
        assert column(page, "lr")[0] == "9"
        page.get_by_label("Filter").fill("batch=16 lr<0.05")
        expect(page.locator("#count")).to_have_text("1 of 5 rows")
        page.get_by_label("Filter").fill("failed")
        expect(page.locator("#count")).to_have_text("1 of 5 rows")


def test_curves_have_two_scales_and_show_values(shared, opened) -> None:
    with opened(shared.url, "#/sweep/one") as page:
        chart = page.locator("figure.live-figure").first
        path = chart.locator("path.line").first
        before = path.get_attribute("d")
        chart.get_by_role("radio", name="linear").check()
        expect(path).not_to_have_attribute("d", before)
        chart.locator(".marker").first.hover()
        expect(chart.locator(".tip")).to_have_text(re.compile(r": \d+\.\d\d% after epoch \d"))


def test_texts_from_outside_are_inert(shared, opened) -> None:
    """Names, persons, commands, reasons and tracebacks are shown as typed."""
    with opened(shared.url) as page:
        expect(page.locator(".card")).to_have_count(2)
        expect(page.get_by_text(HOSTILE[:30].replace("/", ""), exact=False).first).to_be_visible()
        page.locator(".card a", has_text="two").click()
        expect(page.get_by_text(HOSTILE, exact=True)).to_be_visible()  # the command
        page.goto(page.url.partition("#")[0] + "#/sweep/one")
        page.get_by_label("Filter").fill("failed")
        page.locator("#ranked tbody tr").get_by_role("link").click()
        expect(page.locator(".failure pre")).to_have_text(HOSTILE)
        assert page.locator("img").count() == 0
        assert page.title() != "stolen"


def test_wrong_addresses_are_explained(shared, opened) -> None:
    with opened(shared.url, "#/sweep/nothing") as page:
        expect(page.locator(".banner")).to_have_text("there is no sweep with this name")
        page.goto(page.url.partition("#")[0] + "#/sweep/one/nothing")
        expect(page.locator(".banner")).to_have_text("This sweep has no such cell.")
        page.goto(page.url.partition("#")[0] + "#/%")
        expect(page.locator("h1")).to_have_text("Sweeps")


@pytest.mark.parametrize(("size", "scheme"), [(SIZES[0], "light"), (SIZES[1], "dark")])
def test_layout_and_contrast(shared, opened, size, scheme) -> None:
    """No page is wider than its window, and all texts have a contrast of at least 4.5."""
    routes = ["#/", "#/sweep/one", "#/compare/one/nothing"]
    for route in routes:
        with opened(shared.url, route, size, scheme) as page:
            expect(page.locator("main section:visible, .card").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            poor = [text for ratio, text in page.evaluate(CONTRAST) if ratio < 4.5]
            assert poor == []


def test_a_server_that_ends_and_starts_again(finished, opened) -> None:
    """The page says so, and the new URL shows everything again; an old cookie is of no use."""
    port, first = free_port(), contextlib.ExitStack()
    server = first.enter_context(serving(finished, port))
    with first, opened(server.url, "#/sweep/one", lost=True) as page:
        expect(page.locator("#ranked tbody tr")).to_have_count(5)
        first.close()
        expect(page.locator("#lost")).to_contain_text("The server has stopped")
        with serving(finished, port) as again:
            expect(page.locator("#lost")).to_contain_text("Open the URL that it printed")
            page.goto(again.url)
            page.wait_for_url(re.compile("/[0-9a-f]{24}/"))
            page.goto(page.url + "#/sweep/one")
            expect(page.locator("#ranked tbody tr")).to_have_count(5)
            expect(page.locator("#lost")).to_be_hidden()


# ---------------------------------------------------------------- real sweeps


@pytest.mark.slow
def test_two_real_sweeps_and_a_restart(tmp_path, small_folder, opened) -> None:
    """Two sweeps of one store are shown while they run, and to their end by a second server."""
    words = ["dataset=folder", f"dataset.root={small_folder(6000, 1000)}", "workers=1", "threads=1"]
    (tmp_path / "outputs").mkdir()
    port = free_port()
    first = small_sweep(tmp_path, *words, "lr=0.1,0.01", "epochs=30", "name=first")
    second = small_sweep(tmp_path, *words, "lr=0.03", "epochs=40", "name=second")
    with first, second:
        with server_process(tmp_path / "outputs", port) as url, opened(url, lost=True) as page:
            expect(page.locator(".card .pill", has_text="Running")).to_have_count(2)
            page.goto(page.url.partition("#")[0] + "#/sweep/first")
            epoch = page.locator("#running li .epoch").first
            expect(epoch).to_have_text(re.compile("epoch [5-9] of 30"))
            expect(page.locator(".live-chart .pulse").first).to_be_attached()
        with server_process(tmp_path / "outputs", port) as url, opened(url) as page:
            page.goto(page.url.partition("#")[0] + "#/sweep/first")
            expect(tile(page, "done")).to_have_text("2 / 2")
            expect(page.locator("h1 .pill")).to_have_text("Finished")
            assert first.wait() == 0
            shown = column(page, "accuracy")
            page.goto(page.url.partition("#")[0] + "#/compare/first/second")
            expect(page.locator(".sides .pill", has_text="Finished")).to_have_count(2)
            assert second.wait() == 0
        table = (tmp_path / "outputs/sweeps/first/results.csv").read_text().splitlines()[1:]
        assert shown == [f"{float(line.split(',')[1]):.2f}" for line in table]


@pytest.mark.slow
def test_a_thousand_cells(tmp_path, small_folder, opened) -> None:
    """The page opens, grows and stays usable."""
    cells, options = settings(
        small_folder(), tmp_path / "out", seed=[*range(250)], lr=[0.1, 0.01], batch=[16, 32],
        epochs=20,
    )  # fmt: skip
    assert len(cells) == 1000
    sweep = RunningSweep(cells, replace(options, name="it"))
    with serving(tmp_path / "out") as server, opened(server.url, "#/sweep/it") as page:
        expect(tile(page, "done")).to_have_text("0 / 1000")
        for number in range(500):
            sweep.start(number)
            for epoch in range(1, 21):
                sweep.epoch(number, epoch, 50 + (number * 7 % 500 + epoch) / 11)
            sweep.record(CellFinished(sweep.runs[number], 20))
            sweep.record(Finished(sweep.runs[number]))
        expect(tile(page, "done")).to_have_text("500 / 1000")
        expect(page.locator("#count")).to_have_text("1,000 of 1,000 rows")
        expect(page.locator("#ranked tbody tr")).to_have_count(50)
        expect(page.locator(".legend")).to_contain_text("the best 200 of 494 other runs")
        page.get_by_role("button", name="Show all 1,000 rows").click()
        expect(page.locator("#ranked tbody tr")).to_have_count(1000)
        page.get_by_label("Filter").fill("lr=0.1 batch=16 seed<10")
        expect(page.locator("#count")).to_have_text("10 of 1,000 rows")
    sweep.end()


@pytest.mark.slow
def test_twenty_pages(running, tmp_path, chromium) -> None:
    """Twenty browsers follow one sweep at the same time."""
    with serving(tmp_path / "out") as server, contextlib.ExitStack() as stack:
        pages = []
        for _ in range(20):
            context = chromium.new_context()
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(server.url)
            page.wait_for_url(re.compile("/[0-9a-f]{24}/"))
            page.goto(page.url + "#/sweep/it")
            pages.append(page)
        running.start(0)
        for epoch in (1, 2):
            running.epoch(0, epoch, 90.0 + epoch)
            for page in pages:
                expect(page.locator("#running li .value")).to_have_text(f"{90 + epoch}.00%")
