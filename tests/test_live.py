"""The live view: what a terminal shows while a sweep trains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import (
    BASE,
    DASH,
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
    without_styles,
)

from lenet_sweep.config.registry import make_choice
from lenet_sweep.core import events
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Failure
from lenet_sweep.core.plans import Plan
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.log_view import LogView


class Live:
    """A live view of a plan on a terminal, and its clock."""

    def __init__(self, plan: Plan, workers: int = 2, width: int = 80, height: int = 24) -> None:
        self.console = terminal(width, height)
        self.clock = Clock()
        self.view = LiveView(self.console, self.clock)
        self.view.on_start(plan, workers)

    def at(self, seconds: float, *new_events: events.Event) -> None:
        self.clock.now = 1_700_000_000.0 + seconds
        for event in new_events:
            self.view.on_event(event)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.view.frame().plain.replace(DASH, "-").split("\n")]

    def line(self, start: str) -> str:
        (line,) = (line for line in self.lines() if line.startswith(start))
        return line

    def bar(self, start: str) -> float:
        """The filled part of a bar, from 0 to 1."""
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
    for display in started:
        display.view.on_end()


def test_live_view_at_80_columns(live: Callable[..., Live]) -> None:
    """All columns fit a width of 80, and every value is below its heading."""
    at = live(*LRS)
    first, second, _ = LRS
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    at.at(20, ended(first, 1), ended(first, 2, 98.91, 0.0312, 9.5), progress(second, 1, 30_000))
    at.view.on_table(ranked_table([row(first, 98.91)]))
    assert at.lines() == [
        "",
        "                                     epoch     cost  accuracy  s/epoch     left",
        "lr 0.1     ━━━━━───────────────────   3/10   0.0312    98.91%     9.30     1:20",
        "lr 0.01    ━───────────────────────   1/10   2.0000         -        -     6:20",
        "0/3 cells  ━━──────────────────────  0:20 so far                           6:20",
        "",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device",
        "   1         98.91     64            0.1      10  ada     cpu",
    ]


def test_a_search_shows_its_round_and_the_time_that_it_will_take(live: Callable[..., Live]) -> None:
    """The bar and the time left are those of the search, not of the full grid."""
    at = live(*LRS)
    first, second, third = (replace(cell, epochs=2) for cell in LRS)
    at.view.on_round(search_round("rung 1 of 2, epoch 2: 3 of 3 settings", first, second, third,
                                  later=((1, 8),)))  # fmt: skip
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    at.at(10, ended(first, 1))
    assert "   2/2 " in at.line("lr 0.1 ")
    assert at.line("rung") == "rung 1 of 2, epoch 2: 3 of 3 settings"
    # 5 of 6 epochs on 2 workers and 8 epochs of one run take 10 s each.
    assert at.left("0/3 cells") == "1:45"
    assert at.bar("0/3 cells") == pytest.approx(1 / 14, abs=0.03)
    at.at(20, ended(first, 2), events.Finished(first.run_id), ended(second, 1), ended(second, 2))
    at.at(40, events.Finished(second.run_id), events.Started(third.run_id, 0), ended(third, 1))
    at.at(40, ended(third, 2), events.Finished(third.run_id))
    at.at(40, *(events.Stopped(cell.run_id, 2, "behind") for cell in (second, third)))
    at.view.on_round(search_round("rung 2 of 2, epoch 10: 1 of 3 settings", LRS[0]))
    at.at(40, events.Started(first.run_id, 2))
    assert at.line("rung") == "rung 2 of 2, epoch 10: 1 of 3 settings; 16 epochs skipped so far"
    assert at.bar("2/3 cells") == pytest.approx(6 / 14, abs=0.03)
    assert at.left("lr 0.1") == at.left("2/3 cells")


def test_the_time_of_a_race_is_an_upper_limit(live: Callable[..., Live]) -> None:
    """It holds if no further setting is dropped."""
    at = live(*LRS)
    at.view.on_round(search_round("seed 1 of 3: 1 of 1 setting", LRS[0], later=((1, 10),) * 2,
                                  at_most=True))  # fmt: skip
    at.at(0, events.Started(LRS[0].run_id, 0))
    at.at(10, ended(LRS[0], 1))
    assert at.line("0/3 cells").endswith("≤ 4:50")


def test_names_of_runs_take_precedence_over_columns(live: Callable[..., Live]) -> None:
    """At a width of 80, long names are complete and fewer columns follow them."""
    cells = [
        replace(c, optimizer=make_choice("optimizer", "sgd", (("momentum", m),)))
        for c in LRS
        for m in (0, 0.9)
    ]
    cells = [replace(c, seed=seed) for c in cells for seed in (0, 1)]
    name = "lr 0.001 sgd momentum=0.9 seed 1"
    for width, bar in ((80, 10), (140, 60)):
        at = live(*cells, width=width)
        at.at(0, events.Started(cells[-1].run_id, 0))
        assert at.line(name).count("─") == bar


def test_long_texts_of_leading_rows_are_truncated_on_narrow_terminals(
    live: Callable[..., Live],
) -> None:
    """A narrow terminal truncates a long name before it drops columns; a wide one shows it all."""
    people = "grace.hopper@computing.navy.example", "ada"
    frame = ranked_table([row(c, 90, person=p) for c, p in zip(LRS, people, strict=False)])
    for width, text in ((120, f"{people[0]}  cpu"), (80, "grace.hopper@computing.navy.…")):
        at = live(*LRS, width=width)
        at.view.on_table(frame)
        assert f"  {text}" in "\n".join(at.lines())


@settings(deadline=None)
@given(
    width=st.integers(4, 200),
    height=st.integers(2, 60),
    workers=st.integers(1, 70),
    rows=st.integers(0, 8),
    person=st.sampled_from(["ada", "亜" * 40]),
    epochs=st.sampled_from([1, 10, 100_000]),
    left=st.booleans(),
    searching=st.booleans(),
)
def test_live_view_stays_within_the_screen(
    width: int, height: int, workers: int, rows: int, person: str, epochs: int, left: bool,
    searching: bool,
) -> None:  # fmt: skip
    """No line wraps and nothing scrolls, for any size of the terminal and number of workers."""
    cells = [
        replace(BASE, seed=n, lr=1e-5 * (n + 1), activation=("relu", "gelu")[n % 2], epochs=epochs)
        for n in range(workers + (3 if left else 0))
    ]
    at = Live(planned(*cells), workers, width, height)
    if searching:
        at.view.on_round(search_round("rung 1 of 1", *cells))
    try:
        for n, cell in enumerate(cells[:workers]):
            at.at(n * 1e5, events.Started(cell.run_id, 0) if n % 5 else events.Waiting(cell.run_id))
            at.at(n * 1e5 + 1, progress(cell, 1, 50_000, 1e30))
        at.view.on_table(ranked_table(row(cell, person=person) for cell in cells[:rows]))
        frame = at.view.frame().split("\n", allow_blank=True)
    finally:
        at.view.on_end()
    assert len(frame) < height
    assert max(line.cell_len for line in frame) < width
    assert any("cells" in line.plain for line in frame) or width < 40


def test_runs_that_do_not_fit_are_counted(live: Callable[..., Live]) -> None:
    """64 workers on 24 lines leave space for the bar of the sweep and the leading rows."""
    cells = [replace(BASE, seed=n) for n in range(64)]
    at = live(*cells, workers=64)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells))
    at.view.on_table(ranked_table(row(cell) for cell in cells))
    visible = sum(line.startswith("seed") for line in at.lines())
    assert visible > 5
    assert f"and {64 - visible} more" in at.lines()
    assert at.line("0/64 cells")
    assert len(at.lines()) == 23


def test_bar_moves_within_an_epoch(live: Callable[..., Live]) -> None:
    """The bar of a run advances with every batch that it reports."""
    cell = replace(BASE, epochs=1)
    at = live(cell)
    at.at(0, events.Started(cell.run_id, 0))
    lengths = []
    for seen in (64, 15_000, 30_000, 60_000):
        at.at(seen / 1000, progress(cell, 1, seen))
        lengths.append(at.bar("lr 0.1"))
    assert lengths == pytest.approx([0, 0.25, 0.5, 1], abs=0.03)


def test_a_resumed_run_starts_at_its_checkpoint(live: Callable[..., Live]) -> None:
    """Epochs from the store count in the bar at once, but not in the pace of the run."""
    cell = replace(BASE, epochs=100)
    at = live(cell)
    at.at(0, events.Started(cell.run_id, 80))
    assert at.bar("lr 0.1") == pytest.approx(0.8, abs=0.03)
    assert " 81/100 " in at.line("lr 0.1")
    at.at(10, ended(cell, 81))
    assert at.left("lr 0.1") == "3:10"


def test_the_next_run_takes_the_line_of_a_finished_one(live: Callable[..., Live]) -> None:
    """The next run appears on the line of the finished run, and other runs keep their lines."""
    first, second, third = LRS
    at = live(*LRS)
    at.at(0, events.Started(first.run_id, 0), events.Started(second.run_id, 0))
    before = at.lines().index(at.line("lr 0.1 "))
    after = at.lines().index(at.line("lr 0.01 "))
    at.at(9, events.CellFinished(first.run_id, 10), events.Finished(first.run_id))
    assert at.lines().index(at.line("lr 0.01 ")) == after
    at.at(10, events.Started(third.run_id, 0))
    assert at.lines().index(at.line("lr 0.001 ")) == before
    assert not any(line.startswith("lr 0.1 ") for line in at.lines())
    at.at(11, events.Finished(third.run_id), events.Interrupted(second.run_id))
    assert [line for line in at.lines() if line.startswith("lr")] == []


def test_a_run_of_another_process_is_marked(live: Callable[..., Live]) -> None:
    """If another process trains a run, its line says so instead of showing a bar."""
    at = live(*LRS)
    at.at(0, events.Waiting(BASE.run_id), events.Waiting(BASE.run_id))
    message = at.line("lr 0.1 ").split("  ", 1)[1].strip()
    assert message == "waiting for another process that is training it"
    at.at(1, events.Started(BASE.run_id, 3))
    assert "waiting" not in at.line("lr 0.1 ")


def test_time_left_needs_a_measurement(live: Callable[..., Live]) -> None:
    """The time left is a dash until a tenth of an epoch has been trained."""
    at = live(*LRS)
    at.at(0, events.Started(BASE.run_id, 0))
    at.at(3, progress(BASE, 1, 64))  # the first steps are slow
    assert at.left("0/3 cells") == at.left("lr 0.1 ") == "-"
    at.at(5, progress(BASE, 1, 30_000))
    assert at.left("lr 0.1 ") == "1:35"


def test_time_left_divides_the_remaining_epochs_among_the_workers(
    live: Callable[..., Live],
) -> None:
    """The time left is that of the remaining epochs at the measured pace, divided by workers."""
    cells = [replace(BASE, seed=n) for n in range(4)]
    at = live(*cells, workers=2)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells[:2]))
    at.at(2, *(ended(cell, 1) for cell in cells[:2]))
    assert at.left("0/4 cells") == "0:38"  # (9 + 9 + 10 + 10) epochs of 2 s, two at a time


def test_time_left_is_at_least_the_longest_run(live: Callable[..., Live]) -> None:
    """With more workers than runs, the time left is that of the longest run."""
    long, short = replace(BASE, seed=1, epochs=100), BASE
    at = live(long, short, workers=8)
    at.at(0, events.Started(long.run_id, 0), events.Started(short.run_id, 0))
    at.at(2, ended(long, 1), ended(short, 1))
    assert at.left("0/2 cells") == "3:18"


def test_time_left_depends_on_the_batch_size(live: Callable[..., Live]) -> None:
    """A run that has not started is expected to be as fast as others with its batch size."""
    slow, fast = replace(BASE, batch=16), BASE
    at = live(*(replace(slow, seed=n) for n in range(3)), fast, replace(fast, seed=1), workers=1)
    at.at(0, events.Started(slow.run_id, 0))
    at.at(10, ended(slow, 1))
    assert at.left("0/5 cells") == "8:10"  # all runs are expected to take 10 s per epoch
    at.at(10, events.Finished(slow.run_id), events.Started(fast.run_id, 0))
    at.at(11, ended(fast, 1))
    assert at.left("0/5 cells") == "3:39"  # 9 + 10 epochs of 1 s, 20 of 10 s


def test_failure_stays_above_the_bars(live: Callable[..., Live]) -> None:
    """A failed run is counted, and leaves one red line with its reason, truncated to the width."""
    at = live(BASE, replace(BASE, epochs=5), replace(BASE, seed=1))
    at.at(0, events.Started(BASE.run_id, 0), events.CellFinished(BASE.run_id, 5))
    at.at(1, events.Failed(BASE.run_id, Failure("failed", 7, "RuntimeError: " + 99 * "long ")))
    (line,) = [line for line in printed(at.console).split("\n") if "RuntimeError" in line]
    assert "\x1b[1;38;2;224;58;58m✗ seed 0  failed in epoch 7: RuntimeError: long" in line
    assert without_styles(line).strip().endswith("…")
    assert len(without_styles(line).strip()) <= 80
    assert at.line("2/3 cells").split("─")[-1].strip().startswith("1 failed, ")


def test_untrusted_text_is_escaped(live: Callable[..., Live]) -> None:
    """Markup and control characters in a reason, a message or a name have no effect."""
    at = live(*LRS, width=140)
    at.at(0, events.Failed(BASE.run_id, Failure("failed", 1, HOSTILE)))
    at.view.on_message(HOSTILE)
    at.view.on_table(ranked_table([row(BASE, person="[b]\x1b[2J")]))
    text = printed(at.console)
    assert f"✗ lr 0.1  failed in epoch 1: {HARMLESS}" in text
    assert text.count(HARMLESS) == 2
    assert r"[b]\x1b[2J" in at.line("   1")
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


def test_cells_in_the_store_count_as_done(live: Callable[..., Live]) -> None:
    """A repeated sweep counts the cells of its store, and names its runs as it did before."""
    at = Live(planned(*LRS, finished=LRS[:2]))
    at.at(0, events.Started(LRS[2].run_id, 0))
    assert at.bar("2/3 cells") == pytest.approx(2 / 3, abs=0.03)
    assert at.line("lr 0.001 ")
    at.at(5, events.CellFinished(LRS[2].run_id, 10), events.Finished(LRS[2].run_id))
    assert at.bar("3/3 cells") == 1
    at.view.on_end()
    assert "3 of 3 cells done in 0:05" in printed(at.console)


def test_runs_are_named_by_the_settings_that_vary(live: Callable[..., Live]) -> None:
    """Each bar is named by the settings that vary, without a loss that the optimizer implies."""
    nll = replace(
        BASE, loss=make_choice("loss", "nll"), optimizer=make_choice("optimizer", "adam"), lr=0.001
    )
    cells = (BASE, replace(BASE, batch=32), nll)
    at = live(*cells, workers=3)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in cells))
    for name in ("lr 0.1 batch 64 sgd  ", "lr 0.1 batch 32 sgd  ", "lr 0.001 batch 64 adam  "):
        assert at.line(name)
    crossed = (
        BASE,
        replace(BASE, loss=make_choice("loss", "nll")),
        replace(BASE, optimizer=make_choice("optimizer", "adam")),
    )
    at = live(*crossed, workers=3)
    at.at(0, *(events.Started(cell.run_id, 0) for cell in crossed))
    for name in ("sgd cross_entropy  ", "sgd nll  ", "adam cross_entropy  "):
        assert at.line(name)
    at = live(BASE)
    at.at(0, events.Started(BASE.run_id, 0))
    assert at.line("lr 0.1 batch 64 ")


def test_leading_rows(live: Callable[..., Live]) -> None:
    """The five best cells so far are shown with the settings that vary, without failed cells."""
    adam = replace(
        BASE, loss=make_choice("loss", "nll"), optimizer=make_choice("optimizer", "adam")
    )
    cells = [replace(cell, lr=10.0**-n) for cell in (BASE, adam) for n in range(1, 5)]
    frame = ranked_table([row(c, 90 + n / 8) for n, c in enumerate(cells)] + [row(BASE, None)])
    at = live(*cells)
    at.view.on_table(frame)
    assert at.lines()[-6:] == [
        "rank  accuracy (%)  batch  learning rate  epochs  loss           optimizer",
        "   1         90.88     64         0.0001      10  nll            adam",
        "   2         90.75     64          0.001      10  nll            adam",
        "   3         90.62     64           0.01      10  nll            adam",
        "   4         90.50     64            0.1      10  nll            adam",
        "   5         90.38     64         0.0001      10  cross_entropy  sgd",
    ]
    at = live(*cells, width=140)
    at.view.on_table(frame)
    assert "  epochs  person  device  loss " in at.lines()[-6]
    at = live(*cells)
    at.view.on_table(ranked_table([row(BASE, None)]))
    assert not any("accuracy (%)" in line for line in at.lines())


def test_the_terminal_is_restored() -> None:
    """After Ctrl-C the cursor is visible and the bars are erased; a second end changes nothing."""
    console = terminal()
    view = LiveView(console, Clock())

    def interrupted() -> None:
        try:
            view.on_start(planned(*LRS), 2)
            view.on_event(events.Started(BASE.run_id, 0))
            raise KeyboardInterrupt
        finally:
            view.on_end()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = printed(console)
    assert re.findall(r"\x1b\[\?25[lh]", text) == ["\x1b[?25l", "\x1b[?25h"]
    assert "0/3 cells" in text
    erased = text[text.rindex("\x1b[?25h") :]
    assert erased.count("\x1b[1A\x1b[2K") == len(view.frame().split("\n", allow_blank=True))
    assert without_styles(erased).strip() == "0 of 3 cells done in 0:00"
    view.on_end()
    assert printed(console) == text


def test_a_finished_sweep_prints_one_line(live: Callable[..., Live]) -> None:
    """Repeating a finished sweep prints that there is nothing to train, without bars."""
    for make, console in ((LiveView, terminal()), (LogView, log_file())):
        view = make(console, Clock())
        view.on_start(planned(*LRS, finished=LRS), 2)
        view.on_table(ranked_table([row(BASE)]))
        view.on_end()
        line = "3 cells, nothing to train: all results are in the store\n"
        assert without_styles(printed(console)).endswith(line)
        assert "\x1b[?25l" not in printed(console)
        assert printed(console).count("\n") == 1


def test_a_retried_run_counts_as_not_started(live: Callable[..., Live]) -> None:
    """A retry is reported in one line, and its run counts neither as failed nor as done."""
    at = live(BASE, replace(BASE, seed=1))
    at.at(0, events.Started(BASE.run_id, 0), events.Retrying(BASE.run_id, NAN, 1))
    text = printed(at.console)
    assert "it will be retried after the other runs (retry 1)" in " ".join(text.split())
    assert "1 failed" not in text
    assert at.line("0/2 cells")
    at.at(1, events.Damaged(BASE.run_id, "outputs/runs/x/checkpoint.safetensors"))
    assert "checkpoint.safetensors was damaged" in " ".join(printed(at.console).split())


def test_a_cluster_shows_only_the_runs_in_training(live: Callable[..., Live]) -> None:
    """If the number of workers is not known, there are only lines for the runs in training."""
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
    assert "seed 0 its job was interrupted by Slurm; it will resume from its checkpoint" in text
