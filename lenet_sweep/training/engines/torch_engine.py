"""The torch engine: a plain PyTorch training loop for any device.

It is the reference for faster engines. It computes the same as the report's loop but is faster: the
images stay on the device, and losses are fetched once per call instead of once per batch, so that
the loop does not wait for the device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet_sweep.config.registry import takes_logits, takes_one_hot, torch_class
from lenet_sweep.core.cells import Cell
from lenet_sweep.data.images import Images, Labels, Pixels, label_type
from lenet_sweep.training.dropout import keep_masks, layer_units
from lenet_sweep.training.engines import Evaluation
from lenet_sweep.training.lenet5 import LeNet5, seeded_lenet5
from lenet_sweep.training.own_model import (
    create_model,
    extra_buffers,
    random_state_kept,
    seed_torch,
)

EVALUATION_BATCH = 1000  # images; larger batches do not fit the CPU's caches and are slower


@contextmanager
def _subnormals_flushed() -> Iterator[None]:
    """Treat floats below 2^-126 as zero, like the native engine; otherwise arithmetic is slow.

    This is a setting of the current thread. The caller's setting is restored at the end.
    """
    before = sys.float_info.min / 2 == 0  # torch has no function to query the setting
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class TorchEngine:
    """Engine for any cell, on cpu, cuda or mps.

    It uses one thread, because the results of torch depend on the number of threads.
    """

    def __init__(self, cell: Cell, images: Images) -> None:
        torch.set_num_threads(1)
        if cell.device == "cuda":
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        self.detail = (
            f"torch {torch.__version__}, 1 thread, {torch.backends.cpu.get_cpu_capability()}"
        )
        self.cell = cell
        if cell.batch_norm and len(images.train_labels) % cell.batch == 1:
            raise ValueError(
                f"batch_norm needs at least 2 images in each batch, but with batch={cell.batch}, "
                f"the last batch of the {len(images.train_labels)} images has 1; use another batch "
                "size"
            )
        self.device = torch.device(cell.device)
        model = create_model(cell) if cell.model_source else seeded_lenet5(cell)
        self.model: nn.Module = model.to(self.device)
        loss_class = getattr(nn, torch_class(cell, "loss"))
        self.loss: nn.Module = loss_class(**dict(cell.loss.options))
        self.loss_per_image: nn.Module = loss_class(**dict(cell.loss.options), reduction="none")
        self.takes_logits, self.takes_one_hot = takes_logits(cell), takes_one_hot(cell)
        optimizer_class = getattr(torch.optim, torch_class(cell, "optimizer"))
        self.optimizer: torch.optim.Optimizer = optimizer_class(
            self.model.parameters(), lr=cell.lr, **dict(cell.optimizer.options)
        )
        self.train_images, self.train_labels = self._to_device(
            images.train_images, images.train_labels
        )
        self.test_images, self.test_labels = self._to_device(images.test_images, images.test_labels)
        self.pixel_mean, self.pixel_std = (
            images.pixel_statistics if cell.normalize == "standard" else (0.0, 1.0)
        )

    @property
    def threads(self) -> int:
        return 1

    @threads.setter
    def threads(self, number: int) -> None:
        """Ignored."""

    @_subnormals_flushed()
    @random_state_kept()
    def train(
        self,
        order: NDArray[np.int64],
        lrs: NDArray[np.float64] | None = None,
        *,
        step: int = 0,
        images: Pixels | None = None,
    ) -> NDArray[np.float32]:
        self.model.train()
        losses = []
        indices = torch.from_numpy(order).to(self.device)
        pixels, labels = self.train_images, self.train_labels
        if images is not None:
            pixels, labels = self._pixels_to_device(images), labels[indices]
            indices = torch.arange(len(order), device=self.device)
        batches = torch.split(indices, self.cell.batch)
        rates = repeat(self.cell.lr) if lrs is None else lrs
        for number, batch, lr in zip(count(step), batches, rates, strict=False):
            for group in self.optimizer.param_groups:
                group["lr"] = float(lr)
            self._seed_random_layers(number, len(batch))
            logits = self._logits(self._to_input(pixels[batch]))
            scores = logits if self.takes_logits else torch.log_softmax(logits, dim=1)
            loss = self.loss(scores, self._targets(labels[batch]))
            self.optimizer.zero_grad()
            loss.backward()
            if self.cell.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.cell.clip_norm)
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu().numpy()

    @_subnormals_flushed()
    @random_state_kept()
    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        self.model.eval()
        seed_torch(self.device, self.cell.seed)  # a user's model may be random here, too
        predictions, losses = [], []
        for images, labels in zip(
            torch.split(self.test_images, EVALUATION_BATCH),
            torch.split(self.test_labels, EVALUATION_BATCH),
            strict=True,
        ):
            logits = self._logits(self._to_input(images))
            log_probabilities = torch.log_softmax(logits, dim=1)
            # The largest logit has the largest log-probability, so this holds for every loss.
            predictions.append(log_probabilities.argmax(1))
            scores = logits if self.takes_logits else log_probabilities
            loss = self.loss_per_image(scores, self._targets(labels))
            losses.append(loss.mean(1) if loss.dim() > 1 else loss)  # mean over the classes
        return Evaluation(
            torch.cat(predictions).cpu().numpy().astype(label_type(self.cell.dataset.classes)),
            torch.cat(losses).cpu().numpy(),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        arrays = {f"weight.{k}": v for k, v in self.model.state_dict().items()}
        arrays |= {f"buffer.{k}": v for k, v in extra_buffers(self.model).items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            arrays |= {
                f"optimizer.{index}.{k}": v for k, v in values.items() if isinstance(v, Tensor)
            }
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in arrays.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, array in state.items():
            kind, _, rest = name.partition(".")
            tensor = torch.from_numpy(np.array(array))
            if kind == "weight":
                weights[rest] = tensor
            elif kind == "buffer":
                self.model.get_buffer(rest).copy_(tensor)
            else:
                index, _, key = rest.partition(".")
                moments.setdefault(int(index), {})[key] = tensor
        self.model.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _logits(self, inputs: Tensor) -> Tensor:
        """The scores of the network (B, classes) for its input (B, 1, height, width)."""
        if isinstance(self.model, LeNet5):
            return self.model.logits(inputs)
        scores: Tensor = self.model(inputs)
        return scores

    def _seed_random_layers(self, step: int, batch: int) -> None:
        """Set the dropout masks of a step, or seed torch for the random layers of a user's model.

        batch: the number of images of the step.
        """
        if self.cell.model_source:
            seed_torch(self.device, self.cell.seed, step)
        if self.cell.dropout:
            assert isinstance(self.model, LeNet5)
            keep = torch.from_numpy(keep_masks(self.cell, step, batch)).float().to(self.device)
            first = layer_units(self.cell.width)[0]
            self.model.dropout1.keep, self.model.dropout2.keep = keep[:, :first], keep[:, first:]

    def _to_input(self, images: Tensor) -> Tensor:
        """Pixels (B, 1, height, width) uint8 as the input of the network."""
        inputs = images.float().div_(255)
        if self.cell.normalize == "standard":
            inputs.sub_(self.pixel_mean).div_(self.pixel_std)
        return inputs

    def _targets(self, labels: Tensor) -> Tensor:
        """What the loss compares with: class indices (B,), or one-hot vectors (B, classes)."""
        if not self.takes_one_hot:
            return labels
        return nn.functional.one_hot(labels, self.cell.dataset.classes).float()

    def _to_device(self, images: Pixels, labels: Labels) -> tuple[Tensor, Tensor]:
        wide = torch.from_numpy(labels.astype(np.int64))
        return self._pixels_to_device(images), wide.to(self.device)

    def _pixels_to_device(self, images: Pixels) -> Tensor:
        # Stored as uint8, which takes a quarter of the memory; each batch is divided by 255 as in
        # torchvision's ToTensor.
        return torch.from_numpy(images).unsqueeze(1).to(self.device)
