"""LeNet5, its loss and its optimizer in torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.common import Setting, initial_weights


class LeNet5(nn.Module):
    """Images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.linear1 = nn.Linear(120, 84)
        self.linear2 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.conv3(x)).flatten(1)
        return self.linear2(torch.relu(self.linear1(x)))


def network(weights: Path) -> LeNet5:
    model = LeNet5()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in initial_weights(weights).items()})
    return model


def loss_of(setting: Setting, logits: Tensor, labels: Tensor) -> Tensor:
    if setting.loss == "nll":
        return nn.functional.nll_loss(torch.log_softmax(logits, 1), labels)
    return nn.functional.cross_entropy(logits, labels)


def optimizer_of(setting: Setting, model: nn.Module) -> torch.optim.Optimizer:
    if setting.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=setting.lr)
    return torch.optim.SGD(model.parameters(), lr=setting.lr)
