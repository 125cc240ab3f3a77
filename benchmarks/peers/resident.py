"""Resident tensors, one setting after the other, torch's own choice of threads."""

from __future__ import annotations

from benchmarks.peers.common import asked, write
from benchmarks.peers.resident_loop import tensors, train

if __name__ == "__main__":
    task = asked()
    data = tensors(task.data, task.limit)
    write(task, [train(setting, data, task.weights) for setting in task.settings])
