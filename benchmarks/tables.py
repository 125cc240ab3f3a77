"""Markdown tables, generated from the raw numbers."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from benchmarks import accuracy, machines, records, targets
from benchmarks.contenders import BY_NAME, CONTENDERS, Contender
from benchmarks.jobs import ABLATION, FULL, QUICK, Job
from benchmarks.records import Record, Results

COMMIT_DIGITS = 10


def page(results: Results) -> str:
    """All tables of one results file, each under a heading."""
    found = results.records
    parts = [
        ("", _heading(results)),
        ("Targets", _targets(results)),
        ("Wall time, warm (s)", _times(results)),
        ("Wall time relative to lenet-sweep, warm", _ratios(results)),
        ("Wall time, cold and warm (s)", _cold(results)),
        ("Memory, CPU time and accuracy", _resources(results)),
        ("Ablation", _ablation(found)),
        ("One and two workers (s)", _workers(found)),
        ("Time per cell", _cells(found)),
        ("Failures", _failures(found)),
        ("Versions", _versions(results)),
    ]
    return "\n\n".join(f"## {title}\n\n{body}" if title else body for title, body in parts if body)


def summary(columns: dict[str, Results]) -> str:
    """A short table with one column for each results file, by column heading."""
    rows: dict[str, list[str]] = {}
    for results in columns.values():
        for name, entry in _summary_column(results).items():
            rows.setdefault(name, []).append(entry)
    lines = [[name, *entries] for name, entries in rows.items()]
    return table(["", *columns], lines, left=1 + len(columns))


def inserted(text: str, generated: str, name: str) -> str:
    """The text with `generated` between the two markers of this name."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"{opening} is missing, or {closing} after it")
    return f"{before}{opening}\n\n{generated}\n\n{closing}{after}"


