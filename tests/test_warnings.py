"""Warnings and conclusions: when each is given, its wording and its numbers."""

import shlex
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from generated_data import learnable
from hypothesis import given
from hypothesis import strategies as st
from made_results import (
    base,
    collapsed,
    failed,
    first_correct,
    grid,
    history,
    make_result,
    product,
    random_results,
    scored,
    with_holdout,
)

from lenet_sweep import sweep
from lenet_sweep.analysis.commands import command
from lenet_sweep.analysis.conclusions import analyse
from lenet_sweep.analysis.curve_warnings import early_peak, falling
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.analysis.warnings import optimism
from lenet_sweep.data import datasets
from lenet_sweep.results.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("freeze_garbage")

FLAT = [2.0, 0.5, *[0.1] * 18]  # costs of 20 epochs: falling, then constant
RISING = [95.0, *[98.0] * 19]
TWICE = product(lr=[0.1, 0.2], seed=[0, 1])
LRS = product(lr=[0.01, 0.1, 1.0])
BATCHES = product(batch=[16, 32, 64])
DATASETS = [base().dataset, replace(base().dataset, name="kmnist", digest="0" * 16)]
NESTED = scored(LRS, [97, 99, 98])
CLOSE = random_results(LRS, lambda _: 0.95)
DIVERGED = [*NESTED[:2], failed(LRS[2], "diverged")]
COMMON = grid(recipe=["ce_sgd", "nll_adam"], lr=[0.1, 0.001])
SMOOTHED = [
    replace(cell, engine="torch")
    for cell in grid(loss=["cross_entropy", "nll"], loss__label_smoothing=[0, 0.1])
]
CROSSED = grid(loss=["cross_entropy", "nll"], optimizer=["sgd", "adam"], lr=0.1)
MIXED = [
    *product(lr=[0.1, 0.2, 10.0], batch=[1, 64], seed=[0, 1]),
    *COMMON,
    *CROSSED,
    *grid(optimizer="sgd", optimizer__momentum=[0.5, 0.9], dataset=["mnist", "kmnist"]),
    *grid(optimizer="adam", optimizer__betas=[(0.5, 0.9)], activation=["gelu", "tanh"]),
]
ERASE = grid(augment="erase", augment__p=[0.5, 1.0])
SGD_OPTIONS = grid(optimizer="sgd", optimizer__momentum=[0, 0.9])


def trained(cells, costs, accuracies=None):
    """Results whose histories have these costs and accuracies, one per epoch."""
    epochs = history(costs, accuracies)
    cells = [replace(cell, epochs=len(epochs)) for cell in cells]
    ends = [accuracies[-1] if accuracies else 98 + i / 10 for i in range(len(cells))]
    return [first_correct(cell, end, epochs) for cell, end in zip(cells, ends, strict=True)]


# For each kind of warning: results that must raise it, and results that must not.
CASES = {
    "diverged": (DIVERGED, NESTED),
    "failed": ([*NESTED[:2], failed(LRS[2], "killed")], DIVERGED),
    "collapsed": ([*NESTED[:2], collapsed(LRS[2], 1)], [*NESTED[:2], first_correct(LRS[2], 11.35)]),
    "together": (scored(COMMON, [97, 98, 99, 98]), scored(CROSSED, [97, 98, 99, 98])),
    "selection": (CLOSE, NESTED),
    "one seed": (NESTED, scored(TWICE, [98, 98.1, 97, 97.1])),
    "edge": (scored(LRS, [97, 98, 99]), NESTED),
    "still falling": (trained(LRS, np.linspace(2, 1, 20)), trained(LRS, FLAT)),
    "one epoch": (trained(LRS, [2.0]), trained(LRS, FLAT)),
    "early peak": (trained(LRS, FLAT, [*[99.0] * 5, *[98.0] * 15]), trained(LRS, FLAT, RISING)),
    "early stopping": (
        scored(grid(lr=[0.1, 0.01], patience=3), [97, 98]),
        with_holdout(scored(grid(lr=[0.1, 0.01], patience=3), [97, 98]), [97, 98]),
    ),
    "search": ([*NESTED[:2], failed(LRS[2], "stopped")], DIVERGED),
    "same loss": (scored(CROSSED, [97, 98, 97, 98]), scored(COMMON, [97, 98, 99, 98])),
}  # fmt: skip


