"""Budgets of successive halving: epochs, and minutes by a simulated clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_halving import continued, curve, halving, results, runs

from lenet_sweep.core.errors import UsageError
from lenet_sweep.search import NO_RESULT, RunResult, is_complete
from lenet_sweep.search.budget import BudgetedHalving, TimedHalving
from lenet_sweep.search.halving import Halving


def search_all(search, all_runs, accuracies, on_training=lambda first, last: None, stored=()):
    """Train what the search asks for until it has ended; returns the epochs by run."""
    known, stopped = dict(stored), {}
    while not is_complete(decision := search.decide(all_runs, known), known):
        assert all(decision.epochs[run_id] == epoch for run_id, epoch in stopped.items())
        stopped = {run_id: stop.epoch for run_id, stop in decision.stops.items()}
        for run, accuracy in zip(all_runs, accuracies, strict=True):
            before = len(known.get(run.id, NO_RESULT).accuracies)
            if (epochs := decision.epochs.get(run.id, 0)) > before:
                known[run.id] = curve(accuracy, epochs)
                on_training(before, epochs)
    return [len(known[run.id].accuracies) for run in all_runs]


sizes = {"settings": st.integers(1, 40), "seeds": st.integers(1, 3), "epochs": st.integers(1, 100)}


@given(**sizes, share=st.floats(0.01, 1.2), eta=st.sampled_from([1.5, 2, 3, 4]))
def test_an_epoch_budget_is_a_limit(settings, seeds, epochs, share, eta) -> None:
    """A search trains at most its budget, one setting or more to the end, or says what it needs."""
    all_runs = runs(settings, seeds, epochs)
    budget = max(1, int(share * len(all_runs) * epochs))
    accuracies = [n // seeds for n in range(len(all_runs))]
    try:
        trained = search_all(BudgetedHalving(Halving(eta), budget), all_runs, accuracies)
    except UsageError as error:
        needed = int(str(error).split("at least ")[1].split()[0])
        assert needed > budget
        trained = search_all(BudgetedHalving(Halving(eta), needed), all_runs, accuracies)
        budget = needed
    assert sum(trained) <= budget
    assert trained[-seeds:] == [epochs] * seeds


def test_a_larger_budget_lets_more_settings_continue() -> None:
    """The full grid is the largest budget that is useful."""
    all_runs = runs(9)
    ended = [
        search_all(BudgetedHalving(Halving(), budget), all_runs, range(9)).count(9)
        for budget in (30, 45, 60, 81)
    ]
    assert ended == sorted(set(ended))
    assert ended[-1] == 9


def test_groups_of_settings_share_the_budget() -> None:
    """Settings with more epochs get a larger part of it."""
    short, long = runs(9, epochs=9), runs(18, epochs=27)[9:]
    trained = search_all(BudgetedHalving(Halving(), 160), [*short, *long], [*range(9)] * 2)
    assert sum(trained[:9]) <= 40
    assert sum(trained[9:]) <= 120
    assert (trained[8], trained[17]) == (9, 27)


class Clock:
    """Simulated time: the machine trains this many epochs per minute.

    Epochs from number `slow_after` of a run on take twice the time.
    """

    def __init__(self, epochs_per_minute, slow_after=1000) -> None:
        self.now = 0.0
        self.epochs_per_minute = epochs_per_minute
        self.slow_after = slow_after

    def __call__(self):
        return self.now

    def train(self, first, last):
        epochs = last - first + max(0, last - max(first, self.slow_after))
        self.now += 60 * epochs / self.epochs_per_minute


@given(settings=st.integers(1, 40), minutes=st.floats(1, 100), speed=st.floats(1, 100))
def test_a_search_ends_in_time(settings, minutes, speed) -> None:
    """It ends within its minutes, unless the cheapest search takes longer."""
    all_runs, clock = runs(settings, epochs=27), Clock(speed)
    search = TimedHalving(Halving(), minutes, clock)
    trained = search_all(search, all_runs, range(settings), clock.train)
    cheapest = search_all(Halving(first=1, keep=1), all_runs, range(settings))
    assert clock.now <= 60 * minutes * (1 + 1e-9) or sum(trained) == sum(cheapest)
    assert trained[-1] == 27


@pytest.mark.parametrize("speed", [200, 300, 400])
def test_a_search_adapts_to_slower_training(speed) -> None:
    """Fewer settings continue; those that were stopped are not trained again (`search_all`)."""
    all_runs, clock = runs(40, epochs=100), Clock(speed, slow_after=11)
    trained = search_all(TimedHalving(Halving(), 10, clock), all_runs, range(40), clock.train)
    assert 9 * 60 < clock.now < 11.5 * 60
    assert trained[-3:] == [100] * 3


@pytest.mark.parametrize("minutes", [2, 5, 9, 10.5])
def test_stored_runs_do_not_count_as_time(monkeypatch, minutes) -> None:
    """With half of the runs in the store, the time goes to the other half."""
    monkeypatch.setattr("lenet_sweep.machine.devices.cpu_count", lambda: 1)
    all_runs, clock = runs(40, epochs=100), Clock(200)
    stored = results(all_runs[:20], range(20), epochs=100)
    stored = {run_id: replace(result, seconds=30) for run_id, result in stored.items()}
    search = TimedHalving(Halving(), minutes, clock)
    trained = search_all(search, all_runs, range(40), clock.train, stored)
    assert 0.5 * minutes < clock.now / 60 <= minutes
    assert (min(trained) == 100) == (minutes == 10.5)  # the 2000 epochs of the other half fit


def test_the_latest_known_ranks_stop_settings(monkeypatch) -> None:
    """If all settings continued to a rung and time is short there, the ranks at it decide."""
    monkeypatch.setattr("lenet_sweep.machine.devices.cpu_count", lambda: 1)
    all_runs = runs(9)
    known = {
        run.id: RunResult([9 - n, n, n], [1.0] * 3, seconds=180) for n, run in enumerate(all_runs)
    }
    decision = TimedHalving(Halving(eta=3, first=1), 20).decide(all_runs, known)
    assert {stop.epoch for stop in decision.stops.values()} == {3}
    assert continued(all_runs, decision) == [6, 7, 8]


def test_without_time_one_setting_is_trained() -> None:
    """Nothing is known, so it is the search with the fewest epochs."""
    all_runs, clock = runs(40, epochs=100), Clock(1)
    trained = search_all(
        TimedHalving(Halving(eta=3), 1e-9, clock), all_runs, range(40), clock.train
    )
    assert trained == [1] * 26 + [4] * 9 + [11] * 3 + [33, 100]


def test_stored_runs_tell_the_speed(monkeypatch) -> None:
    """A repeated search uses all its minutes, on top of the epochs that it has."""
    monkeypatch.setattr("lenet_sweep.machine.devices.cpu_count", lambda: 2)
    all_runs = runs(9)
    known = results(all_runs, range(9), epochs=3)
    known = {run_id: replace(result, seconds=3 * 120) for run_id, result in known.items()}

    def finished(minutes):
        return len(
            continued(all_runs, TimedHalving(Halving(eta=3), minutes).decide(all_runs, known))
        )

    # Two cores train one epoch a minute, and each setting that continues takes 6 epochs.
    assert [finished(minutes) for minutes in (0.1, 12.1, 18.1, 30.1)] == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search.epochs": 5}, "search.epochs=5: must be at least 15 for 5 settings with epochs=9"),
        ({"search.epochs": 50, "search.minutes": 1}, "search.minutes=1"),
    ],
)
def test_wrong_budgets_are_rejected(tmp_path, small_folder, settings, message) -> None:
    """Before anything is trained, with the smallest budget that is possible."""
    with pytest.raises(UsageError, match=message):
        halving(small_folder(), tmp_path, **settings)
    assert not (tmp_path / "runs").exists()


def test_a_budget_on_real_runs(tmp_path, small_folder) -> None:
    """The epochs trained are within the budget; a larger one continues the search."""
    table = halving(small_folder(), tmp_path, **{"search.epochs": 22})
    assert table["epochs_trained"].sum() <= 22
    larger = halving(small_folder(), tmp_path, **{"search.epochs": 40})
    assert 22 < larger["epochs_trained"].sum() <= 40
    timed = halving(small_folder(), tmp_path, **{"search.minutes": 5})
    assert set(timed["status"]) == {"ok"}  # nine epochs of such a run take far less than a second
