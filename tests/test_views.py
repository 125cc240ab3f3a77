"""What a person sees of a sweep."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from lenet_sweep import events, results
from lenet_sweep.cells import Cell, Plan, plan
from lenet_sweep.datasets import Dataset
from lenet_sweep.recipes import Optimizer
from lenet_sweep.store import Epoch, Failure, Snapshot
from lenet_sweep.views import (
    LiveView,
    LogView,
    QuietView,
    ScriptView,
    choose,
    print_tables,
    replay,
)

HOSTILE = "[red]no\x1b[31m\x07 \u202eend[/red]\r\nnext"
HARMLESS = r"[red]no\x1b[31m\x07 \u202eend[/red] next"
DASH = "\u2013"
NAN = Failure("diverged", 1, "the loss became nan in batch 12 of epoch 1")

BASE = Cell(
    loss="cross_entropy",
    optimizer=Optimizer("sgd"),
    activation="relu",
    lr=0.1,
    batch=64,
    epochs=10,
    seed=0,
    shuffle=False,
    dataset=Dataset("mnist", "0" * 64),
    device="cpu",
    engine="torch",
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def planned(*cells: Cell, finished: Iterable[Cell] = ()) -> Plan:
    return plan(cells, set(finished).__contains__)


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        width=width,
        height=height,
        color_system="truecolor",
        _environ={},
    )


def log_file() -> Console:
    return Console(file=io.StringIO(), width=80, _environ={})


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def progress(cell: Cell, epoch: int, seen: int, loss: float = 2.0) -> events.Progress:
    return events.Progress(cell.run_id, epoch, seen, 60_000, loss)


def ended(
    cell: Cell, epoch: int, accuracy: float = 98.0, cost: float = 0.05, seconds: float = 9.102
) -> events.EpochEnded:
    return events.EpochEnded(cell.run_id, Epoch(epoch, cost, accuracy, 0.06, seconds, 0.5))


def row(cell: Cell, accuracy: float | None = 98.0, **changed: object) -> results.Record:
    ok = accuracy is not None
    return {
        "accuracy": accuracy,
        "batch": cell.batch,
        "lr": cell.lr,
        "epochs": cell.epochs,
        "person": "ada",
        "device": cell.device,
        "loss": cell.loss,
        "optimizer": str(cell.optimizer),
        "activation": cell.activation,
        "seed": cell.seed,
        "status": "ok" if ok else "failed",
        "train_loss": 0.0312 if ok else None,
        "seconds_per_epoch": 9.1 if ok else None,
        "seconds": 91.0 if ok else None,
        "engine": cell.engine,
        "dataset": cell.data,
        "error": "" if ok else "RuntimeError: no",
        "cell": cell.id,
    } | changed


class Live:
    """A live view of a plan on a terminal, and the clock that it reads."""

    def __init__(self, the_plan: Plan, workers: int = 2, width: int = 80, height: int = 24) -> None:
        self.console = terminal(width, height)
        self.clock = Clock()
        self.view = LiveView(self.console, self.clock)
        self.view.begin(the_plan, workers)

    def at(self, seconds: float, *happened: events.Event) -> None:
        self.clock.now = 1_700_000_000.0 + seconds
        for event in happened:
            self.view.show(event)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.view.frame().plain.replace(DASH, "-").split("\n")]

    def line(self, start: str) -> str:
        (line,) = (line for line in self.lines() if line.startswith(start))
        return line

    def bar(self, start: str) -> float:
        """Length of a bar, of 1."""
        line = self.line(start)
        return (line.count("━") + line.count("╸") / 2) / sum(map(line.count, "━╸─"))

    def left(self, start: str) -> str:
        return self.line(start).split()[-1]


@pytest.fixture
def live() -> Iterable[Callable[..., Live]]:
    started: list[Live] = []

    def start(*cells: Cell, **options: int) -> Live:
        started.append(Live(planned(*cells), **options))
        return started[-1]

    yield start
    for one in started:
        one.view.end()


LRS = tuple(replace(BASE, lr=lr) for lr in (0.1, 0.01, 0.001))


# ---------------------------------------------------------------- choice


def test_view_fits_where_the_output_goes() -> None:
    """Bars come to a terminal only; a file, a CI log and a simple terminal get plain lines."""
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert isinstance(choose(single=False, console=terminal()), LiveView)
    assert isinstance(choose(single=False, console=log_file()), LogView)
    assert isinstance(choose(single=True, console=terminal()), ScriptView)
    assert isinstance(choose(single=True, console=log_file()), ScriptView)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(choose(single=False, console=dumb), LogView)
    narrow = Console(file=latin, force_terminal=True, force_interactive=True, _environ={})
    assert isinstance(choose(single=False, console=narrow), LogView)


def test_quiet_view_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that calls the API with progress off finds nothing on its output."""
    view = QuietView()
    view.begin(planned(BASE), 1)
    view.show(events.Failed(BASE.run_id, NAN))
    view.rows(results.table([row(BASE)]))
    view.say("2 equal cells were merged")
    view.end()
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- live view


