"""The choice of a view, and the output of the log view and the script view."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from screens import (
    BASE,
    HARMLESS,
    HOSTILE,
    LRS,
    NAN,
    Clock,
    ended,
    log_file,
    planned,
    printed,
    progress,
    row,
    search_round,
    terminal,
)

from lenet_sweep.core import events
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.core.plans import Plan
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.script_view import ScriptView, replay, status_console
from lenet_sweep.ui.tables import print_tables
from lenet_sweep.ui.views import choose_view

# ---------------------------------------------------------------- choice


def test_the_view_depends_on_the_console() -> None:
    """Only a full terminal shows bars; a file, a CI log and a simple terminal get plain lines."""
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert isinstance(choose_view(terminal()), LiveView)
    assert isinstance(choose_view(log_file()), LogView)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(choose_view(dumb), LogView)
    narrow = Console(file=latin, force_terminal=True, force_interactive=True, _environ={})
    assert isinstance(choose_view(narrow), LogView)


# ---------------------------------------------------------------- log


class Log:
    """A log view of a plan, and its clock."""

    def __init__(self, plan: Plan, console: Console | None = None, workers: int | None = 2) -> None:
        self.console = console or log_file()
        self.clock = Clock()
        self.view = LogView(self.console, self.clock)
        self.view.on_start(plan, workers)

    def at(self, seconds: float, *new_events: events.Event) -> None:
        self.clock.now = 1_700_000_000.0 + seconds
        for event in new_events:
            self.view.on_event(event)

    def lines(self) -> list[str]:
        lines = printed(self.console).splitlines()
        assert all(re.match(r"[0-2]\d:[0-5]\d:[0-5]\d  \S", line) for line in lines)
        return [line[10:] for line in lines]


def test_log_of_a_sweep() -> None:
    """The log has a line for every start, result and failure."""
    short, other, third = replace(BASE, epochs=1), *LRS[1:]
    log = Log(planned(short, BASE, other, third, short, finished=[third]))
    log.view.on_message("1 duplicate cell merged")
    log.at(0, events.Started(BASE.run_id, 0), events.Started(other.run_id, 4))
    log.at(1, progress(BASE, 1, 64), ended(BASE, 1, 97.85), events.CellFinished(BASE.run_id, 1))
    log.view.on_table(ranked_table([row(short)]))
    log.at(2, events.Failed(BASE.run_id, replace(NAN, epoch=2)))
    log.at(61, ended(other, 5), events.Interrupted(other.run_id))
    log.view.on_end()
    log.view.on_end()
    assert log.lines() == [
        "4 cells (1 already in the store), 2 runs to train, 2 workers",
        "1 duplicate cell merged",
        "lr 0.1  started",
        "lr 0.01  resumed after epoch 4",
        "lr 0.1  epoch 1/10  cost 0.0500  97.85%  9.10 s",
        "[2/4] 97.85%  lr 0.1 epochs 1",
        f"[3/4] FAILED  lr 0.1 epochs 10: diverged: {NAN.reason}",
        "lr 0.01  epoch 5/10  cost 0.0500  98.00%  9.10 s",
        "lr 0.01  interrupted; its progress is saved in the store",
        "3 of 4 cells done in 1:01, 1 failed",
    ]


def test_log_limits_epoch_lines() -> None:
    """A run logs the first and the last epoch of this launch, and one every 10 s in between."""
    cell, other = replace(BASE, epochs=100), replace(BASE, epochs=100, seed=1)
    log = Log(planned(cell, other))
    log.at(0, events.Started(cell.run_id, 0), events.Started(other.run_id, 97))
    for second in range(1, 101):
        log.at(second, *(progress(cell, second, seen) for seen in (64, 6464)), ended(cell, second))
    log.at(105, ended(other, 98), ended(other, 99), ended(other, 100))
    numbers = [m[1] for line in log.lines() if (m := re.match(r"seed 0  epoch (\d+)/100 ", line))]
    assert numbers == ["1", *(str(n) for n in range(11, 100, 10)), "100"]
    numbers = [m[1] for line in log.lines() if (m := re.match(r"seed 1  epoch (\d+)/100 ", line))]
    assert numbers == ["98", "100"]


def test_log_of_a_search() -> None:
    """Each round has a line with the epochs that are skipped and the time that is left."""
    log = Log(planned(*LRS))
    first, second, third = (replace(cell, epochs=2) for cell in LRS)
    stage = "rung 1 of 2, epoch 2: 3 of 3 settings"
    log.view.on_round(search_round(stage, first, second, third, later=((1, 8),)))
    for cell in (first, second, third):
        log.at(20, events.Started(cell.run_id, 0))
        log.at(60, ended(cell, 1), ended(cell, 2), events.Finished(cell.run_id))
        log.at(60, *([events.Stopped(cell.run_id, 2, "behind")] if cell is not first else []))
    stage = "rung 2 of 2, epoch 10: 1 of 3 settings"
    log.view.on_round(search_round(stage, LRS[0]))
    log.at(60, events.Started(first.run_id, 2), events.CellFinished(first.run_id, 10))
    log.view.on_end()
    rounds = [line for line in log.lines() if line.startswith("rung")]
    assert rounds == [
        "rung 1 of 2, epoch 2: 3 of 3 settings",
        "rung 2 of 2, epoch 10: 1 of 3 settings; 16 epochs skipped so far; about 3 min left",
    ]
    assert log.lines()[-1] == (
        "3 of 3 cells done in 1:00, 2 stopped by the search (53% of the epochs skipped)"
    )


def test_log_reports_waiting_once() -> None:
    """Waiting for another process takes one line, however long it lasts."""
    log = Log(planned(BASE))
    log.at(0, *[events.Waiting(BASE.run_id)] * 5)
    log.at(1, events.CellFinished(BASE.run_id, 10), events.Finished(BASE.run_id))
    assert log.lines()[1:] == [
        "lr 0.1 batch 64  waiting for another process that is training it",
        "[1/1] trained by another process  lr 0.1 batch 64 epochs 10",
    ]


def test_log_has_no_control_characters() -> None:
    """Control characters in a message are escaped, even if the console is a terminal."""
    log = Log(planned(BASE), terminal())
    log.view.on_message(HOSTILE)
    log.at(0, events.Started(BASE.run_id, 0), ended(BASE, 1))
    log.at(0, events.Failed(BASE.run_id, Failure("killed", 2, HOSTILE)))
    log.view.on_end()
    assert printed(log.console).replace("\n", "").isprintable()
    assert log.lines()[1] == HARMLESS
    assert log.lines()[-2].endswith(f"killed in epoch 2: {HARMLESS}")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_log_in_any_encoding(encoding: str) -> None:
    """Characters that the encoding of a log lacks are escaped instead of ending the sweep."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=100, _environ={})
    for view in (LogView(console, Clock()), ScriptView(console)):
        view.on_message("Łukasz ran it …")
    print_tables(
        console, ranked_table([row(BASE, person="Łukasz…"), row(LRS[1], None, error=99 * "Ł ")])
    )
    file.seek(0)
    assert file.read().count(r"\u0141ukasz") == 3


