"""What many cells cost beside their training: `python -m benchmarks.bookkeeping [--out FILE.json]`.

Every figure is of real processes of `python -m lenet_sweep`, on a made dataset whose cells train in
some ten milliseconds, in an empty folder. Peaks are of resident memory, of the largest process.
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
from lenet_sweep.config.keys import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.storage.files import write_json
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training.engines.support import NATIVE

MADE_DATA = Path(__file__).parent.parent / "tests" / "made_data.py"
LRS = [n / 500 for n in range(1, 21)]
# A small process of its own starts each sweep: one begins with the peak of whoever started it.
MEASURED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
print(json.dumps([seconds, used.ru_utime + used.ru_stime, peak]))
"""
# The processor time of the launching process alone, without that of its workers.
LAUNCHING = """
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
    """A folder with nothing but the made dataset, in data/."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for file, content in runpy.run_path(str(MADE_DATA))["learnable"](600, 200, 0).items():
            (folder / "data" / file).write_bytes(content)
        yield folder


def show(name: str, figures: dict[str, float]) -> dict[str, float]:
    """Print figures in one line, and give them back."""
    print(f"{name}: " + ", ".join(f"{k} {round(v, 2):,}" for k, v in figures.items()), flush=True)
    return figures


def arguments(cells: int, figures: str = "none") -> list[str]:
    """The command line of a grid of so many cells, `cells` being a multiple of 20."""
    return [
        "-m", f"lr={','.join(map(str, LRS))}", f"seed=range({cells // len(LRS)})", "epochs=1",
        "dataset=folder", "dataset.root=data", "device=cpu", f"figures={figures}",
    ]  # fmt: skip


def measured(folder: Path, *words: str, turns: int = 1) -> dict[str, float]:
    """What `python -m lenet_sweep` with these words takes: medians of its turns, largest peak."""
    command = [sys.executable, "-c", MEASURED, "-m", "lenet_sweep", *words]
    taken = []
    for _ in range(turns):
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        taken.append(json.loads(done.stdout))
    seconds, processor, peaks = zip(*taken, strict=True)
    return {
        "seconds": statistics.median(seconds),
        "processor seconds": statistics.median(processor),
        "peak MB": max(peaks),
    }


def planning(cells: int, turns: int) -> dict[str, float]:
    """A dry run of so many cells of which none is in the store."""
    with empty_folder() as folder:
        return {"cells": cells} | measured(folder, *arguments(cells), "dry_run=true", turns=turns)


def until_training(cells: int) -> float:
    """Seconds until the first cell of a new sweep begins to train."""
    with empty_folder() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "lenet_sweep", *arguments(cells)]
        sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert sweep.stdout is not None
        while "  started" not in sweep.stdout.readline():
            pass
        seconds = time.perf_counter() - began
        sweep.send_signal(signal.SIGINT)
        sweep.communicate()
    return seconds


def finished(cells: int, turns: int) -> list[dict[str, float]]:
    """The same command again when every cell is in the store.

    Without figures; when those of the best cells are to be drawn; and when that was done before.
    """
    with empty_folder() as folder:
        raws = grid({
            "lr": LRS, "seed": range(cells // len(LRS)), "epochs": 1, "dataset": "folder",
            "dataset.root": str(folder / "data"), "device": "cpu",
        })  # fmt: skip
        planned, _ = validate_cells(raws, NATIVE)
        store = Store(folder / "outputs")
        measured(folder, *arguments(len(LRS)))
        trained = [store.run(cell.run_id) for cell in planned if cell.seed == 0]
        for place, cell in enumerate(planned):  # every cell has the read-out of one of these
            if cell.seed:
                copy(trained[place % len(trained)], store.run(cell.run_id))
        return [
            show(f"finished, {name}", {"cells": cells} | measured(folder, *words, turns=times))
            for name, words, times in (
                ("figures=none", arguments(cells, "none"), turns),
                ("figures to draw", arguments(cells, "best"), 1),
                ("figures drawn before", arguments(cells, "best"), turns),
            )
        ]


def copy(run: RunFolder, other: RunFolder) -> None:
    snapshot, described = run.read(run.readout(1)), run.description()
    assert snapshot
    assert described
    other.path.mkdir(parents=True)
    other.write_readout(snapshot)
    write_json(other.path / "run.json", described)


def launching(cells: int) -> float:
    """Processor seconds of the process that launches a new sweep of so many cells."""
    with empty_folder() as folder:
        path = folder / "seconds"
        command = [sys.executable, "-c", LAUNCHING, str(path), *arguments(cells)]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return float(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 cells at most, one turn")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    asked = parser.parse_args()
    turns = 1 if asked.quick else 3
    sizes = (1_000,) if asked.quick else (1_000, 10_000, 100_000)
    plans = [show("planned", planning(cells, turns)) for cells in sizes]
    cells = 1_000 if asked.quick else 10_000
    begins = show("new, until the first begins", {"cells": cells, "seconds": until_training(cells)})
    again = finished(1_000, turns)
    start = launching(len(LRS))
    costs = []
    for cells in (100, 1_000):
        each = 1000 * (launching(cells) - start) / (cells - len(LRS))
        costs.append(show("trained", {"cells": cells, "ms of the launching process a cell": each}))
    if asked.out:
        figures = {"planning": plans, "until training": begins, "finished": again}
        figures |= {"launching": costs}
        told = {"environment": machines.here()} | figures
        asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