def test_live_view_at_80_columns(live: Callable[..., Live]) -> None:
    """The whole picture fits 80 columns, with every figure under its heading."""
    at = live(*LRS)
    first, second, _ = LRS
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    at.at(20, ended(first, 1), ended(first, 2, 98.91, 0.0312, 9.5), progress(second, 1, 30_000))
    at.view.rows(results.table([row(first, 98.91)]))
    assert at.lines() == [
        "",
        "                                     epoch     cost  accuracy  s/epoch     left",
        "lr 0.1     ━━━━━───────────────────   3/10   0.0312   98.91 %     9.30     1:20",
        "lr 0.01    ━───────────────────────   1/10   2.0000         -        -     6:20",
        "0/3 cells  ━━──────────────────────  0:20 so far                           6:20",
        "",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device",
        "   1         98.91     64            0.1      10  ada     cpu",
    ]


def test_live_view_uses_a_wide_terminal(live: Callable[..., Live]) -> None:
    """On 140 columns names that would be cut at 80 are whole, and bars are longer."""
    cells = [
        replace(c, optimizer=Optimizer("sgd", (("momentum", m),))) for c in LRS for m in (0, 0.9)
    ]
    cells = [replace(c, seed=seed) for c in cells for seed in (0, 1)]
    name = "lr 0.001 sgd momentum=0.9 seed 1"
    for width, whole, bar in ((80, False, 8), (140, True, 60)):
        at = live(*cells, width=width)
        at.at(0, events.Started(cells[-1].run_id, 0))
        line = at.line(name[:20])
        assert line.startswith(name) == whole
        assert line.count("─") == bar


@settings(deadline=None)
@given(
    width=st.integers(4, 200),
    height=st.integers(2, 60),
    workers=st.integers(1, 70),
    rows=st.integers(0, 8),
    person=st.sampled_from(["ada", "亜" * 40]),
    epochs=st.sampled_from([1, 10, 100_000]),
    left=st.booleans(),
)
def test_live_view_stays_within_the_screen(
    width: int, height: int, workers: int, rows: int, person: str, epochs: int, left: bool
) -> None:
    """However small the window and many the workers, no line wraps and nothing scrolls."""
    cells = [
        replace(BASE, seed=n, lr=1e-5 * (n + 1), activation=("relu", "gelu")[n % 2], epochs=epochs)
        for n in range(workers + (3 if left else 0))
    ]
    at = Live(planned(*cells), workers, width, height)
    try:
        for n, cell in enumerate(cells[:workers]):
            at.at(n * 1e5, events.Started(cell.run_id, 0) if n % 5 else events.Waiting(cell.run_id))
            at.at(n * 1e5 + 1, progress(cell, 1, 50_000, 1e30))
        at.view.rows(results.table(row(cell, person=person) for cell in cells[:rows]))
        frame = at.view.frame().split("\n", allow_blank=True)
    finally:
        at.view.end()
    assert len(frame) < height
    assert max(line.cell_len for line in frame) < width
    assert any("cells" in line.plain for line in frame) or width < 40


def test_runs_that_do_not_fit_are_counted(live: Callable[..., Live]) -> None:
    """With 64 workers on 24 lines the sweep's bar and the leading rows are still there."""
    cells = [replace(BASE, seed=n) for n in range(64)]
    at = live(*cells, workers=64)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells))
    at.view.rows(results.table(row(cell) for cell in cells))
    shown = sum(line.startswith("seed") for line in at.lines())
    assert shown > 5
    assert f"and {64 - shown} more" in at.lines()
    assert at.line("0/64 cells")
    assert len(at.lines()) == 23


def test_bar_moves_within_an_epoch(live: Callable[..., Live]) -> None:
    """A run of one long epoch does not look as if it hung."""
    cell = replace(BASE, epochs=1)
    at = live(cell)
    at.at(0, events.Started(cell.run_id, 0))
    lengths = []
    for seen in (64, 15_000, 30_000, 60_000):
        at.at(seen / 1000, progress(cell, 1, seen))
        lengths.append(at.bar("lr 0.1"))
    assert lengths == pytest.approx([0, 0.25, 0.5, 1], abs=0.03)


def test_resumed_run_begins_where_it_was_cut(live: Callable[..., Live]) -> None:
    """A run with 80 of 100 epochs in the store shows them at once, and does not call them fast."""
    cell = replace(BASE, epochs=100)
    at = live(cell)
    at.at(0, events.Started(cell.run_id, 80))
    assert at.bar("lr 0.1") == pytest.approx(0.8, abs=0.03)
    assert " 81/100 " in at.line("lr 0.1")
    at.at(10, ended(cell, 81))
    assert at.left("lr 0.1") == "3:10"


