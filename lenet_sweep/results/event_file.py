"""events.jsonl: the events of a sweep's launches, which other processes read while it runs.

Each line is a JSON object: `time` (seconds since 1970), `launch` (8 hex digits), and what happened:
a launch started, its search added runs or started a round, an event of a run, or the launch ended.
Several processes may append to a file at the same time. Only this file is not written atomically: a
line that is not complete is ignored.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lenet_sweep.core import events
from lenet_sweep.core.events import EpochEnded, Event

NAME = "events.jsonl"
MAX_BYTES = 64 * 2**20  # of the file; then nothing is appended
MAX_EPOCH_BYTES = 48 * 2**20  # of the file; then epochs are left out, about 150,000 fit
MAX_RUNS = 20_000  # runs of a launch that are listed; of a larger one, the time left is not known
MAX_EPOCHS = 100_000  # of a run
MAX_NUMBER = 2**31  # other numbers are at most this
MAX_REASON = 1000  # characters of the reason of a failure; tracebacks are in the store
CHUNK = 4 * 2**20  # bytes read at a time
# If someone put a pipe or a link in place of the file, opening it must neither block nor lead
# elsewhere. Windows has neither flag.
NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class LaunchStarted:
    """A launch starts to train.

    workers: runs at the same time; None if not known. host, pid: the process that launched it.
    runs: the ids of its runs, each with the epochs of its cells; empty if there are too many.
    """

    workers: int | None
    host: str
    pid: int
    runs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class RunsAdded:
    """A search has sampled more runs. runs: as in `LaunchStarted`, only the new ones."""

    runs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class RoundStarted:
    """A search starts to train runs before it decides again; see `SearchRound`.

    runs: by run id, the last epoch of this round, and the epochs in the store at its start.
    """

    stage: str
    runs: Mapping[str, tuple[int, int]]
    later: tuple[tuple[int, int], ...]
    at_most: bool


@dataclass(frozen=True)
class LaunchEnded:
    """All runs of a launch have ended, or it was interrupted."""


OfLaunch = LaunchStarted | RunsAdded | RoundStarted | LaunchEnded
Content = OfLaunch | Event


@dataclass(frozen=True)
class Entry:
    """A line of the file. time: seconds since 1970. launch: identifies the launch in the file."""

    time: float
    launch: str
    content: Content


def encode_entry(entry: Entry) -> str:
    """The entry as a line, with its line break. Tracebacks are left out."""
    content = entry.content
    if isinstance(content, OfLaunch):
        values = {"kind": type(content).__name__} | asdict(content)
    else:
        if isinstance(content, events.Failed | events.Retrying):
            reason = content.failure.reason[:MAX_REASON]
            content = replace(
                content, failure=replace(content.failure, reason=reason, traceback="")
            )
        values = events.to_json(content)
    line = {"time": round(entry.time, 3), "launch": entry.launch} | values
    return json.dumps(line, separators=(",", ":")) + "\n"


def decode_entry(line: bytes) -> Entry:
    """Decode a line of `encode_entry`. Raises ValueError, KeyError or TypeError for other bytes."""
    values = json.loads(line)
    time, launch = float(values.pop("time")), values.pop("launch")
    if not (math.isfinite(time) and isinstance(launch, str) and len(launch) <= 8):
        raise ValueError(launch)
    content: Content
    kind = values.get("kind")
    if kind == "LaunchStarted":
        workers = None if values["workers"] is None else _integer(values["workers"], 1)
        host, pid = _text(values["host"]), _integer(values["pid"])
        content = LaunchStarted(workers, host, pid, _runs(values["runs"]))
    elif kind == "RunsAdded":
        content = RunsAdded(_runs(values["runs"]))
    elif kind == "RoundStarted":
        content = _round(values)
    elif kind == "LaunchEnded":
        content = LaunchEnded()
    else:
        content = events.from_json(values)
        _check(content)
        if isinstance(content, EpochEnded):
            _epoch(content.result.epoch)
    return Entry(time, launch, content)


def _check(values: Any) -> None:
    """Raise ValueError if a field of an event, or of a dataclass in it, is not of its type."""
    for name, types in _types(type(values)):  # type: ignore[arg-type] # it is hashable
        value = getattr(values, name)
        if is_dataclass(value):
            _check(value)
        elif not (
            ("str" in types and isinstance(value, str))
            or ("int" in types and type(value) is int and abs(value) < 2**53)
            or ("float" in types and type(value) in (int, float))
            or ("None" in types and value is None)
        ):
            raise ValueError(name)


@cache
def _types(kind: type) -> tuple[tuple[str, frozenset[str]], ...]:
    """The fields of a dataclass, each with the names of its types."""
    return tuple((field.name, frozenset(str(field.type).split(" | "))) for field in fields(kind))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - as for other malformed lines
    return value


def _integer(value: Any, least: int = 0, most: int = MAX_NUMBER) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(value)
    return value


def _epoch(value: Any) -> int:
    return _integer(value, 1, MAX_EPOCHS)


def _runs(values: Any) -> dict[str, tuple[int, ...]]:
    return {_text(run_id): tuple(map(_epoch, epochs)) for run_id, epochs in values.items()}


def _round(values: Mapping[str, Any]) -> RoundStarted:
    runs = {}
    for run_id, (last, trained) in values["runs"].items():
        runs[_text(run_id)] = _epoch(last), _integer(trained, most=last)
    later = tuple((_integer(number), _epoch(epochs)) for number, epochs in values["later"])
    at_most = values["at_most"]
    if len(later) > MAX_RUNS or type(at_most) is not bool:
        raise ValueError(at_most)
    return RoundStarted(_text(values["stage"]), runs, later, at_most)


class EventFileReader:
    """Reads the lines that were added to an events.jsonl since the last call of `read`.

    malformed: the number of lines that were ignored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.malformed = 0
        self._identity: tuple[int, int] | None = None  # of the file that was read last
        self._offset = 0

    def read(self, size: int | None = None) -> tuple[list[Entry], bool]:
        """The next entries, and whether the file was replaced; if so, those of the new file.

        size: bytes to read, CHUNK if omitted; if the next line is longer, up to CHUNK bytes. Raises
        OSError; a file that is missing has no entries.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | NO_WAIT)
        except FileNotFoundError:
            self._start_over(None)
            return [], False
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path.name} is not a file")
            is_new = False
            identity = (status.st_dev, status.st_ino)
            if identity != self._identity or status.st_size < self._offset:
                is_new = self._identity is not None
                self._start_over(identity)
            file.seek(self._offset)
            content = file.read(size or CHUNK)
            if size and b"\n" not in content:
                content += file.read(CHUNK - len(content))
        complete, newline, _ = content.rpartition(b"\n")
        if not newline and len(content) == CHUNK:  # no line is that long
            self._offset += CHUNK
            self.malformed += 1
        self._offset += len(complete) + len(newline)
        return self._decode(complete), is_new

    def _start_over(self, identity: tuple[int, int] | None) -> None:
        self._identity, self._offset = identity, 0

    def _decode(self, content: bytes) -> list[Entry]:
        entries = []
        for line in content.splitlines():
            try:
                entries.append(decode_entry(line))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                self.malformed += bool(line.strip())
        return entries
