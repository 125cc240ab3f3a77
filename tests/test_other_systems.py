"""Windows and macOS: their conditions are imitated here, since the tests run on Linux."""

import ast
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from made_sweeps import launched, settings, store_all
from processes import PATIENCE

from lenet_sweep import load_results
from lenet_sweep.core import text
from lenet_sweep.core.errors import InterruptedBySignal, StoreError, exit_status
from lenet_sweep.core.events import Failed, Failure, Finished
from lenet_sweep.core.plans import make_plan
from lenet_sweep.executors import local
from lenet_sweep.report import __main__ as report
from lenet_sweep.results import manifest
from lenet_sweep.runner import results_table, run
from lenet_sweep.runner.interrupts import handle_signals
from lenet_sweep.storage import atomic, files
from lenet_sweep.storage.store import Store

PACKAGE = Path(__file__).parent.parent / "lenet_sweep"
WINDOWS = SimpleNamespace(
    **{**vars(os), "name": "nt"}
)  # not for all modules: pathlib needs os.name


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


# ---------------------------------------------------------------- text


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens a file, or the pipes of a process, as text."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in ("read_text", "write_text"):
        return True
    if name in ("run", "Popen", "check_output"):
        return "text" in arguments
    owner = ast.unparse(call.func).rpartition(".")[0]
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    is_open = name in ("open", "fdopen") and owner not in ("urllib.request", "Image", "tracker")
    return is_open and owner + name != "osopen" and not any("b" in mode for mode in modes[-1:])


def test_every_text_names_its_encoding() -> None:
    """A file written on Linux reads the same on Windows, where the default is not UTF-8."""
    calls = [
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(call, ast.Call) and opens_text(call)
    ]
    without = [
        f"{path}:{call.lineno}: {ast.unparse(call)}"
        for path, call in calls
        if "encoding" not in {keyword.arg for keyword in call.keywords}
    ]
    assert len(calls) > 10
    assert not without


def test_results_csv_has_the_line_ends_of_linux(tmp_path, small_folder, monkeypatch) -> None:
    """results.csv has the same bytes on every system."""
    monkeypatch.setattr(os, "linesep", "\r\n")
    cells, options = settings(small_folder(), tmp_path, lr=[0.1, 0.01])
    store_all(cells, tmp_path, small_folder(), range)
    folder = launched(cells, options).sweep.folder
    assert (folder / "results.csv").read_bytes().count(b"\r") == 0


