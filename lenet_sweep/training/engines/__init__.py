"""The interface of engines, which train a run. Each engine has its own module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.data.images import Images, Labels, Pixels
from lenet_sweep.training.engines.support import NATIVE


@dataclass(frozen=True)
class Evaluation:
    """The results on all N test images: predicted classes (N,) and losses (N,) float32.

    predictions: of `data.images.label_type`.
    """

    predictions: Labels
    losses: NDArray[np.float32]


class Engine(Protocol):
    """A run in training, which starts with the initial weights of the cell's seed.

    All engines have the same initial weights for the same seed, train on the same batches in the
    same order, and agree with the torch engine up to rounding (see tests/test_engines.py). Losses
    are returned even if they are not finite; the caller checks them.
    """

    detail: str  # how it computes on this machine, such as the instruction set
    threads: int  # that it may use; on the CPU, the results do not depend on it

    def train(
        self,
        order: NDArray[np.int64],
        lrs: NDArray[np.float64] | None = None,
        *,
        step: int = 0,
        images: Pixels | None = None,
    ) -> NDArray[np.float32]:
        """Train on the training images with these indices, in batches; the last may be smaller.

        lrs: the learning rate of each batch, (ceil(len(order) / batch),); None: the cell's for all.
        step: the number of the first batch, counted from 0 over the whole run.
        images: the augmented images, (len(order), 28, 28), in this order; None: the images as they
            are.
        Returns the mean loss of each batch, in the same shape, float32.
        """
        ...

    def evaluate(self) -> Evaluation:
        """Evaluate all test images with the current weights."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of the weights and the optimizer state by name, for `restore`."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Resume from a state. On the CPU, training continues bit for bit as if uninterrupted."""
        ...


def build_engine(cell: Cell, images: Images) -> Engine:
    """The engine selected by the cell, with initial weights.

    Raises ValueError if the cell selects the native engine, which does not support it.
    """
    if cell.engine == "native":
        if reason := NATIVE.unsupported_reason(cell):
            raise ValueError(reason)
        from lenet_sweep.training.engines.native_engine import (  # noqa: PLC0415 - may be missing
            NativeEngine,
        )

        return NativeEngine(cell, images)
    from lenet_sweep.training.engines.torch_engine import (  # noqa: PLC0415 - takes seconds
        TorchEngine,
    )

    return TorchEngine(cell, images)
