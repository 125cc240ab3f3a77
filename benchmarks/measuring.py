"""One measurement after the other: in what order, with which caches, and what is left out."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import environments
from benchmarks.bookkeeping import empty_folder
from benchmarks.contenders import Contender, Inputs, commands, takes_part
from benchmarks.jobs import Job
from benchmarks.processes import Taken, watched
from benchmarks.records import COLD, Record, Results
from lenet_sweep.config.keys import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.data import datasets
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.lenet5 import seeded_lenet5

ROOT = Path(__file__).parent.parent
PATIENCE = 3600.0  # seconds after which a contender has failed
BEGINS = "  started"  # what lenet-sweep prints when a run starts to train


@dataclass(frozen=True)
class Step:
    """One measurement to be made."""

    job: Job
    contender: Contender
    repeat: int


Measure = Callable[[Step], Record]


def schedule(
    jobs: Iterable[Job], contenders: Iterable[Contender], repeats: int, *, cold: bool
) -> list[Step]:
    """Cold ones first, then all of repeat 1, all of repeat 2, ... so that drift meets everyone."""
    jobs, contenders = list(jobs), list(contenders)
    pairs = [(job, c) for job in jobs for c in contenders if takes_part(c, job)]
    steps = [Step(job, c, COLD) for job, c in pairs if cold and job.cold]
    for repeat in range(1, repeats + 1):
        steps += [Step(job, c, repeat) for job, c in pairs if repeat <= (job.repeats or repeats)]
    return steps


def due(step: Step, done: list[Record], long: float) -> bool:
    """Whether a step is still to be measured, given what has been."""
    name, job, repeat = step.contender.name, step.job.name, step.repeat
    known = {r.key: r for r in done}
    if (job, name, repeat) in known:
        return False
    if any(r.failed is not None for r in done if (r.job, r.contender) == (job, name)):
        return False
    first = known.get((job, name, 1))
    return first is None or first.seconds <= long


def run(
    results: Results,
    steps: list[Step],
    measure: Measure,
    save: Callable[[Results], None],
    budget: float = float("inf"),
) -> Results:
    """Measure what is due and save after each; ends before what the budget (s) is too short for."""
    began = time.monotonic()
    for step in steps:
        if not due(step, results.records, results.long):
            continue
        same = [r for r in results.records if r.key[:2] == (step.job.name, step.contender.name)]
        expected = same[-1].seconds if same else 0.0
        if time.monotonic() - began + expected > budget:
            print("the budget is spent; --resume goes on from here", flush=True)
            break
        try:
            record = measure(step)
        except KeyboardInterrupt:
            print("stopped; --resume goes on from here", flush=True)
            break
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = replace(record, commit=results.commits[-1], time=now)
        results = replace(results, records=[*results.records, record])
        save(results)
        _show(record)
    return results


def _show(record: Record) -> None:
    repeat = "cold" if record.repeat == COLD else f"repeat {record.repeat}"
    told = record.failed or f"{record.seconds:.2f} s, {record.peak_mb:.0f} MB"
    print(
        f"{time.strftime('%H:%M:%S')}  {record.job}  {record.contender}  {repeat}: {told}",
        flush=True,
    )


class Bench:
    """What measurements need: environments made once, caches, data, weights."""

    def __init__(self, *, caches: bool) -> None:
        self.caches = caches  # whether bytecode and compilations have caches of their own
        self.folder = environments.cache_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.weights = self.folder / "weights.npz"
        state = seeded_lenet5("relu", 0).state_dict()
        np.savez(self.weights, **{name: tensor.numpy() for name, tensor in state.items()})
        (cell,), options = validate_cells(grid({}), NATIVE)
        datasets.ensure_dataset(cell.dataset, options.data_root)
        self.mnist = datasets.default_root() / "MNIST" / "raw"
        self.pythons: dict[str, Path | str] = {}

    def python(self, contender: Contender) -> Path | str:
        """The contender's interpreter, or why there is none."""
        name = contender.environment or ""
        if name not in self.pythons:
            try:
                self.pythons[name] = environments.python_of(
                    contender.environment, beside_torch=contender.beside_torch
                )
            except environments.UnavailableError as error:
                self.pythons[name] = str(error)
        return self.pythons[name]

    def measure(self, step: Step) -> Record:
        """Do a job once, in an empty folder; where a warm one has no caches, once more before."""
        contender = step.contender
        record = Record(step.job.name, contender.name, step.repeat)
        python = self.python(contender)
        if isinstance(python, str):
            return replace(record, failed=python)
        cache = self._cache(contender)
        if step.repeat == COLD:
            shutil.rmtree(cache, ignore_errors=True)
        elif self.caches and not cache.exists():
            filled = None
            try:
                filled = self._taken(step.job, contender, python, record)
            finally:
                if filled is None or filled.failed:  # half of it is no cache
                    shutil.rmtree(cache, ignore_errors=True)
            if filled.failed:
                return filled
        return self._taken(step.job, contender, python, record)

    def _taken(self, job: Job, contender: Contender, python: Path, record: Record) -> Record:
        variables = self._variables(contender)
        todo = commands(contender, job, Inputs(python, self.mnist, self.weights))
        with empty_folder() as folder:
            marker = None if contender.module else BEGINS
            turns = 2 if job.again or contender.again else 1  # the last one counts
            for _ in range(turns):
                taken: list[Taken] = []
                for command in todo:
                    taken.append(watched(command, folder, variables, PATIENCE, marker))
                    if taken[-1].status or taken[-1].timed_out:
                        return replace(record, failed=reason(taken[-1]))
            return replace(
                record,
                seconds=round(sum(t.seconds for t in taken), 3),
                cpu_seconds=round(sum(t.cpu_seconds for t in taken), 2),
                peak_mb=round(max(t.peak_mb for t in taken), 1),
                begins=taken[0].marked and round(taken[0].marked, 2),
                accuracies=_accuracies(folder, contender) if not job.made else {},
            )

    def _cache(self, contender: Contender) -> Path:
        return self.folder / "caches" / contender.cache

    def _variables(self, contender: Contender) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        variables = inherited | contender.variables
        if contender.module:
            variables["PYTHONPATH"] = str(ROOT)
        if not self.caches:
            return variables
        cache = self._cache(contender)
        places = {
            "PYTHONPYCACHEPREFIX": "bytecode",
            "MPLCONFIGDIR": "matplotlib",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",
            "JAX_COMPILATION_CACHE_DIR": "jax",
        }
        for variable, name in places.items():
            (cache / name).mkdir(parents=True, exist_ok=True)
            variables[variable] = str(cache / name)
        return variables | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def reason(taken: Taken) -> str:
    """Why a process gave no result, in one line."""
    if taken.timed_out:
        return f"not done after {PATIENCE:.0f} s"
    lines = [line.strip() for line in taken.output.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or line.startswith("error")]
    return (told or lines or [f"exit status {taken.status}"])[-1][:200]


