"""LeNet5, with the architecture of the student report and its variations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lenet_sweep.config.registry import GROUPS, ChoiceSpec, torch_class
from lenet_sweep.config.torch_classes import torch_arguments
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.training.dropout import layer_units, scaled
from lenet_sweep.training.initial_weights import initialize


class LeNet5(nn.Module):
    """LeNet5 (LeCun et al., 1998) with log-softmax output and, for 10 classes, 61,706 parameters.

    As in the original paper, the first layer after the second pooling is a convolution. Unlike in
    the paper, pooling has no parameters, the second convolution is connected to all channels, and
    the last layer is linear instead of radial basis functions. The initialization is PyTorch's
    default.

    activation: follows every layer except the last one; the name of a file in conf/activation or of
    a class in torch.nn. pool: the name of a file in conf/pool or of a class in torch.nn.
    pool_options: the arguments of that class. dropout: the probability that a unit of the layers
    with 120 and 84 units is dropped. batch_norm: normalize the input of each activation. width:
    multiplies the number of channels of each hidden layer. classes: the number of outputs.
    """

    def __init__(
        self,
        activation: str = "relu",
        pool: str = "max",
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        width: float = 1.0,
        pool_options: Mapping[str, Any] | None = None,
        classes: int = 10,
    ) -> None:
        super().__init__()
        channels1, channels2 = scaled(6, width), scaled(16, width)
        units1, units2 = layer_units(width)
        self.conv1 = nn.Conv2d(1, channels1, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(channels1, channels2, kernel_size=5)
        self.conv3 = nn.Conv2d(channels2, units1, kernel_size=5)
        self.linear1 = nn.Linear(units1, units2)
        self.linear2 = nn.Linear(units2, classes)
        self.norm1 = nn.BatchNorm2d(channels1) if batch_norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(channels2) if batch_norm else nn.Identity()
        self.norm3 = nn.BatchNorm2d(units1) if batch_norm else nn.Identity()
        self.norm4 = nn.BatchNorm1d(units2) if batch_norm else nn.Identity()
        self.activation = _layer_class(GROUPS["activation"].choices, activation)()
        self.pool = _layer_class(GROUPS["pool"].choices, pool)(
            kernel_size=2, **(pool_options or {})
        )
        self.dropout1, self.dropout2 = MaskedDropout(dropout), MaskedDropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 1, 28, 28) with pixels in [0, 1] to log-probabilities (B, classes)."""
        return torch.log_softmax(self.logits(images), dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """Map images (B, 1, 28, 28) with pixels in [0, 1] to logits (B, classes)."""
        # The shapes are those with width=1.
        x = self.pool(self.activation(self.norm1(self.conv1(images))))  # (B, 6, 14, 14)
        x = self.pool(self.activation(self.norm2(self.conv2(x))))  # (B, 16, 5, 5)
        x = self.dropout1(self.activation(self.norm3(self.conv3(x))).flatten(1))  # (B, 120)
        x = self.dropout2(self.activation(self.norm4(self.linear1(x))))  # (B, 84)
        return cast("Tensor", self.linear2(x))  # (B, classes)


class MaskedDropout(nn.Module):
    """Dropout of the units that are 0 in `keep`, a tensor of zeros and ones (B, units).

    The masks are made outside the network, so that all engines drop the same units.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.keep: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The units that are kept, scaled up to keep the mean; in evaluation, all units."""
        if self.probability == 0 or not self.training:
            return x
        if self.keep is None:
            return nn.functional.dropout(x, self.probability)
        return x * self.keep / (1 - self.probability)


def _layer_class(choices: Mapping[str, ChoiceSpec], name: str) -> type[nn.Module]:
    spec = choices.get(name)
    cls: Any = getattr(nn, spec.torch_class if spec else name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):  # the cell of another person
        raise UsageError(f"{format_value(name)}: must be a subclass of torch.nn.Module in torch.nn")
    return cls


def build_lenet5(cell: Cell) -> LeNet5:
    """The network of a cell, with PyTorch's default weights.

    Raises UsageError if its activation or its pooling is not a module of torch.nn.
    """
    return LeNet5(
        torch_class(cell, "activation"),
        torch_class(cell, "pool"),
        dropout=cell.dropout,
        batch_norm=cell.batch_norm,
        width=cell.width,
        pool_options=torch_arguments(dict(cell.pool.options)),
        classes=cell.dataset.classes,
    )


def seeded_lenet5(cell: Cell) -> LeNet5:
    """The network of a cell, with its initial weights. Does not change torch's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        model = build_lenet5(cell)
    set_initial_weights(model, cell)
    return model


@torch.no_grad()
def set_initial_weights(model: nn.Module, cell: Cell) -> None:
    """Initialize a model according to the cell's `init`; init=torch leaves it unchanged.

    Initializes the weights of convolutions and linear layers; their biases become zero. Does not
    change torch's random state.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers: list[Any] = [module for module in model.modules() if isinstance(module, kinds)]
    if name := torch_class(cell, "init"):
        arguments = torch_arguments(dict(cell.init.options))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cell.seed)
            for layer in layers:
                getattr(nn.init, name)(layer.weight, **arguments)
    elif cell.init.name == "torch":
        return
    else:
        shapes = [tuple(layer.weight.shape) for layer in layers]
        for layer, weight in zip(
            layers, initialize(cell.init.name, cell.seed, shapes), strict=True
        ):
            layer.weight.copy_(torch.from_numpy(weight))
    for layer in layers:
        if layer.bias is not None:
            layer.bias.zero_()
