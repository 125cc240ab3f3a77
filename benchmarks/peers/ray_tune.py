"""Ray Tune: a class Trainable with reused actors, one single-threaded trial per core.

An epoch is a training iteration, so the number of epochs is not an axis of the grid: a trial of 10
epochs also reports the accuracy after 5. `--store` keeps the experiment, and a finished one is
restored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ray
import torch
from ray import tune

from benchmarks.peers.common import Setting, Task, cores, parse_task, write_accuracies
from benchmarks.peers.network import network, optimizer_of
from benchmarks.peers.resident_loop import Tensors, accuracy, tensors, train_epoch


class Training(tune.Trainable):
    """The training of one setting; a step is an epoch."""

    def setup(self, config: dict, data: Tensors, weights: Path) -> None:
        torch.set_num_threads(1)
        self.data, self.weights = data, weights
        self.reset_config(config)

    def reset_config(self, new_config: dict) -> bool:
        self.setting = Setting(**new_config["setting"], epochs=0)
        self.model = network(self.weights)
        self.optimizer = optimizer_of(self.setting, self.model)
        return True

    def step(self) -> dict[str, float]:
        train_epoch(self.model, self.optimizer, self.setting, self.data)
        return {"accuracy": accuracy(self.model, self.data)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        torch.save(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()},
            Path(checkpoint_dir) / "state.pt",
        )

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        state = torch.load(Path(checkpoint_dir) / "state.pt")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


KEYS = ("lr", "batch", "loss", "optimizer")


def sweep(task: Task, store: Path) -> list[float]:
    grid = list(dict.fromkeys(tuple(getattr(s, key) for key in KEYS) for s in task.settings))
    trainable = tune.with_resources(
        tune.with_parameters(Training, data=tensors(task.data, task.limit), weights=task.weights),
        {"cpu": 1},
    )
    if tune.Tuner.can_restore(str(store / "sweep")):
        tuner = tune.Tuner.restore(str(store / "sweep"), trainable)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={
                "setting": tune.grid_search([dict(zip(KEYS, v, strict=True)) for v in grid])
            },
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(store),
                stop={"training_iteration": max(s.epochs for s in task.settings)},
            ),
        )
    accuracies = {}
    for result in tuner.fit():
        setting = tuple(result.config["setting"][key] for key in KEYS)
        for _, row in result.metrics_dataframe.iterrows():
            accuracies[setting, int(row["training_iteration"])] = float(row["accuracy"])
    return [accuracies[tuple(getattr(s, key) for key in KEYS), s.epochs] for s in task.settings]


if __name__ == "__main__":
    task = parse_task()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A private cluster, removed at the end.
        ray.init("local", num_cpus=cores(), include_dashboard=False, _temp_dir=f"{folder}/ray")
        write_accuracies(task, sweep(task, (task.store or Path(folder)).resolve()))
        ray.shutdown()
