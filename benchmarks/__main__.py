"""Measure lenet-sweep and its peers side by side: python -m benchmarks.

After every measurement, all repeats are written to peers.json in the results folder; at the end, or
with --redraw, peers.md and peers.png/.svg are generated from it. docs/performance.md describes
the method.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import drawing, machines, performance_page, records, tables
from benchmarks.contenders import CONTENDERS
from benchmarks.jobs import FULL, QUICK, with_limit
from benchmarks.measuring import ROOT, Bench, run, schedule, versions
from benchmarks.records import Results
from lenet_sweep.machine import provenance
from lenet_sweep.storage import atomic

RESULTS = Path(__file__).resolve().parent / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
LINK = "../benchmarks/results"  # from DOCUMENT to RESULTS


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    folder = options.out or (None if options.quick or options.limit else RESULTS)
    if options.redraw:
        path = (folder or RESULTS) / "peers.json"
        if not path.exists():
            raise SystemExit(f"error: {path} does not exist: there is nothing to redraw")
        redraw(records.read(path), path.parent)
        return 0
    if sys.platform != "linux":
        print("error: measuring reads /proc, which only Linux has", file=sys.stderr)
        return 2
    known_jobs = {job.name: job for job in (QUICK if options.quick else FULL)}
    jobs = [with_limit(job, options.limit) for job in _select(options.only, known_jobs, "--only")]
    # lenet-sweep itself is always measured, whichever peers are selected.
    peers = _select(options.peers, {c.name: c for c in CONTENDERS if c.module}, "--peers")
    contenders = [c for c in CONTENDERS if c.module is None or c in peers]
    results = _initial_results(folder, options)
    bench = Bench(caches=not options.quick)
    steps = schedule(jobs, contenders, results.repeats, cold=not options.quick)
    needed = {step.contender.name for step in steps if step.contender.all_jobs}
    packages = versions(bench, [c for c in contenders if c.name in needed])
    results = replace(results, packages=results.packages | packages)

    def save(results: Results) -> None:
        if folder:
            records.write(folder / "peers.json", results)

    results = run(results, steps, bench.measure, save, options.budget * 60)
    print("\n" + tables.page(results))
    if folder:
        redraw(results, folder)
    return 0


def redraw(results: Results, folder: Path) -> None:
    """Generate the tables and the figure of a folder, and the tables of the documentation."""
    drawing.draw(results, folder)
    atomic.replace_file(folder / "peers.md", tables_file(results).encode())
    place = folder.resolve()
    if RESULTS not in (place, place.parent):
        return
    name = place.relative_to(RESULTS).as_posix()
    text = DOCUMENT.read_text()
    try:
        text = performance_page.update(text, RESULTS, LINK, required=name)
    except ValueError as error:
        raise SystemExit(
            f"error: {folder} is up to date, but {DOCUMENT.name} is not: {error}"
        ) from None
    atomic.replace_file(DOCUMENT, text.encode())


def tables_file(results: Results) -> str:
    """The content of peers.md."""
    source = "Generated from `peers.json` by `python -m benchmarks --redraw`."
    return f"# lenet-sweep and its peers\n\n{source}\n\n{tables.page(results)}\n"


def _initial_results(folder: Path | None, options: argparse.Namespace) -> Results:
    """The earlier results with --resume, otherwise empty ones."""
    environment = machines.here()
    del environment["versions"]  # the versions of each contender are listed separately
    commit = provenance.git_revision() or "unknown"
    repeats = options.repeats or (1 if options.quick else 5)
    path = folder / "peers.json" if folder else None
    exists = path is not None and path.exists()
    if exists and not options.resume and (options.only or options.peers):
        raise SystemExit(
            f"error: {path} exists, and --only or --peers would replace it with fewer results: "
            "add to it with --resume, or write elsewhere with --out FOLDER"
        )
    if path is None or not (exists and options.resume):
        return Results(
            options.quick, options.limit, environment, [commit], repeats, options.long, {}, []
        )
    before = records.read(path)
    if (before.quick, before.limit) != (options.quick, options.limit):
        raise SystemExit(
            f"error: {path} was measured with different --quick or --limit: use --out FOLDER"
        )
    if not machines.comparable(before.environment, environment):
        machine = machines.name(before.environment)
        raise SystemExit(
            f"error: {path} was measured on another machine, {machine}: use --out FOLDER"
        )
    return records.resume(before, commit, repeats, options.long)


def _select(names: str | None, known: dict, option: str) -> list:
    """The values with the given comma-separated names; all values if no names are given."""
    if not names:
        return list(known.values())
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise SystemExit(f"error: {option} {unknown[0]}: must be one of {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run a few jobs in under 3 minutes")
    parser.add_argument("--only", metavar="JOBS", help="comma-separated jobs (default: all)")
    parser.add_argument("--peers", help="comma-separated peers (default: all)")
    parser.add_argument(
        "--repeats", type=int, help="number of warm repeats (default: 5; 1 with --quick)"
    )
    parser.add_argument("--limit", type=int, help="trial run with at most LIMIT training images")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="results folder (default: benchmarks/results)"
    )
    parser.add_argument("--resume", action="store_true", help="add to the results in the folder")
    parser.add_argument(
        "--redraw", action="store_true",
        help="measure nothing; generate tables and figure from peers.json",
    )  # fmt: skip
    parser.add_argument(
        "--long", type=float, default=150.0, metavar="SECONDS",
        help="measure a job only once if its first warm repeat takes longer (default: 150)",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=float, default=float("inf"), metavar="MINUTES",
        help="stop when this time is spent (default: no limit)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
