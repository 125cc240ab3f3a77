"""Displays downloads on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StderrProgress:
    """Displays downloads on stderr: a progress bar on a terminal, else one line each."""

    def say(self, line: str) -> None:
        """Print one line."""
        sys.stderr.write(f"{line}\n")

    @contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        """Display a download of `total` bytes (None: unknown)."""
        if not sys.stderr.isatty():
            size = "" if total is None else f" ({total / 1e6:.1f} MB)"
            self.say(f"downloading {what}{size}")
            yield lambda _: None
            return
        from rich import progress  # noqa: PLC0415 - only needed for a bar
        from rich.console import Console  # noqa: PLC0415 - only needed for a bar

        with progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=Console(stderr=True),
        ) as bars:
            task = bars.add_task(f"downloading {what}", total=total)
            yield lambda count: bars.advance(task, count)
