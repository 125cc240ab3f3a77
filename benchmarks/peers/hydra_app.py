"""A Hydra app over the resident loop, and what its multirun launchers are told."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from benchmarks.peers.common import Setting, Task, asked, write
from benchmarks.peers.resident_loop import tensors, train

DEFAULTS = {
    "setting": {"lr": 0.1, "batch": 64, "epochs": 1, "loss": "cross_entropy", "optimizer": "sgd"},
    "limit": 60_000,
    "data": "???",
    "weights": "???",
    "threads": None,
    "out": "???",
    "store": None,
}
ConfigStore.instance().store(name="config", node=DEFAULTS)


@hydra.main(version_base=None, config_name="config")
def app(config: DictConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    setting = Setting(**config.setting)
    data = tensors(Path(config.data), config.limit)
    reached = train(setting, data, Path(config.weights))
    name = "-".join(str(value) for value in config.setting.values())
    (Path(config.out) / f"{name}.json").write_text(json.dumps(reached))


def sweep(*launcher: str) -> None:
    """Run the app over the settings asked for, as `-m key=a,b key=c,d` does."""
    task = asked()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["-m", *launcher, *overrides(task), f"out={folder}"]
        sys.argv.append(f"hydra.sweep.dir={folder}/jobs")
        app()
        write(task, [json.loads((Path(folder) / name).read_text()) for name in names(task)])


def names(task: Task) -> list[str]:
    return [f"{s.lr}-{s.batch}-{s.epochs}-{s.loss}-{s.optimizer}.json" for s in task.settings]


def overrides(task: Task) -> list[str]:
    """The grid as Hydra takes it; settings that are no full grid go in groups of whole settings."""
    axes = {
        key: list(dict.fromkeys(getattr(s, key) for s in task.settings))
        for key in ("lr", "batch", "epochs", "loss", "optimizer")
    }
    count = 1
    for values in axes.values():
        count *= len(values)
    if count == len(task.settings):
        words = [f"setting.{k}={','.join(map(str, values))}" for k, values in axes.items()]
    else:  # learning rates that go with their optimizers
        wholes = [
            f"{{lr:{s.lr},batch:{s.batch},epochs:{s.epochs},loss:{s.loss},optimizer:{s.optimizer}}}"
            for s in task.settings
        ]
        words = [f"setting={','.join(wholes)}"]
    return [*words, f"limit={task.limit}", f"data={task.data}", f"weights={task.weights}"]
