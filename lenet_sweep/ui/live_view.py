"""The live view: bars and leading rows, redrawn in place on a terminal or in a notebook."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rich.align import AlignMethod
from rich.console import Console
from rich.live import Live
from rich.style import Style
from rich.text import Text

from lenet_sweep.core.events import Damaged, Event, Failed, Requeued, Retrying, SearchRound
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import UNKNOWN, format_cost, format_duration, one_line
from lenet_sweep.report import PROGRESS
from lenet_sweep.results.columns import (
    EPOCHS_TRAINED,
    REPORT_COLUMNS,
    ended_early,
    heading_of,
    holds_text,
    is_partial,
    setting_text,
    varying,
)
from lenet_sweep.ui.notebook import NotebookDisplay
from lenet_sweep.ui.observer import TerminalView
from lenet_sweep.ui.progress import (
    RunProgress,
    SweepProgress,
    describe_end,
    describe_failure,
    describe_problem,
    describe_round,
    describe_start,
)

if TYPE_CHECKING:
    import pandas as pd

LEADERS = 5  # leading rows
GAP = 2  # spaces between columns
NAME = 40  # characters of a run's name that take precedence over the columns in OPTIONAL
TEXT = 20  # characters that a text column keeps on a narrow terminal
OPTIONAL = ("s/epoch", "cost", "epoch", "accuracy")  # dropped in this order on a narrow terminal
# Both have a contrast ratio of 4 against black and white, and differ for every kind of color
# vision. Nothing is shown by color alone.
BLUE = Style(color="#1f83c6")
RED = Style(color="#e03a3a", bold=True)
BOLD = Style(bold=True)
PALE = Style(dim=True)


class LiveView(TerminalView):
    """Redraws a bar for each run in training, a bar for the sweep, and the leading rows.

    Failures and messages are printed above and stay. A thread redraws the rest at a fixed rate,
    however fast events arrive: rich on a terminal, NotebookDisplay in a notebook.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()  # not held while printing: rich then holds its own lock
        self._progress: SweepProgress | None = None
        self._leaders: list[dict[str, str]] = []
        self._notebook = NotebookDisplay(self.frame) if console.is_jupyter else None
        self._live: Live | NotebookDisplay | None = None

    def on_start(self, plan: Plan, workers: int | None) -> None:
        if not plan.runs:
            self.on_message(describe_start(plan, workers))
            return
        self._progress = SweepProgress(plan, workers, self._clock())
        self._live = self._notebook or Live(
            get_renderable=self.frame,
            console=self._console,
            refresh_per_second=8,
            transient=True,
            vertical_overflow="crop",
        )
        self._live.start()

    def on_plan(self, plan: Plan) -> None:
        with self._lock:
            if self._progress:
                self._progress.add(plan)

    def on_event(self, event: Event) -> None:
        progress = self._progress
        assert progress is not None
        with self._lock:
            progress.update(event, self._clock())
        if isinstance(event, Failed):
            failure = describe_failure(event.failure)
            line = Text(f"✗ {progress.names[event.run_id]}  {failure}", RED)
            line.truncate(self._console.width, overflow="ellipsis")
            self._print(line)
        elif isinstance(event, (Damaged, Retrying, Requeued)):
            self.on_message(f"{progress.names[event.run_id]}  {describe_problem(event)}")

    def on_round(self, search_round: SearchRound) -> None:
        if self._progress:
            with self._lock:
                self._progress.start_round(search_round)

    def on_table(self, table: pd.DataFrame) -> None:
        leaders = _leaders(table)
        with self._lock:
            self._leaders = leaders

    def on_message(self, text: str) -> None:
        line = Text(one_line(text))
        if self._notebook and text.startswith(PROGRESS):
            self._notebook.show_status(line)  # a saved notebook does not have it
        else:
            self._print(line)

    def on_end(self) -> None:
        live, self._live = self._live, None
        if live and self._progress:
            live.stop()
            self.on_message(describe_end(self._progress, self._clock()))
        elif self._notebook:
            self._notebook.stop()

    def _print(self, line: Text) -> None:
        if self._notebook:
            self._notebook.print(line)
        else:
            self._console.print(line)

    def frame(self) -> Text:
        """The text to draw now, narrower and lower than the terminal."""
        size = self._console.size
        # The last column and line stay empty: text there can make a terminal wrap or scroll.
        width, height = size.width - 1, size.height - 1
        lines: list[Text] = []
        with self._lock:
            if self._progress:
                lanes = _lanes(self._progress)
                # Without an empty line, the heading, the line of a search and the sweep's bar.
                free = height - 3 - bool(self._progress.round)
                leaders = min(LEADERS, len(self._leaders), free - min(len(lanes), 4) - 2)
                bars = free - (leaders + 2 if leaders > 0 else 0)
                lines += [Text()] if free > 0 else []
                lines += _bars(self._progress, lanes, self._clock(), width, bars)
                if leaders > 0:
                    lines += [Text(), *_table(self._leaders[:leaders], width)]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _lanes(progress: SweepProgress) -> list[RunProgress | None]:
    """The runs in training, by line. None is a line that is kept for the next run.

    The number of lines stays the same while there are runs to fill them, so the display is steady.
    """
    by_lane = {run.lane: run for run in progress.running.values()}
    if not progress.unstarted:
        return [by_lane[lane] for lane in sorted(by_lane)]
    count = len(by_lane)
    if progress.workers is not None:
        count = min(progress.workers, count + len(progress.unstarted))
    return [by_lane.get(lane) for lane in range(max([count - 1, *by_lane]) + 1)]


