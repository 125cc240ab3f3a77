"""JAX, one setting at a time: each epoch is one jitted scan over its batches."""

from __future__ import annotations

import functools

import jax

from benchmarks.peers.common import Setting, load, parse_task, write_accuracies
from benchmarks.peers.jax_lenet import batches, epoch_of, optimizer_of, test_batches, weights_of


@functools.cache
def compiled(loss: str, optimizer: str):
    return jax.jit(epoch_of(Setting(0, 0, 0, loss, optimizer)), donate_argnums=(0, 1))


if __name__ == "__main__":
    task = parse_task()
    data = load(task.data, task.limit)
    test = test_batches(data, 1000)
    stacked = functools.cache(functools.partial(batches, data))
    accuracies = []
    for setting in task.settings:
        weights = weights_of(task.weights)
        state = optimizer_of(setting, setting.lr).init(weights)
        whole, rest = stacked(setting.batch)
        accuracy = 0.0
        for epoch in range(setting.epochs):
            run = compiled(setting.loss, setting.optimizer)
            weights, state, accuracy = run(weights, state, setting.lr, whole, rest, test)
            print(f"{setting} epoch {epoch + 1} accuracy {float(accuracy):.2f}")
        accuracies.append(float(accuracy))
    write_accuracies(task, accuracies)
