"""The training loop of most peers: all images are in memory, and batches are slices of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.common import Setting, load
from benchmarks.peers.network import LeNet5, loss_of, network, optimizer_of


@dataclass(frozen=True)
class Tensors:
    """Images as (N, 1, 28, 28) with values in [0, 1]; labels as int64."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@functools.cache  # reads the files once for all settings of a process
def tensors(
    folder: Path, limit: int, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensors:
    data = load(folder, limit)

    def pixels(images) -> Tensor:
        scaled = torch.from_numpy(images).unsqueeze(1).float().div_(255)
        return scaled.contiguous(memory_format=memory_format)

    return Tensors(
        pixels(data.train_images),
        torch.from_numpy(data.train_labels).long(),
        pixels(data.test_images),
        torch.from_numpy(data.test_labels).long(),
    )


def train_epoch(
    model: LeNet5, optimizer: torch.optim.Optimizer, setting: Setting, data: Tensors
) -> None:
    model.train()
    for images, labels in zip(
        data.train_images.split(setting.batch), data.train_labels.split(setting.batch), strict=True
    ):
        loss = loss_of(setting, model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(model: LeNet5, data: Tensors) -> float:
    model.eval()
    correct = sum(
        int((model(images).argmax(1) == labels).sum())
        for images, labels in zip(
            data.test_images.split(1000), data.test_labels.split(1000), strict=True
        )
    )
    return 100 * correct / len(data.test_labels)


def train(setting: Setting, data: Tensors, weights: Path, model: LeNet5 | None = None) -> float:
    """Train one setting, test it after every epoch, and return the last accuracy (%)."""
    model = model or network(weights)
    optimizer = optimizer_of(setting, model)
    last = 0.0
    for epoch in range(setting.epochs):
        train_epoch(model, optimizer, setting, data)
        last = accuracy(model, data)
        print(f"{setting} epoch {epoch + 1} accuracy {last:.2f}")
    return last
