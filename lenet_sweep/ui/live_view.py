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

from lenet_sweep.config.keys import is_option
from lenet_sweep.core.cells import Plan
from lenet_sweep.core.events import Damaged, Event, Failed, Requeued, Retrying
from lenet_sweep.core.text import UNKNOWN, format_cost, format_duration, one_line
from lenet_sweep.results.columns import (
    HEADINGS,
    OPTION_TEXTS,
    REPORT_COLUMNS,
    setting_text,
    varying,
)
from lenet_sweep.ui.notebook import NotebookDisplay
from lenet_sweep.ui.progress import (
    RunProgress,
    SweepProgress,
    describe_end,
    describe_failure,
    describe_problem,
    describe_start,
)

if TYPE_CHECKING:
    import pandas as pd

LEADERS = 5
GAP = 2  # between columns
NAME = 40  # characters of a run's name that are worth more than the figures in SPARE
TEXT = 20  # characters of a text that are shown also where space is short
SPARE = ("s/epoch", "cost", "epoch", "accuracy")  # given up in this order on a narrow terminal
TEXTS = frozenset(
    ("person", "device", "loss", "optimizer", "activation", "dataset", "engine", "status", "error",
     *OPTION_TEXTS)
)  # fmt: skip

# Both keep a contrast of 4 against black and against white, and differ for every kind of colour
# vision; whatever they say is said in words or signs as well.
BLUE = Style(color="#1f83c6")
RED = Style(color="#e03a3a", bold=True)
BOLD = Style(bold=True)
PALE = Style(dim=True)


class LiveView:
    """Redraws a bar for every run in training, the sweep's own bar and the leading rows.

    What must stay (failures, remarks) is printed above them. rich draws from a thread of its
    own, so that a busy sweep is not drawn more often than a person can see.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()  # never held while printing, when rich holds its own
        self._tally: SweepProgress | None = None
        self._leaders: list[dict[str, str]] = []
        self._live: Live | NotebookDisplay | None = None

    def begin(self, plan: Plan, workers: int | None) -> None:
        if not plan.runs:
            self.say(describe_start(plan, workers))
            return
        self._tally = SweepProgress(plan, workers, self._clock())
        if self._console.is_jupyter:
            self._live = NotebookDisplay(self.frame)
        else:
            self._live = Live(
                get_renderable=self.frame,
                console=self._console,
                refresh_per_second=8,
                transient=True,
                vertical_overflow="crop",
            )
        self._live.start()

    def show(self, event: Event) -> None:
        tally = self._tally
        assert tally is not None
        with self._lock:
            tally.take(event, self._clock())
        if isinstance(event, Failed):
            line = f"✗ {tally.names[event.run_id]}  {describe_failure(event.failure)}"
            self._console.print(Text(line, RED), no_wrap=True, overflow="ellipsis")
        elif isinstance(event, (Damaged, Retrying, Requeued)):
            self.say(f"{tally.names[event.run_id]}  {describe_problem(event)}")

    def rows(self, frame: pd.DataFrame) -> None:
        leaders = _leaders(frame)
        with self._lock:
            self._leaders = leaders

    def say(self, text: str) -> None:
        self._console.print(Text(one_line(text)))

    def end(self) -> None:
        live, self._live = self._live, None
        if live and self._tally:
            live.stop()
            self.say(describe_end(self._tally, self._clock()))

    def frame(self) -> Text:
        """What is redrawn: never wider or higher than the terminal is now."""
        size = self._console.size
        # The last column and the last line stay free: what fills them may wrap or scroll.
        width, height = size.width - 1, size.height - 1
        lines: list[Text] = []
        with self._lock:
            if self._tally:
                lanes = _lanes(self._tally)
                room = height - 3  # for an empty line, the heading and the sweep's bar
                shown = min(LEADERS, len(self._leaders), room - min(len(lanes), 4) - 2)
                bars = room - (shown + 2 if shown > 0 else 0)
                lines += [Text()] if room > 0 else []
                lines += _bars(self._tally, lanes, self._clock(), width, bars)
                if shown > 0:
                    lines += [Text(), *_table(self._leaders[:shown], width)]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _lanes(tally: SweepProgress) -> list[RunProgress | None]:
    """The runs in training, each where it was before; None where the next run will come.

    The number of lanes is kept as long as there are runs to fill them, so that nothing jumps.
    """
    by_lane = {track.lane: track for track in tally.running.values()}
    if not tally.unstarted:
        return [by_lane[lane] for lane in sorted(by_lane)]
    begun = len(by_lane)
    filled = begun if tally.workers is None else min(tally.workers, begun + len(tally.unstarted))
    return [by_lane.get(lane) for lane in range(max([filled - 1, *by_lane]) + 1)]


# ---------------------------------------------------------------- bars


@dataclass(frozen=True)
class _Grid:
    """Widths of the columns: name, bar, and figures with their headings."""

    name: int
    bar: int
    figures: Mapping[str, int]

    def line(self, name: str, middle: Text, figures: Mapping[str, str]) -> Text:
        parts = [_fitted(name, self.name), middle]
        parts += [
            _fitted(figures.get(heading, ""), width, "right")
            for heading, width in self.figures.items()
        ]
        return Text(" " * GAP).join(parts)


def _grid(longest: int, epochs: int, width: int) -> _Grid:
    """longest: of the names, in characters."""
    figures = {"epoch": max(5, 2 * len(str(epochs)) + 1), "cost": 7, "accuracy": 8}
    figures |= {"s/epoch": 7, "left": 7}

    def rest() -> int:
        return width - GAP - sum(GAP + figure for figure in figures.values())

    for spare in SPARE:
        if rest() >= min(longest, NAME) + 10:
            break
        del figures[spare]
    name = max(0, min(longest, rest() - 8))
    return _Grid(name, max(0, min(60, rest() - name)), figures)


def _bars(
    tally: SweepProgress, lanes: Sequence[RunProgress | None], now: float, width: int, room: int
) -> list[Text]:
    """The heading, a line for each run as far as there is room, and the sweep's line."""
    cells = f"{tally.ended}/{tally.total} cells"
    grid = _grid(max(tally.longest_name, len(cells)), tally.most_epochs, width)
    lines = []
    if room > 0:
        heading = grid.line("", Text(" " * grid.bar), {name: name for name in grid.figures})
        lines.append(_styled(heading, PALE))
    fitting = lanes if len(lanes) <= room else lanes[: max(0, room - 1)]
    lines += [_run_line(tally, track, grid) for track in fitting]
    if hidden := sum(track is not None for track in lanes[len(fitting) :]):
        lines += [Text(f"and {hidden} more", PALE)] if room > 0 else []
    failed = f"{tally.failed} failed, " if tally.failed else ""
    elapsed = f"{failed}{format_duration(now - tally.began)} so far"
    left = format_duration(tally.seconds_left())
    rest = sum(GAP + figure for figure in grid.figures.values()) - 2 * GAP - len(elapsed)
    parts = [_fitted(cells, grid.name), _bar(tally.share, grid.bar), Text(elapsed)]
    parts.append(_fitted(left, max(len(left), rest), "right"))
    return [*lines, _styled(Text(" " * GAP).join(parts), BOLD)]


