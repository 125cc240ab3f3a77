"""Observers follow a sweep, and one that fails does not end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import made_sweeps
import pandas as pd
import pytest
from screens import log_file, printed

from lenet_sweep import Observer, sweep
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import CellFinished, Event, Finished, Started
from lenet_sweep.core.plans import Plan, Run
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.runner.run import SweepResult, run_sweep
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.observer import TerminalView

METHODS = ("on_start", "on_event", "on_table", "on_message", "on_end")


class Recorder(Observer):
    """Records its calls, and raises an error in the method `fails_in`."""

    def __init__(self, fails_in: str = "", error: BaseException | None = None) -> None:
        self.fails_in = fails_in
        self.error = error or ValueError("no\nroom")
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.tables: list[pd.DataFrame] = []
        self.messages: list[str] = []

    def on_start(self, plan: Plan, workers: int | None) -> None:
        self.record("on_start")

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self.record("on_event")

    def on_table(self, table: pd.DataFrame) -> None:
        self.tables.append(table)
        self.record("on_table")

    def on_message(self, text: str) -> None:
        self.messages.append(text)
        self.record("on_message")

    def on_end(self) -> None:
        self.record("on_end")

    def record(self, method: str) -> None:
        self.calls.append(method)
        if method == self.fails_in:
            raise self.error


class Terminal(Recorder, TerminalView):
    """A recorder in place of the terminal view."""


class TableEraser(Observer):
    """Deletes all rows of its table."""

    def on_table(self, table: pd.DataFrame) -> None:
        table.drop(table.index, inplace=True)  # noqa: PD002 - the point of the test


@pytest.fixture
def closed() -> list[str]:
    """The executors that have ended, also those that an error ended."""
    return []


@pytest.fixture
def launch(
    tmp_path: Path, small_folder: Callable[..., Path], closed: list[str]
) -> Callable[..., SweepResult]:
    """Run a sweep of three cells, one of them given twice, with these observers."""
    root = small_folder()

    def trains(cells: Sequence[Cell]) -> Executor:
        def execute(runs: Sequence[Run], context: RunContext) -> Iterator[Event]:
            made_sweeps.store_all(cells, context.out, root, lambda n: range(n + 1))
            try:
                for run in runs:
                    yield Started(run.id, 0)
                    yield CellFinished(run.id, run.cell.epochs)
                    yield Finished(run.id)
            finally:
                closed.append("executor")

        return replace(LOCAL, execute=execute)

    def start(*observers: Observer) -> SweepResult:
        cells, options = made_sweeps.settings(
            root, tmp_path / "out", lr=[0.1, 0.01, 0.001], engine="torch"
        )
        return run_sweep([*cells, cells[0]], options, observers, trains(cells))

    return start


def assert_complete(result: SweepResult) -> None:
    assert list(result.sweep.table["status"]) == ["ok"] * 3
    assert list(pd.read_csv(result.sweep.folder / "results.csv")["status"]) == ["ok"] * 3


def test_an_observer_follows_a_sweep_from_start_to_end(
    launch: Callable[..., SweepResult],
) -> None:
    """An observer gets the start, every event, the final table, the messages and the end."""
    observer = Recorder()
    result = launch(observer)
    assert_complete(result)
    assert result.observer_errors == ()
    assert observer.calls[0] == "on_start"
    assert observer.calls[-2:] == ["on_table", "on_end"]
    assert [type(event) for event in observer.events] == [Started, CellFinished, Finished] * 3
    assert observer.messages == ["1 duplicate cell merged"]
    pd.testing.assert_frame_equal(observer.tables[-1], result.sweep.table)


def test_without_observers_a_sweep_prints_nothing(
    launch: Callable[..., SweepResult], capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that runs a sweep without observers finds nothing on its output."""
    assert_complete(launch())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_observer_is_reported_once_and_removed(
    launch: Callable[..., SweepResult], method: str
) -> None:
    """Whichever method fails, the table is complete and the other observers miss nothing."""
    failing, first, last = Recorder(method), Terminal(), Recorder()
    result = launch(first, failing, last)
    assert_complete(result)
    assert failing.calls[-1] == method
    assert failing.calls.count(method) == 1
    (message,) = result.observer_errors
    assert message.startswith(f"observer Recorder removed: {method} raised ValueError: no room (")
    assert "test_observers.py:" in message
    assert first.messages.count(message) == 1
    observers = (first,) if method == "on_end" else (first, last)  # `last` had ended before
    for observer in observers:
        assert sorted(observer.messages) == sorted(["1 duplicate cell merged", message])
        assert len(observer.events) == 9
        assert len(observer.tables[-1]) == 3
        assert observer.calls[-1] == "on_end"


