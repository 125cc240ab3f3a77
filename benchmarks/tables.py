"""The numbers for reading: Markdown, made of the records alone."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from benchmarks import accuracy, machines, records, targets
from benchmarks.contenders import BY_NAME, CONTENDERS, Contender
from benchmarks.jobs import ABLATION, FULL, QUICK, Job
from benchmarks.records import Record, Results


def page(results: Results) -> str:
    """All tables, with a heading each."""
    found = results.records
    parts = [
        _heading(results),
        ("Targets", _targets(results)),
        ("Seconds, warm", _seconds(results)),
        ("Cold against warm", _cold(results)),
        ("Times as long as lenet-sweep, warm", _ratios(results)),
        ("Memory, processor time and accuracy", _resources(results)),
        ("What each part brings (ablation)", _ablation(found)),
        ("Workers", _workers(found)),
        ("Cost over cells", _cells(found)),
        ("What did not run", _failed(found)),
        ("Versions", _versions(results)),
    ]
    return "\n\n".join(
        part if isinstance(part, str) else f"### {part[0]}\n\n{part[1]}"
        for part in parts
        if part[1]
    )


def summary(results: Results) -> str:
    """What another machine came to: its targets and its seconds."""
    return "\n\n".join(filter(None, (_heading(results), _targets(results), _seconds(results))))


def inserted(text: str, made: str, name: str = "peers") -> str:
    """A document with what is made between the two markers of this name."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"there is no {opening} with a {closing} after it")
    return f"{before}{opening}\n\n{made}\n\n{closing}{after}"


