"""The raw numbers: one record a measurement, all of them in one file, written after each."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lenet_sweep.storage import atomic

COLD = 0  # the repeat with empty caches; the warm ones count from 1


@dataclass(frozen=True)
class Record:
    """One contender doing one job once."""

    job: str
    contender: str
    repeat: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    begins: float | None = None  # seconds until the first run begins to train; ours alone
    accuracies: dict[str, float] = field(default_factory=dict)  # % of the test images
    failed: str | None = None  # why there are no numbers, in one line
    commit: str = ""
    time: str = ""  # when it ended, UTC

    @property
    def key(self) -> tuple[str, str, int]:
        return self.job, self.contender, self.repeat


@dataclass(frozen=True)
class Results:
    """All of one measurement."""

    quick: bool
    limit: int | None  # of a trial: no job has been given more images
    environment: dict[str, Any]
    commits: list[str]
    repeats: int
    long: float
    packages: dict[str, dict[str, str]]
    records: list[Record]

    @property
    def small(self) -> bool:
        """Whether it is less than the full jobs, of which alone targets are meant."""
        return self.quick or self.limit is not None


@dataclass(frozen=True)
class Spread:
    """What several repeats took."""

    median: float
    least: float
    most: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{shown(self.median)} (n=1)"
        return f"{shown(self.median)} ({shown(self.least)}-{shown(self.most)}, n={self.count})"


def shown(seconds: float) -> str:
    """Three figures, or a whole number."""
    return f"{seconds:.{2 if seconds < 10 else 1 if seconds < 100 else 0}f}"


def read(path: Path) -> Results:
    raw = json.loads(path.read_text())
    return Results(**raw | {"records": [Record(**record) for record in raw["records"]]})


def write(path: Path, results: Results) -> None:
    """Whole or not at all; a record in a line."""
    raw = asdict(results)
    lines = ",\n  ".join(json.dumps(record) for record in raw.pop("records"))
    head = json.dumps(raw, indent=1).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace_file(path, f'{head},\n "records": [\n  {lines}\n ]\n}}\n'.encode())


def warm(records: Iterable[Record], job: str, contender: str) -> list[Record]:
    return [
        r
        for r in records
        if (r.job, r.contender) == (job, contender) and r.repeat != COLD and r.failed is None
    ]


def cold(records: Iterable[Record], job: str, contender: str) -> Record | None:
    found = [r for r in records if r.key == (job, contender, COLD) and r.failed is None]
    return found[0] if found else None


def spread(values: Iterable[float]) -> Spread | None:
    values = sorted(values)
    if not values:
        return None
    return Spread(statistics.median(values), values[0], values[-1], len(values))


def seconds(records: Iterable[Record], job: str, contender: str) -> Spread | None:
    """Wall seconds of the warm repeats; None: not measured."""
    return spread(r.seconds for r in warm(records, job, contender))


def failures(records: Iterable[Record]) -> dict[str, str]:
    """For each contender that failed the jobs and the reason, in one line."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        if record.failed is not None:
            found.setdefault(record.contender, {}).setdefault(record.failed, record.job)
    return {
        contender: "; ".join(f"{job}: {reason}" for reason, job in reasons.items())
        for contender, reasons in found.items()
    }


def resumed(results: Results, commit: str, repeats: int, long: float) -> Results:
    """What was measured before, to go on from; what failed is tried again."""
    return replace(
        results,
        commits=[*(known for known in results.commits if known != commit), commit],
        repeats=repeats,
        long=long,
        records=[record for record in results.records if record.failed is None],
    )
