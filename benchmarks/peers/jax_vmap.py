"""JAX: all learning rates of one batch size at once, with vmap over the scan of an epoch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.peers.common import Setting, load, parse_task, write_accuracies
from benchmarks.peers.jax_lenet import batches, epoch_of, optimizer_of, test_batches, weights_of

if __name__ == "__main__":
    task = parse_task()
    data = load(task.data, task.limit)
    test = test_batches(data, 100)
    groups: dict[Setting, list[int]] = {}
    for place, s in enumerate(task.settings):
        group = Setting(0, s.batch, s.epochs, s.loss, s.optimizer)
        groups.setdefault(group, []).append(place)
    accuracies = [0.0] * len(task.settings)
    for setting, places in groups.items():
        rates = jnp.asarray([task.settings[place].lr for place in places])
        run = jax.jit(
            jax.vmap(epoch_of(setting), in_axes=(0, 0, 0, None, None, None)),
            donate_argnums=(0, 1),
        )
        weights = {
            name: jnp.stack([w] * len(places)) for name, w in weights_of(task.weights).items()
        }
        state = jax.vmap(optimizer_of(setting, 0.1).init)(weights)
        whole, rest = batches(data, setting.batch)
        accuracy = jnp.zeros(len(places))
        for epoch in range(setting.epochs):
            weights, state, accuracy = run(weights, state, rates, whole, rest, test)
            print(f"{setting} epoch {epoch + 1} accuracies {accuracy}")
        for place, value in zip(places, accuracy.tolist(), strict=True):
            accuracies[place] = value
    write_accuracies(task, accuracies)