# ---------------------------------------------------------------- bars


@dataclass(frozen=True)
class _Layout:
    """Column widths in characters. `columns` has those after the bar, by heading."""

    name: int
    bar: int
    columns: Mapping[str, int]

    def line(self, name: str, bar: Text, values: Mapping[str, str]) -> Text:
        parts = [_fit(name, self.name), bar]
        parts += [
            _fit(values.get(heading, ""), width, "right") for heading, width in self.columns.items()
        ]
        return Text(" " * GAP).join(parts)


def _layout(longest_name: int, epochs: int, width: int) -> _Layout:
    """The widths of the columns on a terminal of this width, without those that do not fit."""
    columns = {"epoch": max(5, 2 * len(str(epochs)) + 1), "cost": 7, "accuracy": 8}
    columns |= {"s/epoch": 7, "left": 7}

    def free() -> int:
        return width - GAP - sum(GAP + column for column in columns.values())

    for heading in OPTIONAL:
        if free() >= min(longest_name, NAME) + 10:
            break
        del columns[heading]
    name = max(0, min(longest_name, free() - 8))
    return _Layout(name, max(0, min(60, free() - name)), columns)


def _bars(
    progress: SweepProgress,
    lanes: Sequence[RunProgress | None],
    now: float,
    width: int,
    height: int,
) -> list[Text]:
    """The heading, a line for each run, the line of a search, and the line of the sweep.

    height: the number of lines for runs; the last one counts the runs that do not fit.
    """
    cells = f"{progress.ended}/{progress.total} cells"
    layout = _layout(max(progress.longest_name, len(cells)), progress.most_epochs, width)
    lines = []
    if height > 0:
        heading = layout.line("", Text(" " * layout.bar), {name: name for name in layout.columns})
        lines.append(_style(heading, PALE))
    visible = lanes if len(lanes) <= height else lanes[: max(0, height - 1)]
    lines += [_run_line(progress, run, layout) for run in visible]
    if hidden := sum(run is not None for run in lanes[len(visible) :]):
        lines += [Text(f"and {hidden} more", PALE)] if height > 0 else []
    failed = f"{progress.failed} failed, " if progress.failed else ""
    elapsed = f"{failed}{format_duration(now - progress.start)} so far"
    left = format_duration(progress.seconds_left())
    if progress.round and progress.round.at_most:
        left = f"≤ {left}"
    rest = sum(GAP + column for column in layout.columns.values()) - 2 * GAP - len(elapsed)
    parts = [_fit(cells, layout.name), _bar(progress.fraction, layout.bar), Text(elapsed)]
    parts.append(_fit(left, max(len(left), rest), "right"))
    search = [Text(describe_round(progress), PALE)] if progress.round and height > 0 else []
    return [*lines, *search, _style(Text(" " * GAP).join(parts), BOLD)]


