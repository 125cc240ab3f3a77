"""Racing over seeds: which settings are dropped, and that the decision depends on results only."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_sweep import load_results, sweep
from lenet_sweep.config import grids, validation
from lenet_sweep.core.plans import Run
from lenet_sweep.search import RunResult, is_complete
from lenet_sweep.search.racing import Racing, t_test, z_test
from lenet_sweep.training.engines.support import NATIVE

EPOCHS = 3
CELL = validation.validate_cells(grids.grid({"epochs": EPOCHS, "device": "cpu"}), NATIVE)[0][0]
IMAGES = 1000


def runs_of(number, seeds):
    """The runs of so many settings with these seeds: settings first, as in a grid."""
    return [
        Run(replace(CELL, lr=0.1 / 2**place, seed=seed), (EPOCHS,))
        for place in range(number)
        for seed in seeds
    ]


def result(accuracy, images=True):
    """A finished run; the wrong images are the first ones."""
    correct = np.arange(IMAGES) >= round(IMAGES * (1 - accuracy / 100))
    return RunResult((accuracy,) * EPOCHS, correct=lambda: correct if images else None)


def accuracies_of(number, seeds, gap=5.0):
    """(settings, seeds): each setting `gap` points below the one before it, noise of 0.1 points."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((number, seeds))
    return 95 - gap * np.arange(number)[:, None] + noise


def race(accuracies, search, seeds=None, images=True):
    """Train what the search asks for until it ends; returns the decision and the results."""
    number = accuracies.shape[1]
    runs = runs_of(len(accuracies), seeds or range(number))
    known = {
        run.id: result(float(a), images) for run, a in zip(runs, accuracies.ravel(), strict=True)
    }
    results = {}
    while not is_complete(decision := search.decide(runs, results), results):
        results |= {run_id: known[run_id] for run_id in decision.epochs}
    return decision, results


def test_clearly_worse_settings_are_dropped_and_the_best_gets_all_seeds():
    """Dropped settings have the first seeds only, and a reason."""
    decision, results = race(accuracies_of(4, 10), Racing())
    runs = runs_of(4, range(10))
    trained = [
        sum(run.id in results for run in runs if run.cell.lr == 0.1 / 2**k) for k in range(4)
    ]
    assert trained[0] == 10
    assert all(5 <= number < 10 for number in trained[1:])
    assert len(results) + len(decision.stops) == 40
    stop = decision.stops[runs[-1].id]
    assert (stop.epoch, stop.reason[:15]) == (0, "dropped after 5")
    assert " of 4 settings continue" in decision.messages[0]


def test_with_few_seeds_everything_is_trained():
    """A race of five seeds never drops a setting, and says so."""
    decision, results = race(accuracies_of(3, 5), Racing())
    assert (len(results), decision.stops) == (15, {})
    assert "fewer than 6 seeds" in decision.messages[0]


def test_nothing_is_dropped_before_the_first_look():
    """Four seeds are not enough, however clear the difference."""
    runs = runs_of(2, range(20))
    results = {r.id: result(90.0 if r.cell.lr == 0.1 else 10.0) for r in runs if r.cell.seed < 4}
    decision = Racing().decide(runs, results)
    assert not decision.stops
    assert {r.id for r in runs if r.cell.seed <= 4} == decision.epochs.keys()


def test_seeds_are_trained_in_ascending_order():
    """The order on the command line does not matter."""
    runs = runs_of(2, [65, 3, 2, 4, 5, 6])
    decision = Racing().decide(runs, {})
    assert decision.epochs.keys() == {run.id for run in runs if run.cell.seed == 2}


def test_without_predictions_a_setting_stays():
    """It is then unknown whether the same images agree."""
    decision, results = race(accuracies_of(3, 7), Racing(), images=False)
    assert (len(results), decision.stops) == (21, {})


def test_images_that_disagree_keep_a_setting():
    """Ten images more are not significant, even if every seed has them."""
    random = np.random.default_rng(1)
    runs = runs_of(2, range(7))
    results = {}
    for run in runs:
        correct = random.permutation(IMAGES) >= (500 if run.cell.lr == 0.1 else 510)
        accuracy = 100 * float(correct.mean())
        results[run.id] = RunResult((accuracy,) * EPOCHS, correct=lambda correct=correct: correct)
    assert not Racing(alpha=0.05).decide(runs, results).stops
    assert len(Racing(alpha=1.0).decide(runs, results).stops) == 2


def test_equal_differences_are_no_error():
    """With the same difference for all seeds, the images decide."""
    assert race(np.array([[90.0] * 6, [80.0] * 6]), Racing())[0].stops
    assert not race(np.full((2, 6), 90.0), Racing())[0].stops


def test_a_failed_setting_is_dropped():
    """The other seeds of a setting that failed are not trained, and other settings go on."""
    runs = runs_of(2, range(8))
    results = {run.id: result(90.0) for run in runs if run.cell.seed < 5}
    failed = runs[3]
    results[failed.id] = RunResult((50.0,), failed=True)
    decision = Racing().decide(runs, results)
    assert {s.reason for s in decision.stops.values()} == {
        "dropped after 5 seeds: a run of this setting failed"
    }
    assert len(decision.stops) == 3
    assert runs[8 + 5].id in decision.epochs


