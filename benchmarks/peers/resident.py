"""The loop of the report with all images in memory, default number of torch threads."""

from __future__ import annotations

from benchmarks.peers.common import parse_task, write_accuracies
from benchmarks.peers.resident_loop import tensors, train

if __name__ == "__main__":
    task = parse_task()
    data = tensors(task.data, task.limit)
    write_accuracies(task, [train(setting, data, task.weights) for setting in task.settings])
