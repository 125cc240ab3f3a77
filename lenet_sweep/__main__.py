"""The entry point of `python -m lenet_sweep`. It handles Ctrl-C before it imports anything slow."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line. The exit status is 0, 1, 2, 141 or 128 + signal number."""
    # Imports create hundreds of thousands of objects that live until the end. By default the
    # garbage collector scans them repeatedly, and again at exit. That takes a fifth of the time of
    # a sweep that has nothing to train.
    gc.set_threshold(100_000)
    try:
        # All imports are inside the `try`. Hydra, which takes half a second, comes last.
        from lenet_sweep.cli import output  # noqa: PLC0415
        from lenet_sweep.runner import interrupts  # noqa: PLC0415

        output.make_safe()
        with interrupts.handle_signals(process_ends=True):
            from lenet_sweep.cli import main  # noqa: PLC0415

            with output.exit_if_lost():
                main.main(register_plugins)
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + getattr(interrupt, "signal", 2))
    finally:
        gc.freeze()


def register_plugins() -> None:
    """Register the sweeper and the launcher of this package with Hydra."""
    from hydra.core.plugins import Plugins  # noqa: PLC0415 - as in `main`

    Plugins.instance()  # executes Hydra's own plugins; what these store, ours replace
    from hydra_plugins import _lenet_sweep  # noqa: PLC0415 - must be imported afterwards

    _lenet_sweep.register()


if __name__ == "__main__":
    main()
