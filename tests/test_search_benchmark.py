"""Replays of searches on learning curves: the clock, the choice, regret, and the page."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lenet_sweep.config import grids, validation
from lenet_sweep.search.halving import Halving
from lenet_sweep.training.engines.support import NATIVE

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.curves import CURVES, Curves, save_curves
from benchmarks.search import __main__ as command
from benchmarks.search import ours, page, replays
from benchmarks.search.summaries import Truth, summarize

SETTINGS, EPOCHS = 8, 9


@pytest.fixture
def curves():
    """Eight settings whose order never changes: setting 0 is the best, by 0.4 points each."""
    cell = validation.validate_cells(grids.grid({"epochs": EPOCHS, "device": "cpu"}), NATIVE)[0][0]
    values = [replace(cell, lr=0.1 / 2**k).to_json() for k in range(SETTINGS)]
    noise = 0.01 * np.random.default_rng(0).standard_normal((SETTINGS, 3, EPOCHS))
    accuracy = 90 - 0.4 * np.arange(SETTINGS)[:, None, None] + np.arange(EPOCHS) + noise
    return Curves(
        settings=tuple({k: v for k, v in value.items() if k != "seed"} for value in values),
        seeds=(0, 1, 2), source={}, **dict.fromkeys(CURVES, accuracy), readouts=np.array([EPOCHS]),
        predictions=np.zeros((SETTINGS, 3, 1, 4), np.uint8), labels=np.zeros(4, np.uint8),
        test_images=2,
    )  # fmt: skip


class StopsSecond:
    """Trains all trials, and stops trial 1 after its second epoch."""

    def __init__(self, trials, epochs, seed):
        self.waiting = iter(range(trials))

    def next(self):
        return next(self.waiting, None)

    def report(self, trial, epoch, value):
        return replays.STOP if (trial, epoch) == (1, 2) else replays.CONTINUE


def test_the_clock_runs_trials_side_by_side():
    """With two workers, trial 2 starts when trial 1 is stopped; the others are not stopped."""
    values = np.arange(12.0).reshape(3, 4)
    seconds = np.array([1.0, 1.5, 2.0])
    assert replays.simulate(StopsSecond(3, 4, 0), values, seconds, 2) == ([4, 2, 4], 11.0)
    assert replays.simulate(StopsSecond(3, 4, 0), values, seconds, 1) == ([4, 2, 4], 15.0)


def test_the_choice_is_the_best_of_those_trained_longest():
    """A trial that was stopped early is not chosen, and the first of equal ones is."""
    values = np.array([[9.0, 9.0], [1.0, 5.0], [1.0, 5.0]])
    assert replays.choose(values, [1, 2, 2]) == 1


def test_problems_are_random_but_the_same_each_time():
    """Subgrids have the requested sizes and seeds."""
    problems = replays.make_problems(40, [(1,), (2,)], range(33, 41), 50)
    assert problems == replays.make_problems(40, [(1,), (2,)], range(33, 41), 50)
    assert problems[10:] == replays.make_problems(40, [(1,), (2,)], range(33, 41), 40, first=10)
    assert {len(p.settings) for p in problems} == {*range(33, 41)}
    assert all(len({*p.settings}) == len(p.settings) for p in problems)
    assert [p.seeds for p in problems[:3]] == [(1,), (2,), (1,)]


def test_halving_is_driven_as_by_a_sweep(curves):
    """Rungs 1, 3 and 9 of eight settings: each is trained as far as the search asks for."""
    recording = ours.Recording(curves)
    problem = replays.Problem(0, tuple(range(SETTINGS)), (1,))
    outcome = ours.replay(problem, recording, Halving(eta=3, keep=1), 2)
    assert outcome.epochs == {0: 9, 1: 3, 2: 3} | dict.fromkeys(range(3, 8), 1)
    assert outcome.chosen == 0
    all_seeds = replace(problem, seeds=(0, 1, 2))
    assert ours.replay(all_seeds, recording, Halving(eta=3, keep=1), 2).makespan > outcome.makespan


def test_regret_is_the_difference_to_the_choice_of_the_full_grid(curves):
    """Random search over two settings misses the best one, which the full grid finds."""
    recording, truth = ours.Recording(curves), Truth(curves)
    problem = replays.Problem(0, (2, 1, 0, 3), (0,))
    found = ours.random_search(problem, recording, lambda n: 2, 2)
    values = summarize([problem], [found], truth)
    assert found.chosen == 1
    assert values["epochs"] == 0.5
    assert values["regret"]["median"] == pytest.approx(truth.test[0] - truth.test[1])
    assert (values["lost"], values["recall"], values["regret_0.10"]) == (1.0, 0.0, 0.0)
    everything = ours.random_search(problem, recording, lambda n: n, 2)
    full = summarize([problem], [everything], truth)
    assert (full["regret"]["95"], full["lost"], full["recall"]) == (0.0, 0.0, 1.0)


def test_peers_read_the_problems_that_were_written(curves, tmp_path, monkeypatch):
    """A peer runs in another environment, so problems and outcomes are files."""
    recording = ours.Recording(curves)
    problems = replays.make_problems(SETTINGS, [(0, 1)], [5, 6], 3)
    path, out = tmp_path / "problems.npz", tmp_path / "outcomes.json"
    replays.write_problems(path, problems, curves.holdout_accuracy, recording.seconds)
    monkeypatch.setattr(sys, "argv", ["peer", str(path), str(out), "--workers", "2"])
    replays.main_of_peer({"a peer": StopsSecond})
    outcomes = replays.read_outcomes(out)["a peer"]
    assert [o.index for o in outcomes] == [0, 1, 2]
    assert [list(o.epochs) for o in outcomes] == [list(p.settings) for p in problems]
    assert outcomes[0].epochs[problems[0].settings[1]] == 2


def test_the_command_writes_tables_and_a_figure(curves, tmp_path):
    """Without peers it needs no other environment; --redraw gives the same page."""
    save_curves(curves, tmp_path / "curves")
    paths = ["--curves", str(tmp_path / "curves"), "--out", str(tmp_path)]
    assert command.main([*paths, "--replays", "4", "--no-peers"]) == 0
    text = (tmp_path / "search.md").read_text()
    assert "| halving | " in text
    assert "| random search, 40% | " in text
    assert (tmp_path / "search.png").exists()
    assert json.loads((tmp_path / "search.json").read_text())["replays"] == 4
    assert command.main([*paths, "--redraw"]) == 0
    assert (tmp_path / "search.md").read_text() == text


def test_a_peer_is_compared_with_options_that_train_no_more():
    """Of these, those that train the most."""
    methods = {
        name: {"2": {"epochs": epochs}}
        for name, epochs in (
            ("Ray x", 0.3),
            ("halving", 0.4),
            ("Halving(a)", 0.2),
            ("Halving(b)", 0.1),
        )
    }
    assert page.equal_epochs(methods) == [("Ray x", "Halving(a)")]
