"""A disk that is full, broken or read-only: said in a line, nothing finished lost, nothing half."""

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
    Faulty,
    an_hour_passes,
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
    """Some disks, used at the same time, and what a sweep on a sound one does."""

    free: SimpleQueue
    number: int
    sweep: tuple[str, ...]
    table: pd.DataFrame

    def calls(self, fault: Fault) -> int:
        """How many calls of a whole sweep such a fault may hit."""
        done = self.with_one(lambda disk: disk.run(fault, *self.sweep))
        assert done.status == 0, done.output
        return done.calls

    def with_one(self, use: Callable[[Faulty], object]) -> object:
        """Use one of the disks, empty."""
        disk = self.free.get()
        try:
            for left in disk.folder.iterdir():
                shutil.rmtree(left)
            return use(disk)
        finally:
            self.free.put(disk)

    def endure(self, faults: Iterable[Fault], judge: Callable[[Fault, Done], str]) -> None:
        """Sweep with each of these faults, and then without: nothing may be wrong after either."""

        def one(fault: Fault) -> str:
            return self.with_one(lambda disk: self._problem(disk, fault, judge))

        with ThreadPoolExecutor(self.number) as pool:
            problems = [problem for problem in pool.map(one, faults) if problem]
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)

    def _problem(self, disk: Faulty, fault: Fault, judge: Callable[[Fault, Done], str]) -> str:
        done = disk.run(fault, *self.sweep)
        said = f"{fault} ({done.what}), status {done.status}"
        assert done.hits, f"{fault}: there was no such call"
        try:
            wrong = judge(fault, done)
            assert not wrong, wrong
            assert_whole(disk.out, self.table)
            if done.status == 0:
                assert_same(results(disk.folder), self.table)
            before = finished(disk.out)
            an_hour_passes(disk.out)
            again = disk.run(Fault(), *self.sweep)
            assert again.status == 0, f"the next sweep has status {again.status}: {again.output}"
            assert_kept(before, disk.out)
            assert_whole(disk.out, self.table)
            assert_same(results(disk.folder), self.table)
            assert leftovers(disk.out) == []
        except (AssertionError, ValueError) as problem:  # no JSON, no table
            return f"--- {said}: {problem}"
        return ""


@pytest.fixture(scope="module")
def disks(tmp_path_factory, small_folder) -> Iterator[Disks]:
    root = tmp_path_factory.mktemp("disks")
    library = shim(root)
    number = max(2, len(os.sched_getaffinity(0)))
    made = [Faulty(root / str(n), library) for n in range(number)]
    free: SimpleQueue = SimpleQueue()
    sweep = (
        "-m", "seed=0,1", "epochs=2", "dataset=folder", f"dataset.root={small_folder()}",
        "device=cpu", "workers=1", "figures=none", "name=it",
    )  # fmt: skip
    done = made[0].run(Fault(), *sweep)
    assert done.status == 0, done.output
    table = results(made[0].folder)
    for disk in made:
        free.put(disk)
    yield Disks(free, number, sweep, table)
    for disk in made:
        disk.close()


def said(fault: Fault, done: Done) -> str:
    """A failing disk ends a sweep with a status, and one line says what failed."""
    if done.status is None:
        return "it does not end"
    if done.status != 1:  # not 2: the command is right
        return f"not the status of a fault: {done.output}"
    if "Traceback" in done.output or done.output.count("error: ") > 1:
        return f"more than one line: {done.output}"
    if os.strerror(fault.error) not in done.output:
        return f"its cause is not said: {done.output}"
    return ""


def half(count: int) -> list[int]:
    """Half of the calls, another half in each place of use but the same in every run."""
    return sorted(random.Random(count).sample(range(1, count + 1), count // 2))


def test_a_disk_that_breaks_anywhere(disks) -> None:
    """Each call on a file fails once: said, nothing half, and the next sweep makes it good."""
    calls = disks.calls(Fault(error=BROKEN))
    assert calls > 40
    faults = [Fault(first=k, error=BROKEN) for k in range(1, calls + 1)]
    disks.endure(faults, said)


def test_a_disk_that_becomes_full(disks) -> None:
    """From some call on nothing can be written: said, nothing half, and space makes it good."""
    faults = [Fault(first=k, error=FULL, every=True) for k in half(disks.calls(Fault(error=FULL)))]
    disks.endure(faults, said)


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "every"), [(FULL, False), (FULL, True), (BROKEN, False), (BROKEN, True)]
)
def test_any_error_at_any_call(disks, error: int, every: bool) -> None:
    """Errors of a full and of a broken disk, once or from then on, at each call on a file."""
    calls = disks.calls(Fault(error=error))
    faults = [Fault(first=k, error=error, every=every) for k in range(1, calls + 1)]
    disks.endure(faults, said)