def test_the_log_names_a_failing_observer(launch: Callable[..., SweepResult]) -> None:
    """The user reads in the log which observer was removed, and why."""
    console = log_file()
    assert_complete(launch(LogView(console), Recorder("on_event")))
    lines = printed(console).splitlines()
    assert sum("observer Recorder removed: on_event raised ValueError" in x for x in lines) == 1
    assert "3 of 3 cells done" in lines[-1]


def test_every_failing_observer_is_reported(launch: Callable[..., SweepResult]) -> None:
    """An observer that fails on the message about another one is removed as well."""
    view = Terminal()
    result = launch(view, Recorder("on_start"), Recorder("on_message"), Recorder("on_event"))
    assert_complete(result)
    methods = [message.split()[3] for message in result.observer_errors]
    assert methods == ["on_start", "on_message", "on_event"]
    assert {*result.observer_errors} <= {*view.messages}


def test_an_error_of_the_terminal_view_ends_the_sweep(
    launch: Callable[..., SweepResult], closed: list[str]
) -> None:
    """The sweep does not continue without its display, and every observer gets the end.

    The executor ends its workers at once, although the traceback still refers to it.
    """
    view, observer = Terminal("on_event"), Recorder()
    with pytest.raises(ValueError, match="room") as error:
        launch(view, observer)
    assert error.tb is not None
    assert closed == ["executor"]
    assert view.calls[-1] == observer.calls[-1] == "on_end"


def test_an_observer_can_interrupt_a_sweep(launch: Callable[..., SweepResult]) -> None:
    """A KeyboardInterrupt is not an error of the observer: it ends the sweep."""
    observer = Recorder("on_event", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        launch(observer)
    assert observer.calls[-1] == "on_end"


def test_an_observer_cannot_change_the_table(launch: Callable[..., SweepResult]) -> None:
    """An observer that edits its table leaves the tables of others and of the sweep as they are."""
    observer = Recorder()
    assert_complete(launch(TableEraser(), observer))
    assert len(observer.tables[-1]) == 3


@pytest.mark.usefixtures("train_here")
def test_sweep_takes_observers(
    tmp_path: Path, small_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python, observers follow a sweep; without progress, a warning names one that failed."""
    arguments = {
        "lr": [0.1, 0.01], "epochs": 1, "device": "cpu", "workers": 1, "figures": "none",
        "report": False, "dataset": "folder", "dataset.root": str(small_folder()), "out": tmp_path,
    }  # fmt: skip
    observer = Recorder()
    assert sweep(**arguments, dry_run=True, progress=False, observers=[observer]).empty
    assert observer.calls == []
    with pytest.warns(RuntimeWarning, match="observer Recorder removed: on_event raised"):
        table = sweep(**arguments, progress=False, observers=[Recorder("on_event"), observer])
    assert list(table["status"]) == ["ok", "ok"]
    assert sum(isinstance(event, Finished) for event in observer.events) == 2
    assert capsys.readouterr() == ("", "")
    sweep(**arguments, observers=[Recorder("on_start")])
    assert "observer Recorder removed: on_start raised" in capsys.readouterr().out
