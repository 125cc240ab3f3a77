"""Successive halving: its decisions as a function of the curves, and sweeps that use it."""

import csv
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from forked_commands import run_forked
from hypothesis import given
from hypothesis import strategies as st
from made_results import product

from lenet_sweep import Observer, load_results, sweep
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import EpochEnded, Failure
from lenet_sweep.core.plans import runs_of
from lenet_sweep.executors import local
from lenet_sweep.search import RunResult, is_complete
from lenet_sweep.search.halving import Halving, compared_with
from lenet_sweep.storage.store import Store

pytestmark = pytest.mark.usefixtures("train_here")
SEARCH = Halving(eta=3, keep=2)


def runs(settings=9, seeds=1, epochs=9):
    """The runs of this many settings, in the order of their cells."""
    return runs_of(product(lr=[0.1 + n for n in range(settings)], seed=[*range(seeds)],
                           epochs=[epochs]))  # fmt: skip


def curve(accuracy, epochs=9, loss=1.0):
    """A run with the same accuracy and loss after each epoch."""
    return RunResult([accuracy] * epochs, [loss] * epochs)


def results(all_runs, accuracies, epochs=9, losses=()):
    losses = losses or [1.0] * len(accuracies)
    values = zip(all_runs, accuracies, losses, strict=True)
    return {run.id: curve(accuracy, epochs, loss) for run, accuracy, loss in values}


def continued(all_runs, decision):
    """The indices of the runs that are trained to the end."""
    return [n for n, run in enumerate(all_runs) if decision.epochs[run.id] == run.cell.epochs]


def test_rungs_are_powers_of_eta_below_the_last_epoch() -> None:
    """No rung comes before 1/32 of all epochs, or before `first` if it is given."""
    assert Halving().rungs(100) == (3, 6, 12, 25, 50, 100)
    assert Halving(eta=3).rungs(100) == (4, 11, 33, 100)
    assert Halving(eta=3, first=11).rungs(100) == (11, 33, 100)
    assert Halving(first=200).rungs(100) == (100,)
    assert Halving().rungs(1) == (1,)
    assert Halving().rungs(2) == (1, 2)


def test_a_part_of_the_settings_is_kept() -> None:
    """With keep below 1, it is a share of all settings, and at least 3 of them."""
    assert Halving().stages(40, 12) == [(40, 1), (20, 2), (14, 3), (14, 6), (14, 12)]
    assert Halving().stages(6, 4) == [(6, 1), (3, 2), (3, 4)]
    assert Halving().stages(3, 4) == [(3, 1), (3, 2), (3, 4)]
    rounded = Halving(eta=100, first=1, keep=0.07)  # 0.07 * 100 is above 7
    assert rounded.stages(100, 100) == [(100, 1), (7, 100)]


def test_best_settings_continue_at_each_rung() -> None:
    """Of 9 settings, 3 continue to epoch 3 and 2 to epoch 9; the others have a reason."""
    all_runs = runs()
    nothing = SEARCH.decide(all_runs, {})
    assert set(nothing.epochs.values()) == {1}
    first = SEARCH.decide(all_runs, results(all_runs, range(9), epochs=1))
    assert [first.epochs[run.id] for run in all_runs] == [1] * 6 + [3] * 3
    assert not is_complete(first, results(all_runs, range(9), epochs=1))
    last = SEARCH.decide(all_runs, results(all_runs, range(9)))
    assert continued(all_runs, last) == [7, 8]
    assert is_complete(last, results(all_runs, range(9)))
    assert last.stops[all_runs[6].id].epoch == 3
    assert last.stops[all_runs[5].id].reason == (
        "stopped after epoch 1 at 5.00%, 1.00 points below the last of the 3 settings that continue"
    )
    assert compared_with(last.stops[all_runs[5].id].reason) == 3
    assert last.messages == (
        "after epoch 1, 3 of 9 settings continue to epoch 3",
        "after epoch 3, 2 of 3 settings continue to epoch 9",
    )


def test_a_search_waits_until_all_runs_have_reached_the_rung() -> None:
    """While one run lacks the rung, no setting is stopped."""
    all_runs = runs()
    known = results(all_runs, range(9))
    del known[all_runs[0].id]
    assert SEARCH.decide(all_runs, known).stops == {}


def test_equal_accuracies_are_ordered_by_the_loss_then_by_the_plan() -> None:
    """A missing loss counts as the largest."""
    all_runs = runs(4, epochs=3)
    tied = results(all_runs, [50] * 4, losses=[3, 1, 2, None])
    assert continued(all_runs, SEARCH.decide(all_runs, tied)) == [1, 2]
    tied = results(all_runs, [50] * 4)
    assert continued(all_runs, SEARCH.decide(all_runs, tied)) == [0, 1]