def test_finished_run_makes_room_for_the_next(live: Callable[..., Live]) -> None:
    """The bar of a finished run leaves, the next run takes its line, and the others stay put."""
    first, second, third = LRS
    at = live(*LRS)
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    before = at.lines().index(at.line("lr 0.1 "))
    after = at.lines().index(at.line("lr 0.01 "))
    at.at(9, events.ReadOut(first.run_id, 10), events.Finished(first.run_id))
    assert at.lines().index(at.line("lr 0.01 ")) == after
    at.at(10, events.Started(third.run_id, 0))
    assert at.lines().index(at.line("lr 0.001 ")) == before
    assert not any(line.startswith("lr 0.1 ") for line in at.lines())
    at.at(11, events.Finished(third.run_id), events.Stopped(second.run_id))
    assert [line for line in at.lines() if line.startswith("lr")] == []


def test_run_of_another_process_says_so(live: Callable[..., Live]) -> None:
    """Who starts the same sweep twice sees why a bar does not move."""
    at = live(*LRS)
    at.at(0, events.Waiting(BASE.run_id), events.Waiting(BASE.run_id))
    assert (
        at.line("lr 0.1 ").split("  ", 1)[1].strip() == "waits for another process that trains it"
    )
    at.at(1, events.Started(BASE.run_id, 3))
    assert "waits" not in at.line("lr 0.1 ")


def test_time_left_is_not_invented(live: Callable[..., Live]) -> None:
    """Until there is something to tell from, the time left is a dash, and not a guess."""
    at = live(*LRS)
    at.at(0, events.Started(BASE.run_id, 0))
    at.at(3, progress(BASE, 1, 64))  # the first step is not typical
    assert at.left("0/3 cells") == at.left("lr 0.1 ") == "-"
    at.at(5, progress(BASE, 1, 30_000))
    assert at.left("lr 0.1 ") == "1:35"


def test_time_left_counts_what_is_to_train(live: Callable[..., Live]) -> None:
    """The sweep's time left is its remaining epochs at the measured pace, over its workers."""
    cells = [replace(BASE, seed=n) for n in range(4)]
    at = live(*cells, workers=2)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells[:2]))
    at.at(2, *(ended(cell, 1) for cell in cells[:2]))
    assert at.left("0/4 cells") == "0:38"  # (9 + 9 + 10 + 10) epochs of 2 s, two at a time


def test_time_left_is_at_least_the_longest_run(live: Callable[..., Live]) -> None:
    """More workers than runs do not make the last run any shorter."""
    long, short = replace(BASE, seed=1, epochs=100), BASE
    at = live(long, short, workers=8)
    at.at(0, events.Started(long.run_id, 0), events.Started(short.run_id, 0))
    at.at(2, ended(long, 1), ended(short, 1))
    assert at.left("0/2 cells") == "3:18"


def test_time_left_knows_that_small_batches_are_slow(live: Callable[..., Live]) -> None:
    """A run that has not begun is taken to be as fast as runs of its batch size were."""
    slow, fast = replace(BASE, batch=16), BASE
    at = live(*(replace(slow, seed=n) for n in range(3)), fast, replace(fast, seed=1), workers=1)
    at.at(0, events.Started(slow.run_id, 0))
    at.at(10, ended(slow, 1))
    assert at.left("0/5 cells") == "8:10"  # nothing better is known than 10 s for all
    at.at(10, events.Finished(slow.run_id), events.Started(fast.run_id, 0))
    at.at(11, ended(fast, 1))
    assert at.left("0/5 cells") == "3:39"  # 9 + 10 epochs of 1 s, 20 of 10 s


def test_failure_stays_above_the_bars(live: Callable[..., Live]) -> None:
    """A failed run leaves one red line with its reason, cut to the width, and is counted."""
    at = live(BASE, replace(BASE, epochs=5), replace(BASE, seed=1))
    at.at(0, events.Started(BASE.run_id, 0), events.ReadOut(BASE.run_id, 5))
    at.at(1, events.Failed(BASE.run_id, Failure("failed", 7, "RuntimeError: " + 99 * "long ")))
    (line,) = [line for line in printed(at.console).split("\n") if "RuntimeError" in line]
    assert "\x1b[1;38;2;224;58;58m✗ seed 0  failed in epoch 7: RuntimeError: long" in line
    assert without_styles(line).strip().endswith("…")
    assert len(without_styles(line).strip()) <= 80
    assert at.line("2/3 cells").split("─")[-1].strip().startswith("1 failed, ")