def of_kind(kind, rows, **more):
    return [warning for warning in analyse(rows, **more).warnings if warning.kind == kind]


def only(kind, rows, **more):
    (warning,) = of_kind(kind, rows, **more)
    return warning


@pytest.mark.parametrize("kind", CASES)
def test_each_warning_is_raised_when_and_only_when_it_applies(kind: str) -> None:
    """A warning names its cells, and results without the problem do not raise it."""
    present, absent = CASES[kind]
    warning = only(kind, present)
    assert set(warning.cells) <= {r.cell for r in present}
    assert warning.cells
    assert warning.sentence.endswith(".")
    assert "nan" not in warning.sentence
    assert not of_kind(kind, absent)


def test_a_search_that_samples_settings_is_not_compared_with_a_grid() -> None:
    """Its values are no grid, which search=grid cannot train to the end."""
    cells = [*grid(optimizer="sgd", lr=[0.1, 0.2]), *grid(optimizer="adam", lr=0.01)]
    rows = [*scored(cells[1:], [97, 99]), failed(cells[0], "stopped")]
    assert {"together", "search"} <= {warning.kind for warning in analyse(rows).warnings}
    assert "with search=grid trains every cell to the end" in only("search", rows).sentence
    found = {warning.kind: warning for warning in analyse(rows, sampled=True).warnings}
    assert "together" not in found
    assert "search=grid" not in found["search"].sentence


def test_cases_cover_every_kind_of_warning() -> None:
    """Every kind raised by any of the cases has a case for and against it."""
    rows = [rows for pair in CASES.values() for rows in pair]
    assert {warning.kind for each in rows for warning in analyse(each).warnings} == set(CASES)


def test_warnings_are_sorted_by_severity() -> None:
    """Serious warnings come first, then cautions, then notes."""
    cells = [*CROSSED, replace(CROSSED[0], lr=0.2)]
    rows = [*scored(cells[:4], [97, 98, 97, 98]), failed(cells[4], "timed-out")]
    order = [warning.severity for warning in analyse(rows).warnings]
    assert order[0] == "serious"
    assert order[-1] == "note"
    assert order == sorted(order, key=["serious", "caution", "note"].index)
    assert analyse([]).warnings == ()


# ---------------------------------------------------------------- wording and rules


def test_confounded_loss_and_optimizer() -> None:
    """The warning names the values that change together, and the command for the full grid."""
    warning = only("together", scored(COMMON, [97, 98, 99, 98]))
    assert warning.sentence.startswith(
        "loss and optimizer change together: cross_entropy ran only with sgd and nll ran only with "
        "adam."
    )
    assert warning.remedy == (
        "python -m lenet_sweep -m loss=cross_entropy,nll optimizer=adam,sgd lr=0.001,0.1 epochs=10"
    )


def test_confounding_lists_few_of_many_values() -> None:
    """A search that samples numbers has many values that never meet."""
    cells = [
        replace(base(), lr=(n + 1) / 8, batch=8 * (n + 1), activation="relu") for n in range(9)
    ]
    cells = [replace(cell, activation="tanh") if n else cell for n, cell in enumerate(cells)]
    warning = only("together", scored(cells, [*range(90, 99)]))
    assert "tanh ran only with lr 0.25, batch 16 or lr 0.375, batch 24 or " in warning.sentence
    assert "or lr 0.75, batch 48 or 3 more." in warning.sentence


