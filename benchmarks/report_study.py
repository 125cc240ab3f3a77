"""Time the study of the report: python -m benchmarks.report_study SWEEP [--out FILE.json].

SWEEP is the folder of a sweep with `-m +study=report`. For each seed, the time from its launch to
its last snapshot is read from the store. It is compared with the loop of the report, which trains
every row of its tables separately: one epoch of each recipe and batch size is measured here, with
as many threads as there are cores, and multiplied by the number of epochs of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import datetime
from pathlib import Path

from benchmarks import machines
from benchmarks.engines import alternate, cell_of, report_loop_timer
from lenet_sweep.config.studies import StudyRow
from lenet_sweep.results.manifest import Manifest, read_manifest

IMAGES = 60_000


def seeds(manifest: Manifest) -> list[dict]:
    """Wall seconds, worker seconds and number of runs for each seed."""
    rows = []
    for seed in sorted({cell.seed for cell in manifest.cells}):
        cells = [cell for cell in manifest.cells if cell.seed == seed]
        runs = {cell.run_id: manifest.store.run_folder(cell.run_id) for cell in cells}
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
        rows.append(
            {
                "seed": seed,
                "cells": len(cells),
                "runs": len(runs),
                "wall_seconds": max(path.stat().st_mtime for path in snapshots) - began,
                "worker_seconds": sum(longest.values()),
            }
        )
    return rows


def report_loop(rows: list[StudyRow], count: int, repeats: int) -> dict:
    """Seconds per epoch of the loop of the report, and the estimated seconds for all rows."""
    threads = os.cpu_count() or 1
    per_epoch = {}
    for loss, name, batch in sorted(
        {(r.cell.loss.name, r.cell.optimizer.name, r.cell.batch) for r in rows}
    ):
        recipe = "ce_sgd" if loss == "cross_entropy" else "nll_adam"
        timer = report_loop_timer(cell_of(recipe, batch, "torch"), count, threads)
        seconds = alternate({"loop": timer}, repeats)["loop"] * IMAGES / count
        per_epoch[f"{loss} {name} {batch}"] = seconds
        print(f"{recipe} batch {batch}: {seconds:.2f} s per epoch", flush=True)
    row_seconds = [
        per_epoch[f"{r.cell.loss.name} {r.cell.optimizer.name} {r.cell.batch}"] * r.cell.epochs
        for r in rows
    ]
    return {
        "threads": threads,
        "epochs": sum(row.cell.epochs for row in rows),
        "seconds_per_epoch": per_epoch,
        "seconds": sum(row_seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder of the sweep")
    parser.add_argument(
        "--count", type=int, default=12_800, help="images per repeat (default: 12800)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.sweep)
    (study,) = manifest.studies
    per_seed = seeds(manifest)
    loop = report_loop(list(study.rows), arguments.count, arguments.repeats)
    first = per_seed[0]["wall_seconds"]
    summary = {
        "minutes": round(first / 60, 1),
        "report_loop_hours": round(loop["seconds"] / 3600, 1),
        "times": round(loop["seconds"] / first, 1),
    }
    print(summary)
    result = {
        "first_seed": summary,
        "environment": machines.here(),
        "here": per_seed,
        "report_loop": loop,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
