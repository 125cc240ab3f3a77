"""The figure of the peers: wall time of the 6-cell sweep, one bar per contender."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import machines, records, targets
from benchmarks.contenders import BY_NAME, CONTENDERS
from benchmarks.jobs import FULL
from benchmarks.records import Results, Spread, format_seconds
from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.style import QUIET, styled

WIDTH = 9.6  # inches
OURS, THEIRS = COLORS[0], "#B5B5B5"  # they also differ in lightness
SHOWN = tuple(c.name for c in CONTENDERS if c.module or c.name == "ours")


def draw(results: Results, folder: Path) -> list[Path]:
    """Write peers.png and peers.svg, or nothing if there is nothing to compare."""
    job = longest_grid(results)
    if job is None:
        return []
    spreads = {name: records.seconds(results.records, job, name) for name in SHOWN}
    bars = sorted(
        ((spread, name) for name, spread in spreads.items() if spread),
        key=lambda bar: bar[0].median,
    )
    ratios = {name: targets.ratio(results.records, job, name, "ours") for _, name in bars}
    with styled():
        mpl.rcParams["svg.hashsalt"] = "peers"  # the same numbers give the same file
        figure = Figure((WIDTH, 2.33 + 0.37 * len(bars)))
        _draw_text(figure, results, job, bars)
        _draw_bars(figure, bars, {name: ratio.median for name, ratio in ratios.items() if ratio})
        paths = [folder / "peers.png", folder / "peers.svg"]
        FigureCanvasAgg(figure).print_figure(paths[0], dpi=200, metadata={"Software": None})
        FigureCanvasSVG(figure).print_figure(paths[1], metadata={"Date": None})
    return paths


def longest_grid(results: Results) -> str | None:
    """The 6-cell job with the most epochs that lenet-sweep and a peer have finished."""
    finished: dict[str, set[str]] = {}
    for record in results.records:
        if record.job.startswith("grid-") and record.failed is None and record.repeat:
            finished.setdefault(record.job, set()).add(record.contender)
    jobs = [job for job, names in finished.items() if "ours" in names and len(names) > 1]
    return max(jobs, key=lambda job: int(job.removeprefix("grid-")), default=None)


def _draw_text(
    figure: Figure, results: Results, name_of_job: str, bars: list[tuple[Spread, str]]
) -> None:
    """The title above the bars and the notes below them."""
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.272, right=0.985, bottom=1.38 / height, top=1 - 0.95 / height)
    medians = {name: spread.median for spread, name in bars}
    fastest = min(median for name, median in medians.items() if name != "ours")
    title = (
        f"{format_seconds(medians['ours'])} s with lenet-sweep, "
        f"{format_seconds(fastest)} s with the fastest alternative"
    )
    figure.text(0.012, 1 - 0.14 / height, title, va="top", size=17, weight="bold")
    grid = next(job for job in FULL if job.name == name_of_job)
    subtitle = (
        f"Training LeNet5 on MNIST: lr={grid.lr}  batch={grid.batch}  epochs={grid.epochs}, "
        "tested after every epoch"
    )
    figure.text(0.012, 1 - 0.55 / height, subtitle, va="top", size=12)
    trial = f" Trial run with {results.limit:,} training images." if results.limit else ""
    notes = (
        f"Measured on {machines.name(results.environment)}.{trial}\n"
        "Bars: median of the repeats. Black lines: range; no line: one repeat. "
        "Report loop: plain PyTorch, one cell at a time.\n"
        "Factors: time relative to lenet-sweep, in the same round where possible."
    )
    figure.text(0.012, 0.12 / height, notes, size=9.5, color=QUIET, linespacing=1.4)


def _draw_bars(figure: Figure, bars: list[tuple[Spread, str]], ratios: dict[str, float]) -> None:
    axes = figure.add_subplot()
    for place, (spread, name) in enumerate(bars):
        ours = name == "ours"
        axes.barh(place, spread.median, 0.74, color=OURS if ours else THEIRS)
        if spread.count > 1:
            ends = [spread.minimum, spread.maximum]
            axes.plot(ends, [place, place], color="#333333", linewidth=1.4)
        factor = "" if ours else f"   {ratios[name]:.1f}×"  # noqa: RUF001 - the sign of multiplication
        axes.annotate(
            f"{format_seconds(spread.median)} s{factor}", (spread.maximum, place), (6, 0),
            textcoords="offset points", va="center", size=12,
            weight="bold" if ours else "normal", color=OURS if ours else "black",
        )  # fmt: skip
    axes.set_xlim(0, 1.24 * max(spread.maximum for spread, _ in bars))  # room for the last number
    axes.set_xlabel(
        "wall time of the whole process (s), lower is better", size=11, color=QUIET, labelpad=6
    )
    labels = [BY_NAME[name].label for _, name in bars]
    axes.set_yticks(range(len(bars)), labels, size=12, color="black")
    for label, (_, name) in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if name == "ours" else "normal")
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(left=False)
