"""Doubts and conclusions: each doubt where it must be and where it must not, with its numbers."""

import shlex
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import learnable
from made_results import (
    answered,
    base,
    constant,
    drawn,
    first,
    grid,
    held_out,
    history,
    product,
    scored,
    without,
)

from lenet_sweep import sweep
from lenet_sweep.analysis.conclusions import analyse, conclusions
from lenet_sweep.analysis.curve_warnings import early_peak, falling
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.analysis.warnings import find_warnings, optimism
from lenet_sweep.data import datasets
from lenet_sweep.results.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("freeze_garbage")

FLAT = [2.0, 0.5, *[0.1] * 18]  # costs of 20 epochs that fell and stayed
RISING = [95.0, *[98.0] * 19]
TWICE = product(lr=[0.1, 0.2], seed=[0, 1])
LRS = product(lr=[0.01, 0.1, 1.0])
BATCHES = product(batch=[16, 32, 64])
NESTED = scored(LRS, [97, 99, 98])
CLOSE = drawn(LRS, lambda _: 0.95)
DIVERGED = [*NESTED[:2], without(LRS[2], "diverged")]
COMMON = grid(recipe=["ce_sgd", "nll_adam"], lr=[0.1, 0.001])
CROSSED = grid(loss=["cross_entropy", "nll"], optimizer=["sgd", "adam"], lr=0.1)
ODD = [
    *product(lr=[0.1, 0.2, 10.0], batch=[1, 64], seed=[0, 1]),
    *COMMON,
    *CROSSED,
    *grid(optimizer="sgd", optimizer__momentum=[0.5, 0.9], dataset=["mnist", "kmnist"]),
    *grid(optimizer="adam", optimizer__betas=[(0.5, 0.9)], activation=["gelu", "tanh"]),
]
SGD_OPTIONS = grid(optimizer="sgd", optimizer__momentum=[0, 0.9])


def courses(cells, costs, accuracies=None):
    """Cells with this course of costs and accuracies, each as far as it trained."""
    every = history(costs, accuracies)
    cells = [replace(cell, epochs=len(every)) for cell in cells]
    ends = [accuracies[-1] if accuracies else 98 + i / 10 for i in range(len(cells))]
    return [first(cell, end, every) for cell, end in zip(cells, ends, strict=True)]


WHERE_IT_MUST = {
    "diverged": (DIVERGED, NESTED),
    "failed": ([*NESTED[:2], without(LRS[2], "killed")], DIVERGED),
    "collapsed": ([*NESTED[:2], constant(LRS[2], 1)], [*NESTED[:2], first(LRS[2], 11.35)]),
    "together": (scored(COMMON, [97, 98, 99, 98]), scored(CROSSED, [97, 98, 99, 98])),
    "selection": (CLOSE, NESTED),
    "one seed": (NESTED, scored(TWICE, [98, 98.1, 97, 97.1])),
    "edge": (scored(LRS, [97, 98, 99]), NESTED),
    "still falling": (courses(LRS, np.linspace(2, 1, 20)), courses(LRS, FLAT)),
    "one epoch": (courses(LRS, [2.0]), courses(LRS, FLAT)),
    "early peak": (courses(LRS, FLAT, [*[99.0] * 5, *[98.0] * 15]), courses(LRS, FLAT, RISING)),
    "same loss": (scored(CROSSED, [97, 98, 97, 98]), scored(COMMON, [97, 98, 99, 98])),
}  # fmt: skip


def found(kind, rows, **more):
    return [doubt for doubt in find_warnings(rows, **more) if doubt.kind == kind]


def only(kind, rows, **more):
    (doubt,) = found(kind, rows, **more)
    return doubt


@pytest.mark.parametrize("kind", WHERE_IT_MUST)
def test_each_doubt_is_raised_where_it_must_be_and_not_elsewhere(kind: str) -> None:
    """A doubt is about the results at hand: there with its cells, or not there without cause."""
    present, absent = WHERE_IT_MUST[kind]
    doubt = only(kind, present)
    assert set(doubt.cells) <= {r.cell for r in present}
    assert doubt.cells
    assert doubt.sentence.endswith(".")
    assert "nan" not in doubt.sentence
    assert not found(kind, absent)


