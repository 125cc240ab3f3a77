"""The models of users: their creation, and a check of what they return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from lenet_sweep.config.model_import import import_class
from lenet_sweep.config.own_models import class_of, location_of
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import ModelError
from lenet_sweep.core.text import one_line, to_str
from lenet_sweep.training.lenet5 import set_initial_weights


def create_model(cell: Cell) -> nn.Module:
    """The model of a cell with the initial weights of its seed, after a check of its output.

    Does not change torch's random state. Raises ModelError.
    """
    location = location_of(cell)
    if location is None:
        raise ModelError(f"model {cell.model.name}: its code is not known to this process")
    return create_from_class(import_class(location), cell)


def check_model(cell: Cell) -> None:
    """Check the model of a cell in the process that has its class. Raises ModelError."""
    create_from_class(class_of(cell.model.name), cell)


def create_from_class(cls: Any, cell: Cell) -> nn.Module:
    """The model of a cell from its class; see `create_model`."""
    cpu = torch.device("cpu")
    with random_state_kept():
        seed_torch(cpu, cell.seed)
        try:
            model = cls(**dict(cell.model.options))
        except Exception as error:
            raise ModelError(f"{_call(cell)}: {_describe(error)}") from error
        if not isinstance(model, nn.Module):
            raise ModelError(f"model {cell.model.name}: must be a subclass of torch.nn.Module")
        _check_output(model, cell)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{_call(cell)}: has no parameters to train")
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise ModelError(f"{_call(cell)}: has layers that its forward method does not use")
    if not all(isinstance(value, Tensor) for value in model.state_dict().values()):
        raise ModelError(f"{_call(cell)}: must not use get_extra_state, which cannot be saved")
    set_initial_weights(model, cell)
    return model


@torch.no_grad()
def _check_output(model: nn.Module, cell: Cell) -> None:
    """Give the model two images, which also creates the weights of lazy layers."""
    model.eval()
    classes, images = cell.dataset.classes, torch.zeros(2, 1, *cell.dataset.size)
    try:
        scores = model(images)
    except Exception as error:
        raise ModelError(
            f"{_call(cell)}: failed for images of shape {tuple(images.shape)}: {_describe(error)}"
        ) from error
    expected = f"must return a tensor of floats (2, {classes}), a score for each class"
    if not isinstance(scores, Tensor):
        raise ModelError(f"{_call(cell)}: {expected}, not a {type(scores).__name__}")
    shape = tuple(scores.shape)
    if len(shape) == 2 and shape[0] == 2 and shape[1] != classes:
        raise ModelError(
            f"{_call(cell)}: returns {shape[1]} scores for each image, but the dataset has "
            f"{classes} classes, with labels 0 to {classes - 1}; {expected}, for two images"
        )
    if shape != (2, classes) or not scores.is_floating_point():
        kind = str(scores.dtype).removeprefix("torch.")
        raise ModelError(
            f"{_call(cell)}: {expected}, for two images {tuple(images.shape)}, not {kind} {shape}"
        )


def _call(cell: Cell) -> str:
    """The model with its changed options, as in 'model MyNet(hidden=64)'."""
    options = ", ".join(f"{name}={value!r}" for name, value in cell.model.changed.items())
    return f"model {cell.model.name}({options})"


def _describe(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {to_str(error)}")[:300]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the states of torch's generators, on the CPU and the current GPU, at the end."""
    cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call] # torch has no annotation here
    with torch.random.fork_rng(cuda):
        yield


def seed_torch(device: torch.device, *numbers: int) -> None:
    """Seed torch's generators with one or more numbers, such as a seed and a step.

    With several numbers, each combination gives an unrelated stream. SeedSequence is used because
    NumPy guarantees that its results never change (NEP 19).
    """
    number = numbers[0]
    if len(numbers) > 1:
        number = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    if device.type == "cpu":
        torch.default_generator.manual_seed(number)
    else:
        torch.manual_seed(number)  # on all devices


def extra_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that state_dict leaves out (persistent=False)."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}
