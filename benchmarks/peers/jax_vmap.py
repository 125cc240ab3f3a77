"""JAX: the learning rates of one batch size trained at once, under vmap of the jitted scan."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.peers.common import Setting, asked, load, write
from benchmarks.peers.jax_lenet import batches, epoch_of, optimizer_of, test_batches, weights_of

if __name__ == "__main__":
    task = asked()
    data = load(task.data, task.limit)
    test = test_batches(data, 100)
    groups: dict[Setting, list[int]] = {}
    for place, s in enumerate(task.settings):
        alike = Setting(0, s.batch, s.epochs, s.loss, s.optimizer)
        groups.setdefault(alike, []).append(place)
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
        reached = jnp.zeros(len(places))
        for epoch in range(setting.epochs):
            weights, state, reached = run(weights, state, rates, whole, rest, test)
            print(f"{setting} epoch {epoch + 1} accuracies {reached}")
        for place, value in zip(places, reached.tolist(), strict=True):
            accuracies[place] = value
    write(task, accuracies)
