"""The tables of docs/performance.md.

The page has one table per class of machine, each between the markers `<!-- peers FOLDER ... -->`
and `<!-- /peers FOLDER ... -->`. The folders are relative to benchmarks/results and hold a
peers.json each; every folder becomes a column of the table.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import records, tables

MARKER = re.compile(r"<!-- peers ([^>]+) -->")


def folders(text: str) -> list[list[str]]:
    """The folders of each table of the page."""
    return [match.split() for match in MARKER.findall(text)]


def update(text: str, results: Path, link: str, required: str | None = None) -> str:
    """The page with all tables generated again.

    `link` leads from the page to the folder `results`. Raises ValueError if a closing marker is
    missing, or if the folder `required` is in no table.
    """
    if required and not any(required in names for names in folders(text)):
        raise ValueError(f"no marker <!-- peers ... --> names the folder {required}")
    for names in folders(text):
        columns = {}
        for name in names:
            folder = results / name
            heading = f"[{folder.name}]({Path(link, name).as_posix()}/peers.md)"
            columns[heading] = records.read(folder / "peers.json")
        text = tables.inserted(text, tables.summary(columns), f"peers {' '.join(names)}")
    return text
