"""Replay searches on the recorded learning curves: python -m benchmarks.search.

Each replay searches a random part of the recorded grid, in a random order, with one seed. The
search sees the accuracy on held-out images; the setting that it finds best is judged by its mean
accuracy over all seeds on the test images. Writes search.json, search.md and search.png to the
results folder. Presets of lenet-sweep were chosen with --tune on other replays and another seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machines
from benchmarks.curves import FOLDER, Curves, load_curves
from benchmarks.environments import packages, python_of
from benchmarks.measuring import ROOT
from benchmarks.search import ours, page
from benchmarks.search.ours import Values
from benchmarks.search.replays import (
    Outcome,
    Problem,
    make_problems,
    read_outcomes,
    write_problems,
)
from benchmarks.search.summaries import Truth, summarize
from lenet_sweep.machine import provenance
from lenet_sweep.search.halving import Halving

RESULTS = Path(__file__).resolve().parent.parent / "results"
WORKERS = (2, 16)
SMALLEST = 33 / 40  # of the recorded settings
TUNING_SEED, SEEDS = (0,), ((1,), (2,))
PEERS = {  # environment: module
    "optuna_pruners": "peer_optuna", "ray": "peer_ray", "syne_tune": "peer_syne_tune",
}  # fmt: skip
PACKAGES = {"optuna_pruners": "optuna", "ray": "ray", "syne_tune": "syne-tune"}

PRESETS = {"halving": Halving(), "halving_fast": Halving(eta=3, keep=3)}
# Further settings of Halving, from cheap to expensive, for comparison at equal epochs.
FRONTIER = {
    f"Halving(eta={eta:g}, first={first}, keep={keep})": Halving(eta, first, keep)
    for eta, first, keep in (
        (2, 2, 1), (2, 2, 3), (3, 4, 4), (3, 4, 6), (3, 4, 8), (3, 11, 6), (2, 3, 12), (2, 3, 17),
        (2, 3, 20),
    )
}  # fmt: skip
Method = Callable[[Problem, int], Outcome]


def own_methods(recording: ours.Recording) -> dict[str, Method]:
    """The methods that run in this process, by name."""
    methods: dict[str, Method] = {
        "full grid": lambda p, w: ours.random_search(p, recording, lambda n: n, w)
    }
    for share in (0.1, 0.15, 0.2, 0.3, 0.4, 0.6):
        methods[f"random search, {share:.0%}"] = lambda p, w, share=share: ours.random_search(
            p, recording, lambda n: max(1, round(share * n)), w
        )
    for name, search in (PRESETS | FRONTIER).items():
        methods[name] = lambda p, w, search=search: ours.replay(p, recording, search, w)
    return methods


def replay_peers(
    problems: Sequence[Problem], recording: ours.Recording, workers: int
) -> dict[str, list[Outcome]]:
    """The outcomes of all peers, each in its own environment."""
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        problems_path, out = Path(folder, "problems.npz"), Path(folder, "outcomes.json")
        accuracy = recording.curves.holdout_accuracy
        write_problems(problems_path, problems, accuracy, recording.seconds)
        for environment, module in PEERS.items():
            python = python_of(environment, shares_torch=False)
            command = [str(python), "-m", f"benchmarks.search.{module}", str(problems_path)]
            subprocess.run(
                [*command, str(out), "--workers", str(workers)],
                check=True, cwd=ROOT, env=os.environ | {"PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            outcomes |= read_outcomes(out)
            print(f"{module}, {workers} workers: done", flush=True)
    return outcomes


def measure(recording: ours.Recording, replays: int, with_peers: bool) -> dict[str, Any]:
    """All results, as JSON values."""
    truth = Truth(recording.curves)
    settings = len(recording.curves.settings)
    sizes = range(round(SMALLEST * settings), settings + 1)
    problems = make_problems(settings, SEEDS, sizes, replays)
    methods: dict[str, dict[str, Any]] = {}
    for workers in WORKERS:
        outcomes = {
            name: [method(p, workers) for p in problems]
            for name, method in own_methods(recording).items()
        }
        if with_peers:
            outcomes |= replay_peers(problems, recording, workers)
        for name, found in outcomes.items():
            methods.setdefault(name, {})[str(workers)] = summarize(problems, found, truth)
    all_seeds = tuple(range(len(recording.curves.seeds)))
    together = make_problems(settings, [all_seeds], sizes, replays)
    by_size = {
        size: make_problems(settings, SEEDS, [size], max(1, replays // 5))
        for size in (6, 8, 12, 16, 24, 32, 40)
        if size <= settings
    }
    own = own_methods(recording)
    return {
        "settings": settings, "seeds": len(all_seeds), "replays": replays,
        "sizes": [sizes[0], sizes[-1]],
        "test_error": truth.test_error, "tie_width": truth.tie_width,
        "tied": len(truth.tied(range(settings))),
        "methods": methods,
        "together": {
            name: summarize(together, [method(p, 2) for p in together], truth)
            for name, method in own.items() if name not in FRONTIER
        },
        "by_size": {
            size: {
                name: summarize(found, [own[name](p, 2) for p in found], truth)
                for name in ("full grid", *PRESETS)
            }
            for size, found in by_size.items()
        },
    }  # fmt: skip


def last_mean(values: Values, number: int) -> Values:
    """The mean over the last `number` epochs up to each epoch; fewer at the start."""
    sums = np.cumsum(np.insert(values, 0, 0.0, axis=2), axis=2)
    ends = np.arange(1, values.shape[2] + 1)
    starts = np.maximum(ends - number, 0)
    means: Values = (sums[..., ends] - sums[..., starts]) / (ends - starts)
    return means


# What a search may compare instead of the accuracy after the epoch, for --tune.
SCORES: Mapping[str, Callable[[Curves], Values]] = {
    "accuracy": lambda curves: curves.holdout_accuracy,
    "mean-3": lambda curves: last_mean(curves.holdout_accuracy, 3),
    "mean-5": lambda curves: last_mean(curves.holdout_accuracy, 5),
    "best": lambda curves: np.maximum.accumulate(curves.holdout_accuracy, axis=2),
    "loss": lambda curves: -curves.holdout_loss,
    "train-loss": lambda curves: -curves.train_loss,
}


def tune(recording: ours.Recording, replays: int) -> None:
    """Print the statistics of many settings of Halving on the replays for tuning."""
    truth = Truth(recording.curves)
    settings = len(recording.curves.settings)
    sizes = range(round(SMALLEST * settings), settings + 1)
    problems = make_problems(settings, [TUNING_SEED], sizes, replays, first=100_000)
    grid = itertools.product(
        (2, 3, 4), (1, 2, 3, 4, 6, 9, 11, 16, 25, 33), (1, 2, 4, 8, 12, 0.2, 0.35, 0.5)
    )
    known = set()
    print("epochs  regret mean   95%  <=0.05  <=0.10  below best  recall")
    for eta, first, keep in grid:
        search = Halving(eta, first, keep)
        key = search.rungs(recording.epochs), keep, eta
        if key in known:
            continue
        known.add(key)
        found = summarize(problems, [ours.replay(p, recording, search, 2) for p in problems], truth)
        print(page.tuning_row(found), search, search.rungs(recording.epochs), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.search", description=__doc__)
    parser.add_argument("--curves", type=Path, default=FOLDER, help="default: benchmarks/curves")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--replays", type=int, default=600, help="default: 600")
    parser.add_argument("--no-peers", action="store_true", help="only lenet-sweep and the grid")
    parser.add_argument("--tune", action="store_true", help="print settings of Halving; no files")
    parser.add_argument("--score", choices=SCORES, default="accuracy", help="with --tune")
    parser.add_argument("--redraw", action="store_true", help="only write search.md and search.png")
    options = parser.parse_args(arguments)
    path = options.out / "search.json"
    if options.redraw:
        page.write(json.loads(path.read_text()), options.out)
        return 0
    curves = load_curves(options.curves)
    recording = ours.Recording(curves)
    if options.tune:
        recording = ours.Recording(curves, SCORES[options.score](curves))
        tune(recording, options.replays)
        return 0
    results = measure(recording, options.replays, not options.no_peers)
    results["environment"] = machines.here()
    results["commit"] = provenance.git_revision() or "unknown"
    results["packages"] = {} if options.no_peers else _versions()
    path.write_text(json.dumps(results, indent=1) + "\n")
    page.write(results, options.out)
    return 0


def _versions() -> Mapping[str, str]:
    return {
        name: packages(python_of(environment, shares_torch=False))[name]
        for environment, name in PACKAGES.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
