"""Full, failing and read-only disks: one line names the error, and no finished result is lost."""

import errno
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import pandas as pd
import pytest
from processes import (
    Done,
    Fault,
    FaultyDisk,
    age_temporary_files,
    assert_kept,
    assert_same,
    assert_whole,
    finished,
    leftovers,
    linux,
    results,
    shim,
)

pytestmark = [linux, pytest.mark.slow]
FULL, BROKEN = errno.ENOSPC, errno.EIO


@dataclass(frozen=True)
class Disks:
    """Several faulty disks for concurrent use, a sweep, and its table on a healthy disk."""

    free: SimpleQueue
    number: int
    sweep: tuple[str, ...]
    table: pd.DataFrame

    def calls(self, fault: Fault) -> int:
        """The number of file calls of a whole sweep that this kind of fault can hit."""
        done = self.with_one(lambda disk: disk.run(fault, *self.sweep))
        assert done.status == 0, done.output
        return done.calls

    def with_one(self, use: Callable[[FaultyDisk], object]) -> object:
        """Call `use` with one of the disks, emptied."""
        disk = self.free.get()
        try:
            for folder in disk.folder.iterdir():
                shutil.rmtree(folder)
            return use(disk)
        finally:
            self.free.put(disk)

    def check_faults(self, faults: Iterable[Fault], judge: Callable[[Fault, Done], str]) -> None:
        """Run the sweep with each fault and then without: neither may leave anything wrong."""

        def one(fault: Fault) -> str:
            return self.with_one(lambda disk: self._problem(disk, fault, judge))

        with ThreadPoolExecutor(self.number) as pool:
            problems = [problem for problem in pool.map(one, faults) if problem]
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)

    def _problem(self, disk: FaultyDisk, fault: Fault, judge: Callable[[Fault, Done], str]) -> str:
        done = disk.run(fault, *self.sweep)
        context = f"{fault} ({done.what}), status {done.status}"
        assert done.hits, f"{fault}: there was no such call"
        try:
            wrong = judge(fault, done)
            assert not wrong, wrong
            assert_whole(disk.out, self.table)
            if done.status == 0:
                assert_same(results(disk.folder), self.table)
            before = finished(disk.out)
            age_temporary_files(disk.out)
            repaired = disk.run(Fault(), *self.sweep)
            assert repaired.status == 0, f"next sweep: status {repaired.status}: {repaired.output}"
            assert_kept(before, disk.out)
            assert_whole(disk.out, self.table)
            assert_same(results(disk.folder), self.table)
            assert leftovers(disk.out) == []
        except (AssertionError, ValueError) as problem:  # ValueError: unreadable JSON or table
            return f"--- {context}: {problem}"
        return ""


@pytest.fixture(scope="module")
def disks(tmp_path_factory, small_folder) -> Iterator[Disks]:
    root = tmp_path_factory.mktemp("disks")
    library = shim(root)
    number = max(2, len(os.sched_getaffinity(0)))
    disks = [FaultyDisk(root / str(n), library) for n in range(number)]
    free: SimpleQueue = SimpleQueue()
    sweep = (
        "-m", "seed=0,1", "epochs=2", "dataset=folder", f"dataset.root={small_folder()}",
        "device=cpu", "workers=1", "figures=none", "name=it",
    )  # fmt: skip
    done = disks[0].run(Fault(), *sweep)
    assert done.status == 0, done.output
    table = results(disks[0].folder)
    for disk in disks:
        free.put(disk)
    yield Disks(free, number, sweep, table)
    for disk in disks:
        disk.close()


def check_reported(fault: Fault, done: Done) -> str:
    """A sweep on a failing disk exits with status 1 and one line that names the error."""
    if done.status is None:
        return "it does not end"
    if done.status != 1:  # not 2, because the command is right
        return f"not the expected status: {done.output}"
    if "Traceback" in done.output or done.output.count("error: ") > 1:
        return f"more than one line: {done.output}"
    if os.strerror(fault.error) not in done.output:
        return f"the error is not reported: {done.output}"
    return ""


def a_fifth(count: int) -> list[int]:
    """One of each five consecutive calls, chosen at random but the same in every run."""
    choose = random.Random(count)
    return [choose.randrange(n, min(n + 5, count + 1)) for n in range(1, count + 1, 5)]


def test_an_io_error_at_a_fifth_of_the_calls(disks) -> None:
    """A file call fails once: it is reported, and the next sweep completes."""
    calls = a_fifth(disks.calls(Fault(error=BROKEN)))
    assert len(calls) > 10
    disks.check_faults([Fault(first=k, error=BROKEN) for k in calls], check_reported)


def test_a_disk_that_becomes_full(disks) -> None:
    """From some call on, nothing can be written: it is reported, and the next sweep completes."""
    calls = a_fifth(disks.calls(Fault(error=FULL)))
    disks.check_faults([Fault(first=k, error=FULL, every=True) for k in calls], check_reported)


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "every"), [(FULL, False), (FULL, True), (BROKEN, False), (BROKEN, True)]
)
def test_each_error_at_each_call(disks, error: int, every: bool) -> None:
    """A full or failing disk, once or permanently, at each file call."""
    calls = disks.calls(Fault(error=error))
    faults = [Fault(first=k, error=error, every=every) for k in range(1, calls + 1)]
    disks.check_faults(faults, check_reported)


