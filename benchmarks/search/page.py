"""The tables and the figure of the replays, from the values of search.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.style import QUIET, render, save, styled

# The first words of the names of methods, with the label of their group in the figure.
GROUPS = {
    "halving": "halving, halving_fast", "Halving": "halving, other options", "random": "random",
    "full": "full grid", "Optuna": "Optuna", "Ray": "Ray Tune", "Syne": "Syne Tune",
}  # fmt: skip
MARKERS = "osv^DPX"
PANELS = {
    "regret_0.05": "Replays within 0.05 points (%)",
    "recall": "Tied settings trained (%)",
}
PEERS = ("random", "Optuna", "Ray", "Syne")
HEAD = (
    "method", "epochs", "regret: median", "90%", "95%", "<= 0.05", "<= 0.10",
    "below best: median", "95%", "best lost", "tied trained", "2 workers, min", "16 workers, min",
)  # fmt: skip


def is_peer(name: str) -> bool:
    return name.startswith(PEERS)


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write search.md and search.png."""
    (folder / "search.md").write_text(tables(results), encoding="utf-8")
    save(render(figure(results)), folder / "search.png")


def tables(results: Mapping[str, Any]) -> str:
    """The content of search.md."""
    methods = results["methods"]
    small, large = results["sizes"]
    rows = [
        [name, *_numbers(found["2"]), f"{found['16']['seconds'] / 60:.1f}"]
        for name, found in sorted(methods.items(), key=lambda item: -item[1]["2"]["epochs"])
    ]
    together = [[name, *_numbers(found)] for name, found in results["together"].items()]
    sizes = [
        [str(size), name, *_numbers(found[name])]
        for size, found in results["by_size"].items()
        for name in found
    ]
    compared = [
        [name, f"{methods[name]['2']['epochs']:.1%}", own, f"{methods[own]['2']['epochs']:.1%}",
         *(f"{methods[n]['2']['below_best'][p]:.3f}"
           for p in ("median", "95") for n in (name, own))]
        for name, own in equal_epochs(methods)
    ]  # fmt: skip
    parts = [
        "# Searches, replayed on recorded curves",
        "Generated from `search.json` by `python -m benchmarks.search --redraw`.",
        (f"{results['replays']} replays of the [recorded sweep](../curves/README.md). Each "
         f"searches {small} to {large} of its {results['settings']} settings, in random order, "
         "with one seed (1 or 2; the presets were chosen on seed 0). The search sees the accuracy "
         "on the held-out images. The setting that it finds best is judged by its accuracy on the "
         f"test images, as the mean over {results['seeds']} seeds, in percentage points. Regret is "
         "how far it is below the setting that the full grid finds best; it is negative if the "
         "search is better by chance. With one seed, the full grid itself may not find the best "
         "setting: 'below best' is the distance to that one."),
        (f"Noise: the standard error of such a difference is {results['test_error']:.3f} points. "
        f"Settings are tied with the best if their mean accuracy over all seeds, on test and "
        f"held-out images together, is at most {results['tie_width']:.3f} points (two standard "
        f"errors) below it; in the whole grid these are {results['tied']}. 'Best lost' is the "
        "share of replays that choose a setting outside this set, 'tied trained' the share of the "
        "set that is trained to the last epoch."),
        ("Decisions of peers depend on the order of events, which is simulated for 2 workers. The "
        "last column is from a second simulation with 16. The schedulers run their own code: "
        "Optuna's trials are asked for, report and are pruned through a study; those of Ray Tune "
        "and Syne Tune are called directly, without starting processes."),
        table(HEAD, rows),
        "## At equal epochs",
        ("Each peer, and the options of `halving` that train the most epochs among those that "
        "train no more than the peer."),
        table(("peer", "epochs", "lenet-sweep", "epochs", "below best: median of the peer",
               "ours", "95% of the peer",
               "ours"), compared),
        "## All seeds together",
        f"The same with all {results['seeds']} seeds of a setting, whose mean accuracy decides.",
        table(HEAD[:-1], together),
        "## By the size of the grid",
        table(("settings", *HEAD[:-1]), sizes),
        f"Commit {results['commit']}. "
        + ", ".join(f"{name} {version}" for name, version in results["packages"].items()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def equal_epochs(methods: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each peer, and the options of Halving that train the most epochs up to those of the peer."""
    pairs = []
    for name in filter(is_peer, methods):
        limit = methods[name]["2"]["epochs"] + 1e-3
        own = [
            n for n in methods
            if n.lower().startswith("halving") and methods[n]["2"]["epochs"] <= limit
        ]  # fmt: skip
        if own:
            pairs.append((name, max(own, key=lambda n: methods[n]["2"]["epochs"])))
    return pairs


def _numbers(found: Mapping[str, Any]) -> list[str]:
    regret = found["regret"]
    return [
        f"{found['epochs']:.1%}",
        *(f"{regret[name]:.3f}" for name in ("median", "90", "95")),
        *(f"{found[name]:.1%}" for name in ("regret_0.05", "regret_0.10")),
        *(f"{found['below_best'][name]:.3f}" for name in ("median", "95")),
        *(f"{found[name]:.1%}" for name in ("lost", "recall")),
        f"{found['seconds'] / 60:.1f}",
    ]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(results: Mapping[str, Any]) -> Figure:
    """The epochs of each method, and how often it found a setting as good as the full grid's."""
    methods = {name: found["2"] for name, found in results["methods"].items()}
    with styled():
        drawn = Figure((9.0, 4.3), layout="constrained")
        FigureCanvasAgg(drawn)
        panels = drawn.subplots(1, 2, sharex=True)
        for axes, (key, label) in zip(panels, PANELS.items(), strict=True):
            for (start, name), color, marker in zip(GROUPS.items(), COLORS, MARKERS, strict=True):
                points = [
                    (100 * found["epochs"], 100 * found[key])
                    for method, found in methods.items()
                    if method.startswith(start)
                ]
                if points:
                    points.sort()
                    line = ":" if start == "random" else ""  # one method, with several budgets
                    axes.plot(
                        *zip(*points, strict=True), marker, ls=line, lw=1, color=color, label=name,
                        ms=7 if start == "halving" else 5, zorder=3 if start == "halving" else 2,
                    )  # fmt: skip
            axes.set(xlabel="Epochs trained (% of the full grid)", ylabel=label)
            axes.set(xlim=(0, 103), ylim=(0, 103))
        handles, names = panels[0].get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9)
        drawn.suptitle("What searches find, and how much they train", x=0.01, ha="left")
        caption = f"{results['replays']} replays of recorded learning curves"
        panels[0].set_title(caption, loc="left", color=QUIET, fontsize=9)
    return drawn


def tuning_row(found: Mapping[str, Any]) -> str:
    """The statistics of one setting of Halving in a line."""
    regret = found["regret"]
    return (
        f"{found['epochs']:6.1%} {regret['mean']:11.3f} {regret['95']:7.3f} "
        f"{found['regret_0.05']:7.1%} {found['regret_0.10']:7.1%} "
        f"{found['below_best']['mean']:10.3f} {found['recall']:8.1%} "
    )
