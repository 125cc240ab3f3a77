"""Runs a command and measures the wall time, CPU time and peak memory of its process tree.

Linux only, since it reads /proc. Processes that the command leaves behind, daemons included, are
adopted, counted and killed, so that they do not disturb the next measurement.
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
from dataclasses import dataclass, replace
from pathlib import Path

SAMPLE_INTERVAL = 0.05  # seconds
SAMPLES_PER_SCAN = 5  # /proc is scanned for new processes once in so many samples
NEW_PEAK = 1.02  # reading PSS is slow, so it is read only if the RSS has grown by 2%
PR_SET_CHILD_SUBREAPER = 36
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What one process and its descendants used."""

    seconds: float
    cpu_seconds: float
    peak_mb: float  # sum of PSS over the tree, which counts shared pages once
    begins: float | None  # seconds until the first marker appeared in the output
    ends: float | None  # seconds until the second marker appeared for the last time
    status: int  # the return code of subprocess.Popen
    output: str  # standard output and error
    timed_out: bool = False


def run_watched(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    timeout: float,
    markers: tuple[str, str] | None = None,
) -> Usage:
    """Run a command in `folder` until it ends or times out, then kill what is left of its tree.

    markers: texts in the output; the time is taken when the first one appears, and when the second
    one appears for the last time.
    """
    others = descendants(os.getpid())[1:]
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    log = folder / "output.log"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            watched = _watch(process, start, timeout, log, markers)
        finally:
            _kill_tree(process, others)
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # rusage misses children that their parent did not wait for.
    return replace(
        watched,
        cpu_seconds=max(cpu, watched.cpu_seconds),
        status=process.returncode,
        output=log.read_text(errors="replace"),
    )


def _watch(
    process: subprocess.Popen[bytes],
    start: float,
    timeout: float,
    log: Path,
    markers: tuple[str, str] | None,
) -> Usage:
    """Sample a process tree until the process ends or times out."""
    poll = select.poll()
    descriptor = os.pidfd_open(process.pid)
    poll.register(descriptor, select.POLLIN)
    tree: list[int] = []
    used: dict[int, float] = {}
    peak_rss = peak = samples = last_count = 0
    begins: float | None = None
    ends: float | None = None
    timed_out = False
    try:
        while not poll.poll(SAMPLE_INTERVAL * 1000):
            now = time.perf_counter() - start
            timed_out = now > timeout
            if timed_out:
                break
            if markers:
                output = log.read_bytes()
                first, last = (output.count(marker.encode()) for marker in markers)
                begins = now if first and begins is None else begins
                ends, last_count = (now, last) if last > last_count else (ends, last_count)
            if samples % SAMPLES_PER_SCAN == 0:
                tree = descendants(process.pid)
                used |= {child: _cpu(child) or used.get(child, 0.0) for child in tree}
            samples += 1
            rss = sum(map(_rss, tree))
            if rss > peak_rss * NEW_PEAK:
                peak_rss = rss
                peak = max(peak, sum(map(_pss, tree)))
        seconds = time.perf_counter() - start
        return Usage(seconds, sum(used.values()), peak / 1e6, begins, ends, 0, "", timed_out)
    finally:
        os.close(descriptor)


def descendants(root: int, excluded: Collection[int] = ()) -> list[int]:
    """A process and its descendants, without the excluded processes and their descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - it runs often during a measurement and must be fast
        if name.isdigit() and int(name) not in excluded:
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the process name, which may contain any character."""
    stat = Path(f"/proc/{process}/stat").read_text()
    return stat[stat.rindex(")") + 2 :].split()


def _cpu(process: int) -> float:
    try:
        fields = _stat(process)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _rss(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_SIZE
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


def _kill_tree(process: subprocess.Popen[bytes], others: Collection[int]) -> None:
    """Kill what is left of a process tree; its orphans are children of this process by now."""
    if process.poll() is None:
        process.kill()
    process.wait()
    while left := descendants(os.getpid(), others)[1:]:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(ChildProcessError):  # its parent has to end first
                os.waitpid(child, 0)
