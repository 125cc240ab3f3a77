"""Schedulers of Ray Tune: python -m benchmarks.search.peer_ray PROBLEMS OUT --workers N.

Drives the scheduler objects themselves; only the controller, which starts and pauses the trials, is
replaced by a simulated one. All trials of the grid are added at the start.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ray.tune.experiment import Trial as States
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, TrialScheduler

from benchmarks.search.replays import CONTINUE, PAUSE, STOP, main_of_peer

ACTIONS = {
    TrialScheduler.CONTINUE: CONTINUE, TrialScheduler.PAUSE: PAUSE, TrialScheduler.STOP: STOP,
}  # fmt: skip
OPTIONS = {"metric": "accuracy", "mode": "max", "time_attr": "training_iteration"}


class SimulatedTrial:
    """What the schedulers read of a trial."""

    is_saving = False

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.number = number
        self.status = States.PENDING


class Tune:
    """A scheduler with the controller that it talks to."""

    def __init__(
        self,
        make: Callable[..., TrialScheduler],
        options: dict[str, float],
        trials: int,
        epochs: int,
        seed: int,
    ) -> None:
        np.random.seed(seed)  # noqa: NPY002 - the schedulers use the global generator
        self.scheduler = make(max_t=epochs, **OPTIONS, **options)
        self.last = epochs
        self.trials = [SimulatedTrial(number) for number in range(trials)]
        for trial in self.trials:
            self.scheduler.on_trial_add(self, trial)

    def get_trials(self) -> list[SimulatedTrial]:
        return self.trials

    def stop_trial(self, trial: SimulatedTrial) -> None:
        self.scheduler.on_trial_remove(self, trial)
        trial.status = States.TERMINATED

    def next(self) -> int | None:
        trial = self.scheduler.choose_trial_to_run(self)
        if trial is None:
            return None
        trial.status = States.RUNNING
        return int(trial.number)

    def report(self, trial: int, epoch: int, value: float) -> str:
        result = {"accuracy": value, "training_iteration": epoch}
        found = self.trials[trial]
        action = ACTIONS[self.scheduler.on_trial_result(self, found, result)]
        if action == STOP or epoch == self.last:
            found.status = States.TERMINATED
            self.scheduler.on_trial_complete(self, found, result)
            return STOP
        if action == PAUSE:
            found.status = States.PAUSED
        return action


def maker(make: Callable[..., TrialScheduler], **options: float) -> Callable[[int, int, int], Tune]:
    return lambda trials, epochs, seed: Tune(make, options, trials, epochs, seed)


SCHEDULERS = {
    "Ray Tune ASHAScheduler": maker(ASHAScheduler),
    "Ray Tune ASHAScheduler, grace_period 10": maker(ASHAScheduler, grace_period=10),
    "Ray Tune HyperBandScheduler": maker(HyperBandScheduler),
}

if __name__ == "__main__":
    main_of_peer(SCHEDULERS)