def test_a_margin_lets_close_settings_continue() -> None:
    """Settings that are worse by at most the margin continue too."""
    all_runs = runs(4, epochs=3)
    known = results(all_runs, [90, 89, 88.5, 88.4])
    near = replace(SEARCH, margin=0.5)
    assert continued(all_runs, near.decide(all_runs, known)) == [0, 1, 2]
    assert continued(all_runs, SEARCH.decide(all_runs, known)) == [0, 1]


def test_seeds_stay_together() -> None:
    """The mean over the seeds decides, and a setting with a failed seed does not continue."""
    all_runs = runs(3, seeds=2, epochs=3)
    search = Halving(eta=3, keep=1)
    known = results(all_runs, [99, 50, 80, 80, 70, 70])
    assert continued(all_runs, search.decide(all_runs, known)) == [2, 3]
    known[all_runs[2].id] = RunResult(failed=True)
    decision = search.decide(all_runs, known)
    assert continued(all_runs, decision) == [0, 1]
    assert (
        decision.stops[all_runs[3].id].reason
        == "stopped after epoch 1: a run of this setting failed"
    )
    assert compared_with(decision.stops[all_runs[3].id].reason) == 0
    assert compared_with(decision.stops[all_runs[5].id].reason) == 1


def test_settings_compete_only_with_the_same_epochs_and_dataset() -> None:
    """Two numbers of epochs are two competitions."""
    cells = [*product(lr=[0.1, 0.2, 0.3], epochs=[3]), *product(lr=[0.4, 0.5, 0.6], epochs=[9])]
    all_runs = runs_of(cells)
    search = Halving(eta=3, keep=1)
    decision = search.decide(all_runs, results(all_runs, [1, 2, 3, 10, 20, 30]))
    assert continued(all_runs, decision) == [2, 5]


def test_a_run_that_ended_early_keeps_its_last_accuracy() -> None:
    """A run with patience that ended before the rung is compared by its last epoch."""
    all_runs = runs(3)
    known = results(all_runs, [1, 2, 3])
    known[all_runs[0].id] = RunResult([99.0, 98.0], [1.0, 1.0], ended_early=True)
    assert continued(all_runs, Halving(keep=1).decide(all_runs, known)) == [0]


accuracies = st.lists(st.integers(0, 20), min_size=1, max_size=30)


@given(accuracies, st.integers(1, 5), st.randoms(use_true_random=False))
def test_decisions_are_a_pure_function_of_the_curves(values, keep, shuffled: random.Random) -> None:
    """Neither the order of the results nor later epochs change a decision."""
    all_runs = runs(len(values))
    search = Halving(keep=keep)
    known = results(all_runs, values)
    decision = search.decide(all_runs, known)
    items = list(known.items())
    shuffled.shuffle(items)
    assert search.decide(all_runs, dict(items)) == decision
    for rung in search.rungs(9):
        part = results(all_runs, values, epochs=rung)
        early = search.decide(all_runs, part).stops
        assert early.items() <= decision.stops.items()
    # The best is never stopped, and at least `keep` settings are trained to the end.
    ends = continued(all_runs, decision)
    assert values.index(max(values)) in ends
    assert len(ends) >= min(keep, len(values))


def halving(folder, out, **more):
    """A search with rungs 1, 3 and 9 that keeps one setting."""
    options = {"search.eta": 3, "search.keep": 1}
    settings = options if more.get("search", "halving") == "halving" else {}
    settings |= {
        "lr": [0.3, 0.1, 0.03, 0.01, 0.003], "epochs": 9, "search": "halving", "batch": 8,
        "dataset": "folder", "dataset.root": folder, "shuffle": True, "out": out, "name": "it",
        "report": False, "figures": "none", "progress": False,
    }  # fmt: skip
    return sweep(**(settings | more))


def outcome(table):
    names = ["rank", "accuracy", "cell", "status", "error", "epochs_trained", "accuracy_at"]
    return table[names].astype(str).values.tolist()


@pytest.fixture(scope="module")
def reference(tmp_path_factory, small_folder):
    """The table of a search with one worker."""
    return halving(small_folder(), tmp_path_factory.mktemp("halving"), workers=1)


def test_stopped_rows_have_no_rank(reference) -> None:
    """They follow the finished rows, in Python and in results.csv, and say why they stopped."""
    assert reference["status"].tolist() == ["ok"] + ["stopped"] * 4
    stopped = reference[1:]
    assert stopped["rank"].isna().all()
    assert stopped["accuracy"].isna().all()
    assert stopped["accuracy_at"].notna().all()
    assert set(stopped["epochs_trained"]) == {1, 3}
    assert stopped["error"].str.startswith("stopped after epoch ").all()
    folder = reference.attrs["folder"]
    with (Path(folder) / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["accuracy"]) for row in rows[1:]] == [("", "")] * 4
    assert outcome(load_results(folder)) == outcome(reference)