def test_a_log_in_an_encoding_of_windows() -> None:
    """A character that the encoding of a redirected output lacks is escaped."""
    code = "from lenet_sweep.cli import output; output.make_safe(); print('Łukasz ± ✗')"
    done = run_python(code, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert done.stdout.decode("cp1252").strip() == r"\u0141ukasz ± \u2717", done.stderr


def test_a_rebuilt_page_in_an_encoding_of_windows(tmp_path, small_folder, monkeypatch) -> None:
    """`python -m lenet_sweep.report` writes a page in a folder whose name it cannot print."""
    out = tmp_path / "Łukasz"
    cells, options = settings(small_folder(), out, lr=0.1)
    store_all(cells, out, small_folder(), range)
    folder = launched(cells, options).sweep.folder
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert report.main([str(folder)]) == 0
    sys.stdout.seek(0)
    assert sys.stdout.readline().endswith(f"\\u0141ukasz/sweeps/{folder.name}/\n")


def test_lost_output_on_windows() -> None:
    """On Windows, too, a program that cannot write its output does its work and then fails."""
    code = (
        "import os, sys, types; from lenet_sweep.cli import output\n"
        "output.os = types.SimpleNamespace(**{**vars(os), 'name': 'nt'}); output.make_safe()\n"
        "with output.exit_if_lost(): print(10**5 * 'x'); sys.stderr.write('done. ')"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"done. error: cannot write to standard output")


@pytest.mark.parametrize(
    ("argument", "pasted"),
    [
        ("out=C:\\sweeps", "out=C:\\sweeps"),
        ("lr=1e-1,1e-2", '"lr=1e-1,1e-2"'),  # PowerShell splits it
        ("person=Ada L", '"person=Ada L"'),
        ("out='a b,c'", "\"out='a b,c'\""),
        ("grid(1)", '"grid(1)"'),
        ('a"b', '"a\\"b"'),
    ],
)
def test_a_command_for_the_shells_of_windows(monkeypatch, argument: str, pasted: str) -> None:
    """The command that resumes a sweep can be pasted into cmd and PowerShell."""
    monkeypatch.setattr(text, "os", WINDOWS)
    assert text.join_command(["python", "-m", argument]) == f"python -m {pasted}"


# ---------------------------------------------------------------- files


@pytest.fixture
def windows_files(monkeypatch) -> set[str]:
    """Names of files that are open in another program, as on Windows."""
    monkeypatch.setattr(atomic, "os", WINDOWS)
    monkeypatch.setattr(atomic, "IN_USE_WITHIN", 0.1)
    in_use: set[str] = set()
    for name in ("replace", "unlink"):
        original = getattr(Path, name)

        def change(path: Path, *to: Path, original=original, **options: bool) -> object:
            if in_use & {path.name, *(other.name for other in to)}:
                raise PermissionError(errno.EACCES, "Access is denied", str(path))
            return original(path, *to, **options)

        monkeypatch.setattr(Path, name, change)
    return in_use


def test_a_short_use_by_another_program_delays_a_write(
    tmp_path, windows_files, monkeypatch
) -> None:
    """A virus scanner that opens a file for a moment does not fail a run."""
    monkeypatch.setattr(atomic, "IN_USE_WITHIN", 60)
    path = tmp_path / "run.json"
    for change in (lambda: files.write_atomic(path, b"new"), lambda: files.remove(path)):
        windows_files.add(path.name)
        closing = threading.Timer(0.2, windows_files.clear)
        closing.start()
        change()
        closing.join()
        assert path.exists() == (change.__code__.co_names[1] == "write_atomic")


def test_a_file_that_stays_open_is_kept(tmp_path, windows_files) -> None:
    """The error says that another program has the file open, and its content is unchanged."""
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    windows_files.add(path.name)
    for change in (lambda: files.write_atomic(path, b"new"), lambda: files.remove(path)):
        with pytest.raises(StoreError, match="run.json: it is open in another program") as raised:
            change()
        assert exit_status(raised.value) == 1  # the command is right
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_no_permission_on_linux_fails_at_once(tmp_path, monkeypatch) -> None:
    """Where a file in use can be replaced, an error of permissions is reported as such."""
    monkeypatch.setattr(atomic, "IN_USE_WITHIN", 0.1)

    def deny() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError, match="Permission denied"):
        atomic.wait_if_in_use(tmp_path, deny)


def test_a_spreadsheet_does_not_end_a_sweep(
    tmp_path, small_folder, windows_files, monkeypatch
) -> None:
    """While Excel has results.csv open, the runs are trained; the table is written afterwards."""
    monkeypatch.setattr(results_table, "WRITE_PAUSE", 0.0)
    cells, options = settings(small_folder(), tmp_path, lr=[0.1, 0.01, 0.001], epochs=1, workers=1)
    tables = []

    class Excel:
        def __init__(self) -> None:
            self.finished = 0

        def on_event(self, event: object) -> None:
            self.finished += isinstance(event, Finished)
            if self.finished < 3:
                windows_files.add("results.csv")
            else:
                windows_files.clear()

        def on_table(self, table) -> None:
            tables.append(len(table))

        def on_start(self, *_: object) -> None:
            pass

        on_message = on_end = on_start

    result = run.run_sweep(cells, options, [Excel()], local.LOCAL)
    assert result.exit_status == 0
    assert set(tables) == {3}  # none while it was open
    assert (result.sweep.folder / "results.csv").read_text().count("\n") == 4


def test_attempts_to_write_an_open_table_have_pauses(tmp_path, monkeypatch) -> None:
    """While Excel has results.csv open, a sweep does not spend its time on trying to write it."""

    def write_csv(*_: object) -> None:
        raise StoreError("in use")

    monkeypatch.setattr(results_table, "write_csv", write_csv)
    monkeypatch.setattr(results_table, "WRITE_PAUSE", 1e9)
    table = results_table.ResultsTable(Store(tmp_path), "Ada")
    cells, _ = settings(tmp_path, tmp_path, dataset="mnist", dataset__root=None)
    plan = make_plan(cells, lambda _: False)
    event = Failed(cells[0].run_id, Failure("failed", 1, "RuntimeError"))
    assert table.update(event, plan)
    with pytest.raises(StoreError):
        table.write(tmp_path)
    assert not table.update(event, plan)


