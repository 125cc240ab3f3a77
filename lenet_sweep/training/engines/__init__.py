"""Engines train a run. What every one of them must do stands here; each has a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.data.datasets import Images
from lenet_sweep.training.engines.support import NATIVE


@dataclass(frozen=True)
class Evaluation:
    """Predictions of all test images: (N,) uint8 classes and (N,) float32 losses."""

    predictions: NDArray[np.uint8]
    losses: NDArray[np.float32]


class Engine(Protocol):
    """One run in training: built with the initial weights of the cell's seed.

    Every engine gives the same weights for the same seed, takes the same batches in the same
    order, and agrees with the torch engine within rounding (tests/test_engines.py holds it to
    that). It reports losses as they come, finite or not: judging them is the caller's.
    """

    detail: str  # how it computes on this machine, for whoever wonders about the last digit

    def train(self, order: NDArray[np.int64]) -> NDArray[np.float32]:
        """Train on the training images `order` names, in batches; a shorter last one is kept.

        Returns the mean loss of each batch, (ceil(len(order) / batch),) float32.
        """
        ...

    def evaluate(self) -> Evaluation:
        """Predict all test images with the weights as they are."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of weights and optimizer state, by name: all that `restore` needs."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state, bit for bit as if training had never stopped (on the CPU)."""
        ...


def build_engine(cell: Cell, images: Images) -> Engine:
    """The engine that the cell names, ready to train its run from the start.

    Raises ValueError if the native engine does not support the cell.
    """
    if cell.engine == "native":
        if reason := NATIVE.refusal(cell):
            raise ValueError(reason)
        from lenet_sweep.training.engines.native_engine import NativeEngine  # noqa: PLC0415 - may not be there

        return NativeEngine(cell, images)
    from lenet_sweep.training.engines.torch_engine import TorchEngine  # noqa: PLC0415 - takes seconds

    return TorchEngine(cell, images)
