"""Optuna's pruners: python -m benchmarks.search.peer_optuna PROBLEMS OUT --workers N.

The trials are asked for in the order of the problem, and report each epoch. WilcoxonPruner compares
values of the same steps with a signed-rank test. It is made for instances of a problem rather than
for epochs. It starts after 14 epochs, because SciPy's exact test of fewer values takes long.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
from optuna.trial import Trial, TrialState

from benchmarks.search.replays import CONTINUE, STOP, main_of_peer


class Pruning:
    """A study with a pruner."""

    def __init__(
        self, pruner: optuna.pruners.BasePruner, trials: int, epochs: int, seed: int
    ) -> None:
        # The name decides the brackets of Hyperband.
        self.study = optuna.create_study(
            study_name=f"problem-{seed}",
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed),
            pruner=pruner,
        )
        self.last = epochs
        self.waiting = iter(range(trials))
        self.trials: dict[int, Trial] = {}

    def next(self) -> int | None:
        trial = next(self.waiting, None)
        if trial is not None:
            self.trials[trial] = self.study.ask()
        return trial

    def report(self, trial: int, epoch: int, value: float) -> str:
        self.trials[trial].report(value, epoch)
        if epoch == self.last:
            self.study.tell(self.trials[trial], value)
        elif self.trials[trial].should_prune():
            self.study.tell(self.trials[trial], state=TrialState.PRUNED)
            return STOP
        return CONTINUE


def maker(make: Callable[[int], optuna.pruners.BasePruner]) -> Callable[[int, int, int], Pruning]:
    return lambda trials, epochs, seed: Pruning(make(epochs), trials, epochs, seed)


PRUNERS = {
    "Optuna MedianPruner": lambda _: optuna.pruners.MedianPruner(),
    "Optuna SuccessiveHalvingPruner": lambda _: optuna.pruners.SuccessiveHalvingPruner(),
    "Optuna HyperbandPruner": lambda epochs: optuna.pruners.HyperbandPruner(max_resource=epochs),
    "Optuna WilcoxonPruner": lambda _: optuna.pruners.WilcoxonPruner(n_startup_steps=14),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main_of_peer({name: maker(make) for name, make in PRUNERS.items()})
