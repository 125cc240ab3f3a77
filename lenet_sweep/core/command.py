"""Helpers of the small commands, `python -m lenet_sweep.report` and the like."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from lenet_sweep.core.errors import UsageError, exit_status
from lenet_sweep.core.text import describe_os_error, escape_unencodable, replace_unprintable


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are a UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message and the usage."""
        usage = " ".join((self.usage or self.format_usage()).split())
        raise UsageError(f"{message}; {usage}")


def report_error(error: Exception) -> int:
    """Print an error as one line on standard error. Returns the exit status."""
    is_os_error = isinstance(error, OSError) and error.errno is not None
    text = describe_os_error(error) if is_os_error else str(error)  # type: ignore[arg-type] # an OSError
    print(f"error: {replace_unprintable(' '.join(text.split()))}", file=sys.stderr)
    return exit_status(error)


def say(line: str) -> None:
    """Print a line, also to an output that cannot encode all of its characters."""
    print(escape_unencodable(line, sys.stdout.encoding or "utf-8"))
