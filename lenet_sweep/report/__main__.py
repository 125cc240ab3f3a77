"""`python -m lenet_sweep.report DIR...`: the page of a sweep again, or of several together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lenet_sweep.core.errors import StoreError, UsageError, exit_status
from lenet_sweep.core.text import describe_os_error, replace_unprintable


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.usage or self.format_usage().strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page. The exit status: 0, or 1 or 2 with one line on standard error."""
    parser = _Parser(
        prog="python -m lenet_sweep.report",
        description="Write report.html of a sweep's folder, or of several sweeps together.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path,
                        help="a sweep's folder: outputs/sweeps/<name>")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where to write; with several folders the merged tables too "
                        "(default: the sweep's folder)")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="where the images lie (default: where they were)")  # fmt: skip
    try:
        given = parser.parse_args(arguments)
        if given.out is None and len(given.folders) > 1:
            parser.error("several sweeps need --out DIR, the folder for what they make together")
        from lenet_sweep.report import page_files  # noqa: PLC0415 - seconds that --help does not have

        written = page_files.rebuild_page(given.folders, given.out or given.folders[0], given.data)
    except (UsageError, StoreError, FileNotFoundError) as error:
        print(f"error: {replace_unprintable(' '.join(str(error).split()))}", file=sys.stderr)
        return exit_status(error)
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return exit_status(error)
    print(f"Written to {written[0].parent}/")
    for path in written:
        print(f"  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
