"""Is a collapse the engine's fault? `python -m benchmarks.collapse [--out FILE.json]`.

In the report's study SGD at lr 0.1 and batch 256 falls from 98.7 % to one digit (seed 0).
The native engine trains up to that epoch; then it and the plain torch engine go on from the same
weights, and the losses of the batches in which it happens stand side by side.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.engines import cell_of
from lenet_sweep.data import datasets
from lenet_sweep.training.engines import build_engine

BEFORE = 42  # epochs until the one in which it happens
SHOWN = 8  # batches on either side of the first loss above 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cell = replace(cell_of("ce_sgd", 256, "native"), lr=0.1)
    images = datasets.load_dataset(cell.dataset, None)
    order = np.arange(len(images.train_labels))
    native = build_engine(cell, images)
    for _ in range(BEFORE):
        native.train(order)
    plain = build_engine(replace(cell, engine="torch"), images)
    plain.restore(native.state())
    losses = {"native": native.train(order), "torch": plain.train(order)}
    first = int(np.argmax(losses["native"] > 0.1))
    shown = slice(max(0, first - SHOWN), first + SHOWN)
    found = {name: [float(f"{loss:.4g}") for loss in all_[shown]] for name, all_ in losses.items()}
    measured = {"epoch": BEFORE + 1, "first_batch": shown.start + 1, "loss": found}
    print(json.dumps(measured, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
