"""Load the trained network of a row of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet_sweep.config import own_models
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import DataError, StoreError, UsageError
from lenet_sweep.core.text import format_value, one_line
from lenet_sweep.data.catalog import OWN_DATASETS, find_spec
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.data.images import MAX_CLASSES, MAX_SIDE, class_noun
from lenet_sweep.inference.selection import TrainedRow, select_row
from lenet_sweep.training.lenet5 import LeNet5, build_lenet5
from lenet_sweep.training.own_model import create_from_class

if TYPE_CHECKING:
    import pandas as pd


class TrainedModel(nn.Module):
    """A trained network that takes images as its dataset has them.

    network: the LeNet5, or your own model. cell: the settings that it was trained with. epochs: the
    number of epochs that it was trained for. class_names: by class. pixel_mean, pixel_std: buffers;
    pixels from 0 to 1 are normalized to (pixel - pixel_mean) / pixel_std. They are 0 and 1 unless
    the cell has normalize=standard.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        network: nn.Module,
        cell: Cell,
        *,
        epochs: int,
        class_names: tuple[str, ...],
        pixel_mean: float = 0.0,
        pixel_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.cell = cell
        self.epochs = epochs
        self.class_names = class_names
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32))
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.cell.dataset.size

    @property
    def noun(self) -> str:
        """What the classes are called: "digit" or "class"."""
        return class_noun(self.class_names)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 1, height, width) to the scores (logits) of the classes, (B, classes).

        images: floats from 0 to 1, or uint8 from 0 to 255. The background of MNIST is 0. Raises
        ValueError for another shape.
        """
        expected = (1, *self.size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"images: must have the shape (B, {shape}), not {tuple(images.shape)}")
        is_float = images.is_floating_point()
        images = images.to(self.pixel_mean.dtype)
        if not is_float:
            images = images / 255
        inputs = (images - self.pixel_mean) / self.pixel_std
        network = self.network
        scores: Tensor = network.logits(inputs) if isinstance(network, LeNet5) else network(inputs)
        return scores


def load_model(
    folder_or_table: str | Path | pd.DataFrame,
    rank: int = 1,
    *,
    cell: str | None = None,
    device: str = "cpu",
    model: type[nn.Module] | None = None,
) -> TrainedModel:
    """Load the trained network of a row, in evaluation mode.

    folder_or_table: the folder of a sweep, `outputs/sweeps/<name>`, or a table that `sweep` or
    `load_results` returned, which may be sorted or filtered. rank: the row of the table, from 1;
    unlike in the column `rank`, rows with equal accuracies have different numbers. cell: the cell
    instead, as in the column `cell`. device: where to put the network, such as "cuda". model: your
    own class, if the row has one; it must be the class that was trained.

    The network maps images (B, 1, height, width), with pixels from 0 to 1 or as uint8, to the
    scores (logits) of the classes, (B, classes), and normalizes its input as in training. Its
    accuracy on the test images is that of the row, up to rounding.

    Of a row that a search stopped, the network after its last epoch is loaded: see the attribute
    `epochs`. Failed rows have none.

    Nothing in the folder is executed. Raises UsageError for a row or a device that cannot be used,
    and for a missing or different class; FileNotFoundError if there is no sweep; StoreError if the
    weights are missing or damaged; and DataError if a run of an earlier version needs its dataset,
    because of normalize=standard, and it is not available.
    """
    return load_row(select_row(folder_or_table, rank, cell), device=device, model=model)


def load_row(
    row: TrainedRow, *, device: str = "cpu", model: type[nn.Module] | None = None
) -> TrainedModel:
    """Load the network of a selected row; see `load_model`."""
    place = _check_device(device)
    _check_dataset(row)
    network = _build(row, model)
    _set_weights(network, row)
    images = _images_of(row)
    trained = TrainedModel(
        network,
        row.cell,
        epochs=row.snapshot.epoch,
        class_names=images.class_names,
        pixel_mean=images.pixel_mean,
        pixel_std=images.pixel_std,
    )
    return trained.to(place).eval()


def _check_device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place).cpu()  # fails for "meta"
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise UsageError(
            f"device={format_value(device)}: must be a device of torch on this machine, such as "
            f'"cpu" ({one_line(str(error))[:80]})'
        ) from error
    return place


def _check_dataset(row: TrainedRow) -> None:
    """Check the numbers of a sweep.json that may come from someone else."""
    dataset = row.cell.dataset
    sizes = (*dataset.size, dataset.classes)
    limits = (MAX_SIDE, MAX_SIDE, MAX_CLASSES)
    if not all(
        isinstance(n, int) and 1 <= n <= most for n, most in zip(sizes, limits, strict=True)
    ):
        raise StoreError(
            f"{row.sweep.folder / 'sweep.json'}: the dataset of row {row.number} must have images "
            f"of 1 to {MAX_SIDE} pixels on a side and 1 to {MAX_CLASSES} classes"
        )


def _build(row: TrainedRow, model: type[nn.Module] | None) -> nn.Module:
    """The network of a row, with any weights."""
    cell = row.cell
    name = format_value(cell.model.name)
    if not cell.model_source:
        if model is not None:
            raise UsageError(
                f"model={model.__name__}: the model of row {row.number} is {name}, which is part "
                "of lenet-sweep; leave out the argument"
            )
        return _build_lenet5(row)
    if model is None:
        raise UsageError(
            f"row {row.number} has your own model {name}; pass its class, as in model={name}"
        )
    own_name = own_models.name_of_class(model)
    if own_models.digest_of_class(model) != cell.model_source:
        if own_name != cell.model.name:
            raise UsageError(f"model={own_name}: the model of row {row.number} is {name}")
        raise UsageError(
            f"model={own_name}: the source of the class, or of a module that it imports, is not "
            f"the one that row {row.number} was trained with; restore that source, or run the "
            "sweep again"
        )
    return create_from_class(model, cell)


def _build_lenet5(row: TrainedRow) -> nn.Module:
    """The network of a row, without memory for its weights.

    It is tried, because the settings may come from someone else. Raises StoreError.
    """
    try:
        with torch.device("meta"):
            network = build_lenet5(row.cell).eval()
            network(torch.empty(1, 1, *row.cell.dataset.size))
    except Exception as error:  # torch raises many types
        raise StoreError(
            f"row {row.number} of {row.sweep.folder}: its network cannot be built: "
            f"{one_line(str(error))[:200] or type(error).__name__}"
        ) from error
    return network


def _set_weights(network: nn.Module, row: TrainedRow) -> None:
    """Copy the weights of a snapshot into a network. Raises StoreError if they do not fit."""
    weights = _part(row.snapshot.state, "weight.")
    buffers = _part(row.snapshot.state, "buffer.")  # those that state_dict leaves out
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if {name: array.shape for name, array in weights.items()} != expected:
        raise StoreError(
            f"row {row.number} of {row.sweep.folder}: the weights in the store do not fit its "
            "model; run the command of the sweep again"
        )
    if any(parameter.is_meta for parameter in network.parameters()):
        network.to_empty(device="cpu")
    network.load_state_dict({name: _tensor(array) for name, array in weights.items()})
    for name, array in buffers.items():
        network.get_buffer(name).copy_(_tensor(array))


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


@dataclass(frozen=True)
class _ImageFacts:
    """What a network needs to know about the images that it was trained on."""

    class_names: tuple[str, ...]
    pixel_mean: float = 0.0
    pixel_std: float = 1.0


def _images_of(row: TrainedRow) -> _ImageFacts:
    """The facts in the run.json of a row, or else from its dataset.

    Runs of earlier versions do not have them.
    """
    run = row.sweep.store.run_folder(row.cell.run_id)
    stored = (run.description() or {}).get("images")
    facts = _stored_facts(stored, row.cell) if isinstance(stored, dict) else None
    return facts or _facts_of_dataset(row)


def _stored_facts(stored: Mapping[str, Any], cell: Cell) -> _ImageFacts | None:
    """The facts of a run.json; None if they are not those of the cell."""
    names, numbers = stored.get("class_names"), (0.0, 1.0)
    if not isinstance(names, list) or len(names) != cell.dataset.classes:
        return None
    if cell.normalize == "standard":
        found = (stored.get("pixel_mean"), stored.get("pixel_std"))
        if not all(isinstance(value, float) and math.isfinite(value) for value in found):
            return None
        numbers = found  # type: ignore[assignment] # checked above
    return _ImageFacts(tuple(one_line(str(name)) for name in names), *numbers)


def _facts_of_dataset(row: TrainedRow) -> _ImageFacts:
    cell, root = row.cell, row.sweep.data_root
    numbers = tuple(map(str, range(cell.dataset.classes)))
    if cell.normalize != "standard" and cell.dataset.name not in OWN_DATASETS:
        return _ImageFacts(find_spec(cell.dataset.name).class_names)
    try:
        images = load_dataset(cell.dataset, root if root and root.is_dir() else None)
    except (DataError, UsageError):
        if cell.normalize == "standard":
            raise
        return _ImageFacts(numbers)
    statistics = images.pixel_statistics if cell.normalize == "standard" else (0.0, 1.0)
    return _ImageFacts(images.class_names, *statistics)
