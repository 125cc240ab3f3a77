"""The command-line options that select a trained network, and the formats to export it in."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.core.errors import UsageError

if TYPE_CHECKING:
    from lenet_sweep.inference.load import TrainedModel
    from lenet_sweep.inference.selection import TrainedRow

# The file of each format.
FILES: Mapping[str, str] = {
    "safetensors": "model.safetensors",
    "onnx": "model.onnx",
    "state_dict": "state_dict.pt",
    "torch_export": "model.pt2",
}


def add_model_options(parser: ArgumentParser) -> None:
    """Add the options that `select` and `load` use, except for --sweep."""
    parser.add_argument(
        "--rank", type=int, default=1, metavar="N",
        help="the row of results.csv, from 1 (default: 1, the best)",
    )  # fmt: skip
    parser.add_argument(
        "--cell", metavar="ID",
        help="a cell instead of a row: its ID in the column cell of results.csv",
    )  # fmt: skip
    parser.add_argument(
        "--models", action="append", default=[], metavar="FILE.py",
        help="the file that registers your own model",
    )  # fmt: skip


def select(options: Namespace) -> TrainedRow:
    """The row that the options select. Raises UsageError, StoreError or FileNotFoundError."""
    # These modules are slow to import, and not needed for --help.
    from lenet_sweep.inference.selection import latest_sweep, select_row  # noqa: PLC0415

    folder = options.sweep or latest_sweep(Path("outputs") / "sweeps")
    return select_row(folder, options.rank, options.cell)


def load(row: TrainedRow, options: Namespace) -> TrainedModel:
    """The trained network of a row. For the errors, see `lenet_sweep.load_model`."""
    from lenet_sweep.config import own_models  # noqa: PLC0415 - as above

    model = None
    if row.cell.model_source:
        model = own_models.find_class(row.cell.model.name, options.models)
    elif options.models:
        raise UsageError(
            f"--models: the model of row {row.number} is {row.cell.model.name}, which is part of "
            "lenet-sweep; leave out the option"
        )
    from lenet_sweep.inference.load import load_row  # noqa: PLC0415 - imports torch

    return load_row(row, model=model)
