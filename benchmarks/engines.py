"""Compare the engines: python -m benchmarks.engines [--quick] [--out FILE.json].

The engines alternate on the same MNIST images. Each time is a median over several repeats, scaled
to an epoch of 60,000 images; evaluation is timed separately. The floor is the time that the dense
arithmetic of an epoch would take at the speed of torch's sgemm, measured in the same repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets as torchvision_datasets
from torchvision.transforms import ToTensor

from benchmarks import machines
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.data import datasets
from lenet_sweep.data.images import Images
from lenet_sweep.training.engines import build_engine
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.lenet5 import seeded_lenet5

# Multiplications and additions of one epoch, with every layer computed in full. Products per image:
# 416,520 forward, as many for the gradients of the weights, 298,920 for those of the inputs.
FLOP_PER_EPOCH = 60_000 * 2 * (2 * 416_520 + 298_920)
Timer = Callable[[], float]


def cell_of(recipe: str, batch: int, engine: str) -> Cell:
    (cell,), _ = validate_cells(
        grid({"recipe": recipe, "batch": batch, "engine": engine, "device": "cpu"}), NATIVE
    )
    return cell


def engine_timer(cell: Cell, images: Images, order: np.ndarray, threads: int) -> Timer:
    engine = build_engine(cell, images)

    def run() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        engine.train(order)
        return time.perf_counter() - start

    return run


def report_loop_timer(cell: Cell, count: int, threads: int) -> Timer:
    """The training loop of the report, unchanged."""
    root = datasets.default_root()
    data = Subset(torchvision_datasets.MNIST(root, transform=ToTensor()), range(count))
    loader = DataLoader(data, batch_size=cell.batch)
    model = seeded_lenet5(cell)
    loss_function = getattr(nn, GROUPS["loss"].choices[cell.loss.name].torch_class)()
    optimizer = getattr(torch.optim, GROUPS["optimizer"].choices[cell.optimizer.name].torch_class)(
        model.parameters(), lr=cell.lr
    )

    def run() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        for pixels, labels in loader:
            loss = loss_function(model(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return run


def floor_timer() -> Timer:
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)

    def run() -> float:
        torch.set_num_threads(1)
        start = time.perf_counter()
        for _ in range(8):
            torch.mm(a, b)
        seconds = time.perf_counter() - start
        return FLOP_PER_EPOCH / (8 * 2 * 1024**3 / seconds)

    return run


def alternating_times(timers: dict[str, Timer], repeats: int) -> dict[str, list[float]]:
    """The seconds of each timer in alternating repeats, after one repeat to warm up."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for repeat in range(repeats + 1):
        for name, timer in timers.items():
            seconds = timer()
            if repeat:
                times[name].append(seconds)
    return times


def alternate(timers: dict[str, Timer], repeats: int) -> dict[str, float]:
    """The medians of `alternating_times`."""
    times = alternating_times(timers, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def training(recipes: list[str], batches: list[int], count: int, repeats: int) -> list[dict]:
    (cell,), options = validate_cells(grid({}), NATIVE)
    images = datasets.load_dataset(cell.dataset, options.data_root)
    order = np.arange(count)
    rows = []
    for recipe in recipes:
        for batch in batches:
            native, reference = (cell_of(recipe, batch, name) for name in ("native", "torch"))
            timers = {
                "native, 1 thread": engine_timer(native, images, order, 1),
                "torch, 1 thread": engine_timer(reference, images, order, 1),
                "torch, 2 threads": engine_timer(reference, images, order, 2),
                "report loop, 2 threads": report_loop_timer(reference, count, 2),
            }
            scale = len(images.train_labels) / count
            medians = alternate({"floor": floor_timer()} | timers, repeats)
            seconds = {n: s if n == "floor" else s * scale for n, s in medians.items()}
            rows.append({"recipe": recipe, "batch": batch, "seconds_per_epoch": seconds})
            show_training(rows[-1])
    return rows


def show_training(row: dict) -> None:
    seconds = row["seconds_per_epoch"]
    native = seconds["native, 1 thread"]
    print(
        f"{row['recipe']:8} batch {row['batch']:3}: native {native:.2f} s per epoch = "
        f"{native / seconds['floor']:.2f} x the floor ({seconds['floor']:.2f} s); "
        + ", ".join(f"{n} {s / native:.1f} x" for n, s in seconds.items() if n[0] in "tr"),
        flush=True,
    )


def evaluation(repeats: int) -> dict[str, float]:
    """Seconds for each engine to evaluate the 10,000 test images on one core."""
    (cell,), options = validate_cells(grid({}), NATIVE)
    images = datasets.load_dataset(cell.dataset, options.data_root)

    def timer(name: str) -> Timer:
        engine = build_engine(cell_of("ce_sgd", 64, name), images)

        def run() -> float:
            torch.set_num_threads(1)
            start = time.perf_counter()
            engine.evaluate()
            return time.perf_counter() - start

        return run

    return alternate({name: timer(name) for name in ("native", "torch")}, repeats)


TRAIN = r"""
import re, sys, time
import numpy as np
from lenet_sweep.data import datasets
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.config.grids import grid
from lenet_sweep.training.engines import build_engine
from lenet_sweep.training.engines.support import NATIVE
(cell,), options = validate_cells(grid({"engine": "native", "device": "cpu"}), NATIVE)
def peak():  # KiB; getrusage would include the peak of the parent process
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
imported = peak()
images = datasets.load_dataset(cell.dataset, options.data_root)
engine = build_engine(cell, images)
order = np.arange(60_000)
engine.train(order)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for _ in range(3):
    engine.train(order)
seconds = (time.perf_counter() - start) / 3
engine.evaluate()
print(seconds, peak() - imported)
"""


def side_by_side(runs: int) -> list[tuple[float, int]]:
    """Train in `runs` processes at once; for each, seconds per epoch and KiB beyond the imports."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(runs)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results = [worker.communicate()[0].split() for worker in workers]
    return [(float(seconds), int(memory)) for seconds, memory in results]


def together(repeats: int) -> dict[str, float]:
    alone, both, memory = [], [], []
    for _ in range(repeats):
        ((seconds, kib),) = side_by_side(1)
        alone.append(seconds)
        memory.append(kib)
        both.append(statistics.mean(seconds for seconds, _ in side_by_side(2)))
    return {
        "alone": statistics.median(alone),
        "each of two": statistics.median(both),
        "MB above the imports": statistics.median(memory) * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only batch size 64 and one recipe")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    arguments = parser.parse_args()
    recipes = ["ce_sgd"] if arguments.quick else ["ce_sgd", "nll_adam"]
    batches = [64] if arguments.quick else [16, 32, 64, 128, 256]
    repeats = 3 if arguments.quick else 5
    rows = training(recipes, batches, count=12_800, repeats=repeats)
    evaluated = evaluation(repeats)
    times = ", ".join(f"{n} {s:.3f} s" for n, s in evaluated.items())
    print(f"evaluation of 10,000 images: {times}")
    pair = together(repeats)
    slowdown = 100 * (pair["each of two"] / pair["alone"] - 1)
    print(
        f"two runs on two cores: {pair['each of two']:.3f} s per epoch each, "
        f"one alone: {pair['alone']:.3f} s ({slowdown:+.1f}%); "
        f"{pair['MB above the imports']:.0f} MB in addition to the imports"
    )
    if arguments.out:
        numbers = {"environment": machines.here(), "training": rows}
        numbers |= {"evaluation": evaluated, "together": pair}
        arguments.out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
