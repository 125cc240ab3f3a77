"""Trackers follow a sweep or write it afterwards, and none of them can fail or delay it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import made_sweeps
import numpy as np
import pytest

from lenet_sweep import Observer, sweep
from lenet_sweep.config import trackers
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import CellFinished, EpochEnded, Event, Failed, Failure, Started
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.runner.outputs import write_outputs
from lenet_sweep.runner.run import SweepResult, run_sweep
from lenet_sweep.storage.files import lock_file
from lenet_sweep.track import TrackedCell, TrackedSweep, Tracker, tracking
from lenet_sweep.track.__main__ import main as track

HOSTILE = "\x1b[31m<b>A\nda</b>"


class Recorder(Tracker):
    """Records its calls. `before(call)` runs before each, and may raise or wait."""

    def __init__(self, before: Callable[[str], object]) -> None:
        self.before = before
        self.cells: list[TrackedCell] = []
        self.files: list[str] = []
        self.complete: bool | None = None

    def open(self, sweep: TrackedSweep) -> None:
        self.sweep = sweep
        self.before("open")

    def log(self, cell: TrackedCell) -> None:
        self.cells.append(cell)
        self.before("log")

    def close(self, files: Sequence[Path], *, complete: bool) -> None:
        self.files, self.complete = [path.name for path in files], complete
        self.before("close")

    @property
    def last(self) -> dict[float, TrackedCell]:
        """The last state of each cell, by learning rate."""
        return {cell.cell.lr: cell for cell in self.cells}


class Messages(Observer):
    """Collects the lines for the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    """Register a recorder as the tracker `recorder`, or under another name."""
    monkeypatch.setattr(tracking, "EVERY", 0.01)

    def register(before: Callable[[str], object] = str, name: str = "recorder") -> Recorder:
        instance = Recorder(before)
        monkeypatch.setitem(trackers.TRACKERS._registered, name, lambda: instance)
        return instance

    return register


@pytest.fixture
def launch(tmp_path: Path, small_folder: Callable[..., Path]) -> Callable[..., SweepResult]:
    """Run a sweep of three cells with these trackers and without training.

    fails: the last cell fails in its third epoch. on_epoch: called after each epoch.
    """
    root = small_folder()

    def start(
        *names: str,
        messages: Messages | None = None,
        fails: bool = False,
        on_epoch: Callable[[], object] = str,
        **settings: object,
    ) -> SweepResult:
        cells, options = made_sweeps.settings(
            root, tmp_path / "out", lr=[0.1, 0.01, 0.001], engine="torch", name="it",
            figures="none", report=False, tracker=list(names), **settings,
        )  # fmt: skip

        def train(run: Run, out: Path) -> Iterator[Event]:
            yield Started(run.id, 0)
            for epoch in made_sweeps.trained(run.cell, np.zeros(9, np.uint8), []).history:
                if fails and run.cell == cells[-1] and epoch.epoch == 3:
                    made_sweeps.fail(run.cell, out, reason=HOSTILE)
                    yield Failed(run.id, Failure("failed", 3, HOSTILE))
                    return
                yield EpochEnded(run.id, epoch)
                on_epoch()
            made_sweeps.store_all([run.cell], out, root, lambda _: [cells.index(run.cell)])
            yield CellFinished(run.id, run.cell.epochs)

        def execute(runs: Sequence[Run], context: RunContext) -> Iterator[Event]:
            for run in runs:
                yield from train(run, context.out)

        view = messages or Messages()
        result = run_sweep(cells, options, [view], replace(LOCAL, execute=execute))
        return write_outputs(result, options, view.on_message)[0]

    return start


def assert_complete(result: SweepResult) -> None:
    assert list(result.sweep.table["status"]) == ["ok"] * 3
    assert result.exit_status == 0


def test_a_tracker_follows_a_sweep(
    launch: Callable[..., SweepResult], recorder: Callable[..., Recorder]
) -> None:
    """It gets the epochs while the sweep runs, and at the end all outcomes and files."""
    first = threading.Event()
    instance = recorder(lambda call: first.set() if call == "log" else None)
    result = launch("recorder", on_epoch=lambda: first.wait(60), fails=True)
    assert instance.cells[0].status == "running"
    assert instance.sweep.name == "it"
    assert instance.sweep.cells == result.sweep.cells
    assert {lr: cell.status for lr, cell in instance.last.items()} == {
        0.1: "ok", 0.01: "ok", 0.001: "failed"
    }  # fmt: skip
    assert [len(instance.last[lr].history) for lr in (0.1, 0.01, 0.001)] == [3, 3, 2]
    assert instance.last[0.1].name == "lr 0.1"
    assert instance.last[0.1].settings["optimizer.momentum"] == 0.0
    assert instance.last[0.1].accuracy == result.accuracies()[instance.last[0.1].cell.id]
    assert "results.csv" in instance.files
    assert "sweep.json" not in instance.files
    assert instance.complete


