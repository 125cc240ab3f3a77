"""ASHA of Syne Tune: python -m benchmarks.search.peer_syne_tune PROBLEMS OUT --workers N.

Drives the scheduler object itself. Its searcher suggests the settings in the order of the problem.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice
from syne_tune.optimizer.baselines import ASHA
from syne_tune.optimizer.scheduler import SchedulerDecision

from benchmarks.search.replays import CONTINUE, STOP, main_of_peer

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class SyneTune:
    """The scheduler and the trials that it has suggested."""

    def __init__(self, options: dict[str, int], trials: int, epochs: int, seed: int) -> None:
        np.random.seed(seed)  # noqa: NPY002 - the scheduler uses the global generator
        self.scheduler = ASHA(
            config_space={"setting": choice(list(range(trials)))},
            metric="accuracy",
            do_minimize=False,
            time_attr="training_iteration",
            max_t=epochs,
            random_seed=seed,
            points_to_evaluate=[{"setting": number} for number in range(trials)],
            **options,
        )
        self.number = trials
        self.trials: list[Trial] = []

    def next(self) -> int | None:
        if len(self.trials) == self.number:
            return None
        config = self.scheduler.suggest().config
        trial = Trial(len(self.trials), config, START)
        assert config["setting"] == trial.trial_id
        self.trials.append(trial)
        self.scheduler.on_trial_add(trial)
        return int(trial.trial_id)

    def report(self, trial: int, epoch: int, value: float) -> str:
        result = {"accuracy": value, "training_iteration": epoch}
        action = self.scheduler.on_trial_result(self.trials[trial], result)
        return CONTINUE if action == SchedulerDecision.CONTINUE else STOP


def maker(**options: int) -> Callable[[int, int, int], SyneTune]:
    return lambda trials, epochs, seed: SyneTune(options, trials, epochs, seed)


SCHEDULERS = {
    "Syne Tune ASHA": maker(),
    "Syne Tune ASHA, grace_period 10": maker(grace_period=10),
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main_of_peer(SCHEDULERS)