def test_every_kind_of_doubt_is_tested() -> None:
    """No doubt is raised in these tests that has no case for and against it."""
    rows = [rows for pair in WHERE_IT_MUST.values() for rows in pair]
    assert {doubt.kind for each in rows for doubt in find_warnings(each)} == set(WHERE_IT_MUST)


def test_the_most_serious_doubt_stands_first() -> None:
    """What cannot be known at all comes before what needs caution, and notes come last."""
    cells = [*CROSSED, replace(CROSSED[0], lr=0.2)]
    rows = [*scored(cells[:4], [97, 98, 97, 98]), without(cells[4], "timed-out")]
    order = [doubt.severity for doubt in find_warnings(rows)]
    assert order[0] == "serious"
    assert order[-1] == "note"
    assert order == sorted(order, key=["serious", "caution", "note"].index)
    assert find_warnings([]) == ()


# ---------------------------------------------------------------- what they say


def test_the_reports_comparison_is_taken_apart() -> None:
    """Loss and optimizer that change together are named with their values, and the full grid."""
    doubt = only("together", scored(COMMON, [97, 98, 99, 98]))
    assert doubt.sentence.startswith(
        "loss and optimizer change together: cross_entropy ran only with sgd and nll ran only with "
        "adam."
    )
    assert doubt.remedy == (
        "python -m lenet_sweep -m loss=cross_entropy,nll optimizer=adam,sgd lr=0.001,0.1 epochs=10"
    )


def test_settings_that_no_pair_gives_away_are_taken_apart_too() -> None:
    """Three settings of which two fix the third are listed as they ran."""
    values = [(0.1, 32, "relu"), (0.1, 64, "tanh"), (0.2, 32, "tanh")]
    cells = [replace(base(), lr=lr, batch=b, activation=a) for lr, b, a in values]
    doubt = only("together", scored(cells, [90, 91, 95]))
    assert doubt.sentence.startswith(
        "activation, lr and batch change together: relu ran only with lr 0.1, batch 32; and tanh "
        "ran only with lr 0.1, batch 64 or lr 0.2, batch 32."
    )


def test_an_option_that_the_other_optimizer_lacks_is_no_fault_of_the_grid() -> None:
    """Momentum does not apply to Adam, so nobody is told to cross the two."""
    cells = [*SGD_OPTIONS, *grid(optimizer="adam", lr=0.1)]
    assert not found("together", scored(cells, [97, 98, 99]))
    cells[1] = replace(cells[1], lr=0.2)  # momentum and lr change together, optimizer and lr do not
    assert not found("together", scored(cells, [97, 98, 99]))


def test_the_engine_chosen_for_an_activation_is_no_fault_of_the_grid() -> None:
    """engine=auto follows the activation, so the two are not said to change together."""
    cells = [base(), replace(base(), activation="gelu", engine="torch")]
    assert not found("together", scored(cells, [97, 98]))


def test_equal_losses_show_themselves_by_their_rows() -> None:
    """The pair's own accuracies and costs stand in the note, and how far apart they are."""
    costs = history([1.0, 0.0312345])
    rows = [first(cell, 98.97, costs) for cell in CROSSED]
    doubt = only("same loss", rows)
    assert "in 2 pairs of cells that differ in the loss alone" in doubt.sentence
    assert "agree in every prediction" in doubt.sentence
    assert "98.97 % and 98.97 %, cost 0.0312345 and 0.0312345" in doubt.sentence
    rows[0] = first(CROSSED[0], 98.95, costs)
    other = only("same loss", rows).sentence
    assert "differ by at most 0.02 points and 2 predictions differ" in other
    assert "98.95 % and 98.97 %" in other


def test_choosing_by_the_test_set_is_no_doubt_with_a_holdout() -> None:
    """With images kept back to choose by, the figure on the test set is not too high."""
    assert only("selection", CLOSE).remedy == "holdout=10000"
    assert not found("selection", held_out(CLOSE, [97, 99, 98]))
    assert not found("selection", CLOSE[:1])


