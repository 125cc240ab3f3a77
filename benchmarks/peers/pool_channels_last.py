"""A process pool: one single-threaded worker per core, images and weights in channels_last."""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.peers.common import Setting, Task, cores, parse_task, write_accuracies
from benchmarks.peers.network import network
from benchmarks.peers.resident_loop import tensors, train


def job(task: Task, setting: Setting) -> float:
    model = network(task.weights).to(memory_format=torch.channels_last)
    data = tensors(task.data, task.limit, torch.channels_last)
    return train(setting, data, task.weights, model)


if __name__ == "__main__":
    task = parse_task()
    torch.set_num_threads(1)
    tensors(task.data, task.limit, torch.channels_last)  # loaded here, so that workers share it
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(cores(), fork, torch.set_num_threads, (1,)) as pool:
        write_accuracies(task, list(pool.map(functools.partial(job, task), task.settings)))
