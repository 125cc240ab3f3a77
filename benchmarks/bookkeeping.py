"""Measure the overhead of large sweeps: python -m benchmarks.bookkeeping [--out FILE.json].

Every number comes from real processes of `python -m lenet_sweep` in an empty folder, on a generated
dataset whose cells train in about ten milliseconds. Peak memory is the resident memory of the
largest process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machines
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.storage.files import write_json
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training.engines.support import NATIVE

GENERATED_DATA = Path(__file__).parent.parent / "tests" / "generated_data.py"
LRS = [n / 500 for n in range(1, 21)]
# A small process starts each sweep, because a process inherits the peak memory of its parent.
MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
print(json.dumps([seconds, used.ru_utime + used.ru_stime, peak]))
"""
# Writes the CPU time of the launching process, without that of its workers.
MEASURE_LAUNCHER = """
import sys, time
from lenet_sweep.__main__ import main
path, *sys.argv[1:] = sys.argv[1:]
try:
    main()
finally:
    open(path, "w").write(str(time.process_time()))
"""


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """A temporary folder that contains only the generated dataset, in data/."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for file, content in runpy.run_path(str(GENERATED_DATA))["learnable"](600, 200, 0).items():
            (folder / "data" / file).write_bytes(content)
        yield folder


def show(name: str, numbers: dict[str, float]) -> dict[str, float]:
    """Print the numbers in one line and return them."""
    print(f"{name}: " + ", ".join(f"{k} {round(v, 2):,}" for k, v in numbers.items()), flush=True)
    return numbers


def arguments(cells: int, figures: str = "none") -> list[str]:
    """The command-line arguments for a grid of `cells` cells, a multiple of 20."""
    return [
        "-m", f"lr={','.join(map(str, LRS))}", f"seed=range({cells // len(LRS)})", "epochs=1",
        "dataset=folder", "dataset.root=data", "device=cpu", f"figures={figures}",
    ]  # fmt: skip


def measure(folder: Path, *words: str, repeats: int = 1) -> dict[str, float]:
    """Run `python -m lenet_sweep` with these arguments: median times and the largest peak."""
    command = [sys.executable, "-c", MEASURE, "-m", "lenet_sweep", *words]
    measurements = []
    for _ in range(repeats):
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        measurements.append(json.loads(done.stdout))
    seconds, cpu_seconds, peaks = zip(*measurements, strict=True)
    return {
        "seconds": statistics.median(seconds),
        "CPU seconds": statistics.median(cpu_seconds),
        "peak MB": max(peaks),
    }


def planning(cells: int, repeats: int) -> dict[str, float]:
    """A dry run with an empty store."""
    with empty_folder() as folder:
        return {"cells": cells} | measure(
            folder, *arguments(cells), "dry_run=true", repeats=repeats
        )


def until_training(cells: int) -> float:
    """Seconds until the first cell of a new sweep starts training."""
    with empty_folder() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "lenet_sweep", *arguments(cells)]
        sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert sweep.stdout is not None
        while "  started" not in sweep.stdout.readline():
            pass
        seconds = time.perf_counter() - start
        sweep.send_signal(signal.SIGINT)
        sweep.communicate()
    return seconds


def finished(cells: int, repeats: int) -> list[dict[str, float]]:
    """The same command again, with every cell in the store.

    Measured without figures, with figures to draw, and with figures that are already drawn.
    """
    with empty_folder() as folder:
        raws = grid({
            "lr": LRS, "seed": range(cells // len(LRS)), "epochs": 1, "dataset": "folder",
            "dataset.root": str(folder / "data"), "device": "cpu",
        })  # fmt: skip
        planned, _ = validate_cells(raws, NATIVE)
        store = Store(folder / "outputs")
        measure(folder, *arguments(len(LRS)))
        trained = [store.run_folder(cell.run_id) for cell in planned if cell.seed == 0]
        for place, cell in enumerate(planned):  # the other seeds get copies of these snapshots
            if cell.seed:
                copy(trained[place % len(trained)], store.run_folder(cell.run_id))
        return [
            show(f"finished, {name}", {"cells": cells} | measure(folder, *words, repeats=count))
            for name, words, count in (
                ("figures=none", arguments(cells, "none"), repeats),
                ("figures to draw", arguments(cells, "best"), 1),
                ("figures drawn before", arguments(cells, "best"), repeats),
            )
        ]


def copy(run: RunFolder, other: RunFolder) -> None:
    snapshot, described = run.read(run.snapshot_path(1)), run.description()
    assert snapshot
    assert described
    other.path.mkdir(parents=True)
    other.write_snapshot(snapshot)
    write_json(other.path / "run.json", described)


def launching(cells: int) -> float:
    """CPU seconds of the process that launches a new sweep."""
    with empty_folder() as folder:
        path = folder / "seconds"
        command = [sys.executable, "-c", MEASURE_LAUNCHER, str(path), *arguments(cells)]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return float(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most 1,000 cells, one repeat")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    options = parser.parse_args()
    repeats = 1 if options.quick else 3
    sizes = (1_000,) if options.quick else (1_000, 10_000, 100_000)
    plans = [show("planned", planning(cells, repeats)) for cells in sizes]
    cells = 1_000 if options.quick else 10_000
    start_up = show(
        "until the first run starts", {"cells": cells, "seconds": until_training(cells)}
    )
    reruns = finished(1_000, repeats)
    baseline = launching(len(LRS))
    costs = []
    for cells in (100, 1_000):
        each = 1000 * (launching(cells) - baseline) / (cells - len(LRS))
        costs.append(show("trained", {"cells": cells, "launcher ms per cell": each}))
    if options.out:
        numbers = {"environment": machines.here(), "planning": plans}
        numbers |= {"until training": start_up, "finished": reruns, "launching": costs}
        options.out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
