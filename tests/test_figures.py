"""The figures: training curves and test images drawn from arrays, and how they are saved."""

import errno
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import made_sweeps
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from lenet_sweep.core.errors import StoreError
from lenet_sweep.report import encodings, figure_set, figures, sample_figures, style
from lenet_sweep.report.assets import asset
from lenet_sweep.report.figures import cost_figure, overlay_figure
from lenet_sweep.report.histories import Curve, mean_curve
from lenet_sweep.report.sample_figures import correct_samples_figure, misclassified_figures
from lenet_sweep.report.search_charts import search_figure
from lenet_sweep.report.search_history import Rung, SearchedSetting, SearchHistory
from lenet_sweep.report.style import render, save
from lenet_sweep.runner import outputs

NAN, INF = math.nan, math.inf
WIDE = "W" * 60
BROKEN_FORMULA = r"$\frac{lr$ batch_size_64"  # as mathtext this is a syntax error


def decay(label="lr 0.1, batch 64", epochs=10, best=99.0, final=0.01):
    steps = np.arange(1, epochs + 1)
    trace = [(0.1 * k, 2.3 * math.exp(-0.3 * k)) for k in range(1, 10 * epochs)]
    return Curve(
        label,
        steps.tolist(),
        (final + 0.4 * np.exp(-steps / 2)).tolist(),
        (best - 8 * np.exp(-steps / 2)).tolist(),
        trace,
    )


def sweep(count, epochs=10):
    # Neither the first nor the last curve is the best one, so the order shows that they are ranked.
    order = np.random.default_rng(1).permutation(count)
    return [decay(f"cell {k}", epochs, 99.5 - 0.1 * k, 0.01 * 1.1**k) for k in order]


def digits(count, wrong_every=3):
    """Images filled with their own index (modulo 256), labels, and predictions."""
    indices = np.arange(count)
    images = np.broadcast_to((indices % 256).astype(np.uint8)[:, None, None], (count, 28, 28))
    labels = indices * 7 % 10
    return images, labels, (labels + (indices % wrong_every == 0) * (1 + indices % 9)) % 10


def drawn_texts(figure, monkeypatch):
    """Text and extent of all texts on the canvas, without ticks outside the limits of the axes."""
    texts = []
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            texts.append(self)
        return draw(self, renderer, *args, **kwargs)

    with monkeypatch.context() as patch, style.styled():
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
        return [(text.get_text(), text.get_window_extent()) for text in texts]


