"""The executors by name: those of this package, and those that other packages add.

hydra/launcher=lenet_NAME selects the executor NAME. Another package adds one with an entry point in
the group "lenet_sweep.executors": its name is NAME, its value the module that registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from lenet_sweep.executors import Executor

GROUP = "lenet_sweep.executors"
BUILT_IN = ("local", "slurm", "ray")  # each is registered by the module of its name
Create = Callable[[Any], Executor]


@dataclass(frozen=True)
class ExecutorSpec:
    """How to create an executor.

    options: a dataclass whose fields are made by `options.executor_option`. create: takes an
    instance of it.
    """

    options: type[Any]
    create: Create


_registered: dict[str, ExecutorSpec] = {}


def register_executor(name: str, options: type[Any]) -> Callable[[Create], Create]:
    """Decorate the function that creates an executor from its options."""

    def register(create: Create) -> Create:
        _registered[name] = ExecutorSpec(options, create)
        return create

    return register


@cache
def _modules() -> dict[str, str]:
    """The module of each executor by name."""
    added = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    return added | {name: f"lenet_sweep.executors.{name}" for name in BUILT_IN}


def executor_names() -> tuple[str, ...]:
    """The names of all executors, those of this package first."""
    return (*BUILT_IN, *sorted(_modules().keys() - set(BUILT_IN)))


def find_executor(name: str) -> ExecutorSpec:
    """The executor of a name. Raises KeyError if its module does not register it."""
    import_module(_modules()[name])
    return _registered[name]