def test_text_from_outside_is_only_text(live: Callable[..., Live]) -> None:
    """Markup and control characters in a reason or a name are shown, and change nothing."""
    at = live(*LRS, width=140)
    at.at(0, events.Failed(BASE.run_id, Failure("failed", 1, HOSTILE)))
    at.view.say(HOSTILE)
    at.view.rows(results.table([row(BASE, person="[b]\x1b[2J")]))
    text = printed(at.console)
    assert f"✗ lr 0.1  failed in epoch 1: {HARMLESS}" in text
    assert text.count(HARMLESS) == 2
    assert r"[b]\x1b[2J" in at.line("   1")
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


def test_cells_in_the_store_count_as_done(live: Callable[..., Live]) -> None:
    """A sweep that is launched again starts with what it has, and names runs as it did before."""
    at = Live(planned(*LRS, finished=LRS[:2]))
    at.at(0, events.Started(LRS[2].run_id, 0))
    assert at.bar("2/3 cells") == pytest.approx(2 / 3, abs=0.03)
    assert at.line("lr 0.001 ")
    at.at(5, events.ReadOut(LRS[2].run_id, 10), events.Finished(LRS[2].run_id))
    assert at.bar("3/3 cells") == 1
    at.view.end()
    assert "3 of 3 cells done, in 0:05" in printed(at.console)


def test_names_tell_runs_apart(live: Callable[..., Live]) -> None:
    """A bar is called by the settings that vary; the loss where the optimizer does not say it."""
    nll = replace(BASE, loss="nll", optimizer=Optimizer("adam"), lr=0.001)
    cells = (BASE, replace(BASE, batch=32), nll)
    at = live(*cells, workers=3)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells))
    for name in ("lr 0.1 batch 64 sgd  ", "lr 0.1 batch 32 sgd  ", "lr 0.001 batch 64 adam  "):
        assert at.line(name)
    crossed = (BASE, replace(BASE, loss="nll"), replace(BASE, optimizer=Optimizer("adam")))
    at = live(*crossed, workers=3)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in crossed))
    for name in ("sgd cross_entropy  ", "sgd nll  ", "adam cross_entropy  "):
        assert at.line(name)
    at = live(BASE)
    at.at(0, events.Started(BASE.run_id, 0))
    assert at.line("lr 0.1 batch 64 ")


def test_leading_rows(live: Callable[..., Live]) -> None:
    """The five best cells so far are shown with what tells them apart; failed ones are not."""
    adam = replace(BASE, loss="nll", optimizer=Optimizer("adam"))
    cells = [replace(cell, lr=10.0**-n) for cell in (BASE, adam) for n in range(1, 5)]
    frame = results.table([row(c, 90 + n / 8) for n, c in enumerate(cells)] + [row(BASE, None)])
    at = live(*cells)
    at.view.rows(frame)
    assert at.lines()[-6:] == [
        "rank  accuracy (%)  batch  learning rate  epochs  loss           optimizer",
        "   1         90.88     64         0.0001      10  nll            adam",
        "   2         90.75     64          0.001      10  nll            adam",
        "   3         90.62     64           0.01      10  nll            adam",
        "   4         90.50     64            0.1      10  nll            adam",
        "   5         90.38     64         0.0001      10  cross_entropy  sgd",
    ]
    at = live(*cells, width=140)
    at.view.rows(frame)
    assert "  epochs  person  device  loss " in at.lines()[-6]
    at = live(*cells)
    at.view.rows(results.table([row(BASE, None)]))
    assert not any("accuracy (%)" in line for line in at.lines())


def test_terminal_is_left_as_it_was() -> None:
    """After Ctrl-C the cursor is back and the bars are gone, however often the view is ended."""
    console = terminal()
    view = LiveView(console, Clock())

    def interrupted() -> None:
        try:
            view.begin(planned(*LRS), 2)
            view.show(events.Started(BASE.run_id, 0))
            raise KeyboardInterrupt
        finally:
            view.end()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = printed(console)
    assert re.findall(r"\x1b\[\?25[lh]", text) == ["\x1b[?25l", "\x1b[?25h"]
    assert "0/3 cells" in text
    erased = text[text.rindex("\x1b[?25h") :]
    assert erased.count("\x1b[1A\x1b[2K") == len(view.frame().split("\n", allow_blank=True))
    assert without_styles(erased).strip() == "0 of 3 cells done, in 0:00"
    view.end()
    assert printed(console) == text


def test_nothing_to_train_is_said(live: Callable[..., Live]) -> None:
    """A finished sweep that is launched again says so in a line, without bars."""
    for make, console in ((LiveView, terminal()), (LogView, log_file())):
        view = make(console, Clock())
        view.begin(planned(*LRS, finished=LRS), 2)
        view.rows(results.table([row(BASE)]))
        view.end()
        said = "3 cells, nothing to train: the store has every outcome\n"
        assert without_styles(printed(console)).endswith(said)
        assert "\x1b[?25l" not in printed(console)
        assert printed(console).count("\n") == 1


