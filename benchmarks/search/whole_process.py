"""Time the grid of the report with and without a search: python -m benchmarks.search.whole_process.

Trains 40 settings with 10,000 held-out images, each search in a store of its own, and times the
whole process. Prints a table, and writes search-time.json to the results folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machines
from benchmarks.measuring import ROOT
from benchmarks.search.__main__ import RESULTS
from benchmarks.search.page import table
from lenet_sweep import load_results
from lenet_sweep.machine import provenance

SEARCHES = ("grid", "halving", "halving_fast")
GRID = ("recipe=ce_sgd,nll_adam", "grid/lr=report", "grid/batch=report", "holdout=10000")
BEST = ("loss", "optimizer", "lr", "batch")


def measure(search: str, epochs: int, folder: Path) -> dict[str, Any]:
    """The time and the epochs of a search, and the setting that it finds best."""
    command = [sys.executable, "-m", "lenet_sweep", "-m", *GRID, f"epochs={epochs}"]
    begin = time.perf_counter()
    subprocess.run(
        [*command, f"search={search}", f"out={folder}", "name=it"],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    found = load_results(folder / "sweeps" / "it")
    best = found.iloc[0]
    trained = found["epochs_trained"] if "epochs_trained" in found else found["epochs"]
    return {
        "search": search,
        "minutes": seconds / 60,
        "epochs": int(trained.sum()),
        "finished": int((found["status"] == "ok").sum()),
        "best": " ".join(str(best[key]) for key in BEST),
        "holdout_accuracy": float(best["holdout_accuracy"]),
        "accuracy": float(best["accuracy"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for search in SEARCHES:
            rows.append(measure(search, options.epochs, Path(folder, search)))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "epochs": options.epochs, "rows": rows, "environment": machines.here(),
        "commit": provenance.git_revision() or "unknown",
    }  # fmt: skip
    (options.out / "search-time.json").write_text(json.dumps(result, indent=1) + "\n")
    cells = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    print(table(rows[0], cells))


if __name__ == "__main__":
    main()
