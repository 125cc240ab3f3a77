"""The tracker `optuna`: a study with a trial per cell, in a journal that optuna-dashboard opens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.trackers import register_tracker
from lenet_sweep.core.patience import ranking_accuracies
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.storage import atomic
from lenet_sweep.track import RUNNING, UNFINISHED, TrackedCell, TrackedSweep, Tracker
from lenet_sweep.track.collect import parameters_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages.journal import JournalStorage
    from optuna.trial import FrozenTrial

FILE = "optuna.journal"  # in the folder of the sweep
TEMPORARY = ".optuna.journal.new"
LOG_RATIO = 10.0  # a parameter whose largest value is this many times the smallest is logarithmic


@register_tracker("optuna")
class OptunaTracker(Tracker):
    """Writes the cells with an outcome as finished trials, when the sweep ends.

    Optuna cannot change a finished trial. If one has to change, because a stopped or failed cell
    has finished since, the journal is replaced.
    """

    def open(self, sweep: TrackedSweep) -> None:
        import optuna  # noqa: F401, PLC0415 - fail early if it is broken

        self._sweep = sweep
        self._cells: dict[str, TrackedCell] = {}

    def log(self, cell: TrackedCell) -> None:
        self._cells[cell.cell.id] = cell

    def close(self, files: Sequence[Path], *, complete: bool) -> None:  # noqa: ARG002 - of Tracker
        path = self._sweep.folder / FILE
        distributions = _distributions(map(parameters_of, self._sweep.cells))
        logged = (self._cells.get(cell.id) for cell in self._sweep.cells)
        ended = [cell for cell in logged if cell and cell.status not in (RUNNING, UNFINISHED)]
        with _quiet():
            trials = [_trial(cell, distributions, self._sweep.started) for cell in ended]
            if _same(_read(path, self._sweep.name), trials):
                return
            for old in self._sweep.folder.glob(f"{TEMPORARY}*"):  # of a process that was killed
                old.unlink(missing_ok=True)
            new = self._sweep.folder / TEMPORARY
            _write(new, self._sweep.name, trials)
        atomic.wait_if_in_use(path, lambda: new.replace(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its messages about new studies."""
    from optuna import logging  # noqa: PLC0415 - slow to import

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _storage(path: Path) -> JournalStorage:
    from optuna.storages import journal  # noqa: PLC0415 - as above

    # The other lock of Optuna is a symbolic link, which not all file systems have.
    lock = journal.JournalFileOpenLock(str(path))
    return journal.JournalStorage(journal.JournalFileBackend(str(path), lock))


def _read(path: Path, name: str) -> list[FrozenTrial] | None:
    """The trials in a journal; None if there is no readable journal with this study."""
    import optuna  # noqa: PLC0415 - as above

    if not path.exists():  # opening it would create it
        return None
    try:
        study = optuna.load_study(study_name=name, storage=_storage(path))
        return list(study.trials)
    except Exception:  # noqa: BLE001 - of a damaged journal, or one of another version
        return None


def _write(path: Path, name: str, trials: Sequence[FrozenTrial]) -> None:
    import optuna  # noqa: PLC0415 - as above

    study = optuna.create_study(study_name=name, storage=_storage(path), direction="maximize")
    study.add_trials(trials)


def _distributions(settings: Iterable[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """The distribution of each setting that varies between the cells."""
    values: dict[str, dict[Any, None]] = {}
    for each in settings:
        for name, value in each.items():
            values.setdefault(name, {})[value] = None
    return {name: _distribution(name, list(v)) for name, v in values.items() if len(v) > 1}


def _distribution(name: str, values: list[Any]) -> BaseDistribution:
    from optuna import distributions  # noqa: PLC0415 - as above

    kinds = {type(value) for value in values}
    if name == "seed" or not kinds <= {int, float}:  # seeds have no order
        return distributions.CategoricalDistribution(values)
    low, high = min(values), max(values)
    log = low > 0 and high / low >= LOG_RATIO
    if kinds == {int}:
        return distributions.IntDistribution(low, high, log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _trial(
    cell: TrackedCell, distributions: Mapping[str, BaseDistribution], started: float
) -> FrozenTrial:
    """The trial of a cell: its settings that vary, the ranking accuracy, and that of each epoch."""
    from optuna.trial import FrozenTrial, TrialState  # noqa: PLC0415 - as above

    accuracies = ranking_accuracies(cell.history)
    state, value = TrialState.FAIL, None
    if cell.status == "ok":
        state, value = TrialState.COMPLETE, cell.accuracy
    elif cell.status == STOPPED:  # its value is the last intermediate one, as in Optuna
        state, value = TrialState.PRUNED, accuracies[-1] if accuracies else None
    params = {name: cell.settings[name] for name in distributions if name in cell.settings}
    times = cell.times(started)
    about = {"cell": cell.cell.id, "name": cell.name, "status": cell.status, "person": cell.person}
    return FrozenTrial(
        number=0,  # assigned by the study
        trial_id=0,
        state=state,
        value=value,
        datetime_start=datetime.fromtimestamp(started),  # noqa: DTZ006 - Optuna wants local time
        datetime_complete=datetime.fromtimestamp(times[-1] if times else started),  # noqa: DTZ006
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs=about | ({"error": cell.error} if cell.error else {}),
        system_attrs={},
        intermediate_values={e.epoch: a for e, a in zip(cell.history, accuracies, strict=True)},
    )


def _same(written: Sequence[FrozenTrial] | None, trials: Sequence[FrozenTrial]) -> bool:
    """Whether a journal has these trials."""
    return written is not None and [*map(_content, written)] == [*map(_content, trials)]


def _content(trial: FrozenTrial) -> tuple[Any, ...]:
    parts = (trial.values, trial.params, trial.distributions, trial.intermediate_values)
    return (trial.state, trial.user_attrs, *parts)