def test_log_of_a_retried_run() -> None:
    """A cell that finished before a retry is printed once."""
    cell = replace(BASE, epochs=3)
    log = Log(planned(cell, replace(cell, epochs=1)))
    failure = Failure("killed", 2, "the worker process was terminated by SIGKILL")
    log.at(0, events.Started(cell.run_id, 0))
    log.at(1, ended(cell, 1), events.CellFinished(cell.run_id, 1))
    log.at(2, events.Retrying(cell.run_id, failure, 1))
    log.at(3, events.CellFinished(cell.run_id, 1), events.Started(cell.run_id, 1), ended(cell, 2))
    log.at(4, ended(cell, 3), events.CellFinished(cell.run_id, 3), events.Finished(cell.run_id))
    finished = [line for line in log.lines() if line.startswith("[")]
    assert finished == [
        "[1/2] 98.00%  lr 0.1 batch 64 epochs 1",
        "[2/2] 98.00%  lr 0.1 batch 64 epochs 3",
    ]


def test_log_of_jobs_on_a_cluster() -> None:
    """The log names a run that the cluster interrupted, and the epoch from which it resumes."""
    log = Log(planned(BASE), workers=None)
    log.at(0, events.Started(BASE.run_id, 0), ended(BASE, 1, 97.85))
    log.at(1, events.Requeued(BASE.run_id, "its job was interrupted by Slurm"))
    log.at(9, events.Started(BASE.run_id, 1))
    assert log.lines() == [
        "1 cell, 1 run to train",
        "lr 0.1 batch 64  started",
        "lr 0.1 batch 64  epoch 1/10  cost 0.0500  97.85%  9.10 s",
        "lr 0.1 batch 64  its job was interrupted by Slurm; it will resume from its checkpoint",
        "lr 0.1 batch 64  resumed after epoch 1",
    ]


# ---------------------------------------------------------------- script view


def test_script_view_prints_the_lines_of_the_report() -> None:
    """A single cell prints the lines of the report's script, and nothing else."""
    console = terminal()
    view = ScriptView(console)
    view.on_start(planned(BASE), 1)
    view.on_event(events.Started(BASE.run_id, 0))
    view.on_event(progress(BASE, 1, 64, 2.311962))
    view.on_event(progress(BASE, 1, 6464, 12.5))
    view.on_event(ended(BASE, 10, 99.22, seconds=9.1017))
    view.on_table(ranked_table([row(BASE)]))
    view.on_event(events.CellFinished(BASE.run_id, 10))
    assert not view.complete
    view.on_event(events.Finished(BASE.run_id))
    view.on_end()
    assert view.complete
    assert printed(console) == (
        "loss: 2.311962 [   64/60000]\n"
        "loss: 12.500000 [ 6464/60000]\n"
        "* Calculation time on training set\n"
        ": 9.102 sec\n"
        "* Accuracy on test dataset\n"
        ": 99.22%\n"
    )