def test_other_datasets_and_lengths_do_not_compete():
    """Each group has its own best."""
    short = [Run(replace(r.cell, epochs=2, lr=r.cell.lr / 64), (2,)) for r in runs_of(2, range(6))]
    runs = runs_of(1, range(6)) + short[:6]
    results = {r.id: result(90.0 if r.cell.epochs == 3 else 20.0) for r in runs}
    decision = Racing().decide(runs, results)
    assert not decision.stops
    assert len(decision.epochs) == 12


def test_p_values_are_those_computed_by_hand():
    """Differences 1 to 5: mean 3, error sqrt(2.5 / 5), t = 4.2426 with 4 degrees of freedom."""
    assert t_test([1, 2, 3, 4, 5]) == pytest.approx(0.0066178, abs=1e-7)
    assert t_test([-1, -2, -3, -4, -5]) == pytest.approx(1 - 0.0066178, abs=1e-7)
    # 10 of 100 images are better: mean 0.1, error 0.3015 / 10, z = 3.3166.
    assert z_test(np.arange(100) < 10) == pytest.approx(0.000456, abs=1e-6)
    assert (t_test([0.1] * 5), t_test([0.0] * 5), z_test(np.zeros(9))) == (0.0, 1.0, 1.0)


def test_the_level_is_divided_by_settings_and_looks():
    """p = 0.0066 is significant at 0.05 for 2 settings and 1 look, but not for 9 or 8 looks."""
    differences = np.array([1, 2, 3, 4, 5])
    for number, seeds, drops in ((2, 6, True), (9, 6, False), (2, 13, False)):
        runs = runs_of(number, range(seeds))
        best = {seed: 80.0 + float(d) for seed, d in enumerate(differences)}
        results = {
            r.id: result(best[r.cell.seed] if r.cell.lr == 0.1 else 80.0)
            for r in runs
            if r.cell.seed < 5
        }
        stops = Racing().decide(runs, results).stops
        assert bool(stops) is drops, (number, seeds)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=8, max_size=8), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_decision_depends_on_results_only(table, random):
    """Runs may end in any order: intermediate decisions never ask for more than the last one."""
    accuracies = 50.0 + np.array(table)
    final, known = race(accuracies, Racing())
    order = list(known.items())
    random.shuffle(order)
    runs = runs_of(len(table), range(8))
    for number in range(len(order)):
        decision = Racing().decide(runs, dict(order[:number]))
        assert decision.epochs.items() <= final.epochs.items()
        assert decision.stops.items() <= final.stops.items()
    assert Racing().decide(runs, dict(order)) == final
    assert not final.epochs.keys() & final.stops.keys()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 40), min_size=7, max_size=7), min_size=2, max_size=5))
def test_the_best_mean_so_far_is_never_dropped(table):
    """Every setting has five seeds, and the setting that leads at the end has all of them."""
    accuracies = 50.0 + np.array(table)
    _, results = race(accuracies, Racing())
    runs = runs_of(len(table), range(7))
    rows = [[r.id in results for r in runs[7 * k : 7 * k + 7]] for k in range(len(table))]
    assert all(all(row[:5]) for row in rows)
    assert any(all(row) for row in rows)


def test_a_dry_run_says_what_a_race_trains():
    """The least is five seeds of all settings and all seeds of one."""
    assert Racing().describe(runs_of(10, range(20))) == [
        (
            "racing trains 10 settings with 5 seeds each, then up to 15 more seeds of each setting "
            "that may still be the best: 32 to 100% of the epochs of the full grid"
        )
    ]
    assert "(this sweep has 3)" in Racing().describe(runs_of(2, range(3)))[0]


@pytest.mark.usefixtures("train_here")
def test_a_race_trains_no_more_seeds_of_a_setting_that_is_worse(tmp_path, small_folder) -> None:
    """Its trained seeds keep their ranks, and the others are rows that were stopped untrained."""
    race = {
        "lr": [0.02, 1e-5], "seed": [*range(8)], "epochs": 12, "search": "racing", "batch": 8,
        "dataset": "folder", "dataset.root": small_folder(), "shuffle": True, "report": True,
        "figures": "none", "progress": False, "out": tmp_path, "name": "race",
    }  # fmt: skip
    table = sweep(**race)
    best, worse = (table[table["lr"] == lr].sort_values("seed") for lr in (0.02, 1e-5))
    assert best["status"].tolist() == ["ok"] * 8
    assert worse["status"].tolist() == ["ok"] * 5 + ["stopped"] * 3
    stopped = worse[5:]
    assert stopped["rank"].isna().all()
    assert set(stopped["epochs_trained"]) == {0}
    assert stopped["error"].str.startswith("dropped after 5 seeds: ").all()
    pd.testing.assert_frame_equal(load_results(table.attrs["folder"]), table)
    page = (tmp_path / "sweeps" / "race" / "report.html").read_text()
    assert '<td class="number">5 of 8 seeds</td>' in page
    assert "not trained" not in page