# ---------------------------------------------------------------- log


class Log:
    """A log of a plan, and the clock that it reads."""

    def __init__(
        self, the_plan: Plan, console: Console | None = None, workers: int | None = 2
    ) -> None:
        self.console = console or log_file()
        self.clock = Clock()
        self.view = LogView(self.console, self.clock)
        self.view.begin(the_plan, workers)

    def at(self, seconds: float, *happened: events.Event) -> None:
        self.clock.now = 1_700_000_000.0 + seconds
        for event in happened:
            self.view.show(event)

    def lines(self) -> list[str]:
        lines = printed(self.console).splitlines()
        assert all(re.match(r"[0-2]\d:[0-5]\d:[0-5]\d  \S", line) for line in lines)
        return [line[10:] for line in lines]


def test_log_of_a_sweep() -> None:
    """A log says what began, what came of it and what failed, a line each."""
    short, other, third = replace(BASE, epochs=1), *LRS[1:]
    log = Log(planned(short, BASE, other, third, short, finished=[third]))
    log.view.say("1 equal cell was merged")
    log.at(0, events.Started(BASE.run_id, 0), events.Started(other.run_id, 4))
    log.at(1, progress(BASE, 1, 64), ended(BASE, 1, 97.85), events.ReadOut(BASE.run_id, 1))
    log.view.rows(results.table([row(short)]))
    log.at(2, events.Failed(BASE.run_id, replace(NAN, epoch=2)))
    log.at(61, ended(other, 5), events.Stopped(other.run_id))
    log.view.end()
    log.view.end()
    assert log.lines() == [
        "4 cells (1 in the store already), 2 runs to train, 2 workers",
        "1 equal cell was merged",
        "lr 0.1  begins",
        "lr 0.01  goes on after epoch 4",
        "lr 0.1  epoch 1/10  cost 0.0500  97.85 %  9.10 s",
        "[2/4] 97.85 %  lr 0.1 epochs 1",
        f"[3/4] FAILED  lr 0.1 epochs 10: diverged: {NAN.reason}",
        "lr 0.01  epoch 5/10  cost 0.0500  98.00 %  9.10 s",
        "lr 0.01  stopped; what it had trained is in the store",
        "3 of 4 cells done, 1 of them failed, in 1:01",
    ]


def test_log_is_not_flooded() -> None:
    """A run of 100 quick epochs logs the first, the last and one each 10 s; another its own."""
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


def test_log_names_runs_of_other_processes_once() -> None:
    """Hours of waiting for another process fill no log."""
    log = Log(planned(BASE))
    log.at(0, *[events.Waiting(BASE.run_id)] * 5)
    log.at(1, events.ReadOut(BASE.run_id, 10), events.Finished(BASE.run_id))
    assert log.lines()[1:] == [
        "lr 0.1 batch 64  waits for another process that trains it",
        "[1/1] by another process  lr 0.1 batch 64 epochs 10",
    ]


def test_log_has_no_control_characters() -> None:
    """A log reads the same in every editor, even if it was forced to be a terminal."""
    log = Log(planned(BASE), terminal())
    log.view.say(HOSTILE)
    log.at(0, events.Started(BASE.run_id, 0), ended(BASE, 1))
    log.at(0, events.Failed(BASE.run_id, Failure("killed", 2, HOSTILE)))
    log.view.end()
    assert printed(log.console).replace("\n", "").isprintable()
    assert log.lines()[1] == HARMLESS
    assert log.lines()[-2].endswith(f"killed in epoch 2: {HARMLESS}")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_log_in_any_encoding(encoding: str) -> None:
    """A name that the log's encoding lacks does not end the sweep."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=100, _environ={})
    for view in (LogView(console, Clock()), ScriptView(console)):
        view.say("Łukasz ran it …")
    print_tables(
        console, results.table([row(BASE, person="Łukasz…"), row(LRS[1], None, error=99 * "Ł ")])
    )
    file.seek(0)
    assert file.read().count(r"\u0141ukasz") == 3


# ---------------------------------------------------------------- the report's script


def test_script_prints_what_the_report_shows() -> None:
    """A single cell prints the lines of the report's script, and nothing else."""
    console = terminal()
    view = ScriptView(console)
    view.begin(planned(BASE), 1)
    view.show(events.Started(BASE.run_id, 0))
    view.show(progress(BASE, 1, 64, 2.311962))
    view.show(progress(BASE, 1, 6464, 12.5))
    view.show(ended(BASE, 10, 99.22, seconds=9.1017))
    view.rows(results.table([row(BASE)]))
    view.show(events.ReadOut(BASE.run_id, 10))
    assert not view.complete
    view.show(events.Finished(BASE.run_id))
    view.end()
    assert view.complete
    assert printed(console) == (
        "loss: 2.311962 [   64/60000]\n"
        "loss: 12.500000 [ 6464/60000]\n"
        "* Calculation time on training set\n"
        ": 9.102 sec\n"
        "* Accuracy on test dataset\n"
        ": 99.22%\n"
    )


