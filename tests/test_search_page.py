"""What the page and the figures show of a search: how far each setting was trained, and why."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from made_sweeps import fail, launched, settings
from matplotlib.figure import Figure

from lenet_sweep.analysis import loading
from lenet_sweep.core.events import Epoch
from lenet_sweep.report import collect, figure_set, page_files, search_charts
from lenet_sweep.report.search_history import search_history
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.search import Stop
from lenet_sweep.search.halving import _reason
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store


def searched(out, root, curves, stops, epochs=9, seeds=1, waves=None, failures=(), **axes):
    """A sweep in which a search stopped settings.

    curves: of each setting, its test accuracies after each epoch; those of a race have one for each
    seed. stops: the settings that were stopped, by index; of a race, the number of trained seeds.
    waves: the settings that compete, by index; None: all of them. failures: the runs that failed,
    by the index of their setting and their seed.
    """
    lrs = [1 / 2**n for n in range(len(curves))]
    cells, options = settings(root, out, lr=lrs, epochs=epochs, seed=[*range(seeds)], **axes)
    dropped = {}
    for cell in cells:
        place = lrs.index(cell.lr)
        accuracies = [curves[place][cell.seed]] * epochs if seeds > 1 else curves[place]
        if place in stops and (seeds == 1 or cell.seed >= stops[place]):
            wave = next(w for w in waves or [range(len(curves))] if place in w)
            epoch = 0 if seeds > 1 else len(accuracies)
            chosen = [curves[n] for n in wave if n not in stops or len(curves[n]) > epoch > 0]
            scores = [(-curve[epoch - 1], 0.0) for curve in chosen] if epoch else []
            reason = _reason((-accuracies[-1], 1.0), scores, epoch) if epoch else "worse"
            dropped[cell.run_id] = Stop(epoch, reason)
            if seeds > 1:
                continue
        if (place, cell.seed) in failures:
            fail(cell, out, "diverged")
            continue
        history = [Epoch(n, 1.0, a, 0.5, 1.0, 0.1) for n, a in enumerate(accuracies, 1)]
        trace = np.array([[1.0, 0.5]], np.float32)
        state = {"weights": np.zeros(8, np.float32)}
        snapshot = Snapshot(state, np.zeros(200, np.uint8), trace, tuple(history), "Ada")
        folder = Store(out).run_folder(cell.run_id)
        folder.path.mkdir(parents=True)
        folder.write_snapshot(snapshot)
    folder = launched(cells, options).sweep.folder
    table = ResultsTable(Store(out), "Ada")
    table.add_stored(cells)
    table.add_stops(dropped, cells)
    table.write(folder)
    return load_sweep(folder)


def history_of(sweep):
    return search_history(sweep.table, loading.sources(sweep, sweep.table))


@pytest.fixture
def halved(tmp_path, small_folder):
    """4 settings: one was stopped after epoch 1, one after epoch 3, and the last one won."""
    curves = [[70.0], [80.0, 90.0, 91.0], [81.0, 90.0, 92.0, *[93.0] * 6],
              [79.0, 91.0, 91.5, *[95.0] * 6]]  # fmt: skip
    return searched(tmp_path, small_folder(), curves, stops={0, 1})


def test_the_history_of_halving(halved) -> None:
    """It has the rungs, and says what was saved and which stopped setting was closest."""
    history = history_of(halved)
    assert [(s.name, len(s.curve), s.finished) for s in history.settings] == [
        ("lr 0.125", 9, True), ("lr 0.25", 9, True), ("lr 0.5", 3, False), ("lr 1", 1, False),
    ]  # fmt: skip
    assert [(rung.epoch, rung.continuing, rung.total) for rung in history.rungs] == [
        (1, 3, 4),
        (3, 2, 3),
    ]
    assert history.sentences == (
        "The search trained 22 of the 36 epochs of these settings (61%).",
        (
            "A stopped setting might have overtaken others later; the search cannot rule this "
            "out. The setting closest to continuing was lr 0.5: after epoch 3, its test accuracy "
            "of 91.00% was 0.50 points below that of the lowest-ranked setting that continued."
        ),
        (
            "The setting that was best at the end, lr 0.125, ranked number 3 of 4 after epoch 1 "
            "and 2 of 3 after epoch 3."
        ),
    )


def test_the_history_of_a_race(tmp_path, small_folder) -> None:
    """A dropped setting is compared with the best over the seeds that both have."""
    curves = [[97.0, 98, 96, 97, 97, 98], [95.0, 96, 94, 95, 95, 95], [50.0] * 6]
    sweep = searched(tmp_path, small_folder(), curves, stops={1: 5, 2: 5}, seeds=6, epochs=2)
    history = history_of(sweep)
    assert history.rungs == ()
    assert [len(setting.finals) for setting in history.settings] == [6, 5, 5]
    assert history.sentences[0] == "The race trained 16 of the 18 runs of these settings (89%)."
    assert "lr 0.5, dropped after 5 seeds, 2.00 points below the best" in history.sentences[1]
    # Half a t interval: 2.776 standard errors of sqrt(0.5 / 5) points.
    assert history.settings[1].interval.low == pytest.approx(95 - 2.776 * 0.1**0.5, abs=1e-3)
    axes = Figure().add_subplot()
    assert search_charts.draw_race(axes, history, search_charts.PAGE) == 1
    assert 90 < axes.get_xlim()[0] < 94


def test_settings_of_several_competitions_are_not_compared(tmp_path, small_folder) -> None:
    """The waves of a sampling search compete on their own: there are no rungs and no places."""
    curves = [[90.0], [91.0, *[95.0] * 8], [70.0], [71.0, *[96.0] * 8]]
    waves = [(0, 1), (2, 3)]
    sweep = searched(tmp_path, small_folder(), curves, stops={0, 2}, waves=waves)
    history = history_of(sweep)
    assert history.sentences == ("The search trained 20 of the 36 epochs of these settings (56%).",)
    figure = search_charts.search_figure(history)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["2 of 4\nfinish"]
    assert "rungs" not in search_charts.search_chart(history).caption


def test_settings_of_merged_searches_are_not_compared(tmp_path, small_folder) -> None:
    """Each folder has its own search."""
    root = small_folder()
    curves = [[60.0], [70.0, *[95.0] * 8]]
    folders = [searched(tmp_path, root, curves, stops={0}).folder]
    more = [[80.0], [85.0, *[96.0] * 8], [86.0, *[97.0] * 8]]
    folders.append(searched(tmp_path / "other", root, more, stops={0}, batch=32).folder)
    report, _ = collect.collect_merged(folders, root)
    assert len(report.search.settings) == 5
    assert report.search.sentences == (
        "The search trained 29 of the 45 epochs of these settings (64%).",
    )


def test_a_failed_run_is_not_compared(tmp_path, small_folder) -> None:
    """The closest setting of a race is one whose runs all have results, paired by seed."""
    curves = [[97.0] * 7, [96.9] * 7, [94.0, 95, 96, 97, 98, 95, 95]]
    stops = {1: 6, 2: 5}
    sweep = searched(tmp_path, small_folder(), curves, stops, seeds=7, epochs=2, failures={(1, 0)})
    (_, closest) = history_of(sweep).sentences
    assert "The closest was lr 0.25, dropped after 5 seeds, 1.00 points below" in closest


def test_the_page_and_the_figures_show_a_search(halved, tmp_path, small_folder) -> None:
    """They have a picture of the search, until the full grid is trained."""
    page_files.write_page(halved, on_message=lambda _: None)
    html = (halved.folder / "report.html").read_text()
    section = re.search(r'<section id="search".*?</section>', html, re.DOTALL)[0]
    assert "The search trained 22 of the 36 epochs" in section
    assert '<title id="search-chart-title">Search over 4 settings: 2 were trained' in section
    assert "95.00% \N{MIDDLE DOT} lr 0.125" in section
    assert "3 of 4" in section
    values = json.loads(re.search(r"<metadata>(.*?)</metadata>", section)[1])
    stopped = values["marks"][2]
    assert (stopped["name"], stopped["values"][1]) == ("lr 0.5", ["80.00", "90.00", "91.00"])
    assert stopped["values"][2] == "by the search after epoch 3"
    assert halved.folder / "figures" / "search.png" in figure_set.draw(halved, "best", print)
    finished = replace(halved, table=halved.table[halved.table["status"] == "ok"])
    figure_set.draw(finished, "best", print)
    assert not (halved.folder / "figures" / "search.png").exists()
    assert history_of(finished) is None


@pytest.mark.parametrize("number", [3, 100])
def test_the_chart_shows_what_decided(tmp_path, small_folder, number) -> None:
    """All settings that continue are visible, and clearly worse ones do not set the limits."""
    curves = [[50.0 - n / 10] for n in range(number - 2)]
    curves += [[90.0 + n, *np.linspace(95, 98 + n / 2, 8)] for n in range(2)]
    sweep = searched(tmp_path, small_folder(), curves, stops=range(number - 2))
    history = history_of(sweep)
    axes = Figure().add_subplot()
    assert search_charts.draw_rungs(axes, history, search_charts.PAGE) == number - 2
    low, high = axes.get_ylim()
    assert 75 < low < 90
    assert 98.5 < high < 99
    assert search_charts.search_chart(history).svg.count("<svg") == 1
    search_charts.search_figure(history).canvas.draw()
