"""Helpers for fault tests: sweeps as real processes, their descendants, files, and faulty disks."""

import errno
import itertools
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

from lenet_sweep.storage.store import RunFolder

DETERMINISTIC = ["rank", "accuracy", "batch", "lr", "epochs", "status", "train_loss", "cell"]
PATIENCE = 120  # seconds until a process counts as hanging; none should take 10
# `timeout` for sweeps with a run that hangs. Without the native engine, workers import torch first.
TIMEOUT = 5 if find_spec("lenet_sweep.training.engines._native") else 40
MARK = "LENET_SWEEP_TEST_TREE"  # in the environment of a sweep and its descendants
_number = itertools.count()

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


class Sweep(subprocess.Popen):
    """A sweep as a process, with all its descendants."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        python: tuple[str, ...] = (),
    ) -> None:
        self.mark = f"{os.getpid()}-{next(_number)}"
        self.before = ""  # the output read by `until`
        super().__init__(
            [sys.executable, *python, "-m", "lenet_sweep", *arguments],
            cwd=folder, env=os.environ | {"COLUMNS": "160", MARK: self.mark} | (env or {}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def __exit__(self, *raised: object) -> None:
        self.kill_all()  # also after a failed test
        super().__exit__(*raised)

    def members(self) -> list[int]:
        """The process ids of this sweep that are alive, the launcher first."""
        return sorted(marked(self.mark), key=lambda pid: (pid != self.pid, pid))

    def workers(self) -> list[int]:
        return [pid for pid in self.members() if pid != self.pid and _is_worker(pid)]

    def signal_all(self, number: int) -> None:
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_all(self) -> None:
        """Send SIGKILL to all processes, including those started meanwhile."""
        while members := self.members():
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.poll()
            all_ended(members)

    def until(self, text: str) -> str:
        """Read the output up to a line that contains this text, and return the line."""
        for line in self.stdout:
            self.before += line
            if text in line:
                return line
        raise AssertionError(f"it ended without printing {text!r}:\n{self.before}")

    def ends(self) -> tuple[int, str]:
        """Wait for the end; return the status and the output."""
        try:
            rest, _ = self.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end:\n{self.before}")
        return self.returncode, self.before + rest


def marked(mark: str) -> list[int]:
    """The ids of living processes with this mark in their environment."""
    sign = f"{MARK}={mark}".encode()
    pids = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended, or belongs to another user
            if folder.name.isdigit() and sign in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
    return pids


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"executors.local_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def all_ended(pids: Iterable[int]) -> bool:
    """Wait for these processes to end. Returns False if one does not; a zombie has ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            ending = os.pidfd_open(pid)
            poll = select.poll()
            poll.register(ending, select.POLLIN)
            ended = poll.poll(1000 * PATIENCE)
            os.close(ending)
            if not ended:
                return False
    return True


# ---------------------------------------------------------------- files


def results(folder: Path, name: str | None = None) -> pd.DataFrame:
    """results.csv of the sweep with this name, or of the only one, in `folder`/outputs."""
    sweeps = folder / "outputs" / "sweeps"
    (folder,) = [sweeps / name] if name else sorted(sweeps.iterdir())
    return pd.read_csv(folder / "results.csv")