def test_confounding_of_three_hyperparameters() -> None:
    """If two hyperparameters determine a third, all three are named with their combinations."""
    values = [(0.1, 32, "relu"), (0.1, 64, "tanh"), (0.2, 32, "tanh")]
    cells = [replace(base(), lr=lr, batch=b, activation=a) for lr, b, a in values]
    warning = only("together", scored(cells, [90, 91, 95]))
    assert warning.sentence.startswith(
        "activation, lr and batch change together: relu ran only with lr 0.1, batch 32; and tanh "
        "ran only with lr 0.1, batch 64 or lr 0.2, batch 32."
    )


def test_an_option_of_one_optimizer_is_not_confounding() -> None:
    """Adam has no momentum, so the two cannot be crossed, and there is no warning."""
    cells = [*SGD_OPTIONS, *grid(optimizer="adam", lr=0.1)]
    assert not of_kind("together", scored(cells, [97, 98, 99]))
    cells[1] = replace(cells[1], lr=0.2)  # momentum and lr change together, optimizer and lr do not
    assert not of_kind("together", scored(cells, [97, 98, 99]))


def test_an_option_of_one_loss_is_not_confounding() -> None:
    """NLL has no label smoothing, so the conclusions name the loss with its options."""
    cells = SMOOTHED[:3]
    results = scored(cells, [97, 98, 99])
    assert not of_kind("together", results)
    assert not of_kind("same loss", scored(cells[1:], [98, 99]))  # smoothing makes them differ
    cells = [replace(cell, lr=lr) for cell in cells for lr in (0.1, 0.2)]
    sentences = " ".join(analyse(scored(cells, [90, 90, 94, 94, 98, 98])).conclusions)
    assert "loss with its options matters most" in sentences


def test_the_command_of_a_warning_sweeps_the_options_of_the_loss() -> None:
    """The command that would resolve a warning has the label smoothings of the grid."""
    words = shlex.split(command(SMOOTHED[:3], {"seed": [0, 1, 2]}))
    assert {"loss=cross_entropy,nll", "loss.label_smoothing=0,0.1", "seed=0,1,2"} <= {*words}
    words = shlex.split(command(grid(loss="multi_margin", loss__p=2), {"seed": [0, 1, 2]}))
    assert {"loss=multi_margin", "loss.p=2"} <= {*words}
    assert not [word for word in words if "margin=" in word]
    assert "loss" not in command(SMOOTHED[:1], {"seed": [0, 1, 2]})


def test_an_engine_that_follows_the_activation_is_not_confounding() -> None:
    """engine=auto follows the activation, so there is no warning that the two change together."""
    cells = [base(), replace(base(), activation="gelu", engine="torch")]
    assert not of_kind("together", scored(cells, [97, 98]))


def test_equal_losses_are_shown_by_their_rows() -> None:
    """The note gives accuracies and costs of a pair, and their largest difference."""
    costs = history([1.0, 0.0312345])
    rows = [first_correct(cell, 98.97, costs) for cell in CROSSED]
    warning = only("same loss", rows)
    assert "in 2 pairs of cells that differ only in the loss" in warning.sentence
    assert "all predictions agree" in warning.sentence
    assert "98.97% and 98.97%, cost 0.0312345 and 0.0312345" in warning.sentence
    rows[0] = first_correct(CROSSED[0], 98.95, costs)
    other = only("same loss", rows).sentence
    assert "differ by at most 0.02 points and 2 predictions differ" in other
    assert "98.95% and 98.97%" in other


def test_no_selection_warning_with_a_holdout() -> None:
    """If held-out images chose the best, its accuracy on the test set is not too high."""
    assert only("selection", CLOSE).remedy == "holdout=10000"
    assert not of_kind("selection", with_holdout(CLOSE, [97, 99, 98]))
    assert not of_kind("selection", CLOSE[:1])