def all_text(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def series(axes, label=None):
    return [
        np.column_stack(line.get_data())
        for line in axes.lines
        if label is None or line.get_label().startswith(label)
    ]


def tiles_of(figure):
    """(caption, index, value of one pixel) of every image of the figure."""
    (tiles,) = figure.artists
    return [
        (caption, int(number.removeprefix("#")), tiles.raster[y + 5, x + 5, 0])
        for caption, number, (x, y) in zip(
            tiles.captions, tiles.numbers, tiles.corners, strict=True
        )
    ]


# ---------------------------------------------------------------- curves


def test_cost_figure_shows_the_history():
    """It has the cost of every epoch and the loss of every recorded batch."""
    curve = decay()
    (axes,) = cost_figure(curve).axes
    (means,) = series(axes, "mean of the epoch")
    (batches,) = series(axes, "loss of single batches")
    np.testing.assert_array_equal(means, np.column_stack([curve.epochs, curve.cost]))
    np.testing.assert_array_equal(batches, curve.trace)


def test_cost_figure_names_cell_and_result():
    """The title names the cell, and the note its final cost and accuracy with units."""
    text = all_text(cost_figure(Curve("lr 0.1", [1, 2], [0.5, 0.0625], [97, 98.765])))
    assert "lr 0.1" in text
    assert "Cost 0.0625 and test accuracy 98.77% after epoch 2" in text
    assert "Epoch" in text


def test_missing_accuracy_is_unknown():
    """An accuracy that was not measured is shown as unknown, not as nan."""
    curve = Curve("a", [1, 2], [0.5, 0.4], [97, NAN])
    for figure in (cost_figure(curve), overlay_figure([curve])):
        assert "unknown" in all_text(figure)
        assert "nan" not in all_text(figure)


def test_mean_curve_over_seeds():
    """It has the mean and range of all seeds that did not diverge; the title counts settings."""
    seeds = [Curve(f"seed {n}", [1, 2], [1.0, 0.5], [90.0, 95.0 + n]) for n in range(3)]
    diverged = Curve("seed 3", [1], [NAN], [10.0])
    setting = mean_curve("lr 0.1", [*seeds, diverged])
    assert list(setting.accuracy) == [90.0, 96.0]
    assert [list(end) for end in setting.accuracy_band] == [[90.0, 95.0], [90.0, 97.0]]
    text = all_text(overlay_figure([setting, replace(setting, label="lr 0.01")]))
    assert "over epochs: 2 settings, 3 seeds each" in text
    assert "96.00 ± 1.00% \N{MIDDLE DOT} lr 0.1" in text
    single = mean_curve("lr 1", seeds[:1])
    assert ": 2 settings, 1 to 3 seeds each" in all_text(overlay_figure([setting, single]))
    assert mean_curve("lr 1", [diverged]).diverged_in == 1


def test_figure_of_all_cells_has_one_line_per_setting(tmp_path, small_folder):
    """This holds for sweeps with several seeds."""
    cells, options = made_sweeps.settings(
        small_folder(), tmp_path / "out", lr=[0.1, 0.01], seed=[0, 1, 2], figures="all"
    )
    made_sweeps.store_all(cells, tmp_path / "out", small_folder(), lambda n: range(2 * n + 3))
    drawn = []
    with (
        patch.object(figure_set, "render", lambda figure, _: figure),
        patch.object(figure_set, "save", lambda figure, path, _: drawn.append((path.name, figure))),
    ):
        outputs.draw_figures(made_sweeps.launched(cells, options), options, lambda _: None)
    figure = dict(drawn)["all-cells.png"]
    assert ": 2 settings, 3 seeds each" in all_text(figure)
    assert len(series(figure.axes[0])) == 2


def test_no_figure_follows_one_that_cannot_be_written(tmp_path, small_folder):
    """A current figure of correct images thus means that the pages before it are complete."""
    cells, options = made_sweeps.settings(small_folder(), tmp_path / "out", epochs=1)
    made_sweeps.store_all(cells, tmp_path / "out", small_folder(), lambda _: range(5))

    def fail_for_page(pixels, path, dpi):
        return fail() if "misclassified" in path.name else save(pixels, path, dpi)

    with (
        patch.object(figure_set, "save", fail_for_page),
        pytest.raises(StoreError, match=r"misclassified-01\.png: disk full"),
    ):
        outputs.draw_figures(made_sweeps.launched(cells, options), options, lambda _: None)
    assert [path.name[-8:] for path in tmp_path.rglob("*.png")] == ["cost.png"]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 40])
def test_overlay_shows_every_history(count):
    """Every curve is in both charts, colored or gray."""
    curves = sweep(count)
    left, right = overlay_figure(curves).axes
    for axes, name in ((left, "cost"), (right, "accuracy")):
        drawn = {line.tobytes() for line in series(axes)}
        given = {np.column_stack([c.epochs, getattr(c, name)]).tobytes() for c in curves}
        assert drawn == given


@pytest.mark.parametrize(("count", "colored"), [(2, 2), (7, 7), (8, 5), (40, 5)])
def test_overlay_ranks_curves_and_grays_the_rest(count, colored):
    """The legend is sorted by accuracy, and of many curves only the best are colored."""
    figure = overlay_figure(sweep(count))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    named = [entry.split(" · ")[1] for entry in entries if "cell" in entry]
    assert named == [f"cell {k}" for k in range(colored)]
    assert (f"{count - colored} other settings" in entries) == (count > colored)
    for axes in figure.axes:
        colors = [to_hex(line.get_color(), keep_alpha=False).upper() for line in axes.lines]
        assert colors[:colored] == list(encodings.COLORS[:colored])
        assert set(colors[colored:]) <= {style.FAINT}


def test_legend_has_the_colors_of_the_curves():
    """The color of a legend entry is the color of its curve."""
    figure = overlay_figure(sweep(12), highlight=3)
    handles = figure.legends[0].legend_handles
    assert [h.get_color() for h in handles] == [*encodings.COLORS[:3], style.FAINT]
    best = max(sweep(12), key=lambda curve: curve.accuracy[-1])
    (line,) = [k for k in figure.axes[1].lines if k.get_color() == handles[0].get_color()]
    np.testing.assert_array_equal(line.get_ydata(), best.accuracy)


