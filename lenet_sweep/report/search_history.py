"""How a search went: which settings it trained how far, and how accurate they were on the way.

Prepared once for the figure and for the page, from the rows of the table and the runs in the store.
Accuracies are those that decided: on held-out images if there are any, else on the test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pandas as pd

from lenet_sweep.analysis.loading import Source
from lenet_sweep.analysis.statistics import Interval, t_interval
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.names import short_names
from lenet_sweep.core.patience import ranking_accuracies
from lenet_sweep.core.text import pluralize
from lenet_sweep.report.histories import Series
from lenet_sweep.results.columns import EPOCHS_TRAINED, STOPPED
from lenet_sweep.search.halving import compared_with


@dataclass(frozen=True)
class SearchedSetting:
    """A setting, and how far the search trained it.

    curve: (epochs,) percent, the mean over its seeds after each epoch that all of them have.
    finals: percent, by seed, of the runs that were trained to the end. final_seeds: the seeds of
    these runs. stopped: the epoch after which the search stopped it; None if it did not, 0 if it
    dropped further seeds. complete: no run failed or is missing from the store. seeds: how many it
    would have if the search had not stopped it.
    """

    name: str
    cell: Cell
    curve: Series
    finals: tuple[float, ...]
    final_seeds: tuple[int, ...]
    stopped: int | None
    finished: bool
    complete: bool
    seeds: int

    @property
    def mean(self) -> float:
        """The mean of `finals`; they must not be empty."""
        return fmean(self.finals)

    @property
    def interval(self) -> Interval | None:
        """The 95% t interval of the mean; see `t_interval`."""
        return t_interval(self.finals)

    def at(self, epoch: int) -> float | None:
        """The accuracy after an epoch; None if it was not trained that far."""
        if self.finished:  # perhaps early
            epoch = min(epoch, len(self.curve))
        return float(self.curve[epoch - 1]) if 1 <= epoch <= len(self.curve) else None


@dataclass(frozen=True)
class Rung:
    """An epoch after which settings were stopped: `continuing` of `total` settings continue."""

    epoch: int
    continuing: int
    total: int


@dataclass(frozen=True)
class SearchHistory:
    """The settings of a search with the same dataset and epochs, finished ones first, best first.

    rungs: none if the search was a race over seeds. epochs: of a run that is trained to the end.
    one_competition: whether all settings were compared at each rung. They were not if the search
    sampled them in waves, or if these are several searches. sentences: on what was saved and what
    the search cannot tell. others: the number of settings with other datasets or epochs.
    """

    settings: tuple[SearchedSetting, ...]
    rungs: tuple[Rung, ...]
    epochs: int
    held_out: bool
    one_competition: bool
    sentences: tuple[str, ...]
    others: int = 0

    @property
    def finished(self) -> int:
        """The number of settings that were trained to the end."""
        return sum(setting.finished for setting in self.settings)


@dataclass(frozen=True)
class _Run:
    """The row with the most epochs of a run, and its history."""

    cell: Cell
    status: str
    trained: int
    accuracies: Series
    error: str

    @property
    def finished(self) -> bool:
        return self.status == "ok" and self.accuracies.size > 0

    @property
    def stopped(self) -> int | None:
        return self.trained if self.status == STOPPED else None


def search_history(table: pd.DataFrame, sources: Sequence[Source]) -> SearchHistory | None:
    """The search of a sweep; None if no search stopped a cell, or if too few runs are stored.

    sources: of the rows of the table. If the settings have several numbers of epochs or datasets,
    they form groups, of which the largest is returned.
    """
    if not (table["status"] == STOPPED).any():
        return None
    runs = list(_runs(table, sources))
    names = short_names((run.cell.setting for run in runs), epochs=False)
    groups: dict[object, dict[Cell, list[_Run]]] = {}
    for run in runs:
        group = groups.setdefault((run.cell.dataset, run.cell.epochs), {})
        group.setdefault(run.cell.setting, []).append(run)
    group = max(groups.values(), key=lambda group: (_has_stops(group), len(group)))
    all_settings = [
        _setting(names[cell], sorted(members, key=lambda run: run.cell.seed))
        for cell, members in group.items()
    ]
    settings = [s for s in all_settings if s.curve.size or s.finals]
    if len(settings) < 2 or not any(s.finals for s in settings):
        return None
    settings.sort(key=_rank)
    first = settings[0].cell
    stops = sorted({s.stopped for s in settings if s.stopped})
    rungs = tuple(
        Rung(epoch, len(_beyond(settings, epoch)), len(_beyond(settings, epoch - 1)))
        for epoch in stops
    )
    shown = [run for members in group.values() for run in members]
    history = SearchHistory(
        settings=tuple(settings),
        rungs=rungs,
        epochs=first.epochs,
        held_out=bool(first.dataset.holdout),
        one_competition=all(_compared_all(rung, shown) for rung in rungs),
        sentences=(),
        others=len(names) - len(all_settings),
    )
    closest = []
    if history.one_competition:
        closest = _closest(history) if rungs else _closest_of_race(history)
    return replace(history, sentences=(_saved(shown, history), *closest))


def _runs(table: pd.DataFrame, sources: Sequence[Source]) -> Iterable[_Run]:
    trained = table[EPOCHS_TRAINED] if EPOCHS_TRAINED in table else table["epochs"]
    rows: dict[str, tuple[Source, str, int, str]] = {}
    columns = (table["status"], trained, table["error"])
    for source, status, epochs, error in zip(sources, *columns, strict=True):
        known = rows.get(source.cell.run_id)
        if known is None or source.cell.epochs > known[0].cell.epochs:
            number = source.cell.epochs if pd.isna(epochs) else int(epochs)
            rows[source.cell.run_id] = source, status, number, str(error)
    for source, status, epochs, error in rows.values():
        cell = source.cell
        try:
            snapshot = source.store.run_folder(cell.run_id).latest(until=cell.epochs)
        except StoreError:  # the disk cannot be read
            snapshot = None
        accuracies = ranking_accuracies(snapshot.history) if snapshot else []
        number = epochs if status in ("ok", STOPPED) else len(accuracies)
        yield _Run(cell, status, number, np.array(accuracies[:number], float), error)


def _has_stops(group: dict[Cell, list[_Run]]) -> bool:
    return any(run.status == STOPPED for members in group.values() for run in members)


def _setting(name: str, members: Sequence[_Run]) -> SearchedSetting:
    finals = [run for run in members if run.finished]
    stopped = [run.trained for run in members if run.status == STOPPED]
    curves = [run.accuracies for run in members if run.accuracies.size]
    finished = len(finals) == len(members)
    last = max if finished else min  # some seeds may have ended early, because of their patience
    length = last((len(curve) for curve in curves), default=0)
    padded = [np.pad(curve, (0, max(0, length - len(curve))), "edge")[:length] for curve in curves]
    return SearchedSetting(
        name=name,
        cell=members[0].cell,
        curve=np.mean(padded, axis=0) if padded else np.empty(0),
        finals=tuple(float(run.accuracies[-1]) for run in finals),
        final_seeds=tuple(run.cell.seed for run in finals),
        stopped=min(stopped) if stopped else None,
        finished=finished,
        complete=all(
            run.finished or (run.status == STOPPED and len(run.accuracies) == run.trained)
            for run in members
        ),
        seeds=len(members),
    )


def _rank(setting: SearchedSetting) -> tuple[bool, int, float]:
    """Finished settings first, then those that were trained further, then the most accurate."""
    best = setting.mean if setting.finals else float(setting.curve[-1])
    trained = 0 if setting.finished else len(setting.finals) or len(setting.curve)
    return not setting.finished, -trained, -best


def _beyond(settings: Iterable[SearchedSetting], epoch: int) -> list[SearchedSetting]:
    """The settings that were trained, or at least begun, beyond an epoch."""
    return [
        s
        for s in settings
        if (s.stopped > epoch if s.stopped is not None else s.finished or len(s.curve) >= epoch)
    ]


def _compared_all(rung: Rung, runs: Iterable[_Run]) -> bool:
    """Whether the settings that stopped at a rung were compared with all that continue."""
    numbers = set()
    for run in runs:
        if run.stopped == 0:  # dropped by a race
            return False
        if run.stopped == rung.epoch:
            numbers.add(compared_with(run.error))
    return numbers - {0} == {rung.continuing}  # 0: a run of the setting failed


def _saved(runs: Sequence[_Run], history: SearchHistory) -> str:
    """'The search trained 1,520 of the 4,000 epochs of these settings (38%).'."""
    trained = sum(run.trained for run in runs)
    total = sum(run.cell.epochs if run.status in ("ok", STOPPED) else run.trained for run in runs)
    share = f"({100 * trained / total:.0f}%)"
    if any(run.cell.patience for run in runs):
        share += "; runs could also end early (patience)"
    if history.rungs:
        return f"The search trained {trained:,} of the {total:,} epochs of these settings {share}."
    number = sum(run.trained > 0 for run in runs)
    return f"The race trained {number:,} of the {len(runs):,} runs of these settings {share}."


def _closest(history: SearchHistory) -> list[str]:
    """Which stopped setting was closest to continuing, and where the best one was on the way."""
    images = "held-out" if history.held_out else "test"
    gaps = []
    for rung in history.rungs:
        known = [s.at(rung.epoch) for s in _beyond(history.settings, rung.epoch)]
        last = min((accuracy for accuracy in known if accuracy is not None), default=None)
        for setting in history.settings:
            accuracy = setting.at(rung.epoch)
            stopped = setting.stopped == rung.epoch and setting.complete
            if stopped and accuracy is not None and last is not None:
                gaps.append((max(0.0, last - accuracy), rung.epoch, accuracy, setting.name))
    sentences = []
    if gaps:
        gap, epoch, accuracy, name = min(gaps)
        behind = f"{gap:.2f} points below" if gap >= 0.005 else "as good as"
        sentences.append(
            "A stopped setting might have overtaken others later; the search cannot rule this out. "
            f"The setting closest to continuing was {name}: after epoch {epoch}, its {images} "
            f"accuracy of {accuracy:.2f}% was {behind} that of the lowest-ranked setting that "
            "continued."
        )
    best = history.settings[0]
    places = [_place(history, best, rung) for rung in history.rungs]
    if best.finished and all(places):
        text = " and ".join(
            f"{place} of {rung.total} after epoch {rung.epoch}"
            for place, rung in zip(places, history.rungs, strict=True)
        )
        sentences.append(
            f"The setting that was best at the end, {best.name}, ranked number {text}."
        )
    return sentences


def _place(history: SearchHistory, setting: SearchedSetting, rung: Rung) -> int | None:
    own = setting.at(rung.epoch)
    compared = (s for s in history.settings if s.complete or s.stopped is None)
    others = (s.at(rung.epoch) for s in compared)
    return None if own is None else 1 + sum(o is not None and o > own for o in others)


def _closest_of_race(history: SearchHistory) -> list[str]:
    """Which dropped setting was closest to the best over the seeds that both have."""
    best = history.settings[0]
    if not best.finished:
        return []
    best_accuracies = dict(zip(best.final_seeds, best.finals, strict=True))
    gaps = []
    for s in history.settings:
        if (
            s.stopped == 0
            and s.complete
            and s.finals
            and best_accuracies.keys() >= {*s.final_seeds}
        ):
            gap = fmean(best_accuracies[seed] for seed in s.final_seeds) - s.mean
            gaps.append((gap, s.name, len(s.finals)))
    if not gaps:
        return []
    gap, name, seeds = min(gaps)
    return [
        (
            "A dropped setting might have done better with further seeds; settings are dropped "
            "once tests find them significantly worse than the best. The closest was "
            f"{name}, dropped after "
            f"{pluralize(seeds, 'seed')}, {gap:.2f} points below the best over the same seeds."
        )
    ]