def test_held_out_images_choose_the_best() -> None:
    """The best row is the best on held-out images; rows above it on the test set are named."""
    rows = with_holdout(NESTED, [97, 98, 99])  # on the test images, the second is best
    lines = analyse(rows).conclusions
    assert lines[0].startswith("Best: lr 1, 98.00% of 10,000 test images")
    assert lines[1].startswith(
        "It was chosen for its accuracy of 99.00% on 5,000 training images that were held out"
    )
    assert "Of the 2 other rows, 1 is better than it on the test images and 1 is worse" in lines[2]
    assert lines[3] == "Better: lr 0.1."
    assert "ahead" not in only("one seed", rows).sentence
    partly = [*rows[:2], replace(rows[2], holdout_accuracy=None)]
    assert analyse(partly).conclusions[0].startswith("Best: lr 0.1, 99.00%")
    seeds = with_holdout(scored(TWICE, [98, 98.1, 97, 97.1]), [90, 90, 91, 91])
    assert analyse(seeds).conclusions[0].startswith("Best: lr 0.2, 97.05% on average")


def test_the_suggested_holdout_depends_on_the_training_set() -> None:
    """For 6,000 training images, the suggestion is 1,000 rather than the size of the test set."""
    cells = [replace(c, dataset=replace(c.dataset, limit=6000)) for c in LRS]
    assert only("selection", random_results(cells, lambda _: 0.95)).remedy == "holdout=1000"


def test_the_estimated_optimism_is_close_to_the_truth() -> None:
    """For 10 equally good rows, the true optimism is known, and the estimate is close to it."""
    random, true, estimated = np.random.default_rng(4), [], []
    for seed in range(40):
        rows = (random.random((10, 2000)) < 0.95).astype(np.float32)
        true.append(100 * rows.mean(axis=1).max() - 95)
        estimated.append(optimism(rows, seed))
    assert 0.6 * np.mean(true) < np.mean(estimated) < 1.1 * np.mean(true)


def test_a_clear_best_has_no_optimism() -> None:
    """A row that is far ahead of the others would be chosen on any test set."""
    rows = np.zeros((3, 10_000), np.float32)
    rows[0, :9000] = rows[1, :5000] = rows[2, :4000] = 1
    assert optimism(rows) == 0
    assert not of_kind("selection", scored(LRS, [90, 50, 40]))


def test_one_seed_gives_the_distance_of_other_rows() -> None:
    """The warning gives the distance of the last tied row, or of the second row if none is tied."""
    near = only("one seed", scored(LRS, [98.95, 99, 98.98]))
    assert (
        "difference of 0.05 points between the 1st row and the 3rd is not significant"
        in near.sentence
    )
    assert near.remedy == "python -m lenet_sweep -m lr=0.01,0.1,1 epochs=10 seed=0,1,2,3,4"
    assert "The 1st row is 1.00 points ahead of the 2nd" in only("one seed", NESTED).sentence
    mixed = [*scored(TWICE, [98, 98.1, 97, 97.1]), first_correct(replace(base(), lr=0.5), 99)]
    assert only("one seed", mixed).sentence.startswith(
        "1 of 3 settings has an accuracy for only one"
    )


def test_a_collapsed_cell_is_named_with_its_accuracy() -> None:
    """The sentence gives the predicted class and the accuracy; 99% of one class is a collapse."""
    cell = collapsed(LRS[2], 1)
    warning = only("collapsed", [*NESTED[:2], cell])
    assert warning.cells == (LRS[2],)
    assert (
        f"predicts 1 for nearly all test images, which is correct for {cell.accuracy:.2f}% of"
        in warning.sentence
    )
    other = collapsed(LRS[1], 7)
    sentence = only("collapsed", [*NESTED[:1], cell, other]).sentence
    assert "2 of 3 cells collapsed to one class: " in sentence
    assert "Their networks each predict a single class (1 or 7) for nearly all" in sentence
    shirts = replace(other.cell, dataset=replace(other.cell.dataset, name="fashion_mnist"))
    sneakers = replace(other, cell=shirts, class_names=tuple(f"item {n}" for n in range(10)))
    sentence = only("collapsed", [*NESTED[:1], other, sneakers]).sentence
    assert "each predict a single class (7 or item 7)" in sentence
    nearly = replace(cell, predictions=np.where(np.arange(10_000) < 90, 3, 1).astype(np.uint8))
    assert of_kind("collapsed", [nearly])
    far = replace(cell, predictions=np.where(np.arange(10_000) < 110, 3, 1).astype(np.uint8))
    assert not of_kind("collapsed", [far])


