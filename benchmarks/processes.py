"""A command watched from outside: wall seconds, processor seconds, peak memory of its whole tree.

Linux only: it reads /proc. Whatever the command leaves behind, daemons too, is adopted, counted and
ended, so that nothing of one measurement runs beside the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

SAMPLED_EVERY = 0.05  # seconds
LOOKED_FOR_EVERY = 5  # samples between two searches of /proc for new processes
NEW_PEAK = 1.02  # PSS is costly to ask for: only where the sum of RSS is a new peak by 2 %
ADOPT = 36  # PR_SET_CHILD_SUBREAPER
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Taken:
    """What one process with all its descendants took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float  # sum of the PSS over the tree: shared pages count once
    marked: float | None  # seconds until the marker stood in its output
    status: int  # as subprocess has it
    output: str  # standard output and error
    timed_out: bool = False


def watched(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    timeout: float,
    marker: str | None = None,
) -> Taken:
    """Run a command in `folder` until it ends; it and its descendants are gone afterwards."""
    others = descendants(os.getpid())[1:]
    control = ctypes.CDLL(None).prctl
    control(ADOPT, 1, 0, 0, 0)
    log = folder / "output.log"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            seconds, peak, seen, marked, timed_out = _watch(process, began, timeout, log, marker)
        finally:
            _end(process, others)
            control(ADOPT, 0, 0, 0, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    cpu = max(waited, seen)  # some do not wait for their children, whose time is then lost
    text = log.read_text(errors="replace")
    return Taken(seconds, cpu, peak / 1e6, marked, process.returncode, text, timed_out)


def _watch(
    process: subprocess.Popen[bytes], began: float, timeout: float, log: Path, marker: str | None
) -> tuple[float, int, float, float | None, bool]:
    """Seconds, peak in bytes, processor seconds, seconds until the marker, whether time ran out."""
    ends = select.poll()
    descriptor = os.pidfd_open(process.pid)
    ends.register(descriptor, select.POLLIN)
    tree: list[int] = []
    used: dict[int, float] = {}
    highest = peak = samples = 0
    marked: float | None = None
    try:
        while not ends.poll(SAMPLED_EVERY * 1000):
            now = time.perf_counter() - began
            if now > timeout:
                return now, peak, sum(used.values()), marked, True
            if marker and marked is None and marker.encode() in log.read_bytes():
                marked = now
            if samples % LOOKED_FOR_EVERY == 0:
                tree = descendants(process.pid)
                used |= {child: _cpu(child) or used.get(child, 0.0) for child in tree}
            samples += 1
            resident = sum(map(_rss, tree))
            if resident > highest * NEW_PEAK:
                highest = resident
                peak = max(peak, sum(map(_pss, tree)))
        return time.perf_counter() - began, peak, sum(used.values()), marked, False
    finally:
        os.close(descriptor)


def descendants(root: int, without: Collection[int] = ()) -> list[int]:
    """A process and all that descend from it, but for those named with what descends from them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - often, beside what is measured: quick
        if name.isdigit() and int(name) not in without:
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, behind a name that may hold anything."""
    stat = Path(f"/proc/{process}/stat").read_text()
    return stat[stat.rindex(")") + 2 :].split()


def _cpu(process: int) -> float:
    try:
        fields = _stat(process)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):  # it has ended
        return 0


def _pss(process: int) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _end(process: subprocess.Popen[bytes], others: Collection[int]) -> None:
    """End what is left of a tree, orphans included: they are this process's children by now."""
    if process.poll() is None:
        process.kill()
    process.wait()
    while left := descendants(os.getpid(), others)[1:]:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(ChildProcessError):  # not yet: its parent has to end first
                os.waitpid(child, 0)
