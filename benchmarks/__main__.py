"""lenet-sweep and what a user would pick instead, side by side: `python -m benchmarks`.

Writes peers.json (every repeat), peers.md and peers.png/.svg after every measurement, so that
--resume goes on where a run was cut. docs/performance.md says how it is measured.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import drawing, machines, records, tables
from benchmarks.contenders import CONTENDERS
from benchmarks.jobs import FULL, QUICK, limited
from benchmarks.measuring import ROOT, Bench, run, schedule, versions
from benchmarks.records import Results
from lenet_sweep.machine import provenance
from lenet_sweep.storage import atomic

RESULTS = Path(__file__).resolve().parent / "results"
DOCUMENT = ROOT / "docs" / "performance.md"


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    folder = asked.out or (None if asked.quick or asked.limit else RESULTS)
    if asked.redraw:
        path = (folder or RESULTS) / "peers.json"
        if not path.exists():
            raise SystemExit(f"error: there is no {path}: nothing was measured there")
        redraw(records.read(path), path.parent)
        return 0
    if sys.platform != "linux":
        print("error: measuring reads /proc, which Linux has", file=sys.stderr)
        return 2
    known = {job.name: job for job in (QUICK if asked.quick else FULL)}
    jobs = [limited(job, asked.limit) for job in _named(asked.only, known, "--only")]
    # What is ours is always measured beside the peers.
    peers = _named(asked.peers, {c.name: c for c in CONTENDERS if c.module}, "--peers")
    contenders = [c for c in CONTENDERS if c.module is None or c in peers]
    results = _begun(folder, asked)
    bench = Bench(caches=not asked.quick)
    steps = schedule(jobs, contenders, results.repeats, cold=not asked.quick)
    taking = {step.contender.name for step in steps if step.contender.everything}
    known_packages = results.packages | versions(bench, [c for c in contenders if c.name in taking])
    results = replace(results, packages=known_packages)

    def save(results: Results) -> None:
        if folder:
            records.write(folder / "peers.json", results)

    results = run(results, steps, bench.measure, save, asked.budget * 60)
    print("\n" + tables.page(results))
    if folder:
        redraw(results, folder)
    return 0


def redraw(results: Results, folder: Path) -> None:
    """Make the tables and the figure of the raw numbers, and what the documentation has of them.

    That is all of `RESULTS`, and a summary of each folder in it: another machine's.
    """
    made = tables.page(results)
    atomic.replace_file(folder / "peers.md", f"# lenet-sweep and its peers\n\n{made}\n".encode())
    drawing.draw(results, folder)
    place = folder.resolve()
    if RESULTS not in (place, place.parent):
        return
    name = "peers" if place == RESULTS else f"peers {place.name}"
    told = made if place == RESULTS else tables.summary(results)
    try:
        text = tables.inserted(DOCUMENT.read_text(), told, name)
    except ValueError as error:
        raise SystemExit(f"error: {folder} is written, {DOCUMENT.name} is not: {error}") from None
    atomic.replace_file(DOCUMENT, text.encode())


def _begun(folder: Path | None, asked: argparse.Namespace) -> Results:
    """What was measured before, with --resume; else nothing yet."""
    environment = machines.here()
    del environment["versions"]  # each contender's are listed
    commit = provenance.git_revision() or "unknown"
    repeats = asked.repeats or (1 if asked.quick else 5)
    path = folder / "peers.json" if folder else None
    there = path is not None and path.exists()
    if there and not asked.resume and (asked.only or asked.peers):
        raise SystemExit(
            f"error: {path} would be left with these jobs and peers alone: --resume adds to it, "
            "--out FOLDER writes elsewhere"
        )
    if path is None or not (there and asked.resume):
        return Results(asked.quick, asked.limit, environment, [commit], repeats, asked.long, {}, [])
    before = records.read(path)
    if (before.quick, before.limit) != (asked.quick, asked.limit):
        raise SystemExit(f"error: {path} was made with another --quick or --limit: use --out")
    if not machines.alike(before.environment, environment):
        where = machines.name(before.environment)
        raise SystemExit(f"error: {path} was made on {where}, another machine: use --out")
    return records.resumed(before, commit, repeats, asked.long)


def _named(words: str | None, known: dict, option: str) -> list:
    """What a comma list names; all of it without one."""
    if not words:
        return list(known.values())
    unknown = [word for word in words.split(",") if word not in known]
    if unknown:
        raise SystemExit(f"error: {option} {unknown[0]}: must be of {', '.join(known)}")
    return [known[word] for word in words.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few jobs in under 3 minutes")
    parser.add_argument("--only", help="jobs, with commas between them")
    parser.add_argument("--peers", help="peers, with commas between them")
    parser.add_argument("--repeats", type=int, help="warm repeats (5; quick 1)")
    parser.add_argument("--limit", type=int, help="a trial: at most so many training images")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--resume", action="store_true", help="keep what was measured, and go on")
    parser.add_argument("--redraw", action="store_true", help="table and figure of peers.json")
    parser.add_argument(
        "--long", type=float, default=150.0,
        help="seconds of a first warm repeat above which there is no second (150)",
    )  # fmt: skip
    parser.add_argument("--budget", type=float, default=float("inf"), help="minutes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