def test_correct_predictions_of_one_class_are_no_collapse() -> None:
    """A cell that classifies every image correctly has not collapsed, even with a single class."""
    zeros = np.zeros(100, np.uint8)
    assert Result(base(), "ok", 100.0, zeros == 0, zeros).collapsed is None


@pytest.mark.parametrize(
    ("rows", "raised"),
    [
        (
            scored(BATCHES, [97, 98, 99]),
            "largest value of batch in the grid, 64 (values: 16, 32 and 64)",
        ),
        (
            scored(BATCHES, [99, 98, 97]),
            "smallest value of batch in the grid, 16 (values: 16, 32 and 64)",
        ),
        (scored(BATCHES, [97, 98.95, 99]), None),  # a tied row is inside
        (scored(BATCHES, [99, 97, 98.95]), None),  # tied rows at both edges
        (scored(product(batch=[1, 2, 4]), [99, 98, 97]), None),  # there is no batch of 0
        (scored(product(seed=[0, 1, 2]), [97, 98, 99]), None),
        (scored(product(activation=["elu", "relu", "tanh"]), [97, 98, 99]), None),
        (
            scored(SGD_OPTIONS, [98, 99]),
            "largest value of optimizer.momentum in the grid, 0.9 (values: 0",
        ),
        (scored(SGD_OPTIONS, [99, 98]), None),  # there is no momentum below 0
        (scored(ERASE, [98, 99]), None),  # there is no probability above 1
    ],
)
def test_the_best_at_the_edge_of_the_grid(rows, raised: str | None) -> None:
    """All leading rows must share an extreme value, and values beyond it must exist."""
    sentences = [warning.sentence for warning in of_kind("edge", rows)]
    assert len(sentences) == (raised is not None)
    assert raised is None or raised in sentences[0]


def test_the_edge_warning_counts_settings() -> None:
    """Three seeds of one setting count as one leading setting."""
    rows = scored(product(lr=[0.1, 0.2], seed=[0, 1, 2]), [97, 97.1, 97.2, 99, 99.1, 99.2])
    assert only("edge", rows).sentence.startswith(
        "The best setting has the largest value of lr in the grid"
    )


def test_the_edge_warning_is_a_note_for_two_values() -> None:
    """With two values, each is at an edge, so the warning is only a note."""
    assert only("edge", scored(LRS[:2], [97, 99])).severity == "note"
    warning = only("edge", scored(LRS, [97, 98, 99]))
    assert warning.severity == "caution"
    assert warning.remedy == "python -m lenet_sweep -m lr=0.01,0.1,1,10 epochs=10"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([2.0], None),
        ([2.0, 1.0], (2, 1, 1)),
        ([3.0, 2.0, 1.5, 1.0], (1.5, 1, 0.25)),
        (np.linspace(2, 1, 101), (1.145, 1.045, 0.1 / 0.955)),
        ([1.0, 2.0, 3.0], (2, 3, 0)),  # rising
        ([2.0, 2.0, 2.0], (2, 2, 0)),
        ([2.0, float("inf"), float("nan")], None),
    ],
)
def test_decrease_of_the_cost_at_the_end(costs, expected) -> None:
    """Means of the last two tenths of the epochs; their difference as a share of the decrease."""
    measured = falling(history(costs))
    if expected is None:
        assert measured is None or measured[2] == 0
    else:
        assert measured == pytest.approx(expected)