@pytest.mark.parametrize("workers", [2, 8])
def test_workers_do_not_change_the_table(
    reference, tmp_path, small_folder, monkeypatch, workers
) -> None:
    """1, 2 and 8 workers give the same decisions."""
    monkeypatch.setattr(local, "LOCAL", replace(local.LOCAL, execute=local.execute))
    assert outcome(halving(small_folder(), tmp_path, workers=workers)) == outcome(reference)


class EpochCounter(Observer):
    """Counts the epochs that are trained."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_event(self, event) -> None:
        self.epochs += isinstance(event, EpochEnded)


def test_only_the_epochs_of_the_decisions_are_trained(reference, tmp_path, small_folder) -> None:
    """A repeated search trains nothing; more epochs, or the grid, train only what is missing."""

    def trained(**more):
        counter = EpochCounter()
        table = halving(small_folder(), tmp_path, observers=[counter], **more)
        return table, counter.epochs

    table, epochs = trained()
    assert outcome(table) == outcome(reference)
    assert epochs == table["epochs_trained"].sum()
    assert trained()[1] == 0
    longer, epochs = trained(epochs=18, name="longer")
    spent = dict(zip(table["lr"], table["epochs_trained"], strict=True))
    assert epochs == sum(
        max(0, now - spent[lr])
        for lr, now in zip(longer["lr"], longer["epochs_trained"], strict=True)
    )


def test_the_grid_finishes_what_a_search_has_stopped(reference, tmp_path, small_folder) -> None:
    """The same command with search=grid trains the remaining epochs, and ranks all rows."""
    halving(small_folder(), tmp_path)
    counter = EpochCounter()
    full = halving(small_folder(), tmp_path, observers=[counter], search="grid")
    assert set(full["status"]) == {"ok"}
    assert "accuracy_at" not in full
    assert counter.epochs == 5 * 9 - reference["epochs_trained"].sum()


KILLED = """
import os, signal, sys
from lenet_sweep import Observer
sys.path.insert(0, {tests!r})
from test_halving import halving

class Killer(Observer):
    def on_message(self, text):
        if text.startswith("search: after epoch {rung},"):
            os.kill(os.getpid(), signal.SIGKILL)

halving({folder!r}, {out!r}, observers=[Killer()])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="requires SIGKILL")
def test_a_search_killed_at_each_decision_ends_with_the_same_table(
    reference, tmp_path, small_folder
) -> None:
    """Started again after a kill at each decision, it trains and decides the same."""
    for rung in (1, 3):
        code = KILLED.format(
            tests=str(Path(__file__).parent), rung=rung, folder=str(small_folder()),
            out=str(tmp_path),
        )  # fmt: skip
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    counter = EpochCounter()
    table = halving(small_folder(), tmp_path, observers=[counter])
    assert outcome(table) == outcome(reference)
    assert counter.epochs == 6  # from epoch 3 to 9, of the best


def test_a_search_over_more_epochs_continues_in_the_same_folder(tmp_path, small_folder) -> None:
    """Settings that an earlier search stopped compete again."""
    halving(small_folder(), tmp_path)
    longer = halving(small_folder(), tmp_path, epochs=18, **{"search.keep": 2})
    fresh = halving(small_folder(), tmp_path / "fresh", epochs=18, **{"search.keep": 2})
    longer = longer[longer["epochs"] == 18].reset_index(drop=True)
    longer["rank"] = fresh["rank"]
    assert outcome(longer) == outcome(fresh)


def test_a_finished_run_that_is_dropped_keeps_its_result(tmp_path, small_folder) -> None:
    """A search ranks the results of an earlier sweep, whatever it decides."""
    halving(small_folder(), tmp_path, search="grid", lr=[0.003])
    table = halving(small_folder(), tmp_path, name="other")
    assert table["status"].tolist() == ["ok"] * 2 + ["stopped"] * 3


def test_runs_that_end_early_are_ranked(tmp_path, small_folder) -> None:
    """A run whose patience ended it before its rung has a result, also if it is dropped."""
    table = halving(small_folder(), tmp_path, patience=1, seed=[0, 1])
    folder = table.attrs["folder"]
    assert outcome(load_results(folder)) == outcome(table)
    again = halving(small_folder(), tmp_path, patience=1, seed=[0, 1])
    assert outcome(again) == outcome(table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": "halve"}, "search=halve: must be one of grid, halving, halving_fast, racing"),
        ({"search": "grid", "search.keep": 3}, "search.keep=3: requires search=halving"),
        ({"search.eta": 1}, "search.eta=1: must be a number"),
        ({"search.first": 1.5}, "search.first=1.5: must be a whole number of at least 0"),
        ({"search": ["grid", "halving"]}, "search cannot be swept"),
        ({"reuse": False}, "reuse=false: must be true with a search"),
    ],
)
def test_wrong_options_are_named(tmp_path, small_folder, settings, message) -> None:
    """The message names the key, the value and what is allowed."""
    with pytest.raises(UsageError, match=re.escape(message)):
        halving(small_folder(), tmp_path, **settings)


