"""What the report's study takes: `python -m benchmarks.report_study SWEEP [--out FILE.json]`.

SWEEP: the folder that `-m +study=report` left. For each seed, the time from its launch to its last
read-out, out of the store. Against it the report's own loop, which trains each row of the tables by
itself: an epoch of each recipe and batch size is measured here, on as many threads as there are
cores, and multiplied by the epochs of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import datetime
from pathlib import Path

from benchmarks import machines
from benchmarks.engines import cell_of, in_turn, report_loop_timer
from lenet_sweep.config.studies import StudyRow
from lenet_sweep.results.manifest import Manifest, read_manifest

IMAGES = 60_000


def seeds(manifest: Manifest) -> list[dict]:
    """Wall seconds, worker seconds and runs of each seed."""
    found = []
    for seed in sorted({cell.seed for cell in manifest.cells}):
        cells = [cell for cell in manifest.cells if cell.seed == seed]
        runs = {cell.run_id: manifest.store.run(cell.run_id) for cell in cells}
        snapshots = [runs[cell.run_id].snapshot_path(cell.epochs) for cell in cells]
        began = min(
            datetime.fromisoformat(run.description()["environment"]["time"]).timestamp()
            for run in runs.values()
        )
        longest: dict[str, float] = {}
        for cell, path in zip(cells, snapshots, strict=True):
            history = runs[cell.run_id].read(path).history
            spent = sum(epoch.seconds + epoch.test_seconds for epoch in history)
            longest[cell.run_id] = max(spent, longest.get(cell.run_id, 0.0))
        found.append(
            {
                "seed": seed,
                "cells": len(cells),
                "runs": len(runs),
                "wall_seconds": max(path.stat().st_mtime for path in snapshots) - began,
                "worker_seconds": sum(longest.values()),
            }
        )
    return found


def report_loop(rows: list[StudyRow], count: int, turns: int) -> dict:
    """Seconds an epoch of the report's loop, and seconds of all rows' epochs at that rate."""
    threads = os.cpu_count() or 1
    per_epoch = {}
    for loss, name, batch in sorted(
        {(r.cell.loss, r.cell.optimizer.name, r.cell.batch) for r in rows}
    ):
        recipe = "ce_sgd" if loss == "cross_entropy" else "nll_adam"
        timer = report_loop_timer(cell_of(recipe, batch, "torch"), count, threads)
        taken = in_turn({"loop": timer}, turns)["loop"] * IMAGES / count
        per_epoch[f"{loss} {name} {batch}"] = taken
        print(f"{recipe} batch {batch}: {taken:.2f} s an epoch", flush=True)
    rates = [
        per_epoch[f"{r.cell.loss} {r.cell.optimizer.name} {r.cell.batch}"] * r.cell.epochs
        for r in rows
    ]
    return {
        "threads": threads,
        "epochs": sum(row.cell.epochs for row in rows),
        "seconds_per_epoch": per_epoch,
        "seconds": sum(rates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--count", type=int, default=12_800, help="images of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.sweep)
    (study,) = manifest.studies
    here = seeds(manifest)
    loop = report_loop(list(study.rows), arguments.count, arguments.turns)
    first = here[0]["wall_seconds"]
    told = {
        "minutes": round(first / 60, 1),
        "report_loop_hours": round(loop["seconds"] / 3600, 1),
        "times": round(loop["seconds"] / first, 1),
    }
    print(told)
    measured = {
        "first_seed": told,
        "environment": machines.here(),
        "here": here,
        "report_loop": loop,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