def test_a_cost_that_is_still_falling() -> None:
    """The steepest run is named with its numbers; the longest snapshot of a run counts."""
    rows = trained(LRS, np.linspace(2, 1, 20))
    cells = [replace(r.cell, epochs=10) for r in rows]
    shorter = [first_correct(c, 97, r.history[:10]) for c, r in zip(cells, rows, strict=True)]
    warning = only("still falling", [*rows, *shorter])
    assert warning.sentence.startswith("In 3 of 3 runs, the cost was still falling")
    assert (
        "from a mean of 1.132 over the second-to-last tenth of its 20 epochs to 1.026 over the "
        "last tenth, which is 11% of its" in warning.sentence
    )
    assert warning.severity == "caution"
    assert "epochs=10,20,40" in warning.remedy
    calm = [replace(r, history=history(FLAT)) for r in rows[:2]] + [rows[2]]
    ahead = [first_correct(r.cell, a, r.history) for r, a in zip(calm, [99, 99, 90], strict=True)]
    assert only("still falling", ahead).severity == "note"
    assert only("still falling", ahead).sentence.endswith(
        "None of the runs of the best row and the one tied with it is among these runs."
    )


@pytest.mark.parametrize(
    ("axes", "accuracies", "sentence"),
    [
        ({"lr": [0.1, 1.0]}, [99, 90], "The run of the best row is among these runs."),
        ({"lr": [0.1, 1.0]}, [99, 99],
         "Both runs of the best row and the one tied with it are among these runs."),
        ({"lr": [0.1, 1.0], "seed": [0, 1, 2]}, [99, 99.1, 98.9, 90, 90.1, 89.9],
         "All 3 runs of the best setting are among these runs."),
        ({"dataset": DATASETS, "lr": [0.1, 1.0]}, [99, 90, 98, 89],
         "Both runs of the best row on each test set are among these runs."),
    ],
)  # fmt: skip
def test_runs_that_lead_are_counted(axes, accuracies, sentence: str) -> None:
    """Their number and what they are is said of runs, whether rows or settings are compared."""
    rows = trained(product(**axes), np.linspace(2, 1, 20))
    rows = [first_correct(r.cell, a, r.history) for r, a in zip(rows, accuracies, strict=True)]
    assert only("still falling", rows).sentence.endswith(sentence)


@pytest.mark.parametrize(
    ("accuracies", "peak"),
    [
        ([97, 99, 98, 98, 98, 98], 2),
        ([97, 98.1, 98, 98, 98, 98], None),  # within the sampling error
        ([97, 98, 98, 98, 99, 98], None),  # close to the end
        ([97, 99, 98], None),  # too few epochs
        ([97, 99, *[98] * 17, 99], None),  # the end is as good
        ([97, 98.9, 99, 99, *[98] * 16], 3),  # the first of equal peaks
    ],
)
def test_early_peak(accuracies, peak: int | None) -> None:
    """A peak must be early, and above the Wilson interval of the best of the last tenth."""
    epoch = early_peak(history([1.0] * len(accuracies), accuracies), 10_000)
    assert (epoch and epoch.epoch) == peak


def test_an_early_peak_is_named_with_both_accuracies() -> None:
    """The sentence gives both accuracies, and the command adds the epoch as a row."""
    warning = only("early peak", trained(LRS, FLAT, [*[99.0] * 5, *[98.0] * 15]))
    assert "from 99.00% after epoch 1 to 98.00% after epoch 20" in warning.sentence
    assert warning.remedy == "python -m lenet_sweep -m lr=0.01 epochs=1,20"


def test_remedies_can_be_run(tmp_path) -> None:
    """Suggested commands can be pasted: recipes, options with brackets, every axis."""
    with_options = grid(
        optimizer="adam",
        optimizer__betas=[(0.9, 0.999), (0.5, 0.9)],
        optimizer__amsgrad=True,
        dataset={"name": "mnist", "limit": 600},
        activation="tanh",
    )
    remedies = {
        only("one seed", scored(COMMON, [97, 98, 99, 98])).remedy: 20,
        only("together", scored(COMMON, [97, 98, 99, 98])).remedy: 8,
        only("one seed", scored(with_options, [98, 99])).remedy: 10,
    }
    for remedy, cells in remedies.items():
        command = [sys.executable, *shlex.split(remedy)[1:], "dry_run=true", f"out={tmp_path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{cells} cells")


# ---------------------------------------------------------------- conclusions


