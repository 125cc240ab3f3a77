"""The basic launcher of Hydra: one job at a time, default number of torch threads."""

from __future__ import annotations

from benchmarks.peers.hydra_app import sweep

if __name__ == "__main__":
    sweep()