def _run_line(tally: SweepProgress, track: RunProgress | None, grid: _Grid) -> Text:
    if track is None:
        return Text(UNKNOWN, PALE)
    name, epochs = tally.names[track.run.id], track.run.cell.epochs
    if track.began is None:
        waits = Text("waits for another process that trains it", PALE)
        return Text(" " * GAP).join([_fitted(name, grid.name), waits])
    left = tally.run_seconds_left(track.run, track.position)
    figures = {
        "epoch": f"{min(track.epoch + 1, epochs)}/{epochs}",
        "cost": UNKNOWN if track.cost is None else format_cost(track.cost),
        "accuracy": _known(track.accuracy, "{:.2f} %"),
        "s/epoch": _known(fmean(track.timed) if track.timed else None, "{:.2f}"),
        "left": format_duration(left),
    }
    return grid.line(name, _bar(track.position / epochs, grid.bar), figures)


def _known(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _bar(share: float, width: int) -> Text:
    """What is done and what is not differ in form as well as in colour."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return Text.assemble((done, BLUE), ("─" * (width - len(done)), PALE))


def _fitted(text: str, width: int, side: AlignMethod = "left") -> Text:
    fitted = Text(text)
    fitted.truncate(width, overflow="ellipsis")
    fitted.align(side, width)
    return fitted


def _styled(text: Text, style: Style) -> Text:
    text.stylize_before(style)
    return text


# ---------------------------------------------------------------- leading rows


def _leaders(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The best rows as text: the report's columns, then the settings that vary."""
    columns = [*REPORT_COLUMNS, *varying(frame)]
    best = frame.loc[frame["accuracy"].notna(), columns].head(LEADERS)
    forms = {"accuracy": "{:.2f}", "lr": "{:g}"}

    def text(name: str, value: object) -> str:
        if is_option(name):
            return setting_text(value)
        return one_line(forms.get(name, "{}").format(value))

    return [
        {str(name): text(str(name), value) for name, value in row.items()}
        for row in best.to_dict("records")
    ]


def _table(rows: Sequence[Mapping[str, str]], width: int) -> list[Text]:
    """Heading and rows. On a narrow terminal, columns with one value give way first.

    Then long texts are cut, and the last columns give way.
    """
    columns = {
        name: max(len(HEADINGS.get(name, name)), *(Text(r[name]).cell_len for r in rows))
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
            _fitted(cells[name], w, sides[name in TEXTS]) for name, w in columns.items()
        )

    heading = _styled(line({name: HEADINGS.get(name, name) for name in columns}), PALE)
    return [heading, *(_styled(line(r), BOLD if r["rank"] == "1" else Style()) for r in rows)]
