"""Simulate races over seeds: python -m benchmarks.search.races.

Each race has 20 seeds. The accuracy of a run is the expected accuracy of its setting, plus noise of
the seed that all settings share, plus noise of the run. The images always agree with the seeds,
which makes it most likely that the best setting is dropped. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from benchmarks.engines import cell_of
from lenet_sweep.core.plans import Run
from lenet_sweep.search import RunResult
from lenet_sweep.search.racing import Racing

SEEDS, NOISE, SHARED_NOISE = 20, 0.10, 0.05  # points
# The expected accuracy of each setting, in points below the best, which is the first one.
GRIDS = {
    "one best, the others 0.3 to 3 points below": np.r_[0, np.linspace(0.3, 3, 39)],
    "0 to 1 point below, evenly spread": np.linspace(0, 1, 40),
    "10 equally good, the others 0.5 points below": np.r_[np.zeros(10), np.full(30, 0.5)],
    "all equally good": np.zeros(40),
    "two, 0.05 points apart": np.array([0, 0.05]),
    "two, equally good": np.zeros(2),
}
THRESHOLDS = np.linspace(90, 100, 10_000)  # of the images: those below an accuracy are correct


def race(below: np.ndarray, runs: list[Run], random: np.random.Generator) -> tuple[float, bool]:
    """The share of the runs that a race trains, and whether it drops the best setting."""
    noise = NOISE * random.standard_normal((len(below), SEEDS))
    accuracies = 99 - below[:, None] + noise + SHARED_NOISE * random.standard_normal(SEEDS)
    results = {
        run.id: RunResult((a,), correct=lambda a=a: a > THRESHOLDS)
        for run, a in zip(runs, accuracies.ravel().tolist(), strict=True)
    }
    decision = Racing().decide(runs, results)
    return len(decision.epochs) / len(runs), runs[SEEDS - 1].id in decision.stops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=1000)
    races = parser.parse_args().races
    print("| expected accuracies | runs trained | best setting dropped |\n| --- | --- | --- |")
    for name, below in GRIDS.items():
        random = np.random.default_rng(0)
        cell = replace(cell_of("ce_sgd", 64, "native"), epochs=1)
        runs = [
            Run(replace(cell, lr=0.1 / (place + 1), seed=seed), (1,))
            for place in range(len(below))
            for seed in range(SEEDS)
        ]
        shares, dropped = zip(*(race(below, runs, random) for _ in range(races)), strict=True)
        print(f"| {name} | {np.mean(shares):.1%} | {np.mean(dropped):.1%} |", flush=True)


if __name__ == "__main__":
    main()
