"""A process pool: a worker of one thread for each core, images and weights in channels_last."""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.peers.common import Setting, Task, asked, cores, write
from benchmarks.peers.network import network
from benchmarks.peers.resident_loop import tensors, train


def job(task: Task, setting: Setting) -> float:
    model = network(task.weights).to(memory_format=torch.channels_last)
    data = tensors(task.data, task.limit, torch.channels_last)
    return train(setting, data, task.weights, model)


if __name__ == "__main__":
    asked_for = asked()
    torch.set_num_threads(1)
    tensors(asked_for.data, asked_for.limit, torch.channels_last)  # the workers inherit the pages
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(cores(), fork, torch.set_num_threads, (1,)) as pool:
        write(asked_for, list(pool.map(functools.partial(job, asked_for), asked_for.settings)))