def test_the_best_is_the_one_that_was_chosen() -> None:
    """With held-out images the best row is theirs, and rows above it on the test set are named."""
    rows = held_out(NESTED, [97, 98, 99])  # the test images would have chosen the second
    lines = conclusions(rows)
    assert lines[0].startswith("Best: lr 1, 98.00 % of 10,000 test images")
    assert lines[1].startswith("It was chosen by 99.00 % on 5,000 training images that were held")
    assert "Of 2 other rows, 1 is better than it on the test images: lr 0.1; 1 is worse" in lines[2]
    assert "ahead" not in only("one seed", rows).sentence
    partly = [*rows[:2], replace(rows[2], holdout_accuracy=None)]
    assert conclusions(partly)[0].startswith("Best: lr 0.1, 99.00 %")
    seeds = held_out(scored(TWICE, [98, 98.1, 97, 97.1]), [90, 90, 91, 91])
    assert conclusions(seeds)[0].startswith("Best: lr 0.2, 97.05 % on average")


def test_the_holdout_suggested_leaves_something_to_train_on() -> None:
    """Of 6,000 training images 1,000 are suggested, not the 10,000 of the test set."""
    cells = [replace(c, dataset=replace(c.dataset, limit=6000)) for c in LRS]
    assert only("selection", drawn(cells, lambda _: 0.95)).remedy == "holdout=1000"


def test_the_optimism_is_near_the_true_one() -> None:
    """The best of 10 equally good rows overstates itself by what is known; the estimate is near."""
    random, true, estimated = np.random.default_rng(4), [], []
    for seed in range(40):
        rows = (random.random((10, 2000)) < 0.95).astype(np.float32)
        true.append(100 * rows.mean(axis=1).max() - 95)
        estimated.append(optimism(rows, seed))
    assert 0.6 * np.mean(true) < np.mean(estimated) < 1.1 * np.mean(true)


def test_there_is_no_optimism_without_a_choice() -> None:
    """A row that is far ahead of the others would have been chosen on any test set."""
    rows = np.zeros((3, 10_000), np.float32)
    rows[0, :9000] = rows[1, :5000] = rows[2, :4000] = 1
    assert optimism(rows) == 0
    assert not found("selection", scored(LRS, [90, 50, 40]))


def test_one_seed_says_how_near_the_others_are() -> None:
    """The tied rows' distance and the first difference that is more than chance are numbers."""
    near = only("one seed", scored(LRS, [98.95, 99, 98.98]))
    assert "the first and the 3rd row lie within 0.05 points" in near.sentence
    assert near.remedy == "python -m lenet_sweep -m lr=0.01,0.1,1 epochs=10 seed=0,1,2,3,4"
    assert "the first row is 1.00 points ahead of the 2nd" in only("one seed", NESTED).sentence
    mixed = [*scored(TWICE, [98, 98.1, 97, 97.1]), first(replace(base(), lr=0.5), 99)]
    assert only("one seed", mixed).sentence.startswith(
        "1 of 3 settings has an accuracy with only one"
    )


def test_a_cell_of_one_class_is_named_with_its_accuracy() -> None:
    """The class, and the share of the test images that it is right for, stand in the sentence."""
    cell = constant(LRS[2], 1)
    doubt = only("collapsed", [*NESTED[:2], cell])
    assert doubt.cells == (LRS[2],)
    assert f"every image for a 1, which is right for {cell.accuracy:.2f} % of" in doubt.sentence
    nearly = replace(cell, predictions=np.where(np.arange(10_000) < 90, 3, 1).astype(np.uint8))
    assert found("collapsed", [nearly])
    far = replace(cell, predictions=np.where(np.arange(10_000) < 110, 3, 1).astype(np.uint8))
    assert not found("collapsed", [far])


def test_a_test_set_of_one_class_is_no_collapse() -> None:
    """Who is right about every image has not collapsed, even if all are of one class."""
    zeros = np.zeros(100, np.uint8)
    assert Result(base(), "ok", 100.0, zeros == 0, zeros).collapsed is None


