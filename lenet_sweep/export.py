"""`python -m lenet_sweep.export DIR --out FOLDER`: export the network of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import DataError, StoreError, UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.inference.options import FILES, add_model_options, load, select


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a network; returns the exit status.

    After an error, the status is 1 or 2 and standard error has one line.
    """
    parser = Parser(
        prog="python -m lenet_sweep.export",
        usage="python -m lenet_sweep.export DIR --out FOLDER [--rank N] [--format NAME,...]",
        description="Write the trained network of a row of a sweep, and its model card.",
    )
    parser.add_argument(
        "sweep", metavar="DIR", type=Path, help="the folder of a sweep: outputs/sweeps/<name>"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, required=True, help="the output folder"
    )
    parser.add_argument(
        "--format",
        default="safetensors",
        metavar="NAME,...",
        help=f"one or more of {', '.join(FILES)} (default: safetensors)",
    )
    add_model_options(parser)
    try:
        options = parser.parse_args(arguments)
        formats = _check_formats(options.format)
        row = select(options)
        say(row.description)
        model = load(row, options)
        from lenet_sweep.inference.export import export_model  # noqa: PLC0415 - imports torch

        written = export_model(row, model, formats, options.out)
    except (UsageError, DataError, StoreError, OSError) as error:
        return report_error(error)
    say(f"Written to {options.out}{os.sep}")
    for path in written:
        say(f"  {path.name}")
    return 0


def _check_formats(text: str) -> list[str]:
    """The formats in a list such as 'onnx,state_dict'. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FILES:
            raise UsageError(
                f"--format {format_value(name)}: must be one or more of {', '.join(FILES)}"
            )
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(main())
