"""The fixed registry of losses, optimizers, activations and recipes: names to torch classes.

To add an optimizer, add one entry to OPTIMIZERS: the config group, `--help`, the validation and
the torch engine all read it. Classes stand here as names, so that this module never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lenet_sweep.core.cells import Cell, Dataset, Optimizer, OptionValue
from lenet_sweep.core.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One argument of an optimizer: its default, and what values it takes.

    The default's type is the option's type: bool, float, or a tuple of that many floats.
    """

    default: OptionValue
    meaning: str
    allowed: str = "true or false"
    accepts: Callable[[float], bool] = lambda _: True


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer of `torch.optim`, its own learning rate and the options it takes."""

    torch_class: str
    default_lr: float
    options: Mapping[str, Option]
    conflict: Callable[[Mapping[str, Any]], str | None] = field(default=lambda _: None)


def _at_least_zero(default: float, meaning: str) -> Option:
    return Option(default, meaning, "a number, 0 or more", lambda x: x >= 0)


def _nesterov_conflict(options: Mapping[str, Any]) -> str | None:
    if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
        return "optimizer.nesterov=true needs optimizer.momentum above 0 and optimizer.dampening=0"
    return None


_MAXIMIZE = Option(default=False, meaning="climb the cost instead of descending it")

# Options that only choose torch's implementation (foreach, fused, capturable, differentiable)
# are left out: they are not part of what is compared.
OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(
        torch_class="SGD",
        default_lr=0.1,
        options={
            "momentum": _at_least_zero(0.0, "share of the last step that is kept"),
            "dampening": Option(0.0, "share of the gradient kept out of momentum", "a number"),
            "weight_decay": _at_least_zero(0.0, "L2 penalty"),
            "nesterov": Option(default=False, meaning="look ahead along the momentum"),
            "maximize": _MAXIMIZE,
        },
        conflict=_nesterov_conflict,
    ),
    "adam": OptimizerSpec(
        torch_class="Adam",
        default_lr=0.001,
        options={
            "betas": Option(
                (0.9, 0.999),
                "decay of both running means",
                "two numbers from 0 up to but not 1",
                lambda x: 0 <= x < 1,
            ),
            "eps": _at_least_zero(1e-8, "added to the denominator"),
            "weight_decay": _at_least_zero(0.0, "L2 penalty"),
            "amsgrad": Option(default=False, meaning="keep the largest squared gradient"),
            "decoupled_weight_decay": Option(default=False, meaning="decay weights as AdamW does"),
            "maximize": _MAXIMIZE,
        },
    ),
}


# Every option of any optimizer by its key, 'optimizer.momentum', with its default.
OPTION_DEFAULTS: Mapping[str, OptionValue] = {
    f"optimizer.{name}": option.default
    for spec in OPTIMIZERS.values()
    for name, option in spec.options.items()
}


@dataclass(frozen=True)
class LossSpec:
    """A loss of `torch.nn`, and whether it takes logits or log-probabilities."""

    torch_class: str
    takes_logits: bool


# The report hands log-probabilities to CrossEntropyLoss too, which then takes their log-softmax:
# the identity, but for two more passes and their rounding. Here it gets the logits, so that both
# losses are one function to the last bit.
LOSSES: Mapping[str, LossSpec] = {
    "cross_entropy": LossSpec("CrossEntropyLoss", takes_logits=True),
    "nll": LossSpec("NLLLoss", takes_logits=False),
}

ACTIVATIONS: Mapping[str, str] = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
}

# The two pairs that the report compares.
RECIPES: Mapping[str, tuple[str, str]] = {
    "ce_sgd": ("cross_entropy", "sgd"),
    "nll_adam": ("nll", "adam"),
}


def make_optimizer(
    name: str, options: Mapping[str, OptionValue] | Iterable[tuple[str, OptionValue]] = ()
) -> Optimizer:
    """An optimizer of the registry, with the defaults of the options that are not given.

    Raises UsageError for a name or an option that the registry does not have.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"optimizer={name}: must be one of {', '.join(OPTIMIZERS)}")
    known = OPTIMIZERS[name].options
    given = dict(options)
    for option, value in given.items():
        if option not in known:
            raise UsageError(
                f"optimizer.{option}={value}: {name} has no such option; "
                f"it takes {', '.join(known)}"
            )
    defaults = tuple((option, spec.default) for option, spec in known.items())
    filled = tuple((option, given.get(option, default)) for option, default in defaults)
    return Optimizer(name, filled, defaults)


def cell_from_json(values: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.to_json` wrote. Raises KeyError, TypeError or UsageError otherwise."""
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values["optimizer"]["options"]
    }
    nested = ("optimizer", "dataset")
    return Cell(
        **{f.name: values[f.name] for f in fields(Cell) if f.name not in nested},
        optimizer=make_optimizer(values["optimizer"]["name"], options),
        dataset=Dataset(**values["dataset"]),
    )