@pytest.mark.parametrize(
    ("rows", "raised"),
    [
        (scored(BATCHES, [97, 98, 99]), "largest batch of the grid, 64 out of 16, 32 and 64"),
        (scored(BATCHES, [99, 98, 97]), "smallest batch of the grid, 16 out of 16, 32 and 64"),
        (scored(BATCHES, [97, 98.95, 99]), None),  # a tied row lies inside
        (scored(BATCHES, [99, 97, 98.95]), None),  # tied rows at both edges
        (scored(product(batch=[1, 2, 4]), [99, 98, 97]), None),  # there is no batch of 0
        (scored(product(seed=[0, 1, 2]), [97, 98, 99]), None),
        (scored(product(activation=["elu", "relu", "tanh"]), [97, 98, 99]), None),
        (scored(SGD_OPTIONS, [98, 99]), "largest optimizer.momentum of the grid, 0.9 out of 0"),
        (scored(SGD_OPTIONS, [99, 98]), None),  # nor a momentum below 0
    ],
)
def test_the_edge_of_an_axis(rows, raised: str | None) -> None:
    """Only where all leading rows share an extreme value, and something could lie beyond it."""
    sentences = [doubt.sentence for doubt in found("edge", rows)]
    assert len(sentences) == (raised is not None)
    assert raised is None or raised in sentences[0]


def test_the_edge_counts_settings_not_seeds() -> None:
    """Three seeds of one setting are one leader."""
    rows = scored(product(lr=[0.1, 0.2], seed=[0, 1, 2]), [97, 97.1, 97.2, 99, 99.1, 99.2])
    assert only("edge", rows).sentence.startswith("The best setting has the largest lr of the grid")


def test_the_edge_is_a_note_with_two_values() -> None:
    """Of two values each is at an edge, which is worth less than of three."""
    assert only("edge", scored(LRS[:2], [97, 99])).severity == "note"
    doubt = only("edge", scored(LRS, [97, 98, 99]))
    assert doubt.severity == "caution"
    assert doubt.remedy == "python -m lenet_sweep -m lr=0.01,0.1,1,10 epochs=10"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([2.0], None),
        ([2.0, 1.0], (2, 1, 1)),
        ([3.0, 2.0, 1.5, 1.0], (1.5, 1, 0.25)),
        (np.linspace(2, 1, 101), (1.145, 1.045, 0.1 / 0.955)),
        ([1.0, 2.0, 3.0], (2, 3, 0)),  # it rose
        ([2.0, 2.0, 2.0], (2, 2, 0)),
        ([2.0, float("inf"), float("nan")], None),
    ],
)
def test_how_far_the_cost_fell_at_the_end(costs, expected) -> None:
    """The means of the last two tenths of the epochs, and their difference as a share of it all."""
    measured = falling(history(costs))
    if expected is None:
        assert measured is None or measured[2] == 0
    else:
        assert measured == pytest.approx(expected)


def test_a_falling_cost_says_by_how_much_and_whether_it_matters() -> None:
    """The steepest run is named with its numbers; the longest read-out speaks for a run."""
    rows = courses(LRS, np.linspace(2, 1, 20))
    cells = [replace(r.cell, epochs=10) for r in rows]
    shorter = [first(c, 97, r.history[:10]) for c, r in zip(cells, rows, strict=True)]
    doubt = only("still falling", [*rows, *shorter])
    assert doubt.sentence.startswith("In 3 of 3 runs the cost was still falling")
    assert "from 1.132 to 1.026 over the last tenth of its 20 epochs, 11 % of all" in doubt.sentence
    assert doubt.severity == "caution"
    assert "epochs=10,20,40" in doubt.remedy
    calm = [replace(r, history=history(FLAT)) for r in rows[:2]] + [rows[2]]
    ahead = [first(r.cell, a, r.history) for r, a in zip(calm, [99, 99, 90], strict=True)]
    assert only("still falling", ahead).severity == "note"
    assert "No leading run is one." in only("still falling", ahead).sentence


@pytest.mark.parametrize(
    ("accuracies", "peak"),
    [
        ([97, 99, 98, 98, 98, 98], 2),
        ([97, 98.1, 98, 98, 98, 98], None),  # within the sampling error
        ([97, 98, 98, 98, 99, 98], None),  # not long before the end
        ([97, 99, 98], None),  # too short to say
        ([97, 99, *[98] * 17, 99], None),  # the end is as good
        ([97, 98.9, 99, 99, *[98] * 16], 3),  # the first of equal peaks
    ],
)
def test_an_early_peak(accuracies, peak: int | None) -> None:
    """A peak counts if it is early, and beyond Wilson's interval of the best of the last tenth."""
    epoch = early_peak(history([1.0] * len(accuracies), accuracies), 10_000)
    assert (epoch and epoch.epoch) == peak