def test_script_view_reports_other_events() -> None:
    """A failure, a resumed run and a run of another process take one line each."""
    console = terminal()
    view = ScriptView(console)
    view.on_event(events.Waiting(BASE.run_id))
    view.on_event(events.Waiting(BASE.run_id))
    view.on_event(events.Started(BASE.run_id, 4))
    view.on_event(events.Failed(BASE.run_id, Failure("failed", 5, HOSTILE)))
    assert printed(console) == (
        "waiting for another process that is training this cell\n"
        "resumed after epoch 4\n"
        f"failed in epoch 5: {HARMLESS}\n"
    )
    console = terminal()
    view = ScriptView(console)
    view.on_event(events.CellFinished(BASE.run_id, 10))
    view.on_event(events.Finished(BASE.run_id))
    assert printed(console) == ""
    assert not view.complete


def trained(cell: Cell, images: int, losses: np.ndarray) -> tuple[list[events.Event], Snapshot]:
    """The events and the snapshot of a training with these losses, of shape (epochs, batches)."""
    emitted: list[events.Event] = [events.Started(cell.run_id, 0)]
    trace, history = [], []
    for epoch, batch_losses in enumerate(losses, start=1):
        for batch, loss in enumerate(batch_losses):
            if batch % 100 == 0:
                seen = min((batch + 1) * cell.batch, images)
                emitted.append(events.Progress(cell.run_id, epoch, seen, images, float(loss)))
                trace.append((epoch - 1 + seen / images, loss))
        history.append(Epoch(epoch, 0.1, 100 / (epoch + 1), 0.1, 1 / 3 + epoch, 0.5))
        emitted.append(events.EpochEnded(cell.run_id, history[-1]))
    emitted += [events.CellFinished(cell.run_id, len(losses)), events.Finished(cell.run_id)]
    stored_trace = np.array(trace, dtype=np.float32)
    return emitted, Snapshot({}, np.zeros(1, np.uint8), stored_trace, tuple(history))


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 700),
    images=st.integers(1, 60_000),
    epochs=st.sampled_from([1, 2, 300]),
    seed=st.integers(0, 2**32 - 1),
)
@example(batch=64, images=60_000, epochs=300, seed=0)
@example(batch=100, images=10_000, epochs=2, seed=0)  # the last report is of the last batch
@example(batch=100, images=10_001, epochs=2, seed=0)
def test_a_stored_cell_prints_the_same_as_a_trained_one(
    batch: int, images: int, epochs: int, seed: int
) -> None:
    """The output is the same, byte for byte, whether the cell is trained or in the store."""
    batches = math.ceil(images / batch)
    if batches > 2000:  # keeps the test fast, with 20 reports in an epoch
        images = 2000 * batch
        batches = 2000
    random = np.random.default_rng(seed)
    losses = np.exp(random.normal(0, 4, (epochs, batches))).astype(np.float32)
    cell = replace(BASE, batch=batch, epochs=epochs)
    emitted, snapshot = trained(cell, images, losses)
    live_console, replay_console = terminal(), terminal()
    view = ScriptView(live_console)
    for event in emitted:
        view.on_event(event)
    replay(replay_console, snapshot, cell, images)
    assert printed(replay_console) == printed(live_console)
    assert printed(live_console).count("loss: ") == epochs * math.ceil(batches / 100)


def test_script_view_has_a_status_line_on_a_terminal() -> None:
    """A line below the output shows the accuracy and the time left, and disappears at the end."""
    console, clock = terminal(), Clock()
    status = terminal()
    status.file = console.file  # both are the same terminal
    view = ScriptView(console, status, clock)
    two = replace(BASE, epochs=2)

    def screen() -> list[str]:
        """The lines that a terminal shows, without erased text."""
        lines = printed(console).split("\n")
        return [line.rpartition("\r\x1b[2K")[2] for line in lines]

    view.on_start(planned(two), 1)
    view.on_event(events.Started(two.run_id, 0))
    assert screen() == ["epoch 1/2"]
    clock.now += 5
    view.on_event(progress(two, 1, 30_000))
    assert screen() == ["loss: 2.000000 [30000/60000]", "epoch 1/2  0:15 left"]
    clock.now += 5
    view.on_event(ended(two, 1, 98.5))
    assert screen()[-1] == "epoch 2/2  accuracy 98.50% after epoch 1  0:10 left"
    view.on_message("a remark")
    assert screen()[-2:] == ["a remark", ""]
    view.on_event(ended(two, 2, 99.22))
    view.on_event(events.CellFinished(two.run_id, 2))
    view.on_event(events.Finished(two.run_id))
    view.on_end()
    view.on_message("Written to here")
    assert screen()[-4:] == [
        "* Accuracy on test dataset", ": 99.22%", "Written to here", "",
    ]  # fmt: skip
    assert not any("left" in line for line in screen())
    assert all(len(line) < 80 for line in screen())


def test_redirected_output_has_no_status_line() -> None:
    """A file or a pipe gets only the lines of the report's script."""
    assert status_console() is None  # pytest captures the output