def test_an_end_at_any_call(disks) -> None:
    """A process is killed before some call on a file: nothing half, and the next sweep goes on."""
    calls = half(disks.calls(Fault(signal=signal.SIGKILL)))
    faults = [Fault(first=k, signal=signal.SIGKILL) for k in calls]
    disks.endure(faults, killed)


def killed(fault: Fault, done: Done) -> str:
    """The launcher says nothing more; a worker is a row, unless it had written all there was."""
    if done.status in {-signal.SIGKILL, 0}:
        return ""
    if done.status == 1 and "SIGKILL" in done.output and "Traceback" not in done.output:
        return ""
    return f"neither killed nor said: {done.output}"


@pytest.mark.long
def test_an_end_at_each_call(disks) -> None:
    """The same at every call there is."""
    calls = disks.calls(Fault(signal=signal.SIGKILL))
    faults = [Fault(first=k, signal=signal.SIGKILL) for k in range(1, calls + 1)]
    disks.endure(faults, killed)


# ---------------------------------------------------------------- places that cannot be written


def one_line(done: Done, *words: str) -> None:
    """It ended with status 2 and one line with these words."""
    assert done.status == 2, done.output
    assert done.output.startswith("error: "), done.output
    assert done.output.count("\n") == 1, done.output
    for word in words:
        assert word in done.output


READ_ONLY = Fault(first=1, error=errno.EROFS, every=True)


def test_a_read_only_folder(disks) -> None:
    """Where nothing can be written the sweep says so, and begins nothing."""

    def use(disk: Faulty) -> None:
        one_line(disk.run(READ_ONLY, *disks.sweep), "outputs", "Read-only file system")
        assert not disk.out.exists()

    disks.with_one(use)


def test_a_finished_sweep_on_a_read_only_folder(disks) -> None:
    """What was finished stays as it is, and what cannot be written is named; a dry run works."""

    def use(disk: Faulty) -> None:
        assert disk.run(Fault(), *disks.sweep).status == 0
        before = {path: path.stat().st_mtime_ns for path in disk.out.rglob("*")}
        one_line(disk.run(READ_ONLY, *disks.sweep), "outputs/sweeps/it", "Read-only file system")
        assert {path: path.stat().st_mtime_ns for path in disk.out.rglob("*")} == before
        dry = disk.run(READ_ONLY, *disks.sweep, "dry_run=true")
        assert dry.status == 0, dry.output
        assert "2 in the store" in dry.output

    disks.with_one(use)


@pytest.mark.parametrize("place", ["outputs", "outputs/sweeps", "outputs/sweeps/it"])
def test_a_file_in_the_place_of_a_folder(disks, place: str) -> None:
    """A file that stands where a folder should be is named, and stays."""

    def use(disk: Faulty) -> None:
        path = disk.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        try:
            one_line(disk.run(Fault(), *disks.sweep), place)
            assert path.read_text() == "mine"
        finally:
            path.unlink()

    disks.with_one(use)


def test_a_file_in_the_place_of_all_runs(disks) -> None:
    """It is named, as an error or as the reason of every row."""

    def use(disk: Faulty) -> None:
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


def test_a_file_in_the_place_of_a_runs_folder(disks) -> None:
    """It costs that run alone, and its row names it."""

    def use(disk: Faulty) -> None:
        assert disk.run(Fault(), *disks.sweep).status == 0
        run, other = sorted((disk.out / "runs").iterdir())
        kept = finished(disk.out)
        shutil.rmtree(run)
        run.write_text("mine")
        done = disk.run(Fault(), *disks.sweep)
        assert done.status == 1, done.output
        assert "Traceback" not in done.output
        assert run.read_text() == "mine"
        frame = results(disk.folder)
        assert list(frame["status"]) == ["ok", "failed"]
        assert run.name in frame["error"][1]
        path = next(other.glob("epoch-*"))
        assert finished(disk.out)[path] == kept[path]

    disks.with_one(use)


def test_a_long_path(disks) -> None:
    """Folders with names as long as they may be hold a sweep with its figures."""

    def use(disk: Faulty) -> None:
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
def test_too_long_a_name(disks, key: str) -> None:
    """A name that no file system takes is one line, also as the name of a sweep."""

    def use(disk: Faulty) -> None:
        sweep = (word for word in disks.sweep if not word.startswith(key))
        done = disk.run(Fault(), *sweep, f"{key}={'x' * 300}")
        one_line(done, "x" * 60, "too long" if key == "out" else "name=")
        assert leftovers(disk.folder) == []

    disks.with_one(use)
