"""Hyperparameter sweeps of LeNet5 on MNIST: type a grid, get a ranked table.

from lenet_sweep import sweep
table = sweep(lr=[1e-1, 1e-2], batch=[32, 64])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenet_sweep.api import analyse, load_results, sweep
    from lenet_sweep.config.own_models import register_model
    from lenet_sweep.core.cells import Cell
    from lenet_sweep.inference.load import load_model
    from lenet_sweep.training.lenet5 import LeNet5
    from lenet_sweep.ui.observer import Observer

    __version__: str

__all__ = [
    "Cell",
    "LeNet5",
    "Observer",
    "__version__",
    "analyse",
    "load_model",
    "load_results",
    "register_model",
    "sweep",
]

_MODULES = {
    "analyse": "lenet_sweep.api",
    "load_results": "lenet_sweep.api",
    "sweep": "lenet_sweep.api",
    "Cell": "lenet_sweep.core.cells",
    "LeNet5": "lenet_sweep.training.lenet5",
    "Observer": "lenet_sweep.ui.observer",
    "load_model": "lenet_sweep.inference.load",
    "register_model": "lenet_sweep.config.own_models",
}


def __getattr__(name: str) -> object:
    # Names are imported on first use: torch and pandas take seconds, and `--help` needs neither.
    if name == "__version__":
        return import_module("importlib.metadata").version("lenet-sweep")
    if name not in _MODULES:
        raise AttributeError(f"module 'lenet_sweep' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
