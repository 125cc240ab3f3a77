"""The native engine: LeNet5 in C++ on the CPU, without torch. See docs/native-engine.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.data.images import Images, Pixels
from lenet_sweep.training.dropout import keep_masks
from lenet_sweep.training.engines import Evaluation, _native
from lenet_sweep.training.initial_weights import LAYERS, initial_weights

# The parameters in the order of torch's state_dict and of the extension's flat arrays.
SHAPES = [
    (f"{layer}.{kind}", shape if kind == "weight" else shape[:1])
    for layer, shape, _ in LAYERS
    for kind in ("weight", "bias")
]
# The state that each optimizer keeps per parameter: torch's name and the extension's array.
MOMENTS = {
    "sgd": {"momentum_buffer": "first"},
    "adam": {"exp_avg": "first", "exp_avg_sq": "second"},
    "rmsprop": {"square_avg": "second", "momentum_buffer": "first", "grad_avg": "third"},
    "adagrad": {"sum": "second"},
}
SAME_NAMES = ("momentum", "dampening", "weight_decay", "nesterov", "eps", "centered", "lr_decay")


def _rule_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one of torch's optimizers as those of the native one."""
    native = {key: options[key] for key in SAME_NAMES if key in options}
    if "betas" in options:
        native["beta1"], native["beta2"] = options["betas"]
    if "alpha" in options:
        native["beta2"] = options["alpha"]
    native["decoupled"] = name == "adamw" or options.get("decoupled_weight_decay", False)
    return native


class NativeEngine:
    """Engine for the cells that `support.NATIVE` allows. Its states are compatible with torch's.

    instructions: an instruction set of `_native.instruction_sets()`; empty selects the best one.
    """

    def __init__(self, cell: Cell, images: Images, instructions: str = "") -> None:
        self.cell, self.images = cell, images
        self.rule = "adam" if cell.optimizer.name == "adamw" else cell.optimizer.name
        options = dict(cell.optimizer.options)
        self.moments = dict(MOMENTS[self.rule])
        for moment, option in (("momentum_buffer", "momentum"), ("grad_avg", "centered")):
            if not options.get(option):
                self.moments.pop(moment, None)
        optimizer = _native.Optimizer(
            self.rule,
            clip=cell.clip_norm or 0.0,
            **_rule_options(cell.optimizer.name, options),
        )
        smoothing: Any = dict(cell.loss.options).get("label_smoothing", 0.0)
        self.trainer = _native.Trainer(
            activation=cell.activation,
            pool=cell.pool.name,
            dropout=cell.dropout,
            normalization=(images.pixel_statistics if cell.normalize == "standard" else None),
            batch=cell.batch,
            optimizer=optimizer,
            label_smoothing=smoothing,
            instructions=instructions,
        )
        self.detail = f"C++, {self.trainer.instructions} instructions"
        self._set("parameters", initial_weights(cell.seed, cell.init.name))

    @property
    def threads(self) -> int:
        return self.trainer.threads

    @threads.setter
    def threads(self, number: int) -> None:
        self.trainer.threads = number

    def train(
        self,
        order: NDArray[np.int64],
        lrs: NDArray[np.float64] | None = None,
        *,
        step: int = 0,
        images: Pixels | None = None,
    ) -> NDArray[np.float32]:
        if lrs is None:
            lrs = np.full(-(-len(order) // self.cell.batch), self.cell.lr)
        keep = keep_masks(self.cell, step, len(order)) if self.cell.dropout else None
        pixels, labels = self.images.train_images, self.images.train_labels
        if images is not None:
            pixels, labels, order = images, labels[order], np.arange(len(order))
        losses: NDArray[np.float32] = self.trainer.train(pixels, labels, order, lrs, keep)
        return losses

    def evaluate(self) -> Evaluation:
        return Evaluation(*self.trainer.evaluate(self.images.test_images, self.images.test_labels))

    def state(self) -> dict[str, NDArray[Any]]:
        state: dict[str, NDArray[Any]] = {
            f"weight.{name}": values for name, values in self._get("parameters").items()
        }
        if self.trainer.steps == 0:
            return state
        for moment, array in self.moments.items():
            for index, values in enumerate(self._get(array).values()):
                state[f"optimizer.{index}.{moment}"] = values
        if self.rule != "sgd":  # which has no step in its state
            for index in range(len(SHAPES)):
                state[f"optimizer.{index}.step"] = np.array(self.trainer.steps, np.float32)
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._set("parameters", {name: state[f"weight.{name}"] for name, _ in SHAPES})
        for moment, array in self.moments.items():
            if f"optimizer.0.{moment}" in state:
                moments = enumerate(SHAPES)
                self._set(array, {n: state[f"optimizer.{i}.{moment}"] for i, (n, _) in moments})
                # SGD only needs to know whether there was an earlier step.
                self.trainer.steps = int(state.get("optimizer.0.step", np.array(1)))

    def _get(self, array: str) -> dict[str, NDArray[np.float32]]:
        flat = self.trainer.get(array)
        ends = np.cumsum([math.prod(shape) for _, shape in SHAPES])
        parts = np.split(flat, ends[:-1])
        return {n: part.reshape(s) for (n, s), part in zip(SHAPES, parts, strict=True)}

    def _set(self, array: str, values: Mapping[str, NDArray[Any]]) -> None:
        flat = np.concatenate([np.ravel(values[name]) for name, _ in SHAPES])
        self.trainer.set(array, flat.astype(np.float32))