@pytest.mark.parametrize(("costs", "scale"), [([0.5, 0.06], "linear"), ([0.5, 0.04], "log")])
def test_cost_axis_is_logarithmic_beyond_a_decade(costs, scale):
    """The label says so."""
    curve = Curve("a", [1, 2], costs, [90, 95])
    for figure in (cost_figure(curve), overlay_figure([curve])):
        assert figure.axes[0].get_yscale() == scale
        assert ("log scale" in figure.axes[0].get_ylabel()) == (scale == "log")


def labels(axis):
    """The tick labels of an axis within its limits, in order."""
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in axis.get_majorticklocs() if low <= t <= high]
    return [axis.get_major_formatter()(tick, None) for tick in ticks]


@pytest.mark.parametrize("costs", [[2.3, 1e-3, 0.0], [2.0, 0.0, 1e-7], [1.0, 1e-30, 0.0]])
def test_cost_of_zero_on_a_logarithmic_axis(costs):
    """A cost of exactly 0 is drawn at the lowest tick, which is labeled 0."""
    curve = Curve("a", [1, 2, 3], costs, [90, 95, 99])
    for figure in (cost_figure(curve), overlay_figure([curve, decay("b", epochs=3)])):
        axes = figure.axes[0]
        assert axes.get_yscale() == "log"
        assert labels(axes.yaxis)[0] == "0"
        assert labels(axes.yaxis).count("0") == 1
        low, _ = axes.get_ylim()
        drawn = np.concatenate([line.get_ydata() for line in axes.lines])
        assert low < drawn.min() == axes.yaxis.get_majorticklocs()[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10_000).map(lambda n: n / 100), min_size=1, max_size=5))
def test_accuracy_ticks(accuracies):
    """There are at least two ticks, with different labels from 0 to 100."""
    curves = [Curve(f"{a}", [1, 2], [0.5, 0.3], [a, a]) for a in accuracies]
    axes = overlay_figure(curves).axes[1]
    texts = labels(axes.yaxis)
    assert len(texts) == len(set(texts)) >= 2
    assert all(0 <= float(text) <= 100 for text in texts)
    low, high = axes.get_ylim()
    assert all(low <= a <= high for a in accuracies)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-300, 1e37), min_size=2, max_size=5))
def test_cost_ticks(costs):
    """There are at least two ticks with different labels, for any range of costs."""
    curve = Curve("a", range(1, len(costs) + 1), costs, [90] * len(costs))
    texts = labels(overlay_figure([curve]).axes[0].yaxis)
    assert len(texts) == len(set(texts)) >= 2


def test_losses_below_the_axis_are_counted():
    """Batch losses near zero do not flatten the curve, and the legend gives their number."""
    trace = [(0.5, 2.3), (1.5, 1e-9), (1.9, 0.0)]
    figure = cost_figure(Curve("a", [1, 2], [0.5, 0.01], [90, 95], trace))
    assert "(2 below the axis)" in all_text(figure)
    assert figure.axes[0].get_ylim()[0] > 1e-4


def test_accuracy_axis_separates_good_cells_beside_a_collapsed_one():
    """99.0 and 99.2% are apart on an axis that also shows 11.35 and 100%."""
    curves = [Curve(f"{a}", [1, 2], [0.5, 0.3], [a, a]) for a in (11.35, 99.0, 99.2, 100.0)]
    axes = overlay_figure(curves).axes[1]
    bottom, middle, good, top = axes.transAxes.inverted().transform(
        axes.transData.transform([[1, a] for a in (11.35, 99.0, 99.2, 100.0)])
    )[:, 1]
    assert 0 < bottom < middle < good < top < 1
    assert good - middle > 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400))
def test_epochs_are_whole_numbers(last):
    """Epoch axes have integer ticks only."""
    curve = Curve("a", range(1, last + 1), [0.5] * last, [90] * last)
    for axes in cost_figure(curve).axes + overlay_figure([curve]).axes:
        ticks = axes.xaxis.get_majorticklocs()
        assert len(ticks) >= 1
        assert all(float(tick).is_integer() for tick in ticks)


def test_batch_losses_of_a_single_epoch_are_a_line():
    """With one epoch, only the batch losses show a trend, so they are a line and not faint dots."""
    (axes,) = cost_figure(decay(epochs=1)).axes
    batches, means = axes.lines
    assert (batches.get_linestyle(), batches.get_linewidth() > 0) == ("-", True)
    assert batches.get_alpha() > 0.8
    assert means.get_marker() == "o"


