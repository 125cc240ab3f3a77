"""Runs the measurements: their order, their caches, and which of them to skip."""

from __future__ import annotations

import compileall
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

import lenet_sweep
from benchmarks import environments
from benchmarks.bookkeeping import empty_folder
from benchmarks.contenders import Contender, Inputs, commands, takes_part
from benchmarks.jobs import Job
from benchmarks.processes import Usage, run_watched
from benchmarks.records import COLD, Record, Results
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.data import datasets
from lenet_sweep.data.download import ensure_dataset
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.initial_weights import initial_weights

ROOT = Path(__file__).parent.parent
TIMEOUT = 3600.0  # seconds
MARKERS = "  started", "  epoch "  # lenet-sweep prints these when a run starts and after each epoch


@dataclass(frozen=True)
class Step:
    """One measurement to make."""

    job: Job
    contender: Contender
    repeat: int


Measure = Callable[[Step], Record]


def schedule(
    jobs: Iterable[Job], contenders: Iterable[Contender], repeats: int, *, cold: bool
) -> list[Step]:
    """Cold measurements first, then all of repeat 1, all of repeat 2, and so on.

    This way, changes in the speed of the machine affect every contender.
    """
    jobs, contenders = list(jobs), list(contenders)
    pairs = [(job, c) for job in jobs for c in contenders if takes_part(c, job)]
    steps = [Step(job, c, COLD) for job, c in pairs if cold and job.cold]
    for repeat in range(1, repeats + 1):
        steps += [Step(job, c, repeat) for job, c in pairs if repeat <= (job.repeats or repeats)]
    return steps


def is_due(step: Step, done: list[Record], long: float) -> bool:
    """Whether a step still has to be measured, given the records so far."""
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
    """Measure every step that is due, and save after each one.

    Stops before a step that is expected to exceed the budget in seconds.
    """
    start = time.monotonic()
    for step in steps:
        if not is_due(step, results.records, results.long):
            continue
        earlier = [r for r in results.records if r.key[:2] == (step.job.name, step.contender.name)]
        expected = earlier[-1].seconds if earlier else 0.0
        if time.monotonic() - start + expected > budget:
            print("Time budget spent; continue with --resume.", flush=True)
            break
        try:
            record = measure(step)
        except KeyboardInterrupt:
            print("Interrupted; continue with --resume.", flush=True)
            break
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = replace(record, commit=results.commits[-1], time=now)
        results = replace(results, records=[*results.records, record])
        save(results)
        _show(record)
    return results


def _show(record: Record) -> None:
    repeat = "cold" if record.repeat == COLD else f"repeat {record.repeat}"
    outcome = record.failed or f"{record.seconds:.2f} s, {record.peak_mb:.0f} MB"
    print(
        f"{time.strftime('%H:%M:%S')}  {record.job}  {record.contender}  {repeat}: {outcome}",
        flush=True,
    )


class Bench:
    """Prepares what the measurements need: environments, caches, images, initial weights."""

    def __init__(self, *, caches: bool) -> None:
        self.caches = caches  # whether each contender has its own caches
        self.folder = environments.cache_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.weights = self.folder / "weights.npz"
        weights = initial_weights(seed=0)
        np.savez(self.weights, **weights)
        (cell,), options = validate_cells(grid({}), NATIVE)
        ensure_dataset(cell.dataset, options.data_root)
        self.mnist = datasets.default_root() / "MNIST" / "raw"
        self.pythons: dict[str, Path | str] = {}

    def python(self, contender: Contender) -> Path | str:
        """The Python interpreter of a contender, or the reason why it has none."""
        name = contender.environment or ""
        if name not in self.pythons:
            try:
                self.pythons[name] = environments.python_of(
                    contender.environment, shares_torch=contender.shares_torch
                )
            except environments.UnavailableError as error:
                self.pythons[name] = str(error)
        return self.pythons[name]

    def measure(self, step: Step) -> Record:
        """Do a job once, in an empty folder.

        If a warm measurement has no caches yet, the job is first done once without measuring.
        """
        contender = step.contender
        record = Record(step.job.name, contender.name, step.repeat)
        python = self.python(contender)
        if isinstance(python, str):
            return replace(record, failed=python)
        cache = self._cache(contender)
        if step.repeat == COLD:
            shutil.rmtree(cache, ignore_errors=True)
            if contender.compiled:  # an editable installation is not compiled by pip
                compileall.compile_dir(Path(lenet_sweep.__file__).parent, quiet=1)
        elif self.caches and not cache.exists():
            first = None
            try:
                first = self._measure_once(step.job, contender, python, record)
            finally:
                if first is None or first.failed:  # the cache is incomplete
                    shutil.rmtree(cache, ignore_errors=True)
            if first.failed:
                return first
        return self._measure_once(step.job, contender, python, record)

    def _measure_once(self, job: Job, contender: Contender, python: Path, record: Record) -> Record:
        variables = self._variables(contender)
        inputs = Inputs(python, self.mnist, self.weights)
        with empty_folder() as folder:
            markers = None if contender.module else MARKERS
            times = 2 if job.rerun or contender.rerun else 1  # only the last one counts
            for _ in range(times):
                usages: list[Usage] = []
                for command in commands(contender, job, inputs):
                    usages.append(run_watched(command, folder, variables, TIMEOUT, markers))
                    if usages[-1].status or usages[-1].timed_out:
                        return replace(record, failed=failure_reason(usages[-1]))
            return replace(
                record,
                seconds=round(sum(usage.seconds for usage in usages), 3),
                cpu_seconds=round(sum(usage.cpu_seconds for usage in usages), 2),
                peak_mb=round(max(usage.peak_mb for usage in usages), 1),
                begins=usages[0].begins and round(usages[0].begins, 2),
                ends=usages[0].ends and round(usages[0].ends, 2),
                accuracies={} if job.tiny_cells else _accuracies(folder, contender),
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
        if contender.compiled:
            del places["PYTHONPYCACHEPREFIX"]
        for variable, name in places.items():
            (cache / name).mkdir(parents=True, exist_ok=True)
            variables[variable] = str(cache / name)
        return variables | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def failure_reason(usage: Usage) -> str:
    """Why a process produced no result, in one line."""
    if usage.timed_out:
        return f"timed out after {TIMEOUT:.0f} s"
    lines = [line.strip() for line in usage.output.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or line.startswith("error")]
    return (errors or lines or [f"exit status {usage.status}"])[-1][:200]


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
    """A setting as text, the same for all contenders."""
    return (
        f"{row['loss']} {row['optimizer']} lr={float(row['lr']):g} batch={row['batch']} "
        f"epochs={row['epochs']}"
    )


def versions(bench: Bench, contenders: Iterable[Contender]) -> dict[str, dict[str, str]]:
    """The relevant packages of each contender, with their versions."""
    relevant = (
        "torch", "torchvision", "numpy", "hydra-core", "hydra-joblib-launcher", "joblib", "ray",
        "jax", "jaxlib", "optax", "optuna", "skorch", "scikit-learn",
    )  # fmt: skip
    found = {}
    for contender in contenders:
        python = bench.python(contender)
        if isinstance(python, Path):
            installed = environments.packages(python)
            names = relevant if contender.module else (*relevant, "lenet-sweep")
            found[contender.name] = {name: installed[name] for name in names if name in installed}
    return found
