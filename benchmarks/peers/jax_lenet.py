"""LeNet5 in JAX: jit and lax.scan over the batches of an epoch, with updates by optax.

Every choice here was the fastest of those tried on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.peers.common import Data, Setting, initial_weights

Weights = dict[str, jax.Array]


def weights_of(path: Path) -> Weights:
    """The initial weights: kernels as HWIO, dense weights as (in, out)."""
    arrays = initial_weights(path)
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return {name: jnp.asarray(a.transpose(axes[a.ndim])) for name, a in arrays.items()}


def pooled(x: jax.Array) -> jax.Array:
    # On a CPU, the gradient of reduce_window is slower than that of a maximum over axes.
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def convolved(x: jax.Array, weights: Weights, layer: str) -> jax.Array:
    """A convolution as one matrix product over stacked shifted views.

    On a CPU, XLA runs lax.conv inside a scan at a fifth of this speed.
    """
    kernel = weights[f"{layer}.weight"]  # (height, width, in, out)
    size, batch, height, width = kernel.shape[0], x.shape[0], x.shape[1], x.shape[2]
    high, wide = height - size + 1, width - size + 1
    views = [x[:, i : i + high, j : j + wide] for i in range(size) for j in range(size)]
    columns = jnp.stack(views, axis=3).reshape(batch, high, wide, -1)
    return jax.nn.relu(columns @ kernel.reshape(-1, kernel.shape[3]) + weights[f"{layer}.bias"])


def logits(weights: Weights, images: jax.Array) -> jax.Array:
    x = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    x = pooled(convolved(x, weights, "conv1"))
    x = pooled(convolved(x, weights, "conv2"))
    # The third convolution has a single output position, so it is a dense layer.
    kernel = weights["conv3.weight"].reshape(-1, 120)
    x = jax.nn.relu(x.reshape(len(x), -1) @ kernel + weights["conv3.bias"])
    x = jax.nn.relu(x @ weights["linear1.weight"] + weights["linear1.bias"])
    return x @ weights["linear2.weight"] + weights["linear2.bias"]


def optimizer_of(setting: Setting, rate: jax.Array | float) -> optax.GradientTransformation:
    return optax.adam(rate) if setting.optimizer == "adam" else optax.sgd(rate)


def cost(weights: Weights, images: jax.Array, labels: jax.Array) -> jax.Array:
    # Cross entropy and NLL of log-softmax are the same function.
    return optax.softmax_cross_entropy_with_integer_labels(logits(weights, images), labels).mean()


def batches(data: Data, size: int) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Full batches, stacked for lax.scan, and the smaller last batch."""
    images = (data.train_images.astype(np.float32) / 255)[..., None]
    labels = data.train_labels.astype(np.int32)
    whole = len(labels) // size * size
    stacked = (
        jnp.asarray(images[:whole].reshape(-1, size, 28, 28, 1)),
        jnp.asarray(labels[:whole].reshape(-1, size)),
    )
    return stacked, (jnp.asarray(images[whole:]), jnp.asarray(labels[whole:]))


def test_batches(data: Data, size: int) -> tuple[jax.Array, jax.Array]:
    images = (data.test_images.astype(np.float32) / 255).reshape(-1, size, 28, 28, 1)
    return jnp.asarray(images), jnp.asarray(data.test_labels.astype(np.int32).reshape(-1, size))


def epoch_of(setting: Setting) -> Callable:
    """A function that trains and tests one epoch.

    Its arguments are the weights, the optimizer state, the learning rate, the full batches, the
    last batch and the test batches; it returns new weights and state, and the accuracy. As the
    learning rate is an argument, one compilation serves all learning rates.
    """

    def epoch(weights, state, rate, whole, rest, test):
        optimizer = optimizer_of(setting, rate)

        def step(carried, batch):
            weights, state = carried
            updates, state = optimizer.update(jax.grad(cost)(weights, *batch), state, weights)
            return (optax.apply_updates(weights, updates), state), None

        carried, _ = lax.scan(step, (weights, state), whole)
        if len(rest[1]):
            carried, _ = step(carried, rest)

        def correct(count, batch):
            return count + (logits(carried[0], batch[0]).argmax(1) == batch[1]).sum(), None

        count, _ = lax.scan(correct, 0, test)
        return *carried, 100 * count / test[1].size

    return epoch
