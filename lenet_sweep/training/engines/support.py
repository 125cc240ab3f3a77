"""The cells that the native engine supports.

This module is separate from the engine so that planning imports neither torch nor the extension.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from lenet_sweep.core.cells import MNIST_SIZE
from lenet_sweep.core.engine_support import ANY, EngineSupport


@cache
def unavailable_reason() -> str | None:
    """Why the native engine is not available and how to fix it; None if it is available."""
    try:
        from lenet_sweep.training.engines import _native  # noqa: F401, PLC0415 - only to see if it exists
    except ImportError as error:
        package = Path(__file__).absolute().parents[2]
        if hidden := _hidden_installation(package):
            folder = package.parent
            place, alternative = str(folder), ""
            if folder == Path.cwd():
                place, alternative = "the current folder", "run from another folder, or "
            return (
                f"Python imports {package}, which has no native engine, instead of the installed "
                f"{hidden}, because it searches {place} first; {alternative}install with "
                f"pip install -e {folder}"
            )
        return (
            f"this installation has no native engine ({error}); "
            "to build it, install lenet-sweep again with a C++ compiler"
        )
    return None


def _hidden_installation(package: Path) -> Path | None:
    """Another lenet_sweep on sys.path that has the native engine and is shadowed by `package`."""
    for entry in sys.path:
        other = Path(entry).absolute() / package.name
        extensions = (
            other / "training" / "engines" / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES
        )
        if other != package and any(path.exists() for path in extensions):
            return other
    return None


def _is_normal(eps: float) -> bool:
    """Padding is updated too, by 0 / (0 + eps), which is NaN if eps is flushed to zero."""
    return eps >= 2**-126


def _only_of_schedule(classes: tuple[tuple[str, str], ...]) -> bool:
    """Whether only the schedule is a user's: the caller passes its learning rates."""
    return all(key.partition(".")[0] == "schedule" for key, _ in classes)


ADAM = {
    "betas": ANY,
    "eps": _is_normal,
    "weight_decay": ANY,
    "amsgrad": (False,),
    "maximize": (False,),
}
NATIVE = EngineSupport(
    name="native",
    settings={
        "activation": ("relu", "tanh", "sigmoid", "leaky_relu", "elu"),
        "augment": ANY,  # the caller passes the images
        "schedule": ANY,
        "horizon": ANY,
        "clip_norm": ANY,
        "patience": ANY,
        "width": (1.0,),
        "batch_norm": (False,),
        "dropout": ANY,
        "normalize": ("none", "standard"),
        "lr": ANY,
        "batch": ANY,
        "epochs": ANY,
        "seed": ANY,
        "shuffle": ANY,  # the caller passes the order and the images
        "dataset.name": ANY,
        "dataset.digest": ANY,
        "dataset.limit": ANY,
        "dataset.holdout": ANY,
        "dataset.classes": (10,),
        "dataset.size": (MNIST_SIZE,),
        "device": ("cpu",),
        "engine": ANY,
        "classes": _only_of_schedule,
        "model_source": ("",),  # the choices below say which models these are
    },
    choices={
        "model": {"lenet5": {}, "lenet5_1998": {}},
        "pool": {"max": {}, "avg": {}},
        "init": {
            "torch": {},
            "xavier_uniform": {},
            "xavier_normal": {},
            "kaiming_uniform": {},
            "kaiming_normal": {},
            "orthogonal": {},
        },
        "loss": {  # the same function of the logits
            "cross_entropy": {"label_smoothing": ANY},
            "nll": {},
        },
        "optimizer": {
            "sgd": {
                "momentum": ANY,
                "dampening": ANY,
                "weight_decay": ANY,
                "nesterov": ANY,
                "maximize": (False,),
            },
            "adam": ADAM | {"decoupled_weight_decay": ANY},
            "adamw": ADAM,
            "rmsprop": {
                "alpha": ANY,
                "eps": _is_normal,
                "weight_decay": ANY,
                "momentum": ANY,
                "centered": ANY,
                "maximize": (False,),
            },
            "adagrad": {
                "lr_decay": ANY,
                "weight_decay": ANY,
                "initial_accumulator_value": (0,),
                "eps": _is_normal,
                "maximize": (False,),
            },
        },
    },
    unavailable_reason=unavailable_reason,
)
