"""Time the native engine by batch size and number of threads: python -m benchmarks.threads.

The numbers of threads alternate on the same MNIST images. Each time is a median over several
repeats, scaled to an epoch of 60,000 images. For comparison, two independent runs with one thread
each are trained at the same time: their speed is what two threads could reach on this machine if
they never waited for each other. With --out, all numbers are written to threads.json in that
folder, together with a table (threads.md) and a figure (threads.png).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import machines
from benchmarks.engines import Timer, alternate, cell_of
from lenet_sweep.data import datasets
from lenet_sweep.data.images import Images
from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.style import QUIET, render, save, styled
from lenet_sweep.training.engines import build_engine

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
THREADS = (1, 2, 4, 8)
IMAGES = 12_800  # per repeat
PAIR = "two runs"
TARGETS = {16: 1.4, 64: 1.75, 256: 1.85}  # times as fast with two threads as with one, two cores


def measure(batches: Sequence[int], threads: Sequence[int], repeats: int) -> list[dict]:
    """For each batch size, the seconds per epoch with each number of threads."""
    images = datasets.load_dataset(cell_of("ce_sgd", 64, "native").dataset, None)
    rows = []
    for batch in batches:
        timers = {str(number): _timer(batch, number, images) for number in threads}
        timers[PAIR] = _pair_timer(batch, images)
        scale = len(images.train_labels) / IMAGES
        seconds = {name: s * scale for name, s in alternate(timers, repeats).items()}
        rows.append({"batch": batch, "seconds_per_epoch": seconds})
        times = ", ".join(f"{name}: {s:.3f} s" for name, s in seconds.items())
        print(f"batch {batch:4}  threads {times}", flush=True)
    return rows


def _pair_timer(batch: int, images: Images) -> Timer:
    """Time two runs in parallel; returns the seconds per run."""
    runs = [_timer(batch, 1, images) for _ in range(2)]

    def run() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor() as pool:  # the engine releases Python's lock
            for done in [pool.submit(one) for one in runs]:
                done.result()
        return (time.perf_counter() - start) / 2

    return run


def _timer(batch: int, threads: int, images: Images) -> Timer:
    engine = build_engine(cell_of("ce_sgd", batch, "native"), images)
    engine.threads = threads
    order = np.arange(IMAGES)

    def run() -> float:
        start = time.perf_counter()
        engine.train(order)
        return time.perf_counter() - start

    return run


def table(rows: Sequence[dict]) -> str:
    """The times as a Markdown table."""
    names = [name for name in rows[0]["seconds_per_epoch"] if name != PAIR]
    head = ["batch", *(f"{_label(name)}, s per epoch" for name in names)]
    head += ["speedup of 2 threads", "speedup of two independent runs", "target"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        seconds = row["seconds_per_epoch"]
        target = TARGETS.get(row["batch"])
        speedups = [f"{seconds['1'] / seconds[name]:.2f} x" for name in ("2", PAIR)]
        times = [f"{seconds[name]:.3f}" for name in names]
        lines.append([str(row["batch"]), *times, *speedups, f"{target} x" if target else ""])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _label(name: str) -> str:
    return f"{name} thread{'s' * (name != '1')}"


def figure(rows: Sequence[dict], environment: dict) -> Figure:
    """Seconds per epoch by batch size, a line for each number of threads."""
    with styled():
        drawn = Figure((7.2, 4.2), layout="constrained")
        FigureCanvasAgg(drawn)
        axes = drawn.add_subplot()
        batches = [row["batch"] for row in rows]
        names = [name for name in rows[0]["seconds_per_epoch"] if name != PAIR]
        for name, color in zip(names, COLORS, strict=False):
            seconds = [row["seconds_per_epoch"][name] for row in rows]
            axes.plot(batches, seconds, "o-", color=color, markersize=4, label=_label(name))
        axes.set(xscale="log", xlabel="Batch size", ylabel="Seconds per epoch", ylim=(0, None))
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        drawn.suptitle("Time of an epoch of 60,000 images", x=0.01, ha="left", weight="bold")
        axes.set_title(machines.name(environment), loc="left", color=QUIET, fontsize=9)
        axes.legend()
    return drawn


def redraw(folder: Path) -> None:
    """Write the table and the figure of the numbers in `folder`."""
    numbers = json.loads((folder / "threads.json").read_text(encoding="utf-8"))
    (folder / "threads.md").write_text(table(numbers["training"]), encoding="utf-8")
    save(render(figure(numbers["training"], numbers["environment"])), folder / "threads.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three batch sizes, two thread counts")
    parser.add_argument("--redraw", action="store_true", help="only write the table and figure")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="the folder of threads.json, .md and .png")
    arguments = parser.parse_args()
    if arguments.redraw:
        redraw(arguments.out)
        return
    environment = machines.here()
    batches, threads = (tuple(TARGETS), (1, 2)) if arguments.quick else (BATCHES, THREADS)
    rows = measure(batches, threads, arguments.repeats)
    print("\n" + table(rows))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        numbers = {"environment": environment, "training": rows}
        text = json.dumps(numbers, indent=1) + "\n"
        (arguments.out / "threads.json").write_text(text, encoding="utf-8")
        redraw(arguments.out)


if __name__ == "__main__":
    main()
