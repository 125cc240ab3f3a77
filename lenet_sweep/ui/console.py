"""Prints lines of text to a console whose encoding may lack some of their characters."""

from __future__ import annotations

from rich.console import Console

from lenet_sweep.core.text import escape_unencodable


def print_line(console: Console, line: str) -> None:
    """Print a line without rich's markup and highlighting. Missing characters are escaped."""
    console.out(escape_unencodable(line, console.encoding), highlight=False)
