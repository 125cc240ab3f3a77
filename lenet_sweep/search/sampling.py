"""Searches that sample settings: waves of trials, each chosen by Optuna from the trials before it.

The study is rebuilt for each wave, from the trials in the order of their numbers, and the sampler
is seeded for each trial from the search's seed and the trial's number. The settings of a wave are
therefore a pure function of the space, the options and the results of the earlier waves.

S. Watanabe: Tree-Structured Parzen Estimator: Understanding Its Algorithm Components and Their
Roles for Better Empirical Performance (2023), arXiv:2304.11127.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from lenet_sweep.config.search_space import Dimension, Interval, Params, SearchSpace
from lenet_sweep.core.cells import Choice
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.plans import Run
from lenet_sweep.search import NO_RESULT, Decision, RunResult, Search
from lenet_sweep.search.competitors import competitors
from lenet_sweep.search.halving import Halving

MIN_OPTUNA = (4, 9)
# Trials that the TPE samples at random before it learns: a wave of the default size. Optuna's own
# default of 10 would make the second wave random, too.
RANDOM_TRIALS = 8
WORST = 0.0  # percent, the value of a trial that failed


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    value: the mean over the seeds of the accuracy that ranks, after the last epoch, in percent; if
    the trial was stopped, at the epoch where it stopped. stopped: by a search. accuracies: after
    each epoch up to that one, for a stopped trial.
    """

    params: Params
    value: float = WORST
    stopped: bool = False
    accuracies: Sequence[float] = ()


class TrainAll:
    """A search that trains every run to its last epoch."""

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:  # noqa: ARG002 - see `Search`
        """See `Search`."""
        return Decision({run.id: run.cell.epochs for run in runs})

    def describe(self, runs: Sequence[Run]) -> list[str]:  # noqa: ARG002 - see `Search`
        """See `Search`."""
        return []