def test_script_says_what_went_otherwise() -> None:
    """A failure, a resumed run and another process's run take a line each."""
    console = terminal()
    view = ScriptView(console)
    view.show(events.Waiting(BASE.run_id))
    view.show(events.Waiting(BASE.run_id))
    view.show(events.Started(BASE.run_id, 4))
    view.show(events.Failed(BASE.run_id, Failure("failed", 5, HOSTILE)))
    assert printed(console) == (
        "waits for another process that trains this cell\n"
        "goes on after epoch 4, which is in the store\n"
        f"failed in epoch 5: {HARMLESS}\n"
    )
    console = terminal()
    view = ScriptView(console)
    view.show(events.ReadOut(BASE.run_id, 10))
    view.show(events.Finished(BASE.run_id))
    assert printed(console) == ""
    assert not view.complete


def trained(cell: Cell, images: int, losses: np.ndarray) -> tuple[list[events.Event], Snapshot]:
    """What training with these batch losses, (epochs, batches), yields and leaves in the store."""
    happened: list[events.Event] = [events.Started(cell.run_id, 0)]
    trace, history = [], []
    for epoch, row_ in enumerate(losses, start=1):
        for batch, loss in enumerate(row_):
            if batch % 100 == 0:
                seen = min((batch + 1) * cell.batch, images)
                happened.append(events.Progress(cell.run_id, epoch, seen, images, float(loss)))
                trace.append((epoch - 1 + seen / images, loss))
        history.append(Epoch(epoch, 0.1, 100 / (epoch + 1), 0.1, 1 / 3 + epoch, 0.5))
        happened.append(events.EpochEnded(cell.run_id, history[-1]))
    happened += [events.ReadOut(cell.run_id, len(losses)), events.Finished(cell.run_id)]
    traced = np.array(trace, dtype=np.float32)
    return happened, Snapshot({}, np.zeros(1, np.uint8), traced, tuple(history))


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 700),
    images=st.integers(1, 60_000),
    epochs=st.sampled_from([1, 2, 300]),
    seed=st.integers(0, 2**32 - 1),
)
@example(batch=64, images=60_000, epochs=300, seed=0)
@example(batch=100, images=10_000, epochs=2, seed=0)  # no batch after the last one reported
@example(batch=100, images=10_001, epochs=2, seed=0)
def test_cell_in_the_store_prints_as_when_it_was_trained(
    batch: int, images: int, epochs: int, seed: int
) -> None:
    """The command prints the same, byte for byte, whether it trained or found the result."""
    batches = math.ceil(images / batch)
    if batches > 2000:  # keeps the test quick, and leaves 20 reports in an epoch
        images = 2000 * batch
        batches = 2000
    random = np.random.default_rng(seed)
    losses = np.exp(random.normal(0, 4, (epochs, batches))).astype(np.float32)
    cell = replace(BASE, batch=batch, epochs=epochs)
    happened, snapshot = trained(cell, images, losses)
    live_console, replay_console = terminal(), terminal()
    view = ScriptView(live_console)
    for event in happened:
        view.show(event)
    replay(replay_console, snapshot, cell, images)
    assert printed(replay_console) == printed(live_console)
    assert printed(live_console).count("loss: ") == epochs * math.ceil(batches / 100)


# ---------------------------------------------------------------- tables


def tables(frame: pd.DataFrame, width: int = 80) -> str:
    console = terminal(width)
    print_tables(console, frame)
    return printed(console)


def test_tables_as_the_report_has_them() -> None:
    """Each recipe has a table: best first, numbers flush right, below it what is the same."""
    adam = replace(BASE, loss="nll", optimizer=Optimizer("adam"), lr=0.001)
    frame = results.table([row(BASE, 99.216), row(LRS[1], 8.5), row(adam, 98.5)])
    lines = [line.rstrip() for line in without_styles(tables(frame, 140)).splitlines()]
    assert lines == [
        "",
        "cross_entropy + sgd",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device    cost  s/epoch",
        "─" * 81,
        "   1         99.22     64            0.1      10  ada     cpu     0.0312     9.10",
        "   2          8.50     64           0.01      10  ada     cpu     0.0312     9.10",
        "All rows: activation relu, seed 0, dataset mnist, engine torch.",
        "",
        "nll + adam",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device    cost  s/epoch",
        "─" * 81,
        "   1         98.50     64          0.001      10  ada     cpu     0.0312     9.10",
        "All rows: activation relu, seed 0, dataset mnist, engine torch.",
    ]


