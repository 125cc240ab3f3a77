"""Compare both engines where a training collapses: python -m benchmarks.collapse [--out FILE.json].

In the study of the report, SGD with lr 0.1, batch size 256 and seed 0 drops from 98.7% to
predicting a single digit. The native engine trains up to that epoch. Then it and the torch engine
continue from the same weights, and the losses of the batches around the collapse are listed side
by side.
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

EPOCHS_BEFORE = 42  # epochs before the collapse
SHOWN = 8  # batches on either side of the first loss above 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the losses to this JSON file")
    arguments = parser.parse_args()
    cell = replace(cell_of("ce_sgd", 256, "native"), lr=0.1)
    images = datasets.load_dataset(cell.dataset, None)
    order = np.arange(len(images.train_labels))
    native = build_engine(cell, images)
    for _ in range(EPOCHS_BEFORE):
        native.train(order)
    reference = build_engine(replace(cell, engine="torch"), images)
    reference.restore(native.state())
    losses = {"native": native.train(order), "torch": reference.train(order)}
    first = int(np.argmax(losses["native"] > 0.1))
    shown = slice(max(0, first - SHOWN), first + SHOWN)
    rounded = {
        name: [float(f"{loss:.4g}") for loss in values[shown]] for name, values in losses.items()
    }
    result = {"epoch": EPOCHS_BEFORE + 1, "first_batch": shown.start + 1, "loss": rounded}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
