"""The loop of the report: a DataLoader over MNIST from torchvision, one setting at a time."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks.peers.common import Setting, Task, parse_task, write_accuracies
from benchmarks.peers.network import network, optimizer_of


def train(task: Task, setting: Setting) -> float:
    root = task.data.parents[1]  # torchvision appends MNIST/raw
    data = Subset(MNIST(root, train=True, transform=ToTensor()), range(task.limit))
    test = MNIST(root, train=False, transform=ToTensor())
    loader = DataLoader(data, batch_size=setting.batch)
    test_loader = DataLoader(test, batch_size=1000)
    model = nn.Sequential(network(task.weights), nn.LogSoftmax(dim=1))
    loss_function = nn.NLLLoss() if setting.loss == "nll" else nn.CrossEntropyLoss()
    optimizer = optimizer_of(setting, model)
    correct = 0
    for epoch in range(setting.epochs):
        model.train()
        for number, (images, labels) in enumerate(loader):
            loss = loss_function(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number % 100 == 0:
                print(f"epoch {epoch + 1} batch {number} loss {loss.item():.4f}")
        model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in test_loader:
                correct += int((model(images).argmax(1) == labels).sum())
        print(f"epoch {epoch + 1} accuracy {100 * correct / len(test):.2f}")
    return 100 * correct / len(test)


if __name__ == "__main__":
    task = parse_task()
    write_accuracies(task, [train(task, setting) for setting in task.settings])