def test_the_conclusions_of_a_sweep_with_one_seed() -> None:
    """The best row and its interval, the comparisons, what matters, and what stays open."""
    cells = product(lr=[0.1, 0.01], batch=[32, 64])
    rows = scored(cells, [99, 98.95, 97, 96.5])
    best, counted, tied, matters, unknown = analyse(rows).conclusions
    assert best == (
        "Best: lr 0.1, batch 32, 99.00% of 10,000 test images "
        "(95% confidence interval 98.79 to 99.18%, which reflects only the choice of images)."
    )
    assert counted == (
        "Of the 3 other rows, 1 is tied with it and 2 are worse (McNemar's test on the same test "
        "images, with Holm's correction for multiple comparisons; tied: no significant "
        "difference)."
    )
    assert tied == "Tied: lr 0.1, batch 64."
    assert matters.startswith(
        "lr matters most: it explains 98% of the variance between cells. The accuracy averages "
        "98.97% with lr 0.1"
    )
    assert unknown.endswith("the order would be the same with other seeds.")
    assert "as high on new images" in analyse(CLOSE).conclusions[-1]


def test_the_conclusions_of_a_sweep_with_several_seeds() -> None:
    """Settings are compared by means over seeds, with interval and standard deviation."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2])
    lines = analyse(scored(cells, [99, 99.1, 98.9, 97, 97.1, 96.8])).conclusions
    assert lines[0] == (
        "Best: lr 0.1, 99.00% on average over 3 seeds (95% confidence interval of the mean 98.75 "
        "to 99.25%; standard deviation between seeds 0.10 points)."
    )
    assert lines[1] == (
        "The only other setting is worse (t tests over the seeds, with Holm's correction for "
        "multiple comparisons)."
    )
    assert not any("other seeds" in line for line in lines)


def test_nothing_matters_if_all_differences_are_chance() -> None:
    """If everything is tied, the largest share of a tiny variance is not a finding."""
    rows = random_results(product(lr=[0.1, 0.01], batch=[32, 64]), lambda _: 0.95)
    assert any(
        line.startswith("No hyperparameter is shown to matter, because")
        for line in analyse(rows).conclusions
    )
    seeded = random_results(product(lr=[0.1, 0.01], batch=[32, 64], seed=[0, 1, 2]), lambda _: 0.95)
    (line,) = [line for line in analyse(seeded).conclusions if "No hyperparameter is shown" in line]
    assert "may be due to chance (F test against the unexplained variance, adjusted p = " in line


def test_what_matters_among_cells_that_learned() -> None:
    """If one learning rate prevents learning, the effects among the other cells are given, too."""
    cells = product(lr=[0.1, 0.01, 1.0], batch=[32, 64])
    rows = [
        *scored(cells[:4], [99, 97, 99.2, 97.1]),
        collapsed(cells[4], 1),
        collapsed(cells[5], 1),
    ]
    lines = analyse(rows).conclusions
    assert any(line.startswith("lr matters most: it explains 100%") for line in lines)
    assert (
        "Among the 4 cells that learned, batch matters most: it explains 99% of their variance."
        in lines
    )


@pytest.mark.parametrize(
    ("rows", "first_line"),
    [
        ([failed(c, "killed") for c in LRS], "No cell has an accuracy."),
        ([], "No cell has an accuracy."),
        ([first_correct(base(), 99)], "Best: lr 0.1, batch 64, 99.00% of 10,000 test images"),
        ([first_correct(base(), 100)], "Best: lr 0.1, batch 64, 100.00% of 10,000 test images"),
        (
            [first_correct(LRS[0], 0), first_correct(LRS[1], 0)],
            "Best: lr 0.01, 0.00% of 10,000 test images",
        ),
        ([make_result(base(), [True])], "Best: lr 0.1, batch 64, 100.00% of 1 test images"),
        ([first_correct(LRS[0], 99), failed(LRS[1], "failed")], "Best: lr 0.01, 99.00%"),
        ([collapsed(LRS[0], 1), collapsed(LRS[1], 1)], "Best: lr 0.01, 10."),
    ],
)
def test_degenerate_sweeps_have_conclusions(rows, first_line: str) -> None:
    """A sweep that is tiny or has failed neither raises an error nor prints nan."""
    statistics = analyse(rows)
    assert statistics.conclusions[0].startswith(first_line)
    text = " ".join([*statistics.conclusions, *(w.sentence for w in statistics.warnings)])
    assert "nan" not in text
    assert "inf " not in text
    assert len(statistics.intervals) == len(rows)


def test_each_dataset_has_its_own_best() -> None:
    """Rows are compared only with rows of the same dataset."""
    cells = grid(dataset=["mnist", "kmnist"], lr=[0.1, 0.2])
    lines = analyse(scored(cells, [99, 98, 95, 96])).conclusions
    assert [line.partition(":")[0] for line in lines if line.startswith("Best")] == [
        "Best on mnist",
        "Best on kmnist",
    ]


@pytest.mark.usefixtures("train_here")
def test_a_real_sweep_is_analyzed(tmp_path) -> None:
    """The results of a sweep on synthetic images give conclusions about its cells."""
    for name, content in learnable(600, 200, 0).items():
        (tmp_path / name).write_bytes(content)
    dataset = {"name": "folder", "root": str(tmp_path)}
    table = sweep(
        lr=[0.1, 0.01], batch=[16, 32], epochs=2, dataset=dataset, out=str(tmp_path / "out"),
        figures="none", progress=False, workers=1,
    )  # fmt: skip
    manifest = read_manifest(tmp_path / next((tmp_path / "out" / "sweeps").iterdir()))
    cells, store = manifest.cells, manifest.store
    by_id = {cell.id: cell for cell in cells}
    labels = datasets.load_dataset(cells[0].dataset, tmp_path).test_labels
    rows = []
    for cell in (by_id[name] for name in table["cell"]):
        folder = store.run_folder(cell.run_id)
        rows.append(Result.of(cell, folder.read(folder.snapshot_path(cell.epochs)), labels))
    assert [r.accuracy for r in rows] == pytest.approx(list(table["accuracy"]))
    statistics = analyse(rows)
    assert statistics.conclusions[0].startswith(f"Best: lr {rows[0].cell.lr:g}, batch")
    assert {effect.name for effect in statistics.effects.effects} == {"lr", "batch"}
    assert {"selection", "one seed"} <= {warning.kind for warning in statistics.warnings}


@given(st.data())
def test_any_mix_of_results_can_be_analyzed(data) -> None:
    """Cells, failures, collapses, seeds and histories of any kind give complete sentences."""
    cells = data.draw(st.lists(st.sampled_from(MIXED), unique=True, max_size=8))
    kinds = st.sampled_from(["ok", "collapsed", "diverged", "killed"])
    cost = st.floats(0, 3) | st.just(1e30)  # a cost that is not finite would be a diverged cell
    rows = []
    for cell in cells:
        kind = data.draw(kinds)
        costs = data.draw(st.lists(cost, min_size=1, max_size=12))
        percent = data.draw(st.integers(0, 10)) * 10
        if kind == "ok":
            accuracies = [*reversed(range(80, 80 + len(costs) - 1)), percent]
            rows.append(first_correct(cell, percent, history(costs, accuracies), images=30))
        else:
            rows.append(collapsed(cell, 1, 30) if kind == "collapsed" else failed(cell, kind))
    rows.sort(key=lambda r: -1 if r.accuracy is None else -r.accuracy)
    statistics = analyse(
        with_holdout(rows, [r.accuracy for r in rows]) if data.draw(st.booleans()) else rows
    )
    assert statistics.conclusions
    for sentence in (*statistics.conclusions, *(w.sentence for w in statistics.warnings)):
        assert sentence.endswith(".")
        assert "nan" not in sentence
    best = [c for c in statistics.comparisons if c.test == "best"]
    assert bool(best) == any(r.accuracy is not None for r in rows)