def _accuracies(folder: Path, contender: Contender) -> dict[str, float]:
    if contender.module:
        rows = json.loads((folder / "out.json").read_text())
    else:
        rows = []
        for path in sorted(folder.glob("out*/sweeps/*/results.csv")):
            with contextlib.closing(path.open(newline="")) as file:
                rows += [row for row in csv.DictReader(file) if row["status"] == "ok"]
    return {setting_key(row): float(row["accuracy"]) for row in rows}


def setting_key(row: dict) -> str:
    """A setting in words, equal for all contenders."""
    return (
        f"{row['loss']} {row['optimizer']} lr={float(row['lr']):g} batch={row['batch']} "
        f"epochs={row['epochs']}"
    )


def versions(bench: Bench, contenders: Iterable[Contender]) -> dict[str, dict[str, str]]:
    """The packages of each contender that say what it is."""
    telling = (
        "torch", "torchvision", "numpy", "hydra-core", "hydra-joblib-launcher", "joblib", "ray",
        "jax", "jaxlib", "optax", "optuna", "skorch", "scikit-learn",
    )  # fmt: skip
    found = {}
    for contender in contenders:
        python = bench.python(contender)
        if isinstance(python, Path):
            has = environments.packages(python)
            wanted = telling if contender.module else (*telling, "lenet-sweep")
            found[contender.name] = {name: has[name] for name in wanted if name in has}
    return found