def test_an_early_peak_is_named_with_both_accuracies() -> None:
    """The sentence says what was reached when, and the command reads it out."""
    doubt = only("early peak", courses(LRS, FLAT, [*[99.0] * 5, *[98.0] * 15]))
    assert "99.00 % after epoch 1, 98.00 % after epoch 20" in doubt.sentence
    assert doubt.remedy == "python -m lenet_sweep -m lr=0.01 epochs=1,20"


def test_remedies_are_commands_that_work(tmp_path) -> None:
    """What is suggested can be pasted: recipes, options with brackets, every axis."""
    odd = grid(
        optimizer="adam",
        optimizer__betas=[(0.9, 0.999), (0.5, 0.9)],
        optimizer__amsgrad=True,
        dataset={"name": "mnist", "limit": 600},
        activation="tanh",
    )
    remedies = {
        only("one seed", scored(COMMON, [97, 98, 99, 98])).remedy: 20,
        only("together", scored(COMMON, [97, 98, 99, 98])).remedy: 8,
        only("one seed", scored(odd, [98, 99])).remedy: 10,
    }
    for remedy, cells in remedies.items():
        command = [sys.executable, *shlex.split(remedy)[1:], "dry_run=true", f"out={tmp_path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{cells} cells")


# ---------------------------------------------------------------- conclusions


def test_the_conclusions_of_a_sweep_with_one_seed() -> None:
    """The best with its interval, what is tied with it, what matters, and what stays open."""
    cells = product(lr=[0.1, 0.01], batch=[32, 64])
    rows = scored(cells, [99, 98.95, 97, 96.5])
    best, tied, matters, unknown = conclusions(rows)
    assert best == (
        "Best: lr 0.1, batch 32, 99.00 % of 10,000 test images (95 % interval 98.79 to 99.18 %)."
    )
    assert tied == (
        "Of 3 other rows, 1 is tied with it: lr 0.1, batch 64; 2 are worse "
        "(McNemar's test on the same test images, Holm's correction)."
    )
    assert matters.startswith(
        "lr matters most: 98 % of the variance; on average 98.97 % with lr 0.1"
    )
    assert unknown.endswith("the order would be the same with other seeds.")
    assert "as high on new images" in conclusions(CLOSE)[-1]


