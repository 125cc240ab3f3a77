"""LeNet5, with the architecture of the student report."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lenet_sweep.config.registry import ACTIVATIONS


class LeNet5(nn.Module):
    """LeNet5 (LeCun et al., 1998) with log-softmax output and 61,706 parameters.

    The activation (ReLU in the report) follows every layer except the last one. As in the original
    paper, the first layer after the second pooling is a convolution. The initialization is
    PyTorch's default.
    """

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=5)
        self.linear1 = nn.Linear(120, 84)
        self.linear2 = nn.Linear(84, 10)
        spec = ACTIVATIONS.get(activation)
        self.activation = getattr(nn, spec.torch_class if spec else activation)()
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 1, 28, 28) with pixels in [0, 1] to log-probabilities (B, 10)."""
        return torch.log_softmax(self.logits(images), dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """Map images (B, 1, 28, 28) with pixels in [0, 1] to logits (B, 10)."""
        x = self.pool(self.activation(self.conv1(images)))  # (B, 6, 14, 14)
        x = self.pool(self.activation(self.conv2(x)))  # (B, 16, 5, 5)
        x = self.activation(self.conv3(x)).flatten(1)  # (B, 120)
        x = self.activation(self.linear1(x))  # (B, 84)
        return cast("Tensor", self.linear2(x))  # (B, 10)


def seeded_lenet5(activation: str, seed: int) -> LeNet5:
    """The network with the initial weights of a seed. Does not change torch's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LeNet5(activation)