def test_dry_run_prints_the_rungs(tmp_path, small_folder, capsys) -> None:
    """It says how many settings would be trained to which epoch."""
    halving(small_folder(), tmp_path, dry_run=True, progress=True)
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "halving trains 5 settings to epoch 1, then 2 to epoch 3, then 1 to epoch 9: "
        "about 33% of the epochs of the full grid"
    ) in text


def test_shorter_cells_are_ranked_if_their_run_was_trained_that_far(tmp_path, small_folder) -> None:
    """A cell between two rungs is a row of its run until the run stops, also in a second sweep."""
    for folder in ("fresh", "second"):
        if folder == "second":  # its runs have the rungs, but not epoch 2
            halving(small_folder(), tmp_path / folder, name="before")
        table = halving(small_folder(), tmp_path / folder, epochs=[2, 9])
        long, short = (table[table["epochs"] == epochs].set_index("lr") for epochs in (9, 2))
        assert set(long["epochs_trained"]) == {1, 3, 9}
        for lr, trained in long["epochs_trained"].items():
            assert short["status"][lr] == ("ok" if trained >= 2 else "stopped")
            assert short["epochs_trained"][lr] == min(trained, 2)


def test_a_stopped_row_names_who_trained_it(tmp_path, small_folder) -> None:
    """Another person who runs the same search did not train the runs."""
    halving(small_folder(), tmp_path, person="Ada")
    assert set(halving(small_folder(), tmp_path, person="Bo")["person"]) == {"Ada"}


@pytest.mark.parametrize("place", [0, -1])
def test_a_run_that_diverged_in_an_earlier_sweep_competes_until_then(
    reference, tmp_path, small_folder, place
) -> None:
    """Up to that epoch, it is trained and compared as if the divergence were not known."""
    run_id, _, _ = reference["cell"].iloc[place].partition("-")
    folder = Store(tmp_path).run_folder(run_id)
    folder.write_failure(Failure("diverged", 5, "the loss became nan"))
    for _ in range(2):
        table = halving(small_folder(), tmp_path).set_index("cell")
        others = reference.set_index("cell").drop(index=reference["cell"].iloc[place])
        assert table.loc[others.index, "error"].tolist() == others["error"].tolist()
        own = table.loc[reference["cell"].iloc[place]]
        assert (own["status"], own["error"]) == ("diverged", "the loss became nan")
        # The best was trained to the last rung before epoch 5, the worst to the first one.
        assert len(folder.history()) == (3 if place == 0 else 1)


class Rounds(Observer):
    """Collects the rounds of a search."""

    def __init__(self) -> None:
        self.all = []

    def on_round(self, search_round) -> None:
        self.all.append(search_round)


def test_rounds_are_announced_with_the_longest_runs_first(tmp_path, small_folder) -> None:
    """Small batches take longest. The rounds to come have the settings that will continue."""
    observer = Rounds()
    halving(small_folder(), tmp_path, batch=[64, 8], seed=[0, 1], observers=[observer])
    first, second, third = observer.all
    assert [run.cell.batch for run in first.runs] == [8] * 10 + [64] * 10
    assert first.stage == "rung 1 of 3, epoch 1: 10 of 10 settings"
    assert first.later == ((8, 2), (4, 6))
    assert second.stage == "rung 2 of 3, epoch 3: 4 of 10 settings"
    assert set(second.trained.values()) == {1}
    assert (len(third.runs), third.later) == (4, ())


def test_dry_run_counts_the_epochs_of_the_search(tmp_path, small_folder, capsys) -> None:
    """They are those of the search, not of the grid, and those in the store do not count."""

    def lines():
        halving(small_folder(), tmp_path, dry_run=True, progress=True)
        return " ".join(capsys.readouterr().out.split())

    assert "; the search would train about 15 more epochs (the full grid has 45) " in lines()
    halving(small_folder(), tmp_path)
    capsys.readouterr()
    assert "; the search would train no more epochs (the full grid has 45) " in lines()


def test_a_command_with_stopped_cells_succeeds(tmp_path, small_folder) -> None:
    """Stopped cells are not failures: the exit status is 0."""
    done = run_forked(
        "-m", "lr=0.1,0.01,0.001", "epochs=3", "dataset=folder", f"dataset.root={small_folder()}",
        "search=halving", "search.keep=1", "figures=none", "report=false", cwd=tmp_path, env={},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 stopped by the search" in done.stdout
