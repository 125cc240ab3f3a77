"""Which engine trains a cell: known before anything is trained, since it is part of the cell."""

from __future__ import annotations

from functools import cache

from lenet_sweep.recipes import Optimizer

REFUSED_OPTIONS = ("maximize", "amsgrad", "decoupled_weight_decay")


def refusal(optimizer: Optimizer, activation: str, device: str) -> str | None:
    """Why the native engine does not train such a cell; None if it does."""
    if device != "cpu":
        return f"the native engine trains on cpu, not on {device}"
    if activation not in ("relu", "tanh"):
        return f"the native engine takes activation relu and tanh, not {activation}"
    for option in REFUSED_OPTIONS:
        if optimizer.changed.get(option):
            return f"the native engine does not take optimizer.{option}"
    if dict(optimizer.options).get("eps") == 0:
        return "the native engine does not take optimizer.eps=0"
    return missing()


@cache
def missing() -> str | None:
    """Why there is no native engine in this installation; None if there is one."""
    try:
        from lenet_sweep.engines import _native  # noqa: F401, PLC0415
    except ImportError as error:
        return (
            f"the native engine is not in this installation ({error}); "
            "with a C++ compiler, installing again builds it"
        )
    return None
