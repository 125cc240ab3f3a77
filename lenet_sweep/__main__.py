"""`python -m lenet_sweep`: nothing but the start, so that Ctrl-C is heard from the first moment."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line. Exit status 0, 1 or 2, or 128 + the number of a signal."""
    # Imports make lasting objects by the hundred thousand, which are searched for garbage again and
    # again, and once more at the end: together a fifth of a sweep that has nothing to train.
    gc.set_threshold(100_000)
    try:
        from lenet_sweep import command_line  # noqa: PLC0415 - half a second in which to interrupt

        command_line.main()
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + getattr(interrupt, "signal", 2))
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
