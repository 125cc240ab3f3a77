"""A sweep as JSON values, for the list of sweeps and for its own page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lenet_sweep.results.columns import STOPPED
from lenet_sweep.serve.json_values import curve_point, finite_number, short_text
from lenet_sweep.serve.live_sweep import LiveSweep
from lenet_sweep.serve.served_folder import RefusedError
from lenet_sweep.serve.sweep_state import LiveLaunch, SweepState
from lenet_sweep.ui.progress import SweepProgress, describe_round

MAX_POINTS = 240  # of a curve when the page is opened; further ones are added as epochs end
ALL_POINTS = 60_000  # of all curves together when the page is opened


def summary(sweep: LiveSweep) -> dict[str, Any]:
    """What the list of sweeps shows about this one, as JSON values."""
    values: dict[str, Any] = {"sweep": sweep.name, "error": sweep.error}
    if sweep.error or sweep.manifest is None:
        return values
    state = sweep.state
    active = [launch for launch in state.launches.values() if launch.alive]
    ended = [row for row in state.rows if row["status"] not in ("training", "waiting", "queued")]
    ok = [row for row in ended if row["status"] == "ok"]
    stopped = sum(row["status"] == STOPPED for row in ended)
    if active:
        status = "running"
    elif len(ended) == len(state.rows):
        status = "finished"
    else:
        status = "interrupted"
    searches = [x.progress for x in active if x.progress and x.progress.round]
    return values | {
        "state": status,
        "total": len(state.rows),
        "done": len(ended),
        "failed": len(ended) - len(ok) - stopped,
        "stopped": stopped,
        "fraction": _fraction(state, len(ended), searches),
        "left": _left(active),
        "at_most": any(progress.round.at_most for progress in searches if progress.round),
        "stage": short_text("; ".join(map(describe_round, searches))),
        "best": _best(ok),
        "started": min((launch.time for launch in active), default=None),
        "changed": sweep.changed,
    }


def head(sweep: LiveSweep) -> dict[str, Any]:
    """The progress of the sweep as JSON values."""
    values = summary(sweep)
    if values["error"]:
        return values
    state = sweep.state
    active = [launch for launch in state.launches.values() if launch.alive]
    running = [
        {
            "run": state.run_numbers[run_id],
            "epoch": run.epoch,
            "resumed": run.resumed,
            "of": run.run.cell.epochs,
            "pace": finite_number(launch.progress.pace(run.run)),
            "accuracy": state.accuracy_of(run),
            "cost": finite_number(run.cost),
            "training": run.start is not None,
        }
        for launch in active
        if launch.progress
        for run_id, run in launch.progress.running.items()
    ]
    workers = [launch.started.workers or 0 for launch in active]
    return values | {
        "running": running,
        "workers": sum(workers) or None,
        "notes": [*state.notes],
        "command": _command(sweep),
        "report": _has_report(sweep),
    }


def snapshot(sweep: LiveSweep) -> dict[str, Any]:
    """The cells, rows and curves as JSON values; long curves are thinned."""
    state = sweep.state
    most = max(20, min(MAX_POINTS, ALL_POINTS // max(1, len(state.history))))
    points = []
    for run_id, history in state.history.items():
        epochs = sorted(history)
        step = -(-len(epochs) // most)
        kept = epochs[::step] + epochs[-1:] * ((len(epochs) - 1) % step > 0)
        points += [curve_point(state.run_numbers[run_id], history[number]) for number in kept]
    return {
        "generation": sweep.generation,
        "columns": state.columns,
        "cells": state.settings,
        "runs": state.run_names,
        "rows": [*enumerate(state.rows)],
        "points": points,
    }


def _fraction(state: SweepState, ended: int, searches: list[SweepProgress]) -> float:
    """The part of the sweep that is done, from 0 to 1."""
    if searches:
        return min(progress.fraction for progress in searches)
    parts: Iterable[float] = (
        row["epoch"] / cell.epochs
        for row, cell in zip(state.rows, state.cells, strict=True)
        if row["status"] == "training"
    )
    return (ended + sum(parts)) / max(1, len(state.rows))


def _command(sweep: LiveSweep) -> str:
    launches = sweep.manifest.launches if sweep.manifest else ()
    command = launches[-1].get("command") if launches else None
    return short_text(command, 2000) if isinstance(command, str) else ""


def _has_report(sweep: LiveSweep) -> bool:
    try:
        return sweep.served.file(sweep.folder / "report.html") is not None
    except RefusedError:
        return False


def _best(ok: list[dict[str, Any]]) -> float | None:
    """The test accuracy of the row with rank 1. ok: the finished rows."""
    by = "holdout" if all(row["holdout"] is not None for row in ok) else "accuracy"
    ranked = [row for row in ok if row[by] is not None and row["accuracy"] is not None]
    best: float | None = max(ranked, key=lambda row: row[by])["accuracy"] if ranked else None
    return best


def _left(active: list[LiveLaunch]) -> float | None:
    """Seconds that the launches still take; None if that is not known for one of them."""
    times = [launch.progress.seconds_left() if launch.progress else None for launch in active]
    return (
        None if None in times or not times else finite_number(max(filter(None, times), default=0.0))
    )
