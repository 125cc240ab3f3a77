"""What all downloads share: how their progress is displayed, and the error of a failed source."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class UnavailableError(Exception):
    """A source did not provide the expected content. The message names it and the reason."""


class DownloadProgress(Protocol):
    """Displays what `ensure_dataset` does."""

    def on_message(self, line: str) -> None:
        """Display one line."""

    def transfer(
        self, what: str, total: int | None
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Display a download of `total` bytes (None: unknown).

        Yields a function to call with the number of bytes in each part received.
        """


class StderrProgress:
    """Displays downloads on stderr: a progress bar on a terminal, else one line each."""

    def on_message(self, line: str) -> None:
        """Print one line."""
        sys.stderr.write(f"{line}\n")

    @contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        """Display a download of `total` bytes (None: unknown)."""
        if not sys.stderr.isatty():
            size = "" if total is None else f" ({total / 1e6:.1f} MB)"
            self.on_message(f"downloading {what}{size}")
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