def test_overlay_of_single_epochs_is_ordered_by_rank():
    """Curves of one epoch are dots side by side, in the order of their ranks."""
    figure = overlay_figure(sweep(9, epochs=1))
    for axes in figure.axes:
        assert [line.get_xdata().tolist() for line in axes.lines] == [[k] for k in range(1, 10)]
        assert "Rank" in axes.get_xlabel()
        assert all(line.get_marker() not in ("", "None", None) for line in axes.lines)
    accuracies = [line.get_ydata()[0] for line in figure.axes[1].lines]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("good", [0, 1, 3, 9])
def test_diverged_run_ends_with_a_cross(bad, good):
    """A diverged run is drawn up to its last finite cost, with a cross there."""
    costs = [2.0 / 3**k for k in range(good)] + [bad] + [0.1] * (9 - good)
    curve = Curve("a", range(1, 11), costs, [90] * good + [9.8] * (10 - good))
    single = cost_figure(curve)
    assert sum(len(line) for line in series(single.axes[0], "mean of the epoch")) == good
    assert f"Diverged in epoch {good + 1}" in all_text(single)
    assert "diverged" in [text.get_text() for text in single.axes[0].texts]
    both = overlay_figure([curve, decay("b")])
    assert any(f"diverged in epoch {good + 1}" in t.get_text() for t in both.legends[0].get_texts())
    for figure in (single, both):
        with style.styled():
            figure.canvas.draw()
        for axes in figure.axes:
            (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
            position = cross.get_transform().transform(np.column_stack(cross.get_data()))[0]
            assert axes.bbox.padded(1).contains(*position)
            if good:
                assert cross.get_xdata() == [good]
    assert [len(line) for line in series(both.axes[1])][1] == good


def test_diverged_runs_rank_last():
    """A diverged cell is listed below every other cell, whatever its last accuracy."""
    diverged = Curve("bad", [1, 2], [0.1, NAN], [99, 99.9])
    entries = overlay_figure([diverged, decay("b", best=50)]).legends[0].get_texts()
    assert [text.get_text().split(" · ")[-1] for text in entries] == ["b", "bad", "diverged here"]


numbers = st.floats() | st.sampled_from([0.0, 5e-324, 1e-300, 1e308, NAN, INF, -INF])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(numbers, st.floats(0, 100) | st.just(NAN)), min_size=1, max_size=4))
def test_any_numbers_can_be_drawn(rows):
    """Figures of arbitrary costs and accuracies are drawn without a warning."""
    costs, accuracies = zip(*rows, strict=True)
    trace = [(0.5, costs[-1]), (NAN, 1.0), (1.0, 2.0)]
    curve = Curve("a", range(1, len(rows) + 1), costs, accuracies, trace)
    for figure in (cost_figure(curve), overlay_figure([curve, decay("b", epochs=2)])):
        figure.set_dpi(40)  # faster
        with style.styled():
            figure.canvas.draw()


@pytest.mark.parametrize("label", [BROKEN_FORMULA, "_hidden", "$x_1$", "100% \\ {}^"])
def test_labels_are_shown_as_typed(label, monkeypatch):
    """Dollar signs, underscores, and backslashes in a label are not parsed as math."""
    single = [text for text, _ in drawn_texts(cost_figure(decay(label)), monkeypatch)]
    both = [text for text, _ in drawn_texts(overlay_figure([decay(label)]), monkeypatch)]
    assert label in single
    assert any(text.endswith(f"· {label}") for text in both)
    for figure in (cost_figure(decay(label)), overlay_figure([decay(label)])):
        (text,) = [text for text in figure.findobj(Text) if label in text.get_text()]
        assert not text.get_parse_math()


