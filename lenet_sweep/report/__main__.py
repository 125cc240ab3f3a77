"""`python -m lenet_sweep.report DIR...`: rebuild the page of a sweep, or merge several sweeps."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import StoreError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit status.

    After an error, the status is 1 or 2 and standard error has one line.
    """
    parser = Parser(
        prog="python -m lenet_sweep.report",
        description="Write report.html for one sweep, or for several sweeps that are merged.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path,
                        help="the folder of a sweep: outputs/sweeps/<name>")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="the output folder (default: the folder of the sweep); required to "
                        "merge several sweeps, whose tables are also written there")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="the folder of the images (default: the one the sweep used)",
                        )  # fmt: skip
    parser.add_argument("--excel", action="store_true",
                        help="also write results.xlsx, the table with conclusions and warnings",
                        )  # fmt: skip
    try:
        options = parser.parse_args(arguments)
        if options.out is None and len(options.folders) > 1:
            parser.error("to merge several sweeps, choose an output folder with --out DIR")
        from lenet_sweep.report import page_files, workbook  # noqa: PLC0415 - slow to import; not for --help

        if options.excel:
            workbook.check_openpyxl()
        out = options.out or options.folders[0]
        written = page_files.rebuild_page(options.folders, out, options.data, excel=options.excel)
    except (UsageError, StoreError, OSError) as error:
        return report_error(error)
    say(f"Written to {written[0].parent}{os.sep}")
    for path in written:
        print(f"  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