def _run_line(progress: SweepProgress, state: RunProgress | None, layout: _Layout) -> Text:
    if state is None:
        return Text(UNKNOWN, PALE)
    name, epochs = progress.names[state.run.id], state.run.cell.epochs
    if state.start is None:
        waiting = Text("waiting for another process that is training it", PALE)
        return Text(" " * GAP).join([_fit(name, layout.name), waiting])
    left = progress.run_seconds_left(state.run, state.position)
    values = {
        "epoch": f"{min(state.epoch + 1, epochs)}/{epochs}",
        "cost": UNKNOWN if state.cost is None else format_cost(state.cost),
        "accuracy": _format(state.accuracy, "{:.2f}%"),
        "s/epoch": _format(fmean(state.epoch_seconds) if state.epoch_seconds else None, "{:.2f}"),
        "left": format_duration(left),
    }
    return layout.line(name, _bar(state.position / epochs, layout.bar), values)


def _format(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _bar(fraction: float, width: int) -> Text:
    """A progress bar whose two parts differ in shape as well as in color."""
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return Text.assemble((done, BLUE), ("─" * (width - len(done)), PALE))


def _fit(text: str, width: int, side: AlignMethod = "left") -> Text:
    fitted = Text(text)
    fitted.truncate(width, overflow="ellipsis")
    fitted.align(side, width)
    return fitted


def _style(text: Text, style: Style) -> Text:
    text.stylize_before(style)
    return text


# ---------------------------------------------------------------- leading rows


def _leaders(table: pd.DataFrame) -> list[dict[str, str]]:
    """The best rows as text: the columns of the report, then the settings that vary."""
    early = [EPOCHS_TRAINED] if ended_early(table) else []
    columns = [*REPORT_COLUMNS, *early, *varying(table)]
    best = table.loc[table["accuracy"].notna(), columns].head(LEADERS)
    formats = {"accuracy": "{:.2f}", "lr": "{:g}"}

    def to_text(name: str, value: object) -> str:
        if is_partial(name):
            return setting_text(value)
        return one_line(formats.get(name, "{}").format(value))

    return [
        {str(name): to_text(str(name), value) for name, value in row.items()}
        for row in best.to_dict("records")
    ]


def _table(rows: Sequence[Mapping[str, str]], width: int) -> list[Text]:
    """The heading and the rows. A narrow terminal drops columns that have one value.

    If that is not enough, long texts are truncated, and then the last columns are dropped.
    """
    columns = {
        name: max(len(heading_of(name)), *(Text(r[name]).cell_len for r in rows))
        for name in rows[0]
    }

    def excess() -> int:
        return sum(columns.values()) + GAP * (len(columns) - 1) - width

    for name in ("person", "device"):
        if excess() > 0 and len({row[name] for row in rows}) == 1:
            del columns[name]
    while excess() > 0 and max(columns.values()) > TEXT:
        widest = max(columns, key=columns.__getitem__)
        columns[widest] = max(TEXT, columns[widest] - excess())
    while excess() > 0 and columns:
        columns.popitem()

    def line(cells: Mapping[str, str]) -> Text:
        sides: Mapping[bool, AlignMethod] = {True: "left", False: "right"}
        return Text(" " * GAP).join(
            _fit(cells[name], w, sides[holds_text(name)]) for name, w in columns.items()
        )

    heading = _style(line({name: heading_of(name) for name in columns}), PALE)
    return [heading, *(_style(line(r), BOLD if r["rank"] == "1" else Style()) for r in rows)]