def test_a_sweep_through_a_link_finds_its_store(tmp_path, small_folder) -> None:
    """A sweep's folder finds its store if one path leads through a link, as /tmp on macOS."""
    (tmp_path / "private" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "private" / "deep")
    out = tmp_path / "private" / "deep" / "out"
    cells, options = settings(small_folder(), out, lr=0.1)
    store_all(cells, out, small_folder(), range)
    other = tmp_path / "link" / "elsewhere"
    executor = SimpleNamespace(capacity=lambda kinds: 1, check=lambda: None)
    run.run_sweep(cells, options, (), executor, other)
    (other / "results.csv").unlink()
    assert list(load_results(other)["status"]) == ["ok"]


def test_the_store_of_a_sweep_made_on_windows(monkeypatch) -> None:
    """A sweep's folder that is copied from Windows to Linux still finds its store."""
    monkeypatch.setattr(manifest, "Path", PureWindowsPath)
    monkeypatch.setattr(manifest.os.path, "relpath", lambda *_: "..\\..")
    assert manifest._relative(Path("out"), Path("out/sweeps/it")) == "../.."


def test_the_store_on_another_drive(monkeypatch) -> None:
    """hydra.sweep.dir=D:\\it works with a store on drive C."""

    def relpath(*_: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(manifest.os.path, "relpath", relpath)
    assert manifest._relative(Path("/c/out"), Path("/d/it")) == "/c/out"


# ---------------------------------------------------------------- processes and signals


@pytest.fixture
def sigbreak(monkeypatch) -> signal.Signals:
    """The signal that stands for SIGBREAK of Windows (Ctrl-Break)."""
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    return signal.SIGUSR1


def test_ctrl_break_ends_a_sweep(sigbreak) -> None:
    """Ctrl-Break on Windows stops a sweep like Ctrl-C, instead of killing it."""
    with pytest.raises(InterruptedBySignal), handle_signals():
        signal.raise_signal(sigbreak)


def test_ctrl_c_does_not_reach_workers(runs_of, monkeypatch) -> None:
    """On Windows, Ctrl-C reaches only the launching process, which asks its workers to stop."""
    runs, context = runs_of(lr=[0.1])
    flags = []
    popen = subprocess.Popen

    def start(*arguments: object, creationflags: int, **options: object) -> subprocess.Popen:
        flags.append(creationflags)
        return popen(*arguments, **options)

    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "Popen", start)
    list(local.execute(runs, context))
    assert flags == [512]


def test_a_dead_worker_on_windows() -> None:
    """A worker that has died costs its run and not the sweep, also with the error of Windows."""

    def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    pipe = SimpleNamespace(write=fail, flush=fail, close=fail)
    worker = SimpleNamespace(process=SimpleNamespace(stdin=pipe, kill=lambda: None), run=None)
    local._Worker.send(worker, "stop")
    local._Worker.dismiss(worker)


WORKER = """
import errno, io, os, signal, sys, types
signal.SIGBREAK = signal.SIGUSR1
from lenet_sweep.executors import local_worker

def report(name, value):
    sys.stderr.write(f"{name} {value}\\n")

def listen(messages, runs, instructions):
    is_empty = os.path.samestat(os.fstat(0), os.stat(os.devnull))
    report("message", messages.readline().strip())
    report("stdin is empty", is_empty)
    report("ignored", signal.getsignal(signal.SIGBREAK) == signal.SIG_IGN)
    runs.put({"cell": None, "snapshot_epochs": [1], "wait": 0})
    runs.put(None)

def train(*args, stop, **options):
    yield "event"
    report("stopped", stop())

class Lost(io.StringIO):
    def write(self, text):
        raise OSError(errno.EINVAL, "Invalid argument")

fdopen = os.fdopen
local_worker.os = types.SimpleNamespace(
    **{**vars(os), "fdopen": lambda fd, mode="r", **o: Lost() if mode == "w" else fdopen(fd, **o)})
local_worker._listen = listen
local_worker.run_from_json = lambda values: types.SimpleNamespace(id="")
local_worker.encode = str
sys.modules["lenet_sweep.training.loop"] = types.SimpleNamespace(train=train)
local_worker.main()
"""


def test_a_worker_on_windows() -> None:
    """A worker can import numpy while it waits for messages, ignores Ctrl-Break, and saves a
    checkpoint if the launching process has died.
    """
    context = '{"out": ".", "data_root": null, "retrain": false, "environment": {}, "models": {}}'
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=f"{context}\nnext\n", capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines() == [
        "message next", "stdin is empty True", "ignored True", "stopped True",
    ]  # fmt: skip
