"""The figure for a talk: how long the card's command takes, whole process."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import machines, records, targets
from benchmarks.contenders import CONTENDERS
from benchmarks.records import Results, shown
from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.style import QUIET, styled

WIDTH = 9.6
OURS, THEIRS = COLORS[0], "#B5B5B5"  # apart in lightness too
NAMES = {
    "ours": "lenet-sweep",
    "report_loop": "the report's loop",
    "resident": "resident tensors",
    "hydra_basic": "Hydra, basic",
    "hydra_joblib": "Hydra, joblib",
    "ray_tune": "Ray Tune",
    "pool_channels_last": "process pool",
    "vmap": "torch.func vmap",
    "jax_scan": "JAX scan",
    "jax_vmap": "JAX vmap",
    "optuna": "Optuna",
    "skorch": "skorch",
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write peers.png and peers.svg; nothing if there is nothing to compare."""
    job = longest_card(results)
    if job is None:
        return []
    bars = sorted(
        (
            (taken, c.name)
            for c in CONTENDERS
            if c.name in NAMES and (taken := records.seconds(results.records, job, c.name))
        ),
        key=lambda bar: bar[0].median,
    )
    with styled():
        mpl.rcParams["svg.hashsalt"] = "peers"  # the same numbers give the same file
        mpl.rcParams["axes.axisbelow"] = True
        figure = Figure((WIDTH, 1.7 + 0.36 * len(bars)))
        _words(figure, results, job)
        ratios = {name: targets.ratio(results.records, job, name, "ours") for _, name in bars}
        _bars(figure, bars, {name: ratio.median for name, ratio in ratios.items() if ratio})
        paths = [folder / "peers.png", folder / "peers.svg"]
        FigureCanvasAgg(figure).print_figure(paths[0], dpi=200, metadata={"Software": None})
        FigureCanvasSVG(figure).print_figure(paths[1], metadata={"Date": None})
    return paths


def longest_card(results: Results) -> str | None:
    """The card's command at the most epochs that several contenders have done."""
    done: dict[str, set[str]] = {}
    for record in results.records:
        if record.job.startswith("card-") and record.failed is None and record.repeat:
            done.setdefault(record.job, set()).add(record.contender)
    jobs = [job for job, names in done.items() if "ours" in names and len(names) > 1]
    return max(jobs, key=lambda job: int(job.removeprefix("card-")), default=None)


def _words(figure: Figure, results: Results, job: str) -> None:
    """What is above and below the bars."""
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.17, right=0.985, bottom=0.87 / height, top=1 - 0.83 / height)
    figure.text(
        0.012, 1 - 0.14 / height, "The same sweep, from Enter to the table: seconds", va="top",
        size=16, weight="bold",
    )  # fmt: skip
    typed = f"lr=1e-1,1e-2 batch=32,64,128 epochs={job.removeprefix('card-')}"
    figure.text(0.012, 1 - 0.52 / height, typed, va="top", size=11, family="monospace")
    trial = f" A trial: {results.limit:,} training images." if results.limit else ""
    told = (
        f"Whole process, {machines.name(results.environment)}; 6 cells, tested after every epoch."
        f"\nMedian, least and most; no line: measured once.{trial}"
    )
    figure.text(0.012, 0.12 / height, told, size=9, color=QUIET)


def _bars(figure: Figure, bars: list[tuple[records.Spread, str]], times: dict[str, float]) -> None:
    axes = figure.add_subplot()
    for place, (taken, name) in enumerate(bars):
        mine = name == "ours"
        axes.barh(place, taken.median, 0.72, color=OURS if mine else THEIRS)
        if taken.count > 1:
            axes.plot([taken.least, taken.most], [place, place], color="#333333", linewidth=1.4)
        compared = "" if mine else f"   {times[name]:.1f} x"
        axes.annotate(
            f"{shown(taken.median)}{compared}", (taken.most, place), (6, 0),
            textcoords="offset points", va="center", size=11.5,
            weight="bold" if mine else "normal", color=OURS if mine else "black",
        )  # fmt: skip
    axes.set_xlim(0, 1.17 * max(taken.most for taken, _ in bars))  # room for the last one's words
    axes.set_yticks(range(len(bars)), [NAMES[name] for _, name in bars], size=11.5, color="black")
    for label, (_, name) in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_weight("bold" if name == "ours" else "normal")
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(left=False)