def test_the_conclusions_of_a_sweep_with_several_seeds() -> None:
    """Means over seeds with their interval and scatter take the place of single rows."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2])
    lines = conclusions(scored(cells, [99, 99.1, 98.9, 97, 97.1, 96.8]))
    assert lines[0] == (
        "Best: lr 0.1, 99.00 % on average over 3 seeds (95 % interval of the mean 98.75 to "
        "99.25 %; standard deviation 0.10 points)."
    )
    assert (
        lines[1] == "The only other setting is worse (t tests over the seeds, Holm's correction)."
    )
    assert not any("other seeds" in line for line in lines)


def test_nothing_is_said_to_matter_where_all_is_chance() -> None:
    """If every row is tied with the best, the largest share of nearly nothing is no finding."""
    rows = drawn(product(lr=[0.1, 0.01], batch=[32, 64]), lambda _: 0.95)
    assert any(
        line.startswith("No setting is shown to matter, since") for line in conclusions(rows)
    )
    seeded = drawn(product(lr=[0.1, 0.01], batch=[32, 64], seed=[0, 1, 2]), lambda _: 0.95)
    (line,) = [line for line in conclusions(seeded) if "No setting is shown" in line]
    assert "may be chance (F test, p = " in line


def test_the_variance_of_those_that_learned_is_told_apart() -> None:
    """If one learning rate ruins all, what matters among the others is said as well."""
    cells = product(lr=[0.1, 0.01, 1.0], batch=[32, 64])
    rows = [*scored(cells[:4], [99, 97, 99.2, 97.1]), constant(cells[4], 1), constant(cells[5], 1)]
    lines = conclusions(rows)
    assert any(line.startswith("lr matters most: 100 %") for line in lines)
    assert any(
        line.startswith("Among the 4 cells that have learned, batch matters most (99 %)")
        for line in lines
    )


@pytest.mark.parametrize(
    ("rows", "first_line"),
    [
        ([without(c, "killed") for c in LRS], "None of 3 cells has an accuracy."),
        ([], "None of 0 cells has an accuracy."),
        ([first(base(), 99)], "Best: lr 0.1, batch 64, 99.00 % of 10,000 test images"),
        ([first(base(), 100)], "Best: lr 0.1, batch 64, 100.00 % of 10,000 test images"),
        ([first(LRS[0], 0), first(LRS[1], 0)], "Best: lr 0.01, 0.00 % of 10,000 test images"),
        ([answered(base(), [True])], "Best: lr 0.1, batch 64, 100.00 % of 1 test images"),
        ([first(LRS[0], 99), without(LRS[1], "failed")], "Best: lr 0.01, 99.00 %"),
        ([constant(LRS[0], 1), constant(LRS[1], 1)], "Best: lr 0.01, 10."),
    ],
)
def test_grids_that_say_nothing_are_said_to(rows, first_line: str) -> None:
    """No sweep, however small or broken, ends in an error or a number that is none."""
    found = analyse(rows)
    assert found.conclusions[0].startswith(first_line)
    text = " ".join([*found.conclusions, *(d.sentence for d in found.doubts)])
    assert "nan" not in text
    assert "inf " not in text
    assert len(found.intervals) == len(rows)


def test_a_dataset_of_its_own_has_a_best_of_its_own() -> None:
    """Two datasets in one sweep are two contests."""
    cells = grid(dataset=["mnist", "kmnist"], lr=[0.1, 0.2])
    lines = conclusions(scored(cells, [99, 98, 95, 96]))
    assert [line.partition(":")[0] for line in lines if line.startswith("Best")] == [
        "Best on mnist",
        "Best on kmnist",
    ]


def test_a_real_sweep_is_analysed(tmp_path) -> None:
    """From the store of a sweep on made images to sentences about its own cells."""
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
        folder = store.run(cell.run_id)
        rows.append(Result.of(cell, folder.read(folder.snapshot_path(cell.epochs)), labels))
    assert [r.accuracy for r in rows] == pytest.approx(list(table["accuracy"]))
    found = analyse(rows)
    assert found.conclusions[0].startswith(f"Best: lr {rows[0].cell.lr:g}, batch")
    assert {effect.name for effect in found.effects.effects} == {"lr", "batch"}
    assert {"selection", "one seed"} <= {doubt.kind for doubt in found.doubts}


@given(st.data())
def test_no_sweep_is_too_odd_to_be_analysed(data) -> None:
    """Any mix of cells, failures, collapses, seeds and courses ends in sentences with numbers."""
    cells = data.draw(st.lists(st.sampled_from(ODD), unique=True, max_size=8))
    kinds = st.sampled_from(["first", "constant", "diverged", "killed"])
    cost = st.floats(0, 3) | st.just(1e30)  # no finite cost: the cell has diverged
    rows = []
    for cell in cells:
        kind = data.draw(kinds)
        costs = data.draw(st.lists(cost, min_size=1, max_size=12))
        percent = data.draw(st.integers(0, 10)) * 10
        if kind == "first":
            course = history(costs, [*reversed(range(80, 80 + len(costs) - 1)), percent])
            rows.append(first(cell, percent, course, images=30))
        else:
            rows.append(constant(cell, 1, 30) if kind == "constant" else without(cell, kind))
    rows.sort(key=lambda r: -1 if r.accuracy is None else -r.accuracy)
    found = analyse(
        held_out(rows, [r.accuracy for r in rows]) if data.draw(st.booleans()) else rows
    )
    assert found.conclusions
    for sentence in (*found.conclusions, *(d.sentence for d in found.doubts)):
        assert sentence.endswith(".")
        assert "nan" not in sentence
    tied = [c for c in found.comparisons if c.test == "best"]
    assert bool(tied) == any(r.accuracy is not None for r in rows)
