"""The executors by name: those of this package, and those that scripts and other packages add.

hydra/launcher=lenet_NAME selects the executor NAME. Another package adds one with an entry point in
the group "lenet_sweep.executors": its name is NAME, its value the module that registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lenet_sweep.config.plugins import Plugins
from lenet_sweep.executors import Executor

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


EXECUTORS = Plugins[ExecutorSpec]("lenet_sweep.executors", "lenet_sweep.executors", BUILT_IN)


def register_executor(name: str, options: type[Any]) -> Callable[[Create], Create]:
    """Decorate the function that creates an executor from its options.

    Raises UsageError for the name of an executor of this package.
    """

    def register(create: Create) -> Create:
        EXECUTORS.register(name, ExecutorSpec(options, create), create.__module__)
        return create

    return register
