"""The classes and functions of torch that the files of choices name.

They are looked up in one module of torch each, and checked before the first training. This module
imports torch only inside functions: it takes seconds, and only the files of users need it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from lenet_sweep.config.files import ConfigFile
from lenet_sweep.core.cells import OptionValue
from lenet_sweep.core.errors import UsageError

# Uses a class or a function once, with its arguments. Returns what is wrong with it, or "".
Trial = Callable[[Any, Mapping[str, Any]], str]


@dataclass(frozen=True)
class TorchSource:
    """Where torch has the classes or functions of a config group, and how they are called.

    module: of torch, such as "optim". base: the class that they inherit from; "" for functions that
    fill a tensor. passed: the arguments that are passed in addition to the options. passed_keys:
    the keys of a file that name another one. trial: called with the defaults of a file.
    """

    module: str
    base: str = ""
    passed: tuple[str, ...] = ()
    passed_keys: tuple[str, ...] = ()
    trial: Trial | None = None

    def check(self, file: ConfigFile, name: str, options: Mapping[str, OptionValue]) -> None:
        """Check that torch has the class or function of a file, and that it takes the options.

        options: with their defaults. Raises UsageError otherwise.
        """
        found = self._find(file, name)
        parameters = inspect.signature(found).parameters
        named = {key: str(file.values[key]) for key in self.passed_keys if file.values.get(key)}
        for argument in self.passed:
            if argument not in parameters:
                raise file.error("class", f"must have the argument {argument}, as others have")
        ours = {*self.passed, *named.values()}
        takes = ", ".join(p for p in parameters if p not in ours)
        for key, argument in named.items():
            if argument not in parameters:
                raise file.error(key, f"{name} has no such argument; it takes {takes}")
        for option in options:
            if option not in parameters or option in ours:
                raise UsageError(
                    f"{file.path}: {option}: {name} has no such option; it takes {takes}"
                )
        for parameter in parameters.values():
            if _is_required(parameter) and parameter.name not in {*ours, *options}:
                raise file.error("class", f"requires {parameter.name}; add it as an option")
        if self.trial:
            arguments = torch_arguments(options) | dict.fromkeys(named.values(), 10)
            try:
                problem = self.trial(found, arguments)
            except Exception as error:  # noqa: BLE001 - torch may raise anything
                reason = str(error).partition("\n")[0]
                problem = f"cannot be used: {type(error).__name__}: {reason}"
            if problem:
                raise file.error("class", problem)

    def _find(self, file: ConfigFile, name: str) -> Any:
        import torch  # noqa: PLC0415 - see above

        module = attrgetter(self.module)(torch)
        found = getattr(module, name, None)
        if self.base:
            base = getattr(module, self.base)
            if not (isinstance(found, type) and issubclass(found, base) and found is not base):
                where = f"torch.{self.module}"
                raise file.error("class", f"must be a subclass of {where}.{self.base} in {where}")
        elif not (inspect.isfunction(found) and name.endswith("_") and not name.startswith("_")):
            raise file.error(
                "class", f"must be a function of torch.{self.module} that ends with an underscore"
            )
        return found


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic


def torch_arguments(options: Mapping[str, OptionValue]) -> dict[str, Any]:
    """The options of a choice as arguments in Python: whole numbers are ints.

    Options are floats, and some classes accept an int only, such as T_0 of
    CosineAnnealingWarmRestarts.
    """
    return {name: _to_argument(value) for name, value in options.items()}


def _to_argument(value: OptionValue) -> Any:
    if isinstance(value, tuple):
        return [_to_argument(number) for number in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def try_scheduler(cls: Any, arguments: Mapping[str, Any]) -> str:
    """A learning rate scheduler must step without a metric."""
    import torch  # noqa: PLC0415 - see above

    step = [*inspect.signature(cls.step).parameters.values()][1:]
    if any(map(_is_required, step)):
        return f"its step needs {step[0].name}, which a schedule does not have"
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = cls(optimizer, **arguments)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    return ""


def try_initializer(function: Any, arguments: Mapping[str, Any]) -> str:
    """An initializer must fill the weights of linear layers and of convolutions."""
    import torch  # noqa: PLC0415 - see above

    with torch.random.fork_rng(devices=[]):
        for shape in ((84, 120), (16, 6, 5, 5)):
            function(torch.empty(shape), **arguments)
    return ""


def try_pooling(cls: Any, arguments: Mapping[str, Any]) -> str:
    """A pooling must halve the images."""
    import torch  # noqa: PLC0415 - see above

    if cls(kernel_size=2, **arguments)(torch.ones(1, 1, 28, 28)).shape == (1, 1, 14, 14):
        return ""
    return "must make images of 28 x 28 pixels half as high and half as wide"