def test_best_rows_stand_out() -> None:
    """The best row is bold, and so is its equal; a failed one is never the best."""
    text = tables(results.table([row(BASE, 99.0), row(LRS[1], 99.0), row(LRS[2], 98.0)]))
    bold = [without_styles(line).split()[0] for line in text.splitlines() if "\x1b[1m   " in line]
    assert bold == ["1", "1"]
    text = tables(results.table([row(BASE, None)]))
    assert "\x1b[1m   " not in text


def test_failures_are_explained_beneath_the_table() -> None:
    """A failed cell is a row without accuracy; why it failed stands below, once for each run."""
    frame = results.table(
        [
            row(LRS[1], 99.0),
            row(BASE, None, error=HOSTILE),
            row(replace(BASE, epochs=5), None, error=HOSTILE),
            row(LRS[2], None, status="diverged", error=60 * "long "),
        ]
    )
    text = without_styles(tables(frame))
    assert len(re.findall(r"^   2 +failed ", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^   2 +diverged ", text, re.MULTILINE)) == 1
    below = text[text.index("All rows") :].splitlines()[1:]
    assert " ".join(below[0].split()) == (f"lr 0.1 batch 64 epochs 5, 10 failed: {HARMLESS}")
    cut = [line for line in below if "long" in line]
    assert len(cut) == 3
    assert cut[0].startswith("lr 0.001 batch 64 epochs 10  diverged: long long")
    assert cut[2].endswith("...")


@settings(deadline=None)
@given(
    width=st.integers(80, 200),
    person=st.sampled_from(["ada", "a.very.long.login.name@some.institute", "[b]亜\x1b[2J"]),
    seeds=st.booleans(),
)
def test_tables_fit_the_terminal(width: int, person: str, seeds: bool) -> None:
    """From 80 columns on no line wraps, no figure is cut, and the person is still named."""
    frame = results.table(
        row(replace(BASE, epochs=200, seed=n if seeds else 0, lr=1e-5 * n), 99.25, person=person)
        for n in range(1, 4)
    )
    text = tables(frame, width)
    lines = without_styles(text).splitlines()
    assert max(len(line) + line.count("亜") for line in lines) <= width
    assert sum(" 99.25 " in line and " 200 " in line and "9.10" in line for line in lines) == 3
    assert "\x1b[2J" not in text
    if len(person) < 20:
        assert person.replace("\x1b", r"\x1b") in without_styles(text)


def test_of_a_long_table_the_best_rows_are_printed() -> None:
    """After a thousand cells the screen holds the best ones and says where the others are."""
    many = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(1000)]
    failed = [row(replace(BASE, seed=n), None) for n in range(1000, 1025)]
    text = without_styles(tables(results.table(many + failed), 120))
    lines = [line.split() for line in text.splitlines()]
    assert [words[0] for words in lines if words and words[0].isdigit()] == [
        str(rank) for rank in range(1, 101)
    ]
    assert "and 925 more rows; results.md has them all" in text
    assert text.count("failed: RuntimeError: no") == 20
    assert text.endswith("and 5 more failed runs; results.md has them all\n")


def test_a_column_that_differs_out_of_sight_is_not_called_the_same() -> None:
    """Where space is short, a person is named below for all rows only if that is true of all."""
    two = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(100)]
    two.append(row(replace(BASE, seed=100), 9.8, person="bo"))
    assert "person ada" not in without_styles(tables(results.table(two), 60))
    assert "person ada" in without_styles(tables(results.table(two[:-1]), 60))


def test_no_table_is_said() -> None:
    """A sweep that was stopped before its first result does not end in silence."""
    assert tables(results.table([])) == "No cell has an outcome yet.\n"


def test_a_run_that_is_tried_again_is_neither_failed_nor_done(live: Callable[..., Live]) -> None:
    """A retry is said in one line; the run counts as not begun, so that the time left is whole."""
    at = live(BASE, replace(BASE, seed=1))
    at.at(0, events.Started(BASE.run_id, 0), events.Retrying(BASE.run_id, NAN, 1))
    text = printed(at.console)
    assert "it is tried again after the others (retry 1)" in " ".join(text.split())
    assert "1 failed" not in text
    assert at.line("0/2 cells")
    at.at(1, events.Damaged(BASE.run_id, "outputs/runs/x/checkpoint.safetensors"))
    assert "checkpoint.safetensors was damaged" in " ".join(printed(at.console).split())


