"""Optuna: GridSampler with one single-threaded process per core, which share a journal.

The grid is enqueued as trials, which the processes take from the journal one by one. Without the
queue, two processes that sample at the same time may try the same cell, as the documentation of
GridSampler explains. `--store` keeps the journal, in which a finished study has no trials left.
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

from benchmarks.peers.common import Task, cores, parse_task, write_accuracies
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

    started = (TrialState.RUNNING, TrialState.COMPLETE)
    enough = MaxTrialsCallback(len(task.settings), states=started)
    study_of(task, store).optimize(objective, callbacks=[enough])


def sweep(task: Task, store: Path) -> list[float]:
    study = study_of(task, store)
    if len(study.get_trials(states=[TrialState.COMPLETE])) < len(task.settings):
        for number in range(len(task.settings)):
            study.enqueue_trial({"setting": number}, skip_if_exists=True)
        tensors(task.data, task.limit)  # loaded here, so that the workers share it
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=work, args=(task, store)) for _ in range(cores())]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    completed = study.get_trials(states=[TrialState.COMPLETE])
    accuracies = {trial.params["setting"]: trial.value for trial in completed}
    return [accuracies[number] for number in range(len(task.settings))]


if __name__ == "__main__":
    task = parse_task()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_accuracies(task, sweep(task, task.store or Path(folder)))