LAYOUTS = {
    "1 epoch": lambda: [cost_figure(decay(epochs=1))],
    "100 epochs": lambda: [cost_figure(decay(epochs=100, final=1e-5))],
    "wide label": lambda: [cost_figure(decay(WIDE))],
    "long label": lambda: [cost_figure(decay("a word or two " * 20))],
    "diverged late": lambda: [cost_figure(Curve("a", [1, 2, 3], [2, 1, NAN], [10, 20, 9.8]))],
    "diverged at once": lambda: [cost_figure(Curve("a", [1], [NAN], [9.8]))],
    "2 curves": lambda: [overlay_figure(sweep(2))],
    "7 wide labels": lambda: [overlay_figure([decay(WIDE, best=90 + k) for k in range(7)])],
    "6 long labels": lambda: [overlay_figure([decay("some words " * 30)] * 6)],
    "40 curves": lambda: [overlay_figure(sweep(40, 100))],
    "40 curves, 1 epoch": lambda: [overlay_figure(sweep(40, 1))],
    "best of all": lambda: [overlay_figure([Curve("a", [1, 2], [1, 0.001], [9, 100])])],
    "correct": lambda: [correct_samples_figure(*digits(20_000), seed=12_345)],
    "none correct": lambda: [correct_samples_figure(*digits(9, wrong_every=1))],
    "pages": lambda: [
        page() for page in misclassified_figures(*(p[-150:] for p in digits(300, wrong_every=1)))
    ],
    "large indices": lambda: [
        misclassified_figures(*digits(70_000, wrong_every=7000), per_page=100)[0]()
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_are_inside_the_figure_and_do_not_overlap(layout, monkeypatch):
    """This holds for long labels, many curves, and diverged runs."""
    for figure in LAYOUTS[layout]():
        texts = drawn_texts(figure, monkeypatch)
        boxes = [box for _, box in texts]
        assert len(boxes) >= 2
        for tiles in figure.artists:
            assert figure.bbox.height - tiles.raster.shape[0] > 20  # for title and note
            boxes.append(Bbox.from_bounds(0, 0, *tiles.raster.shape[1::-1]))
            texts.append(("tiles", boxes[-1]))
        inside = figure.bbox.padded(0.5)
        for text, box in texts:
            corners = (box.x0, box.y0), (box.x1, box.y1)
            assert all(inside.contains(*corner) for corner in corners), text
        for index, (text, box) in enumerate(texts):
            for other, other_box in texts[:index]:
                assert not box.padded(-1).overlaps(other_box.padded(-1)), (text, other)


def test_curve_rejects_different_lengths():
    """The error names the curve."""
    for epochs, costs, accuracies in ([], [], []), ([1], [0.1, 0.2], [9]), ([1], [0.1], []):
        with pytest.raises(ValueError, match="lr 7"):
            Curve("lr 7", epochs, costs, accuracies)


def test_overlay_needs_a_curve():
    """Without curves there is an error instead of an empty figure."""
    with pytest.raises(ValueError, match="no curves"):
        overlay_figure([])


def test_the_page_has_the_colors_of_the_figures():
    """style.css repeats the palette: a setting has the same color on the page and in the PNG."""
    css = asset("style.css")
    colors = [re.search(rf"--series-{n}: (#\w+);", css)[1].upper() for n in range(6)]
    assert colors == list(encodings.COLORS[:6])


# ---------------------------------------------------------------- images


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_misclassified_image_appears_once(data):
    """Each one is on exactly one page, with its labels, its picture, and its index."""
    count = data.draw(st.integers(0, 60))
    per_page = data.draw(st.integers(1, 40))
    digit = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    labels, predictions = (np.array(data.draw(digit), int) for _ in range(2))
    makers = misclassified_figures(digits(count)[0], labels, predictions, per_page=per_page)
    pages = [make() for make in makers]
    wrong = [i for i in range(count) if labels[i] != predictions[i]]
    assert len(pages) == math.ceil(len(wrong) / per_page)
    tiles = [tile for page in pages for tile in tiles_of(page)]
    assert sorted(index for _, index, _ in tiles) == wrong
    assert [index for _, index, _ in tiles] == sorted(
        wrong, key=lambda i: (labels[i], predictions[i], i)
    )
    for number, page in enumerate(pages, 1):
        full = per_page if number < len(pages) else len(wrong) - per_page * (len(pages) - 1)
        assert len(tiles_of(page)) == full
        noun = "image" if len(wrong) == 1 else "images"
        title = (
            f"{len(wrong)} misclassified test {noun} out of {count}, page {number} of {len(pages)}"
        )
        assert page.get_suptitle() == title
    for caption, index, pixel in tiles:
        assert caption == f"{labels[index]} → {predictions[index]}"
        assert pixel == int(238 - index * (238 / 255))


def test_pages_are_drawn_on_demand(monkeypatch):
    """The 90 pages of a collapsed cell are not in memory at the same time."""
    drawn = []
    tiled = sample_figures._tiled
    monkeypatch.setattr(sample_figures, "_tiled", lambda *a, **k: drawn.append(1) or tiled(*a, **k))
    pages = misclassified_figures(*digits(9000, wrong_every=1))
    assert not drawn
    first = pages[0]()
    assert len(drawn) == 1
    assert len(tiles_of(first)) == 100
    assert "9,000 misclassified test images out of 9,000, page 1 of 90" in all_text(first)


def test_no_page_without_misclassified_images():
    """A perfect network gets no empty page."""
    images, labels, _ = digits(50)
    assert list(misclassified_figures(images, labels, labels)) == []


@pytest.mark.parametrize("kind", ["correct", "misclassified"])
def test_captions_are_centered_below_their_image(kind, tmp_path):
    """Each image has two lines of captions that overlap nothing."""
    blank, labels = np.zeros((60_100, 28, 28), np.uint8), np.arange(60_100) % 10
    if kind == "correct":
        figure = correct_samples_figure(blank, labels, labels)
    else:
        predictions = np.where(np.arange(60_100) < 60_000, labels, (labels + 1) % 10)
        figure = misclassified_figures(blank, labels, predictions)[0]()
    (tiles,) = figure.artists
    with Image.open(save(render(figure), tmp_path / "page.png")) as picture:
        page = np.asarray(picture.convert("L"))[-len(tiles.raster) :].astype(int)
    side = tiles.wide - 24
    for x, y in tiles.corners:
        assert (page[y : y + side, x : x + side] == 238).all()
        below = page[y + side : y + tiles.high, x - 12 : x + side + 12] < 200
        lines = np.flatnonzero(below.any(axis=1))
        assert lines[0] >= 2
        assert lines[-1] < len(below) - 8
        assert (np.diff(lines) > 1).sum() == 1  # one gap: two lines
        across = np.flatnonzero(below.any(axis=0))
        assert across[0] >= 4
        assert across[-1] < below.shape[1] - 4
        assert abs(across[0] + across[-1] - below.shape[1] + 1) <= 3


def test_correct_samples_are_correct_and_distinct():
    """The samples are ten different correctly classified images, with their digits."""
    images, labels, predictions = digits(200)
    figure = correct_samples_figure(images, labels, predictions)
    tiles = tiles_of(figure)
    assert len({index for _, index, _ in tiles}) == 10
    for caption, index, pixel in tiles:
        assert labels[index] == predictions[index]
        assert caption == f"{labels[index]} ✓"
        assert pixel == int(238 - index * (238 / 255))
    across, down = ({corner[k] for corner in figure.artists[0].corners} for k in (0, 1))
    assert (len(across), len(down)) == (5, 2)
    right = (labels == predictions).sum()
    assert figure.get_suptitle() == f"10 of {right} correctly classified test images"


def test_correct_samples_depend_on_the_seed():
    """The same seed gives the same samples, another seed gives others."""
    first, same, other = (tiles_of(correct_samples_figure(*digits(999), seed=s)) for s in (3, 3, 4))
    assert first == same
    assert first != other


@pytest.mark.parametrize("right", [0, 1, 3, 9])
def test_few_correct_samples(right):
    """If fewer than ten images are correct, all are shown; if none is, the figure says so."""
    images, labels, _ = digits(30)
    predictions = np.where(np.arange(30) < right, labels, (labels + 1) % 10)
    figure = correct_samples_figure(images, labels, predictions)
    if right:
        assert sorted(index for _, index, _ in tiles_of(figure)) == list(range(right))
    else:
        assert figure.artists == []
        assert "No test image was classified correctly" in all_text(figure)


def test_image_figures_check_their_arrays():
    """Wrong types and shapes are rejected at once, before a page is drawn."""
    images, labels, predictions = digits(20)
    bad = [
        (images / 255, labels, predictions),
        (images[:, 0], labels, predictions),
        (images[:19], labels, predictions),
        (images, labels[:, None], predictions),
        (images, labels, predictions[:1]),
        (images, labels, predictions / 1),
    ]
    for arrays in bad:
        for function in (correct_samples_figure, misclassified_figures):
            with pytest.raises(ValueError, match=r"images (must|need)"):
                function(*arrays)
    with pytest.raises(ValueError, match="count must be at least 1"):
        correct_samples_figure(images, labels, predictions, count=0)
    with pytest.raises(ValueError, match="per_page must be at least 1"):
        misclassified_figures(images, labels, predictions, per_page=0)


# ---------------------------------------------------------------- files and style

MAKERS = {
    "cost": lambda: cost_figure(decay()),
    "overlay": lambda: overlay_figure(sweep(9)),
    "correct": lambda: correct_samples_figure(*digits(99)),
    "misclassified": misclassified_figures(*digits(99), per_page=7)[0],
}


def changed(before):
    # Reading "backend" makes matplotlib choose one.
    return [key for key in before if key != "backend" and mpl.rcParams[key] != before[key]]


@pytest.mark.parametrize("maker", MAKERS)
def test_same_figure_gives_the_same_bytes(maker, tmp_path):
    """The user's matplotlibrc does not matter, and rcParams are restored."""
    user_style = {
        "lines.linewidth": 9,
        "font.size": 20,
        "savefig.transparent": True,
        "axes.grid": False,
    }
    first = save(render(MAKERS[maker]()), tmp_path / "first.png")
    with mpl.rc_context(user_style):
        before = mpl.rcParams.copy()
        second = save(render(MAKERS[maker]()), tmp_path / "second.png")
        assert changed(before) == []
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert set(picture.info) <= {"dpi"}
        assert min(picture.size) > 100


def test_rc_params_are_restored_between_pages():
    """A program that draws other figures between two pages gets its own style."""
    before = mpl.rcParams.copy()
    pages = misclassified_figures(*digits(99), per_page=7)
    pages[0]()
    assert changed(before) == []


def test_figures_need_no_pyplot(tmp_path):
    """Figures are saved without a display, independently of pyplot."""
    script = (
        "import sys, pathlib; from lenet_sweep.report import figures as f, style\n"
        "pixels = style.render(f.cost_figure(f.Curve('a', [1], [0.5], [90])))\n"
        "style.save(pixels, pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    target = tmp_path / "a.png"
    root = Path(figures.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(target)], check=True, cwd=root)
    assert target.stat().st_size > 1000


def fail(*args, **kwargs):
    raise OSError(errno.ENOSPC, "disk full")


@pytest.mark.parametrize("where", ["drawing", "fsync", "replace"])
def test_failed_save_keeps_the_old_file(where, tmp_path, monkeypatch):
    """There is no temporary file left."""
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")
    figure = cost_figure(decay())
    if where == "drawing":
        monkeypatch.setattr(figure.axes[0], "draw", fail)
    else:
        owner = style.atomic.os if where == "fsync" else style.Path
        monkeypatch.setattr(owner, where, fail)
    with pytest.raises(OSError, match="disk full"):
        save(render(figure), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_save_is_atomic(tmp_path, monkeypatch):
    """A reader sees the complete old file or the complete new file."""
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")
    synced = []
    fsync = style.atomic.os.fsync

    def record(descriptor):
        fsync(descriptor)
        if temporary := set(tmp_path.iterdir()) - {target}:  # none when the folder is synced
            assert target.read_bytes() == b"old"
            synced.append(temporary.pop().read_bytes())

    monkeypatch.setattr(style.atomic.os, "fsync", record)
    figure = cost_figure(decay())
    assert save(render(figure), target) == target
    assert synced == [target.read_bytes()]
    assert target.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [target]
    assert figure.axes == []


def test_saved_figure_has_default_permissions(tmp_path):
    """The umask decides who can read it, as for any other file."""
    plain = tmp_path / "plain"
    plain.touch()
    target = save(render(cost_figure(decay())), tmp_path / "figure.png")
    assert target.stat().st_mode == plain.stat().st_mode


PAPERS = [style.LAYOUTS["single"], style.LAYOUTS["double"]]


def search(rungs, seeds=1):
    """A search over settings with long names: a halving with these rungs, a race without any."""
    settings = []
    for n in range(40 if rungs else 12):
        name = f"cross_entropy + sgd momentum=0.9 nesterov=true, lr 0.{n:03}, batch 64"
        after = [rung for k, rung in enumerate(rungs, 1) if n >= 40 / 2**k] or [0] * (n > 2)
        stopped = after[0] if after and not (rungs and n == 0) else None
        curve = 100 - (1 + n / 10) * (1 + 10 / np.arange(1, 101))[: stopped or 100]
        finals = tuple(99 - n / 10 + np.arange(5 if n > 2 else seeds) / 50)
        curves = (curve, () if stopped else finals, tuple(range(seeds)))
        is_last = stopped is None
        settings.append(SearchedSetting(name, None, *curves, stopped, is_last, True, seeds))
    left = [sum(s.stopped is None or s.stopped > rung for s in settings) for rung in rungs]
    numbers = map(Rung, rungs, left, [len(settings), *left])
    return SearchHistory(tuple(settings), tuple(numbers), 100, True, True, ("It saved epochs.",))


IN_PAPERS = {
    "cost": lambda layout: cost_figure(decay(final=1e-5), layout),
    "diverged": lambda layout: cost_figure(Curve("a", [1, 2], [2, NAN], [10, 9.8]), layout),
    "overlay": lambda layout: overlay_figure(sweep(40, 100), layout),
    "overlay, 1 epoch": lambda layout: overlay_figure(sweep(6, 1), layout),
    "long labels": lambda layout: overlay_figure([decay("some words " * 9)] * 6, layout),
    "search": lambda layout: search_figure(search([11, 33]), layout),
    "many rungs": lambda layout: search_figure(search([1, 3, 6, 12, 25, 50]), layout),
    "race": lambda layout: search_figure(search([], seeds=20), layout),
    "correct": lambda layout: correct_samples_figure(*digits(20_000), layout=layout),
    "none correct": lambda layout: correct_samples_figure(*digits(9, wrong_every=1), layout=layout),
    "misclassified": lambda layout: misclassified_figures(*digits(20_000), layout=layout)[-1](),
    "names": lambda layout: misclassified_figures(
        *digits(99), names=[f"a long name of class {n}" for n in range(10)], layout=layout
    )[0](),
}


@pytest.mark.parametrize("layout", PAPERS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("maker", IN_PAPERS)
def test_paper_figures_fit_their_column(maker, layout, monkeypatch):
    """They have the width of the column, at most the height of a page, and readable texts."""
    figure = IN_PAPERS[maker](layout)
    width, height = figure.get_size_inches()
    assert width == layout.width
    assert height < 9.5
    texts = drawn_texts(figure, monkeypatch)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(sizes) >= 6
    inside = figure.bbox.padded(0.5)
    for index, (text, box) in enumerate(texts):
        assert all(inside.contains(*c) for c in ((box.x0, box.y0), (box.x1, box.y1))), text
        for other, other_box in texts[:index]:
            assert not box.padded(-1).overlaps(other_box.padded(-1)), (text, other)


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_vector_graphics_have_texts_and_the_same_bytes(suffix):
    """Texts stay texts, which can be searched and edited; two drawings have equal bytes."""
    for maker in (
        lambda: overlay_figure([decay("searchable label"), decay()], PAPERS[0]),
        lambda: correct_samples_figure(*digits(99), as_raster=False, subject="searchable label"),
    ):
        first = style.vector_graphics(maker(), suffix, PAPERS[0])
        with mpl.rc_context({"svg.fonttype": "path", "pdf.fonttype": 3, "font.size": 20}):
            second = style.vector_graphics(maker(), suffix, PAPERS[0])
        assert first == second
        assert first.endswith(style.ENDS[suffix])
        if suffix == "svg":
            assert b"searchable label" in first
        else:
            assert b"/Subtype /Type0" in first or b"/Subtype /TrueType" in first
            assert b"/Subtype /Type3" not in first
            assert b"CreationDate" not in first


def test_figures_of_a_sweep_in_another_format(tmp_path, small_folder):
    """They are beside the PNG files, which stay, and current ones are not drawn again."""
    cells, options = made_sweeps.settings(small_folder(), tmp_path, lr=[0.1, 0.2])
    made_sweeps.store_all(cells, tmp_path, small_folder(), lambda n: range(n + 50))
    result = made_sweeps.launched(cells, options)
    pngs = outputs.draw_figures(result, options, print)
    before = {path: path.read_bytes() for path in pngs}
    options = replace(options, figure_format="pdf", figure_width="single")
    pdfs = outputs.draw_figures(result, options, print)
    folder = result.sweep.folder / "figures"
    names = {path.name.rpartition("_")[2] for path in pdfs}
    assert names == {
        "all-cells-single.pdf", "cost-single.pdf", "correct-single.pdf",
        "misclassified-single-01.pdf", "misclassified-single-02.pdf",
    }  # fmt: skip
    assert {*folder.iterdir()} == {*pngs, *pdfs}
    assert {path: path.read_bytes() for path in pngs} == before
    cost = next(path for path in pdfs if "cost" in path.name)
    kept = cost.stat().st_ino
    cost.with_name("x").hardlink_to(cost)  # so that its inode is not used again
    assert outputs.draw_figures(result, options, print) == pdfs
    assert cost.stat().st_ino == kept


def test_save_rejects_other_formats(tmp_path):
    """No file is written."""
    with pytest.raises(ValueError, match=re.escape("figure.pdf")):
        save(render(cost_figure(decay())), tmp_path / "figure.pdf")
    assert list(tmp_path.iterdir()) == []