def test_jobs_of_a_cluster_have_as_many_lanes_as_run(live: Callable[..., Live]) -> None:
    """Where nobody knows how many runs there will be at once, those that train are shown."""
    cells = [replace(BASE, seed=n) for n in range(6)]
    at = live(*cells, workers=None)
    assert len([line for line in at.lines() if "seed" in line or line == "-"]) == 0
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells[:3]))
    at.at(2, *(ended(cell, 1) for cell in cells[:3]))
    assert len([line for line in at.lines() if "seed" in line]) == 3
    assert at.left("0/6 cells") == "0:38"  # 57 epochs of 2 s, three at a time
    at.at(3, events.Requeued(cells[0].run_id, "its job was interrupted by Slurm"))
    assert len([line for line in at.lines() if "seed" in line]) == 2
    text = " ".join(printed(at.console).split())
    assert "seed 0 its job was interrupted by Slurm; it goes on from its checkpoint when" in text


def test_a_paused_run_keeps_what_it_has_behind_it(live: Callable[..., Live]) -> None:
    """A run that gives way leaves the screen, but its epochs still count as done, and as timed."""
    first, second, third = (replace(BASE, seed=n) for n in range(3))
    at = live(first, second, third)
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    at.at(4, *(ended(cell, n, seconds=2.0) for cell in (first, second) for n in (1, 2)))
    done = at.bar("0/3 cells")
    assert at.left("0/3 cells") == "0:26"  # (8 + 8 + 10) epochs of 2 s, two at a time
    at.at(4, events.Paused(first.run_id), events.Started(third.run_id, 0))
    assert at.bar("0/3 cells") == done
    assert at.left("0/3 cells") == "0:26"
    assert [line.split()[1] for line in at.lines() if line.startswith("seed")] == ["2", "1"]
    at.at(20, *(ended(second, n) for n in range(3, 11)), events.Finished(second.run_id))
    at.at(20, events.Started(first.run_id, 2))
    assert " 3/10 " in at.line("seed 0")
    assert "2.00" in at.line("seed 0")  # seconds an epoch, of those before the pause
    at.at(36, *(ended(first, n) for n in range(3, 11)), events.Finished(first.run_id))
    assert at.left("0/3 cells") == "0:20"  # of the third, which has not ended an epoch


def test_a_paused_run_that_another_process_took_says_so(live: Callable[..., Live]) -> None:
    """A run that was begun here, and that another process trains now, does not seem to hang."""
    at = live(*LRS)
    at.at(0, events.Started(BASE.run_id, 0))
    at.at(2, ended(BASE, 1), events.Paused(BASE.run_id), events.Waiting(BASE.run_id))
    assert "waits for another process" in at.line("lr 0.1 ")


def test_log_of_runs_that_take_turns() -> None:
    """That runs take turns is said once; their pauses, and what was said before, fill no log."""
    cell, other = replace(BASE, epochs=3), replace(BASE, epochs=2, batch=32)
    log = Log(planned(cell, replace(cell, epochs=1), other))
    log.at(0, events.Started(cell.run_id, 0))
    log.at(1, ended(cell, 1), events.ReadOut(cell.run_id, 1), events.Paused(cell.run_id))
    log.at(2, events.Started(other.run_id, 0), ended(other, 1), events.Paused(other.run_id))
    log.at(3, events.ReadOut(cell.run_id, 1), events.Started(cell.run_id, 1), ended(cell, 2))
    log.at(4, ended(cell, 3), events.ReadOut(cell.run_id, 3), events.Finished(cell.run_id))
    assert log.lines() == [
        "3 cells, 2 runs to train, 2 workers",
        "batch 64  begins",
        "batch 64  epoch 1/3  cost 0.0500  98.00 %  9.10 s",
        "[1/3] 98.00 %  batch 64 epochs 1",
        "the last runs take turns, so that no worker is left without one",
        "batch 32  begins",
        "batch 32  epoch 1/2  cost 0.0500  98.00 %  9.10 s",
        "batch 64  epoch 3/3  cost 0.0500  98.00 %  9.10 s",
        "[2/3] 98.00 %  batch 64 epochs 3",
    ]


WHEN_THERE_IS_ROOM = "it goes on from its checkpoint when there is room again"


def test_log_of_jobs_on_a_cluster() -> None:
    """A log says that a run was interrupted, and from where it goes on."""
    log = Log(planned(BASE), workers=None)
    log.at(0, events.Started(BASE.run_id, 0), ended(BASE, 1, 97.85))
    log.at(1, events.Requeued(BASE.run_id, "its job was interrupted by Slurm"))
    log.at(9, events.Started(BASE.run_id, 1))
    assert log.lines() == [
        "1 cell, 1 run to train",
        "lr 0.1 batch 64  begins",
        "lr 0.1 batch 64  epoch 1/10  cost 0.0500  97.85 %  9.10 s",
        f"lr 0.1 batch 64  its job was interrupted by Slurm; {WHEN_THERE_IS_ROOM}",
        "lr 0.1 batch 64  goes on after epoch 1",
    ]
