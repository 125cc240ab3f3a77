"""`python -m lenet_sweep`: nothing but the start, so that Ctrl-C is heard from the first moment."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line. Exit status 0, 1, 2 or 141, or 128 + the number of a signal."""
    # Imports make lasting objects by the hundred thousand, which are searched for garbage again and
    # again, and once more at the end: together a fifth of a sweep that has nothing to train.
    gc.set_threshold(100_000)
    try:
        # Nothing is imported before the `try`, and Hydra, which takes half a second, last.
        from lenet_sweep.cli import output  # noqa: PLC0415
        from lenet_sweep.runner import interrupts  # noqa: PLC0415

        output.make_safe()
        with interrupts.handle_signals(process_ends=True):
            from lenet_sweep.cli import main  # noqa: PLC0415

            with output.exit_if_lost():
                main.main()
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + getattr(interrupt, "signal", 2))
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