def test_a_sweep_is_written_afterwards(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command writes what a tracker gets at the end of a sweep."""
    during = recorder()
    folder = launch("recorder", fails=True).sweep.folder
    afterwards = recorder(name="other")
    assert track([str(folder), "--to", "other"]) == 0
    assert capsys.readouterr().out == f"{folder}: written to other\n"
    assert afterwards.sweep == during.sweep
    finished = [during.last[lr] for lr in (0.1, 0.01)]
    assert [afterwards.last[lr] for lr in (0.1, 0.01)] == finished
    assert afterwards.last[0.001].status == "failed"
    assert afterwards.files == during.files


def test_a_repeated_sweep_keeps_its_identity(
    launch: Callable[..., SweepResult], recorder: Callable[..., Recorder]
) -> None:
    """A tracker recognizes a sweep that is launched again."""
    first = recorder()
    launch("recorder")
    again = recorder()
    launch("recorder")
    assert (again.sweep.id, again.sweep.started) == (first.sweep.id, first.sweep.started)
    assert again.last.keys() == first.last.keys()


@pytest.mark.parametrize("method", ["open", "log", "close"])
@pytest.mark.parametrize("error", [ValueError("no\nroom"), SystemExit("no\nroom")])
def test_a_tracker_that_raises_does_not_affect_the_sweep(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    method: str,
    error: BaseException,
) -> None:
    """The table is complete, the other tracker misses nothing, and one line gives the reason."""

    def fail(call: str) -> None:
        if call == method:
            raise error

    recorder(fail)
    other, messages = recorder(name="other"), Messages()
    result = launch("recorder", "other", messages=messages)
    assert_complete(result)
    assert len(other.last) == 3
    assert other.complete
    (line,) = messages.lines
    assert line.startswith(
        f"tracker recorder: {type(error).__name__}: no room; to write the sweep later"
    )
    assert line.endswith(f"python -m lenet_sweep.track {result.sweep.folder} --to recorder")
    assert result.observer_errors == (line,)


@pytest.mark.parametrize("method", ["open", "log", "close"])
def test_a_tracker_that_hangs_does_not_affect_the_sweep(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """The table is complete and the sweep ends; one line says that a part may be missing."""
    monkeypatch.setattr(tracking, "LIMITS", tracking.Limits(total=600, call=0.2))
    never, messages = threading.Event(), Messages()
    recorder(lambda call: never.wait() if call == method else None)
    other = recorder(name="other")
    assert_complete(launch("recorder", "other", messages=messages))
    assert other.complete
    (line,) = messages.lines
    assert line.startswith("tracker recorder: did not finish in time")
    never.set()


def test_the_wait_for_slow_trackers_is_limited(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tracker that makes progress, but too slowly, does not delay the end of a sweep either."""
    monkeypatch.setattr(tracking, "LIMITS", tracking.Limits(total=0.1, call=600))
    never, messages = threading.Event(), Messages()
    recorder(lambda _: never.wait())
    assert_complete(launch("recorder", messages=messages))
    assert "did not finish in time" in messages.lines[0]
    never.set()


def test_two_launches_do_not_write_the_same_sweep(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While another process writes a sweep with a tracker, a message says so."""
    folder = launch().sweep.folder
    instance, messages = recorder(), Messages()
    lock = lock_file(folder / ".recorder.lock", 0)
    assert lock is not None
    assert_complete(launch("recorder", messages=messages))
    assert messages.lines[0].startswith("tracker recorder: another process is writing this sweep")
    assert track([str(folder), "--to", "recorder"]) == 1
    assert "error: tracker recorder: another process" in capsys.readouterr().err
    assert not instance.cells
    lock.release()


def test_text_from_outside_is_one_printable_line(
    launch: Callable[..., SweepResult], recorder: Callable[..., Recorder]
) -> None:
    """Control characters in errors are escaped, as on the terminal."""
    instance = recorder()
    launch("recorder", fails=True)
    errors = {cell.error for cell in instance.cells if cell.status == "failed"}
    assert errors == {r"\x1b[31m<b>A da</b>"}


def test_messages_do_not_show_passwords(
    launch: Callable[..., SweepResult],
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The address of a server in an error is left out."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:secret@tracking.example")

    def fail(_: str) -> None:
        raise OSError("no https://ada:secret@tracking.example/api, http://bo:secret@here:1/x")

    recorder(fail)
    (line,) = launch("recorder").observer_errors
    assert "OSError: no MLFLOW_TRACKING_URI/api, http://here:1/x;" in line


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tensorbord", "must be one of .*did you mean tracker=tensorboard"),
        (["tensorboard", "tensorboard"], "tensorboard is named twice"),
        (3, "must be one of"),
        ([["tensorboard"]], "must be one of"),
    ],
)
def test_a_wrong_value_is_rejected(value: object, message: str) -> None:
    """A typing mistake is reported before anything starts."""
    with pytest.raises(UsageError, match=f"tracker=.*{message}"):
        sweep(tracker=value, dry_run=True, progress=False)


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line names the key, the library and the command that installs it."""
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    install = "requires tensorboard, which is not installed; run: pip install "
    with pytest.raises(UsageError, match=f"^tracker=tensorboard: {install}"):
        sweep(tracker="tensorboard", dry_run=True, progress=False)
    assert track([str(tmp_path), "--to", "tensorboard"]) == 2
    assert capsys.readouterr().err == (
        f"error: --to=tensorboard: {install}'lenet-sweep[tensorboard]'\n"
    )


def test_the_command_explains_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recorder: Callable[..., Recorder]
) -> None:
    """A wrong folder, a wrong name and a missing option are reported in one line each."""
    recorder()
    assert track([str(tmp_path), "--to", "recorder"]) == 2
    assert f"error: there is no sweep in {tmp_path}" in capsys.readouterr().err
    assert track([str(tmp_path), "--to", "recoder"]) == 2
    assert "did you mean --to=recorder?" in capsys.readouterr().err
    assert track([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
