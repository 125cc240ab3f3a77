"""Hydra's basic launcher: jobs one after the other, torch's own choice of threads."""

from __future__ import annotations

from benchmarks.peers.hydra_app import sweep

if __name__ == "__main__":
    sweep()