def assert_same(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(actual[DETERMINISTIC], expected[DETERMINISTIC])


def assert_whole(out: Path, expected: pd.DataFrame) -> None:
    """All files except temporary ones are intact, and no row differs from the expected table."""
    facts = DETERMINISTIC[1:]
    right = {row[-1]: row for row in expected[facts].itertuples(index=False, name=None)}
    for path in out.rglob("*"):
        if path.suffix == ".safetensors":
            assert RunFolder(path.parent).read(path) is not None, path
        elif path.suffix == ".json":
            assert isinstance(json.loads(path.read_bytes()), dict), path
        elif path.suffix == ".png":
            assert image.imread(path).size, path
        elif path.name == "statistics.csv":
            assert len(pd.read_csv(path)["cell"]), path
        elif path.suffix == ".html":
            assert path.read_text().endswith("</html>"), path
        elif path.suffix == ".csv":
            frame = pd.read_csv(path)
            for row in frame.loc[frame["status"] == "ok", facts].itertuples(index=False, name=None):
                assert row == right[row[-1]], path
        elif path.suffix in {".md", ".tex"}:
            text = path.read_text()  # empty if no cell was finished
            assert text == "" or text.endswith("\n"), path
        else:
            assert path.suffix != ".damaged", path


def finished(out: Path) -> dict[Path, tuple[int, int, bytes]]:
    """The inode, modification time and content of each snapshot, which change if it is
    rewritten.
    """
    snapshots = {}
    for path in out.glob("runs/*/epoch-*.safetensors"):
        status = path.stat()
        snapshots[path] = (status.st_ino, status.st_mtime_ns, path.read_bytes())
    return snapshots


def assert_kept(before: dict[Path, tuple[int, int, bytes]], out: Path) -> None:
    now = finished(out)
    for path, state in before.items():
        assert now.get(path) == state, f"{path} was finished, and is lost or was rewritten"


def age_temporary_files(out: Path) -> None:
    """Make temporary files of killed processes old enough to be removed."""
    for path in out.rglob(".*.tmp"):
        os.utime(path, (0, 0))


def leftovers(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.suffix in {".tmp", ".damaged"}]


# ---------------------------------------------------------------- faulty disk

PLAN = "qqqqqqq512s1024s"  # struct plan in tests/shim/faults.c
TARGET_AT = struct.calcsize("6q")
EVERY, OLD_FILES = 1, 2


def shim(folder: Path) -> Path:
    """Compile tests/shim/faults.c into this folder; skip the test if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the fault injection")
    built = folder / "faults.so"
    source = Path(__file__).parent / "shim" / "faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source], check=True)
    return built


@dataclass(frozen=True)
class Fault:
    """What happens at file call number `first` in the folder, and possibly at all later calls."""

    first: int = 0  # 0: no fault, only count the calls
    error: int = 0
    signal: int = 0
    launcher: bool = False  # send the signal to the launcher, not to the calling process
    every: bool = False

    @property
    def flags(self) -> int:
        return EVERY * self.every + OLD_FILES * (self.error != errno.ENOSPC)

    def __str__(self) -> str:
        name = errno.errorcode[self.error] if self.error else signal.Signals(self.signal).name
        return f"{name} at call {self.first}{' and all after it' if self.every else ''}"


@dataclass(frozen=True)
class Done:
    status: int | None  # None: it did not end
    output: str
    calls: int
    hits: int
    what: str  # the first call that was hit, with its path


class FaultyDisk:
    """Runs sweeps in a folder on a disk that fails as requested, one at a time."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.plan = folder.parent / f"{folder.name}.plan"
        self.plan.write_bytes(bytes(struct.calcsize(PLAN)))
        self.mark = f"{os.getpid()}-{next(_number)}"
        preload = [os.environ.get("LD_PRELOAD", ""), str(shim)]
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "fork_server.py"],
            env=os.environ | {
                "LENET_FAULTS": str(self.plan),
                "LD_PRELOAD": ":".join(filter(None, preload)),
                "COLUMNS": "160",
                MARK: self.mark,
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def out(self) -> Path:
        return self.folder / "outputs"

    def run(self, fault: Fault, *arguments: str, timeout: int = PATIENCE) -> Done:
        """Sweep in this folder with this fault."""
        output = self.plan.with_suffix(".output")
        values = (0, 0, fault.first, fault.flags, fault.error, fault.signal, 0, b"")
        self._write_plan(*values, os.fsencode(self.folder))
        job = {
            "arguments": arguments, "folder": str(self.folder), "output": str(output),
            "target": str(self.plan) if fault.launcher else None, "target_at": TARGET_AT,
            "timeout": timeout,
        }  # fmt: skip
        print(json.dumps(job), file=self.server.stdin, flush=True)
        status = json.loads(self.server.stdout.readline())
        assert all_ended(pid for pid in marked(self.mark) if pid != self.server.pid), (
            "a process outlived its sweep"
        )
        calls, hits, *_, what, _ = struct.unpack(PLAN, self.plan.read_bytes())
        text = output.read_text(errors="replace")
        return Done(status, text, calls, hits, what.rstrip(b"\0").decode())

    def _write_plan(self, *values: object) -> None:
        with self.plan.open("r+b") as file:  # in place, because it is memory-mapped
            file.write(struct.pack(PLAN, *values))

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(PATIENCE)
        self.server.stdout.close()