def table(head: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table; its first `left` columns are aligned to the left."""
    rows = list(rows)
    if not rows:
        return ""
    rules = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rules, *rows])


def _heading(results: Results) -> str:
    machine = results.environment
    most = max([1, *(record.repeat for record in results.records)])
    # A "+" says that something was changed and not committed: tests and texts too.
    commits = ", ".join(c[:10] + "+" * c.endswith("+") for c in results.commits)
    return (
        f"{machines.name(machine)}, {machine['system']}, Python {machine['python']}; "
        f"{machine['time'][:10]}, commit {commits}. Seconds are wall time of the whole process: "
        f"the median of the warm repeats (least-most, n repeats), at most {most}, "
        f"fewer where the first took more than {results.long:g} s or the time was up."
        + (f" **A trial: at most {results.limit:,} training images.**" if results.limit else "")
    )


def jobs_of(results: Results) -> list[Job]:
    return list(QUICK if results.quick else FULL)


def _sweepers(results: Results) -> list[Contender]:
    there = {r.contender for r in results.records}
    return [c for c in CONTENDERS if c.everything and c.name in there]


def _jobs_for_all(results: Results) -> list[Job]:
    """The jobs on real images that lenet-sweep does as it is typed, and that have been begun."""
    begun = {r.job for r in results.records}
    return [
        job
        for job in jobs_of(results)
        if job.name in begun and not job.made and (job.only is None or "ours" in job.only)
    ]


def _seconds(results: Results) -> str:
    jobs = _jobs_for_all(results)

    def entry(contender: Contender, job: Job) -> str:
        taken = records.seconds(results.records, job.name, contender.name)
        if taken:
            return str(taken)
        if job.again and not contender.keeps:
            return "trains again"
        failed = any(
            r.failed and (r.job, r.contender) == (job.name, contender.name) for r in results.records
        )
        return "failed" if failed else "-"

    rows = [[c.what, *(entry(c, job) for job in jobs)] for c in _sweepers(results) if jobs]
    legend = "; ".join(f"{job.name}: {job.what}" for job in jobs)
    made = table(["", *(job.name for job in jobs)], rows)
    return f"{made}\n\n{legend}." if made else ""


def _cold(results: Results) -> str:
    jobs = [job for job in jobs_of(results) if job.cold]
    rows = []
    for job in jobs:
        for contender in CONTENDERS:
            first = records.cold(results.records, job.name, contender.name)
            taken = records.seconds(results.records, job.name, contender.name)
            if first and taken:
                begins = f"{first.begins:.2f}" if first.begins else "-"
                row = [job.name, contender.what, records.shown(first.seconds), str(taken), begins]
                rows.append(row)
    return table(["job", "", "cold", "warm", "first run begins, cold"], rows, left=2)


def _ratios(results: Results) -> str:
    jobs = [job for job in _jobs_for_all(results) if not job.again]
    rows = []
    for contender in _sweepers(results):
        found = [targets.ratio(results.records, j.name, contender.name, "ours") for j in jobs]
        if any(found):
            rows.append(
                [contender.what, *(f"{each.median:.2f}" if each else "-" for each in found)]
            )
    return table(["", *(job.name for job in jobs)], rows)


def _resources(results: Results) -> str:
    """Of the largest job that a contender has done; the accuracy over all of its jobs."""
    found = results.records
    jobs = [job for job in _jobs_for_all(results) if job.name.startswith("card-")]
    rows = []
    for contender in _sweepers(results):
        for job in reversed(jobs):
            taken = records.warm(found, job.name, contender.name)
            if taken:
                peak = records.spread(r.peak_mb for r in taken)
                cpu = records.spread(r.cpu_seconds for r in taken)
                assert peak
                assert cpu
                told = f"{peak.median:.0f}", records.shown(cpu.median)
                rows.append([contender.what, job.name, *told, _agreement(results, contender)])
                break
    made = table(["", "job", "peak MB (PSS)", "CPU s", "accuracy against ours"], rows, left=2)
    return made and (
        f"{made}\n\nAccuracy: the row of all jobs that differs most from ours, in points and in "
        f"standard errors of two accuracies on {accuracy.TEST_IMAGES:,} images; up to "
        f"{accuracy.ALLOWED:g} is agreement."
        + (
            " After so few steps rounding alone can move a row by ten points."
            if results.small
            else ""
        )
    )


def _agreement(results: Results, contender: Contender) -> str:
    if contender.module is None:
        return "" if contender.name == "ours" else "the same"
    worst: accuracy.Agreement | None = None
    rows = apart = 0
    for job in _jobs_for_all(results):
        ours = _reached(results.records, job, "ours")
        got = accuracy.agreement(_reached(results.records, job, contender.name), ours)
        if got:
            rows, apart = rows + got.rows, apart + got.apart
            worst = got if worst is None or got.errors > worst.errors else worst
    if worst is None:
        return "-"
    told = f"{worst.difference:+.2f} points ({worst.errors:.1f} SE) at {worst.setting}"
    return f"agrees, {rows} rows: {told}" if not apart else f"**{apart} of {rows} apart**: {told}"


def _reached(found: list[Record], job: Job, contender: str) -> dict[str, float]:
    warm = records.warm(found, job.name, contender)
    return warm[0].accuracies if warm else {}


def _ablation(found: list[Record]) -> str:
    rows = []
    first = records.seconds(found, "ablation", ABLATION[0])
    for name in ABLATION:
        taken = records.seconds(found, "ablation", name)
        if taken:
            times = f"{first.median / taken.median:.1f} x" if first else "-"
            rows.append([BY_NAME[name].what, str(taken), times])
    return table(["`lr=1e-1,1e-2`, `epochs=5` and `epochs=10`", "seconds", "gained"], rows)


def _workers(found: list[Record]) -> str:
    rows = []
    for job in (j for j in (*QUICK, *FULL) if j.name.startswith("workers-")):
        taken = [records.seconds(found, job.name, n) for n in ("one_worker", "two_workers")]
        gained = targets.ratio(found, job.name, "one_worker", "two_workers")
        if gained:
            runs = prod(len(values.split(",")) for values in (job.lr, job.batch))
            name = f"{runs} runs of {job.epochs} epochs"
            rows.append([name, *map(str, taken), f"{gained.median:.3f} x"])
    return table(["one sweep", "`workers=1`", "`workers=2`", "gained"], rows)


def _cells(found: list[Record]) -> str:
    rows = []
    for job in FULL:
        taken = records.seconds(found, job.name, "ours") if job.name[:6] == "cells-" else None
        if taken and job.made:
            rows.append([str(job.made), str(taken)])
    line = targets.cell_line(found)
    made = table(["cells", "seconds"], rows, left=0)
    if line:
        made += (
            f"\n\nThe line from 100 cells on: {line.seconds_at_none:.1f} s and "
            f"{line.ms_per_cell:.1f} ms a cell, training included; R2 = {line.r2:.4f}."
        )
    if drawn := targets.ms_with_figure(found):
        made += (
            f" Up to {targets.FIGURES} cells each one's costs are drawn too: {drawn:.0f} ms a cell."
        )
    return made


def _targets(results: Results) -> str:
    found = targets.verdicts(results.records)
    if results.small and not any(v.measured for v in found):
        return ""
    rows = [[v.target, v.measured or "-", v.word] for v in found if v.measured or not results.small]
    made = table(["target", "measured", "reached"], rows, left=3)
    if results.small:  # so that no one takes it for a verdict
        made += "\n\nThe targets are meant for the full jobs: these were smaller."
    return made


def _failed(found: list[Record]) -> str:
    reasons = records.failures(found)
    return "\n".join(f"- {BY_NAME[name].what}: {reason}" for name, reason in reasons.items())


def _versions(results: Results) -> str:
    lines: dict[str, list[str]] = {}
    for name, has in results.packages.items():
        told = ", ".join(f"{package} {version}" for package, version in has.items())
        lines.setdefault(told, []).append(name)
    return "\n".join(f"- {', '.join(names)}: {told}" for told, names in lines.items())
