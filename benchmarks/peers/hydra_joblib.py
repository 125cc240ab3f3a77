"""The joblib launcher of Hydra: one single-threaded process per core."""

from __future__ import annotations

from benchmarks.peers.common import cores
from benchmarks.peers.hydra_app import sweep

if __name__ == "__main__":
    sweep("hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores()}", "threads=1")
