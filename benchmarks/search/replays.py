"""Replays of schedulers on recorded curves, with a simulated clock.

Needs only NumPy, so that peers can run it in their own environments. A trial trains one setting
with all seeds of the problem; its value is the mean held-out accuracy over these seeds.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CONTINUE, PAUSE, STOP = "continue", "pause", "stop"


@dataclass(frozen=True)
class Problem:
    """A grid to search: some of the recorded settings in a random order, and some of the seeds."""

    index: int
    settings: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a search did. epochs: trained, by setting. chosen: the setting that it found best.

    makespan: simulated seconds.
    """

    index: int
    chosen: int
    epochs: dict[int, int]
    makespan: float


class Scheduler(Protocol):
    """A search that is asked for trials and gets their values, as those of all peers are."""

    def next(self) -> int | None:
        """The trial to start or continue; None if there is none at the moment."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> str:
        """Called after each epoch of a trial; returns CONTINUE, PAUSE or STOP."""
        ...


def make_problems(
    settings: int,
    seeds: Sequence[tuple[int, ...]],
    sizes: Sequence[int],
    number: int,
    first: int = 0,
) -> list[Problem]:
    """Random subgrids in random orders; the same ones for equal arguments.

    settings: the number of recorded settings. seeds: those of the problems, in turn. sizes: the
    numbers of settings of the problems, drawn from these. first: the index of the first problem.
    """
    problems = []
    for index in range(first, first + number):
        random = np.random.default_rng([index, *sizes])
        order = random.permutation(settings)[: random.choice(sizes)]
        problems.append(Problem(index, tuple(map(int, order)), seeds[index % len(seeds)]))
    return problems


def choose(values: NDArray[np.float64], epochs: Sequence[int]) -> int:
    """The trial with the best last value among those that trained longest; first of equal ones."""
    longest = max(epochs)
    return max(
        (trial for trial, epoch in enumerate(epochs) if epoch == longest),
        key=lambda trial: (values[trial, longest - 1], -trial),
    )


def simulate(
    scheduler: Scheduler,
    values: NDArray[np.float64],
    seconds: NDArray[np.float64],
    workers: int,
) -> tuple[list[int], float]:
    """The epochs that each trial was trained for, and the makespan.

    values: (trials, epochs). seconds: (trials,), of an epoch.
    """
    trials, last = values.shape
    epochs = [0] * trials
    running: list[tuple[float, int, int]] = []  # time of the next report, its number, trial
    now, number = 0.0, 0
    while True:
        while len(running) < workers and (trial := scheduler.next()) is not None:
            heapq.heappush(running, (now + seconds[trial], number, trial))
            number += 1
        if not running:
            return epochs, now
        now, _, trial = heapq.heappop(running)
        epochs[trial] += 1
        action = scheduler.report(trial, epochs[trial], float(values[trial, epochs[trial] - 1]))
        if action == CONTINUE and epochs[trial] < last:
            heapq.heappush(running, (now + seconds[trial], number, trial))
            number += 1


def replay(
    problem: Problem,
    accuracy: NDArray[np.float64],
    seconds: NDArray[np.float64],
    make: Callable[[int, int, int], Scheduler],
    workers: int,
) -> Outcome:
    """Replay a scheduler on a problem.

    accuracy: (settings, seeds, epochs), percent. seconds: (settings, seeds), of an epoch.
    make: makes a scheduler from the number of trials, of epochs, and a random seed.
    """
    rows = np.ix_(problem.settings, problem.seeds)
    values = accuracy[rows].mean(axis=1)
    scheduler = make(len(values), values.shape[1], problem.index)
    epochs, makespan = simulate(scheduler, values, seconds[rows].sum(axis=1), workers)
    trained = {s: epochs[i] for i, s in enumerate(problem.settings)}
    return Outcome(problem.index, problem.settings[choose(values, epochs)], trained, makespan)


def write_problems(
    path: Path,
    problems: Sequence[Problem],
    accuracy: NDArray[np.float64],
    seconds: NDArray[np.float64],
) -> None:
    """Write what a peer needs, for `main_of_peer`."""
    texts = json.dumps([asdict(problem) for problem in problems])
    np.savez(path, accuracy=accuracy, seconds=seconds, problems=np.array(texts))


def main_of_peer(makers: Mapping[str, Callable[[int, int, int], Scheduler]]) -> None:
    """The command line of a peer: PROBLEMS OUT --workers N. Writes the outcomes of each method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("problems", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    with np.load(options.problems, allow_pickle=False) as file:
        accuracy, seconds = file["accuracy"], file["seconds"]
        problems = [read_problem(values) for values in json.loads(str(file["problems"]))]
    found = {
        name: [asdict(replay(p, accuracy, seconds, make, options.workers)) for p in problems]
        for name, make in makers.items()
    }
    options.out.write_text(json.dumps(found))


def read_problem(values: Mapping[str, Any]) -> Problem:
    """The problem that `dataclasses.asdict` and JSON made into values."""
    return Problem(values["index"], tuple(values["settings"]), tuple(values["seeds"]))


def read_outcomes(path: Path) -> dict[str, list[Outcome]]:
    """The outcomes that a peer wrote, by method."""
    return {
        name: [
            Outcome(o["index"], o["chosen"], {int(k): v for k, v in o["epochs"].items()},
                    o["makespan"])
            for o in outcomes
        ]
        for name, outcomes in json.loads(path.read_text()).items()
    }  # fmt: skip
