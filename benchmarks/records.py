"""The raw numbers: one record per measurement, all in one file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lenet_sweep.storage import atomic

COLD = 0  # the repeat with empty caches; warm repeats count from 1


@dataclass(frozen=True)
class Record:
    """One contender doing one job once."""

    job: str
    contender: str
    repeat: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    begins: float | None = None  # seconds until the first run starts training; lenet-sweep only
    ends: float | None = None  # seconds until the last epoch has ended; lenet-sweep only
    accuracies: dict[str, float] = field(default_factory=dict)  # % of the test images
    failed: str | None = None  # why there are no numbers, in one line
    commit: str = ""
    time: str = ""  # UTC, at the end of the measurement

    @property
    def training(self) -> float | None:
        """Seconds from the start of the first run to the end of the last epoch."""
        return None if self.begins is None or self.ends is None else self.ends - self.begins

    @property
    def overhead(self) -> float | None:
        """Seconds before the first run and after the last epoch."""
        return None if self.training is None else self.seconds - self.training

    @property
    def key(self) -> tuple[str, str, int]:
        return self.job, self.contender, self.repeat


@dataclass(frozen=True)
class Results:
    """All measurements in one file, and the options they were made with."""

    quick: bool
    limit: int | None  # --limit of a trial run
    environment: dict[str, Any]
    commits: list[str]
    repeats: int
    long: float
    packages: dict[str, dict[str, str]]
    records: list[Record]

    @property
    def reduced(self) -> bool:
        """Whether the jobs were smaller than the full ones, for which the targets are meant."""
        return self.quick or self.limit is not None


@dataclass(frozen=True)
class Spread:
    """The median and the range of several repeats."""

    median: float
    minimum: float
    maximum: float
    count: int

    def __str__(self) -> str:
        median, minimum, maximum = map(format_seconds, (self.median, self.minimum, self.maximum))
        if self.count == 1:
            return f"{median} (n=1)"
        return f"{median} ({minimum}-{maximum}, n={self.count})"


def format_seconds(seconds: float) -> str:
    """Three significant digits; a whole number from 100 on."""
    return f"{seconds:.{2 if seconds < 10 else 1 if seconds < 100 else 0}f}"


def read(path: Path) -> Results:
    raw = json.loads(path.read_text())
    return Results(**raw | {"records": [Record(**record) for record in raw["records"]]})


def write(path: Path, results: Results) -> None:
    """Replace the file atomically, with one record per line."""
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
    matching = [r for r in records if r.key == (job, contender, COLD) and r.failed is None]
    return matching[0] if matching else None


def spread(values: Iterable[float]) -> Spread | None:
    values = sorted(values)
    if not values:
        return None
    return Spread(statistics.median(values), values[0], values[-1], len(values))


def seconds(records: Iterable[Record], job: str, contender: str) -> Spread | None:
    """Wall seconds of the warm repeats, or None if there are none."""
    return spread(r.seconds for r in warm(records, job, contender))


def failures(records: Iterable[Record]) -> dict[str, str]:
    """For each contender that failed, one line with the jobs and the reasons."""
    by_contender: dict[str, dict[str, str]] = {}
    for record in records:
        if record.failed is not None:
            by_contender.setdefault(record.contender, {}).setdefault(record.failed, record.job)
    return {
        contender: "; ".join(f"{job}: {reason}" for reason, job in reasons.items())
        for contender, reasons in by_contender.items()
    }


def resume(results: Results, commit: str, repeats: int, long: float) -> Results:
    """Earlier results to add to, without their failures, so that those are tried again."""
    return replace(
        results,
        commits=[*(known for known in results.commits if known != commit), commit],
        repeats=repeats,
        long=long,
        records=[record for record in results.records if record.failed is None],
    )