def test_a_kill_at_a_fifth_of_the_calls(disks) -> None:
    """A process is killed before a file call: no file is partial, and the next sweep works."""
    calls = a_fifth(disks.calls(Fault(signal=signal.SIGKILL)))
    faults = [Fault(first=k, signal=signal.SIGKILL) for k in calls]
    disks.check_faults(faults, check_killed)


def check_killed(fault: Fault, done: Done) -> str:
    """The launcher prints nothing; a killed worker is a row, unless its run is saved."""
    if done.status in {-signal.SIGKILL, 0}:
        return ""
    if done.status == 1 and "SIGKILL" in done.output and "Traceback" not in done.output:
        return ""
    return f"neither killed nor reported: {done.output}"


@pytest.mark.long
def test_a_kill_at_each_call(disks) -> None:
    """The same at every file call."""
    calls = disks.calls(Fault(signal=signal.SIGKILL))
    faults = [Fault(first=k, signal=signal.SIGKILL) for k in range(1, calls + 1)]
    disks.check_faults(faults, check_killed)


# ---------------------------------------------------------------- paths that cannot be written


def assert_one_line(done: Done, *words: str) -> None:
    """The status is 2, and the output is one line that contains these words."""
    assert done.status == 2, done.output
    assert done.output.startswith("error: "), done.output
    assert done.output.count("\n") == 1, done.output
    for word in words:
        assert word in done.output


READ_ONLY = Fault(first=1, error=errno.EROFS, every=True)


def test_a_read_only_folder(disks) -> None:
    """If nothing can be written, the sweep reports it and starts nothing."""

    def use(disk: FaultyDisk) -> None:
        assert_one_line(disk.run(READ_ONLY, *disks.sweep), "outputs", "Read-only file system")
        assert not disk.out.exists()

    disks.with_one(use)


def test_a_finished_sweep_on_a_read_only_folder(disks) -> None:
    """Finished files stay unchanged, the error names the folder, and a dry run works."""

    def use(disk: FaultyDisk) -> None:
        assert disk.run(Fault(), *disks.sweep).status == 0
        before = {path: path.stat().st_mtime_ns for path in disk.out.rglob("*")}
        assert_one_line(
            disk.run(READ_ONLY, *disks.sweep), "outputs/sweeps/it", "Read-only file system"
        )
        assert {path: path.stat().st_mtime_ns for path in disk.out.rglob("*")} == before
        dry = disk.run(READ_ONLY, *disks.sweep, "dry_run=true")
        assert dry.status == 0, dry.output
        assert "2 in the store" in dry.output

    disks.with_one(use)


@pytest.mark.parametrize("place", ["outputs", "outputs/sweeps", "outputs/sweeps/it"])
def test_a_file_in_place_of_a_folder(disks, place: str) -> None:
    """The error names the file, which stays unchanged."""

    def use(disk: FaultyDisk) -> None:
        path = disk.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        try:
            assert_one_line(disk.run(Fault(), *disks.sweep), place)
            assert path.read_text() == "mine"
        finally:
            path.unlink()

    disks.with_one(use)


def test_a_file_in_place_of_the_runs_folder(disks) -> None:
    """It is named, either in an error or as the reason of every row."""

    def use(disk: FaultyDisk) -> None:
        runs = disk.out / "runs"
        disk.out.mkdir()
        runs.write_text("mine")
        done = disk.run(Fault(), *disks.sweep)
        assert done.status in {1, 2}, done.output
        assert "Traceback" not in done.output
        assert "cannot create the folder" in done.output
        assert str(runs) in done.output or "outputs/runs" in done.output
        assert runs.read_text() == "mine"

    disks.with_one(use)


def test_a_file_in_place_of_one_runs_folder(disks) -> None:
    """Only that run fails, the message names the file, and results.csv keeps the row it had."""

    def use(disk: FaultyDisk) -> None:
        assert disk.run(Fault(), *disks.sweep).status == 0
        run, other = sorted((disk.out / "runs").iterdir())
        kept = finished(disk.out)
        shutil.rmtree(run)
        run.write_text("mine")
        done = disk.run(Fault(), *disks.sweep)
        assert done.status == 1, done.output
        assert "Traceback" not in done.output
        assert run.read_text() == "mine"
        assert run.name in done.output
        assert_same(results(disk.folder), disks.table)
        path = next(other.glob("epoch-*"))
        assert finished(disk.out)[path] == kept[path]

    disks.with_one(use)


def test_a_long_path(disks) -> None:
    """Folders with names of the maximum length can hold a sweep with its figures."""

    def use(disk: FaultyDisk) -> None:
        out = disk.out / ("a" * 150) / ("b" * 150)
        sweep = (word for word in disks.sweep if word != "figures=none")
        done = disk.run(Fault(), *sweep, f"out={out}", "figures=all")
        assert done.status == 0, done.output
        folder = out / "sweeps" / "it"
        assert_same(pd.read_csv(folder / "results.csv"), disks.table)
        assert len(list((folder / "figures").glob("*_cost.png"))) == 2
        assert_whole(disk.out, disks.table)

    disks.with_one(use)


@pytest.mark.parametrize("key", ["out", "name"])
def test_a_name_that_is_too_long(disks, key: str) -> None:
    """A name that no file system accepts gives one line, also as the name of a sweep."""

    def use(disk: FaultyDisk) -> None:
        sweep = (word for word in disks.sweep if not word.startswith(key))
        done = disk.run(Fault(), *sweep, f"{key}={'x' * 300}")
        assert_one_line(done, "x" * 60, "at most 1000 characters" if key == "out" else "name=")
        assert leftovers(disk.folder) == []

    disks.with_one(use)