@dataclass(frozen=True)
class Sampling:
    """A search that samples `trials` settings in waves of `wave`.

    name: the sampler, "tpe" or "random". halving: whether the settings of a wave compete by
    successive halving. epochs: the most epochs that the trials may need, minutes: after how many
    minutes no further wave starts; 0 for no limit.
    """

    name: str
    trials: int = 40
    seed: int = 0
    wave: int = 8
    halving: bool = False
    epochs: int = 0
    minutes: float = 0.0

    @property
    def waves(self) -> int:
        """The number of waves."""
        return -(-self.trials // self.wave)

    @property
    def search(self) -> Search:
        """What decides how long the runs of a wave are trained."""
        return Halving(keep=1) if self.halving else TrainAll()

    def ask(self, space: SearchSpace, trials: Sequence[Trial]) -> list[Params]:
        """The trials of the next wave; none after the last one.

        trials: those that have ended, in the order of their numbers. Raises UsageError if Optuna is
        missing.
        """
        check_optuna(self.name)
        import optuna  # noqa: PLC0415 - optional

        distributions = {k: _distribution(d) for k, d in space.dimensions.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental arguments of earlier versions
            verbosity = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(optuna.logging.ERROR)  # not that a study was created
            study = optuna.create_study(direction="maximize")
            optuna.logging.set_verbosity(verbosity)
            for trial in trials:
                study.add_trial(_frozen(trial, distributions))
            proposed = []
            for number in range(len(trials), min(len(trials) + self.wave, self.trials)):
                seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
                study.sampler = _SAMPLERS[self.name](seed)
                proposed.append(_ask_one(study.ask(), space))
        return proposed

    def most_epochs(self, runs: Sequence[Run]) -> int:
        """The epochs that these runs of a wave need, at most."""
        search = self.search
        if not isinstance(search, Halving):
            return sum(run.cell.epochs for run in runs)
        return sum(search.most_epochs(settings) for settings in competitors(runs))


def make_sampling(choice: Choice) -> Sampling:
    """The search with the options of a choice of the group `search`."""
    options: dict[str, Any] = dict(choice.options)
    whole = {key: int(options[key]) for key in ("trials", "seed", "wave", "epochs")}
    return Sampling(choice.name, **(options | whole))


def samples(name: object) -> bool:
    """Whether the search with this name samples settings."""
    return name in _SAMPLERS


def outcome(
    params: Params, runs: Sequence[Run], results: Mapping[str, RunResult], decision: Decision
) -> Trial:
    """The trial with these runs, which have ended. No runs: it was invalid.

    Shorter runs, which a schedule that depends on the number of epochs has, do not count.
    """
    longest = max((run.cell.epochs for run in runs), default=0)
    runs = [run for run in runs if run.cell.epochs == longest]  # one for each seed
    if not runs:
        return Trial(params)
    stop = decision.stops.get(runs[0].id)
    last = stop.epoch if stop else longest
    known = [results.get(run.id, NO_RESULT) for run in runs]
    if any(not r.accuracies or (r.failed and len(r.accuracies) < last) for r in known):
        return Trial(params)
    curve = [
        sum(r.accuracies[min(epoch, len(r.accuracies)) - 1] for r in known) / len(known)
        for epoch in range(1, last + 1)
    ]
    if stop:
        return Trial(params, curve[-1], stopped=True, accuracies=curve)
    return Trial(params, curve[-1])


def _ask_one(trial: Any, space: SearchSpace) -> Params:
    """The numbers that Optuna suggests for a trial, for the keys that apply to its choices."""
    params = {key: _suggest(trial, key, space.dimensions[key]) for key in space.selectors}
    missing = space.missing(space.point(params))
    for key, dimension in space.dimensions.items():
        if key not in params and key not in missing:
            params[key] = _suggest(trial, key, dimension)
    return params


def _suggest(trial: Any, key: str, dimension: Dimension) -> float:
    if isinstance(dimension, Interval):
        low, high, log = dimension.low, dimension.high, dimension.log
        if dimension.whole:
            return int(trial.suggest_int(key, int(low), int(high), log=log))
        return dimension.round(trial.suggest_float(key, low, high, log=log))
    if dimension.ordered:
        return int(trial.suggest_int(key, 0, len(dimension.values) - 1))
    return int(trial.suggest_categorical(key, range(len(dimension.values))))


def _distribution(dimension: Dimension) -> Any:
    """The distribution with which `_suggest` suggests a number."""
    from optuna import distributions  # noqa: PLC0415 - optional

    if isinstance(dimension, Interval):
        low, high, log = dimension.low, dimension.high, dimension.log
        if dimension.whole:
            return distributions.IntDistribution(int(low), int(high), log=log)
        return distributions.FloatDistribution(low, high, log=log)
    if dimension.ordered:
        return distributions.IntDistribution(0, len(dimension.values) - 1)
    return distributions.CategoricalDistribution(range(len(dimension.values)))


def _frozen(trial: Trial, distributions: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415 - optional

    return create_trial(
        state=TrialState.PRUNED if trial.stopped else TrialState.COMPLETE,
        value=trial.value,
        params=dict(trial.params),
        distributions={key: distributions[key] for key in trial.params},
        intermediate_values=dict(enumerate(trial.accuracies, 1)),
    )


def _tpe(seed: int) -> Any:
    from optuna.samplers import TPESampler  # noqa: PLC0415 - optional

    # With `constant_liar`, the trials of a wave keep away from each other.
    return TPESampler(
        seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
    )


def _random(seed: int) -> Any:
    from optuna.samplers import RandomSampler  # noqa: PLC0415 - optional

    return RandomSampler(seed=seed)


_SAMPLERS: Mapping[str, Callable[[int], Any]] = {"tpe": _tpe, "random": _random}


def check_optuna(name: str) -> None:
    """Raise UsageError if Optuna, which a search requires, is missing or too old."""
    needed = ".".join(map(str, MIN_OPTUNA))
    fix = "run: pip install 'lenet-sweep[search]'"
    try:
        found = version("optuna")
    except PackageNotFoundError as error:
        raise UsageError(f"search={name}: requires Optuna {needed} or later; {fix}") from error
    if tuple(map(int, found.split(".")[:2])) < MIN_OPTUNA:
        raise UsageError(
            f"search={name}: requires Optuna {needed} or later, but {found} is installed; {fix}"
        )
