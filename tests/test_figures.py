"""The figures of training curves: what they show for any curve, and their legends."""

import re
from dataclasses import replace
from unittest.mock import patch

import made_sweeps
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_figures import (
    BROKEN_FORMULA,
    INF,
    NAN,
    WIDE,
    all_text,
    decay,
    digits,
    drawn_texts,
    series,
    sweep,
)
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lenet_sweep.report import encodings, figure_set, style
from lenet_sweep.report.assets import asset
from lenet_sweep.report.figures import cost_figure, overlay_figure
from lenet_sweep.report.histories import Curve, mean_curve
from lenet_sweep.report.sample_figures import correct_samples_figure, misclassified_figures
from lenet_sweep.runner import outputs


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
