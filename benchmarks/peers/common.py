"""Shared by all peers: command line, dataset, initial weights and output format."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEFAULT_LR = {"sgd": 0.1, "adam": 0.001}
FILES = (
    ("train-images-idx3-ubyte", 16),  # file name, bytes of its header
    ("train-labels-idx1-ubyte", 8),
    ("t10k-images-idx3-ubyte", 16),
    ("t10k-labels-idx1-ubyte", 8),
)


@dataclass(frozen=True)
class Setting:
    """One training, which is one row of the table."""

    lr: float
    batch: int
    epochs: int
    loss: str
    optimizer: str


@dataclass(frozen=True)
class Task:
    """The sweep to run, from the command line."""

    settings: tuple[Setting, ...]
    limit: int
    data: Path
    weights: Path
    store: Path | None  # keeps a finished sweep, if the peer supports it
    out: Path
    seed: int


@dataclass(frozen=True)
class Data:
    """Images as (N, 28, 28) bytes, labels as bytes."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def parse_task(arguments: list[str] | None = None) -> Task:
    """Parse the command line of a peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--lr", default="", help="comma-separated; empty: the default of the optimizer"
    )
    parser.add_argument("--batch", default="64")
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--loss", default="cross_entropy")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--limit", type=int, default=60_000, help="number of training images")
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--weights", type=Path, required=True, help="initial weights (.npz)")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    axes = (options.loss, options.optimizer, options.lr, options.batch, options.epochs)
    settings = tuple(
        Setting(
            float(lr) if lr else DEFAULT_LR[optimizer], int(batch), int(epochs), loss, optimizer
        )
        for loss, optimizer, lr, batch, epochs in itertools.product(
            *(text.split(",") for text in axes)
        )
    )
    return Task(
        settings, options.limit, options.data, options.weights, options.store, options.out,
        options.seed,
    )  # fmt: skip


def load(folder: Path, limit: int) -> Data:
    """Read the IDX files, with the first `limit` training images."""
    train_images, train_labels, test_images, test_labels = (
        np.fromfile(folder / name, np.uint8, offset=header) for name, header in FILES
    )
    return Data(
        train_images.reshape(-1, 28, 28)[:limit],
        train_labels[:limit],
        test_images.reshape(-1, 28, 28),
        test_labels,
    )


def initial_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The initial weights of every peer, by their names in torch."""
    with np.load(path) as arrays:
        return dict(arrays)


def write_accuracies(task: Task, accuracies: list[float]) -> None:
    """Write the accuracies (%) in the order of the settings."""
    rows = [
        asdict(setting) | {"accuracy": round(accuracy, 4)}
        for setting, accuracy in zip(task.settings, accuracies, strict=True)
    ]
    task.out.write_text(json.dumps(rows))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
