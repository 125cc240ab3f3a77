"""`python -m lenet_sweep.track DIR... --to NAME`: write finished sweeps to trackers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import StoreError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sweeps; returns the exit status.

    After an error, the status is 1 or 2 and standard error has one line.
    """
    parser = Parser(
        prog="python -m lenet_sweep.track",
        description="Write sweeps to tracking tools, such as TensorBoard. Repeating the command "
        "adds only what is missing.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path,
                        help="the folder of a sweep: outputs/sweeps/<name>")  # fmt: skip
    parser.add_argument("--to", required=True, metavar="NAME[,NAME]",
                        help="the trackers: tensorboard, mlflow, optuna")  # fmt: skip
    try:
        options = parser.parse_args(arguments)
        from lenet_sweep.config.trackers import parse_trackers  # noqa: PLC0415 - not for --help

        names = parse_trackers("--to", options.to.split(","))
        return max(_write(folder, name) for folder in options.folders for name in names)
    except (UsageError, StoreError, OSError) as error:
        return report_error(error)


def _write(folder: Path, name: str) -> int:
    """Write a sweep with one tracker; returns the exit status."""
    from lenet_sweep.inference.selection import load_checked_sweep  # noqa: PLC0415 - slow to import
    from lenet_sweep.track import tracking  # noqa: PLC0415 - as above

    sweep = load_checked_sweep(folder)
    try:
        tracking.write_sweep(name, sweep)
    except Exception as error:  # noqa: BLE001 - whatever a tracker raises
        return report_error(RuntimeError(f"tracker {name}: {tracking.describe_error(error)}"))
    say(f"{folder}: written to {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
