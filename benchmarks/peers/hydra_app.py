"""A Hydra app around the in-memory training loop, and the overrides of its multirun."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from benchmarks.peers.common import Setting, Task, parse_task, write_accuracies
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
    accuracy = train(setting, data, Path(config.weights))
    name = "-".join(str(value) for value in config.setting.values())
    (Path(config.out) / f"{name}.json").write_text(json.dumps(accuracy))


def sweep(*launcher: str) -> None:
    """Run the app over all settings, as `-m key=a,b key=c,d` does."""
    task = parse_task()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["-m", *launcher, *overrides(task), f"out={folder}"]
        sys.argv.append(f"hydra.sweep.dir={folder}/jobs")
        app()
        write_accuracies(
            task, [json.loads((Path(folder) / name).read_text()) for name in names(task)]
        )


def names(task: Task) -> list[str]:
    return [f"{s.lr}-{s.batch}-{s.epochs}-{s.loss}-{s.optimizer}.json" for s in task.settings]


def overrides(task: Task) -> list[str]:
    """The grid as Hydra overrides; a partial grid becomes a list of whole settings."""
    axes = {
        key: list(dict.fromkeys(getattr(s, key) for s in task.settings))
        for key in ("lr", "batch", "epochs", "loss", "optimizer")
    }
    count = 1
    for values in axes.values():
        count *= len(values)
    if count == len(task.settings):
        words = [f"setting.{k}={','.join(map(str, values))}" for k, values in axes.items()]
    else:  # each optimizer has its own learning rate
        whole_settings = [
            f"{{lr:{s.lr},batch:{s.batch},epochs:{s.epochs},loss:{s.loss},optimizer:{s.optimizer}}}"
            for s in task.settings
        ]
        words = [f"setting={','.join(whole_settings)}"]
    return [*words, f"limit={task.limit}", f"data={task.data}", f"weights={task.weights}"]
