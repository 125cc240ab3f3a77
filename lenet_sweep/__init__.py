"""Type a grid, get an honest ranked table: LeNet5 hyperparameter sweeps on MNIST.

from lenet_sweep import sweep
table = sweep(lr=[1e-1, 1e-2], batch=[32, 64])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenet_sweep.api import analyse, sweep
    from lenet_sweep.core.cells import Cell
    from lenet_sweep.results.sweep import load_results
    from lenet_sweep.training.lenet5 import LeNet5

    __version__: str

__all__ = ["Cell", "LeNet5", "__version__", "analyse", "load_results", "sweep"]

_HOMES = {
    "analyse": "lenet_sweep.api",
    "sweep": "lenet_sweep.api",
    "Cell": "lenet_sweep.core.cells",
    "LeNet5": "lenet_sweep.training.lenet5",
    "load_results": "lenet_sweep.results.sweep",
}


def __getattr__(name: str) -> object:
    # Imported on first use: torch and pandas take seconds that `--help` does not have.
    if name == "__version__":
        return import_module("importlib.metadata").version("lenet-sweep")
    if name not in _HOMES:
        raise AttributeError(f"module 'lenet_sweep' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
