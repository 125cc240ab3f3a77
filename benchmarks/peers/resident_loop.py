"""The loop of most of the peers: all images lie in memory as tensors, and batches are slices."""

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
    """Images (N, 1, 28, 28) with pixels in [0, 1]; labels as torch wants them."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@functools.cache  # a process that trains several settings reads the files once
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
    """Train one setting and evaluate it after each epoch; the last accuracy (%)."""
    model = model or network(weights)
    optimizer = optimizer_of(setting, model)
    reached = 0.0
    for epoch in range(setting.epochs):
        train_epoch(model, optimizer, setting, data)
        reached = accuracy(model, data)
        print(f"{setting} epoch {epoch + 1} accuracy {reached:.2f}")
    return reached
