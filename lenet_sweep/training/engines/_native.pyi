from typing import Any

import numpy as np
from numpy.typing import NDArray

def instruction_sets() -> list[str]: ...
def affine(
    images: NDArray[np.uint8],
    order: NDArray[np.int64],
    maps: NDArray[np.int32],
    instructions: str = ...,
) -> NDArray[np.uint8]: ...
def elastic(
    images: NDArray[np.uint8],
    order: NDArray[np.int64],
    keys: NDArray[np.uint64],
    smooth: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: int,
    instructions: str = ...,
) -> NDArray[np.uint8]: ...

class Optimizer:
    def __init__(
        self,
        rule: str,
        *,
        momentum: Any = ...,
        dampening: Any = ...,
        weight_decay: Any = ...,
        nesterov: Any = ...,
        beta1: float = ...,
        beta2: float = ...,
        eps: Any = ...,
        clip: float = ...,
        decoupled: Any = ...,
        centered: Any = ...,
        lr_decay: Any = ...,
    ) -> None: ...

class Trainer:
    steps: int
    threads: int
    def __init__(
        self,
        *,
        activation: str,
        pool: str,
        dropout: float,
        normalization: tuple[float, float] | None,
        batch: int,
        optimizer: Optimizer,
        label_smoothing: float = ...,
        instructions: str = ...,
    ) -> None: ...
    @property
    def instructions(self) -> str: ...
    def train(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        order: NDArray[np.int64],
        lrs: NDArray[np.float64],
        keep: NDArray[np.uint8] | None = ...,
    ) -> NDArray[np.float32]: ...
    def evaluate(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]: ...
    def get(self, which: str) -> NDArray[np.float32]: ...
    def set(self, which: str, values: NDArray[np.float32]) -> None: ...
