"""Time an epoch with each choice of each setting: python -m benchmarks.choices [--out FOLDER].

The epochs of a group, such as all schedules, alternate with the plain epoch (all defaults) on the
same MNIST images and one thread. Each ratio is the median over several repeats of the CPU time
divided by that of the plain epoch in the same repeat. With --out, all numbers are written to
choices.json in that folder, together with a table (choices.md).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machines, tables
from benchmarks.engines import Timer, alternating_times
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import ENGINE_VERSIONS, Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.data import datasets
from lenet_sweep.training.augmentation import augmented
from lenet_sweep.training.engines import build_engine
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.schedules import learning_rates

NOT_TIMED = ("dataset", "search")  # of the groups
KEYS: dict[str, tuple[Any, ...]] = {
    "dropout": (0.5,), "batch_norm": (True,), "width": (0.5, 2), "clip_norm": (1,),
    "normalize": ("standard",),
}  # fmt: skip
IMAGES = {"native": 12_800, "torch": 2_560}  # per repeat
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """An epoch of 60,000 images with one setting, on one thread.

    cpu_seconds: the median. ratio: the median of the ratios to the plain epoch.
    """

    setting: str
    engine: str
    cpu_seconds: float
    ratio: float


def settings_of() -> dict[str, list[dict[str, Any]]]:
    """The settings to time by group or key."""
    found = {
        name: [{name: choice} for choice in group.choices]
        for name, group in GROUPS.items()
        if name not in NOT_TIMED
    }
    return found | {key: [{key: value} for value in values] for key, values in KEYS.items()}


def measure(
    groups: dict[str, list[dict[str, Any]]], images: dict[str, int], repeats: int
) -> list[Row]:
    """Time the settings of each group, on each engine that trains them."""
    data = datasets.load_dataset(cell_of({}, "torch").dataset, None)
    rows = []
    for engine, count in images.items():
        for settings in groups.values():
            cells = {PLAIN: cell_of({}, engine)}
            for setting in settings:
                try:
                    cells[label(setting)] = cell_of(setting, engine)
                except UsageError:  # only torch trains it
                    continue
            timers = {name: epoch_timer(cell, data, count) for name, cell in cells.items()}
            times = alternating_times(timers, repeats)
            for row in ratios(engine, times, len(data.train_labels) / count):
                rows.append(row)
                print(f"{engine:6}  {row.setting:32} {row.ratio:.2f} x", flush=True)
    return rows


def cell_of(setting: dict[str, Any], engine: str) -> Cell:
    (cell,), _ = validate_cells(grid({"device": "cpu", "engine": engine} | setting), NATIVE)
    return cell


def label(setting: dict[str, Any]) -> str:
    """For example "augment=shift", as on the command line."""
    return " ".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in setting.items()
    )


def epoch_timer(cell: Cell, images: datasets.Images, count: int) -> Timer:
    """Times an epoch on the first `count` images, in pieces of 100 batches as in a run."""
    engine = build_engine(cell, images)
    pieces = np.split(np.arange(count), range(100 * cell.batch, count, 100 * cell.batch))
    steps = [-(-len(piece) // cell.batch) for piece in pieces]

    def run() -> float:
        start = time.process_time()
        first = 0
        for piece, number in zip(pieces, steps, strict=True):
            lrs = learning_rates(cell, first, number, sum(steps))
            pixels = augmented(cell, 1, images.train_images, piece)
            engine.train(piece, lrs, step=first, images=pixels)
            first += number
        return time.process_time() - start

    return run


def ratios(engine: str, times: dict[str, list[float]], scale: float) -> Iterable[Row]:
    """A row for each setting; scale: of the times, to an epoch of 60,000 images."""
    for name, values in times.items():
        if name != PLAIN:
            relative = [a / b for a, b in zip(values, times[PLAIN], strict=True)]
            yield Row(name, engine, scale * median(values), median(relative))


def table(rows: Sequence[Row]) -> str:
    """The CPU time of each setting relative to the plain epoch, a column for each engine.

    The last column compares the engines.
    """
    engines = dict.fromkeys(row.engine for row in rows)
    found = {(row.setting, row.engine): row for row in rows}
    known = [label(setting) for settings in settings_of().values() for setting in settings]
    lines = []
    for setting in sorted({row.setting for row in rows}, key=known.index):
        timed = [found.get((setting, engine)) for engine in engines]
        cells = [f"{row.ratio:.2f}" if row else "-" for row in timed]
        native, torch = (found.get((setting, engine)) for engine in ("native", "torch"))
        factor = f"{torch.cpu_seconds / native.cpu_seconds:.1f}" if native and torch else "-"
        lines.append([f"`{setting}`", *cells, factor])
    return tables.table(["setting", *engines, "torch / native"], lines)


def redraw(folder: Path) -> None:
    """Write the table of the numbers in `folder`."""
    numbers = json.loads((folder / "choices.json").read_text(encoding="utf-8"))
    rows = [Row(**row) for row in numbers["epochs"]]
    images = ", ".join(f"{count:,} ({engine})" for engine, count in numbers["images"].items())
    text = (
        "# Cost of each setting\n\n"
        "CPU time of an epoch relative to the plain epoch (all defaults) of the same engine, on "
        "one thread; `-`: the engine does not train it. The last column is the time of PyTorch "
        "divided by that of the native engine.\n\n"
        f"- Machine: {machines.name(numbers['environment'])}\n"
        f"- Medians of {numbers['repeats']} repeats of {images} images\n\n{table(rows)}\n"
    )
    (folder / "choices.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    groups, engines = list(settings_of()), list(ENGINE_VERSIONS)
    parser.add_argument("--only", nargs="+", default=groups, choices=groups, metavar="GROUP",
                        help="groups or keys to time, such as augment")  # fmt: skip
    parser.add_argument("--engines", nargs="+", default=engines, choices=engines)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--redraw", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, help="the folder of choices.json and choices.md")
    arguments = parser.parse_args()
    if arguments.redraw:
        redraw(arguments.out)
        return
    factor, repeats = (4, 3) if arguments.quick else (1, 7)
    images = {engine: IMAGES[engine] // factor for engine in arguments.engines}
    environment = machines.here()
    settings = {name: settings_of()[name] for name in arguments.only}
    rows = measure(settings, images, repeats)
    print("\n" + table(rows))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        epochs = [vars(row) for row in rows]
        numbers = {"environment": environment, "images": images, "repeats": repeats}
        numbers["epochs"] = epochs
        text = json.dumps(numbers, indent=1) + "\n"
        (arguments.out / "choices.json").write_text(text, encoding="utf-8")
        redraw(arguments.out)


if __name__ == "__main__":
    main()
