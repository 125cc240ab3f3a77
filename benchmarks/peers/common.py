"""What all peers share: one command line, one data set, one set of weights, one form of results."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OWN_LR = {"sgd": 0.1, "adam": 0.001}
FILES = (
    ("train-images-idx3-ubyte", 16),  # name, bytes of its header
    ("train-labels-idx1-ubyte", 8),
    ("t10k-images-idx3-ubyte", 16),
    ("t10k-labels-idx1-ubyte", 8),
)


@dataclass(frozen=True)
class Setting:
    """One training: a row of the table."""

    lr: float
    batch: int
    epochs: int
    loss: str
    optimizer: str


@dataclass(frozen=True)
class Task:
    """What was asked for on the command line."""

    settings: tuple[Setting, ...]
    limit: int
    data: Path
    weights: Path
    store: Path | None  # where a finished sweep is kept, for peers that can keep one
    out: Path
    seed: int


@dataclass(frozen=True)
class Data:
    """Pixels in 0..255 as (N, 28, 28) bytes, labels as bytes."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def asked(arguments: list[str] | None = None) -> Task:
    """The command line of every peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", default="", help="comma list; empty: the optimizer's own")
    parser.add_argument("--batch", default="64")
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--loss", default="cross_entropy")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--limit", type=int, default=60_000, help="train on the first N images")
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--weights", type=Path, required=True, help=".npz of initial weights")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    got = parser.parse_args(arguments)
    settings = tuple(
        Setting(float(lr) if lr else OWN_LR[optimizer], int(batch), int(epochs), loss, optimizer)
        for loss, optimizer, lr, batch, epochs in itertools.product(
            *(text.split(",") for text in (got.loss, got.optimizer, got.lr, got.batch, got.epochs))
        )
    )
    return Task(settings, got.limit, got.data, got.weights, got.store, got.out, got.seed)


def load(folder: Path, limit: int) -> Data:
    """Read the IDX files; training images from the first on."""
    train_images, train_labels, test_images, test_labels = (
        np.fromfile(folder / name, np.uint8, offset=header) for name, header in FILES
    )
    return Data(
        train_images.reshape(-1, 28, 28)[:limit],
        train_labels[:limit],
        test_images.reshape(-1, 28, 28),
        test_labels,
    )


def initial(path: Path) -> dict[str, NDArray[np.float32]]:
    """The weights that every peer begins with, by torch's names."""
    with np.load(path) as arrays:
        return dict(arrays)


def write(task: Task, accuracies: list[float]) -> None:
    """Write the accuracies (%) of the settings, in their order."""
    rows = [
        asdict(setting) | {"accuracy": round(accuracy, 4)}
        for setting, accuracy in zip(task.settings, accuracies, strict=True)
    ]
    task.out.write_text(json.dumps(rows))


def cores() -> int:
    """How many cores there are for this process."""
    return len(os.sched_getaffinity(0))