def table(head: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are left-aligned."""
    rows = list(rows)
    if not rows:
        return ""
    rules = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rules, *rows])


def _summary_column(results: Results) -> dict[str, str]:
    found = results.records
    verdicts = [v for v in targets.verdicts(found) if v.reached is not None]
    missed = [f"{v.target}: {v.measured}" for v in verdicts if not v.reached]
    column = {
        "machine": machines.name(results.environment),
        "started": results.environment["time"][:10],
        "commit": _commit_range(results.commits),
        "targets reached": f"{len(verdicts) - len(missed)} of {len(verdicts)}",
        "targets missed": "<br>".join(missed) or "none",
    }
    for epochs in (1, 10):
        job = f"grid-{epochs}"
        peer = targets.fastest_peer(found, job)
        label = f", {epochs} epoch{'s' * (epochs > 1)} (s)"
        column[f"lenet-sweep{label}"] = str(records.seconds(found, job, "ours") or "-")
        column[f"report loop{label}"] = _compared(found, job, "report_loop")
        column[f"fastest peer{label}"] = (
            f"{_compared(found, job, peer[0])}<br>{BY_NAME[peer[0]].label}" if peer else "-"
        )
    return column


def _compared(found: list[Record], job: str, contender: str) -> str:
    """Seconds of a contender, and how many times as long as lenet-sweep it takes."""
    spread = records.seconds(found, job, contender)
    ratio = targets.ratio(found, job, contender, "ours")
    return f"{spread}, {ratio.median:.2f} x" if spread and ratio else "-"


def _commit_range(commits: list[str]) -> str:
    first, last = _short(commits[0]), _short(commits[-1])
    return first if len(commits) == 1 else f"{first} to {last} ({len(commits)} commits)"


def _short(commit: str) -> str:
    """An abbreviated hash; "+" marks uncommitted changes."""
    return commit[:COMMIT_DIGITS] + "+" * commit.endswith("+")


def _heading(results: Results) -> str:
    machine = results.environment
    repeats = max([1, *(record.repeat for record in results.records)])
    commits = ", ".join(map(_short, results.commits))
    trial = ""
    if results.limit:
        trial = f"\n\n**Trial run with at most {results.limit:,} training images.**"
    return (
        f"- Machine: {machines.name(machine)}, {machine['system']}, Python {machine['python']}\n"
        f"- Started: {machine['time'][:10]}\n"
        f"- Commit: {commits}\n\n"
        "Times are wall-clock seconds of the whole process: the median of the warm repeats, with "
        f"(minimum-maximum, n repeats). There are at most {repeats} repeats, and fewer where the "
        f"first took longer than {results.long:g} s or the time budget ran out.{trial}"
    )


def jobs_of(results: Results) -> list[Job]:
    return list(QUICK if results.quick else FULL)


def _main_contenders(results: Results) -> list[Contender]:
    measured = {r.contender for r in results.records}
    return [c for c in CONTENDERS if c.all_jobs and c.name in measured]


def _shared_jobs(results: Results) -> list[Job]:
    """The measured jobs on real images that lenet-sweep and its peers have in common."""
    measured = {r.job for r in results.records}
    return [
        job
        for job in jobs_of(results)
        if job.name in measured and not job.tiny_cells and (job.only is None or "ours" in job.only)
    ]


def _times(results: Results) -> str:
    jobs = _shared_jobs(results)

    def entry(contender: Contender, job: Job) -> str:
        spread = records.seconds(results.records, job.name, contender.name)
        if spread:
            return str(spread)
        if job.rerun and not contender.keeps_results:
            return "trains again"
        failed = any(
            r.failed and (r.job, r.contender) == (job.name, contender.name) for r in results.records
        )
        return "failed" if failed else "-"

    rows = [[c.label, *(entry(c, job) for job in jobs)] for c in _main_contenders(results) if jobs]
    text = table(["", *(job.name for job in jobs)], rows)
    return text and f"{text}\n\n" + "\n".join(f"- {job.name}: {job.description}" for job in jobs)


def _cold(results: Results) -> str:
    rows = []
    for job in (job for job in jobs_of(results) if job.cold):
        for contender in CONTENDERS:
            cold = records.cold(results.records, job.name, contender.name)
            warm = records.seconds(results.records, job.name, contender.name)
            if cold and warm:
                begins = f"{cold.begins:.2f}" if cold.begins else "-"
                seconds = records.format_seconds(cold.seconds)
                rows.append([job.name, contender.label, seconds, str(warm), begins])
    return table(["job", "", "cold", "warm", "first run starts, cold"], rows, left=2)


def _ratios(results: Results) -> str:
    jobs = [job for job in _shared_jobs(results) if not job.rerun]
    rows = []
    for contender in _main_contenders(results):
        ratios = [targets.ratio(results.records, j.name, contender.name, "ours") for j in jobs]
        if any(ratios):
            entries = [f"{ratio.median:.2f}" if ratio else "-" for ratio in ratios]
            rows.append([contender.label, *entries])
    return table(["", *(job.name for job in jobs)], rows)


def _resources(results: Results) -> str:
    """Memory and CPU time of each contender's longest grid job; accuracies of all its jobs."""
    found = results.records
    jobs = [job for job in _shared_jobs(results) if job.name.startswith("grid-")]
    rows = []
    for contender in _main_contenders(results):
        for job in reversed(jobs):
            warm = records.warm(found, job.name, contender.name)
            if warm:
                peak = records.spread(r.peak_mb for r in warm)
                cpu = records.spread(r.cpu_seconds for r in warm)
                assert peak
                assert cpu
                numbers = f"{peak.median:.0f}", records.format_seconds(cpu.median)
                rows.append([contender.label, job.name, *numbers, _agreement(results, contender)])
                break
    head = ["", "job", "peak memory (MB, PSS)", "CPU time (s)", "accuracy"]
    text = table(head, rows, left=2)
    return text and (
        f"{text}\n\nAccuracy: every row of every job is compared with lenet-sweep. The largest "
        "difference is given in percentage points and in standard errors (SE) of the difference "
        f"between two accuracies on {accuracy.TEST_IMAGES:,} images. Rows agree up to "
        f"{accuracy.ALLOWED:g} SE."
        + (
            " After so few steps, rounding alone can change an accuracy by ten points."
            if results.reduced
            else ""
        )
    )


def _agreement(results: Results, contender: Contender) -> str:
    if contender.module is None:
        return "" if contender.name == "ours" else "the same"
    worst: accuracy.Agreement | None = None
    rows = differing = 0
    for job in _shared_jobs(results):
        ours = _accuracies(results.records, job, "ours")
        compared = accuracy.agreement(_accuracies(results.records, job, contender.name), ours)
        if compared:
            rows, differing = rows + compared.rows, differing + compared.differing
            worst = compared if worst is None or compared.errors > worst.errors else worst
    if worst is None:
        return "-"
    largest = f"{worst.difference:+.2f} points ({worst.errors:.1f} SE) at {worst.setting}"
    if differing:
        return f"**{differing} of {rows} rows differ**: {largest}"
    return f"all {rows} rows agree: {largest}"


def _accuracies(found: list[Record], job: Job, contender: str) -> dict[str, float]:
    warm = records.warm(found, job.name, contender)
    return warm[0].accuracies if warm else {}


def _ablation(found: list[Record]) -> str:
    rows = []
    baseline = records.seconds(found, "ablation", ABLATION[0])
    for name in ABLATION:
        spread = records.seconds(found, "ablation", name)
        if spread:
            speedup = f"{baseline.median / spread.median:.1f} x" if baseline else "-"
            rows.append([BY_NAME[name].label, str(spread), speedup])
    return table(["`lr=1e-1,1e-2`, `epochs=5` and `epochs=10`", "seconds", "speedup"], rows)


def _workers(found: list[Record]) -> str:
    rows = []
    for job in (j for j in (*QUICK, *FULL) if j.name.startswith("workers-")):
        spreads = [records.seconds(found, job.name, n) for n in ("one_worker", "two_workers")]
        ratio = targets.ratio(found, job.name, "one_worker", "two_workers")
        if ratio:
            runs = prod(len(values.split(",")) for values in (job.lr, job.batch))
            name = f"{runs} runs of {job.epochs} epochs"
            rows.append([name, *map(str, spreads), f"{ratio.median:.3f} x"])
    return table(["", "`workers=1`", "`workers=2`", "speedup"], rows)


def _cells(found: list[Record]) -> str:
    rows = []
    for job in FULL:
        if job.name.startswith("cells-"):
            spread = records.seconds(found, job.name, "ours")
            rows += [[f"{job.tiny_cells:,}", str(spread)]] if spread else []
    text = table(["cells", "seconds"], rows, left=0)
    if line := targets.fit_cell_times(found):
        text += (
            f"\n\nStraight line from {targets.LINE_FROM} cells on: {line.intercept:.1f} s plus "
            f"{line.ms_per_cell:.1f} ms per cell, including training; R2 = {line.r2:.4f}."
        )
    if below := targets.ms_per_cell_below_line(found):
        fewest, ms = below
        text += f" From {fewest} to {targets.LINE_FROM} cells: {ms:.0f} ms per cell."
    return text


def _targets(results: Results) -> str:
    verdicts = targets.verdicts(results.records)
    if results.reduced:
        verdicts = [v for v in verdicts if v.measured]
    text = table(
        ["target", "measured", "reached"],
        [[v.target, v.measured or "-", v.word] for v in verdicts],
        left=3,
    )
    if text and results.reduced:
        text += "\n\nThe targets apply to the full jobs; these were smaller."
    return text


def _failures(found: list[Record]) -> str:
    reasons = records.failures(found)
    return "\n".join(f"- {BY_NAME[name].label}: {reason}" for name, reason in reasons.items())


def _versions(results: Results) -> str:
    lines: dict[str, list[str]] = {}
    for name, packages in results.packages.items():
        listed = ", ".join(f"{package} {version}" for package, version in packages.items())
        lines.setdefault(listed, []).append(BY_NAME[name].label)
    return "\n".join(f"- {'; '.join(labels)}: {listed}" for listed, labels in lines.items())
