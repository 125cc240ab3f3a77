"""Optuna: a GridSampler, a process of one thread for each core, a journal between them.

The grid is queued as trials, which the processes take from the journal one by one: what two of them
sample at the same moment may be the same, as the documentation of GridSampler says. `--store` keeps
the journal, in which a finished study has nothing left to try.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

import optuna
import torch
from optuna.samplers import GridSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from benchmarks.peers.common import Task, asked, cores, write
from benchmarks.peers.resident_loop import tensors, train


def study_of(task: Task, store: Path) -> optuna.Study:
    return optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(store / "journal.log"))),
        sampler=GridSampler({"setting": list(range(len(task.settings)))}, seed=task.seed),
        direction="maximize",
        load_if_exists=True,
    )


def work(task: Task, store: Path) -> None:
    torch.set_num_threads(1)
    data = tensors(task.data, task.limit)

    def objective(trial: optuna.Trial) -> float:
        number = trial.suggest_int("setting", 0, len(task.settings) - 1)
        return train(task.settings[number], data, task.weights)

    begun = (TrialState.RUNNING, TrialState.COMPLETE)
    enough = MaxTrialsCallback(len(task.settings), states=begun)
    study_of(task, store).optimize(objective, callbacks=[enough])


def sweep(task: Task, store: Path) -> list[float]:
    study = study_of(task, store)
    if len(study.get_trials(states=[TrialState.COMPLETE])) < len(task.settings):
        for number in range(len(task.settings)):
            study.enqueue_trial({"setting": number}, skip_if_exists=True)
        tensors(task.data, task.limit)  # the workers inherit the pages
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=work, args=(task, store)) for _ in range(cores())]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    done = study.get_trials(states=[TrialState.COMPLETE])
    reached = {trial.params["setting"]: trial.value for trial in done}
    return [reached[number] for number in range(len(task.settings))]


if __name__ == "__main__":
    asked_for = asked()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(asked_for, sweep(asked_for, asked_for.store or Path(folder)))
