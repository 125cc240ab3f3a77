"""torch.func: all learning rates of one batch size, loss and optimizer as an ensemble with vmap.

This follows the PyTorch tutorial on model ensembling: stacked weights, functional_call, grad, vmap.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.peers.common import Setting, Task, parse_task, write_accuracies
from benchmarks.peers.network import loss_of, network
from benchmarks.peers.resident_loop import Tensors, tensors

Weights = dict[str, Tensor]


def sgd(weights: Weights, rates: Tensor) -> Callable[[Weights], None]:
    shaped = {name: rates.view(-1, *[1] * (w.dim() - 1)) for name, w in weights.items()}

    def step(gradients: Weights) -> None:
        for name, weight in weights.items():
            weight.addcmul_(gradients[name], shaped[name], value=-1)

    return step


def adam(weights: Weights, rates: Tensor) -> Callable[[Weights], None]:
    means = {name: torch.zeros_like(w) for name, w in weights.items()}
    squares = {name: torch.zeros_like(w) for name, w in weights.items()}
    steps = 0

    def step(gradients: Weights) -> None:
        nonlocal steps
        steps += 1
        for name, weight in weights.items():
            means[name].lerp_(gradients[name], 0.1)
            squares[name].mul_(0.999).addcmul_(gradients[name], gradients[name], value=0.001)
            root = (squares[name] / (1 - 0.999**steps)).sqrt_().add_(1e-8)
            rate = rates.view(-1, *[1] * (weight.dim() - 1)) / (1 - 0.9**steps)
            weight.sub_(rate * means[name] / root)

    return step


def train(group: list[Setting], data: Tensors, task: Task) -> list[float]:
    """Train settings that differ only in their learning rate; returns their accuracies (%)."""
    first = group[0]
    model = network(task.weights)
    weights, _ = stack_module_state([network(task.weights) for _ in group])
    weights = {name: w.detach() for name, w in weights.items()}
    rates = torch.tensor([setting.lr for setting in group])
    step = (adam if first.optimizer == "adam" else sgd)(weights, rates)

    def cost(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
        return loss_of(first, functional_call(model, weights, (images,)), labels)

    gradients = vmap(grad(cost), in_dims=(0, None, None))
    outputs = vmap(lambda w, images: functional_call(model, w, (images,)), in_dims=(0, None))
    accuracies = [0.0] * len(group)
    test_batch = max(1000 // len(group), 50)  # larger batches do not fit into the CPU caches
    for _ in range(first.epochs):
        with torch.no_grad():
            for images, labels in zip(
                data.train_images.split(first.batch),
                data.train_labels.split(first.batch),
                strict=True,
            ):
                step(gradients(weights, images, labels))
        with torch.inference_mode():
            correct = sum(
                (outputs(weights, images).argmax(2) == labels).sum(1)
                for images, labels in zip(
                    data.test_images.split(test_batch),
                    data.test_labels.split(test_batch),
                    strict=True,
                )
            )
        accuracies = (100 * correct / len(data.test_labels)).tolist()
        print(first, accuracies)
    return accuracies


def groups(settings: tuple[Setting, ...]) -> list[list[int]]:
    """Indices of the settings that form one ensemble each."""
    ensembles: dict[tuple, list[int]] = {}
    for place, s in enumerate(settings):
        ensembles.setdefault((s.batch, s.epochs, s.loss, s.optimizer), []).append(place)
    return list(ensembles.values())


if __name__ == "__main__":
    task = parse_task()
    loaded = tensors(task.data, task.limit)
    accuracies = [0.0] * len(task.settings)
    for places in groups(task.settings):
        trained = train([task.settings[place] for place in places], loaded, task)
        for place, value in zip(places, trained, strict=True):
            accuracies[place] = value
    write_accuracies(task, accuracies)
