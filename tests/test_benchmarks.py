"""The benchmarks report what was measured. Nothing is timed here."""

import ast
import importlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lenet_sweep.config.registry import GROUPS
from lenet_sweep.core.cells import ENGINE_VERSIONS
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    accuracy,
    bookkeeping,
    choices,
    contenders,
    drawing,
    engines,
    environments,
    executors,
    jobs,
    machines,
    measuring,
    performance_page,
    processes,
    records,
    tables,
    targets,
)
from benchmarks.__main__ import DOCUMENT, LINK, RESULTS, main, tables_file  # noqa: E402
from benchmarks.peers import common  # noqa: E402
from benchmarks.records import COLD, Record, Results  # noqa: E402

OURS, LOOP = contenders.BY_NAME["ours"], contenders.BY_NAME["report_loop"]
MACHINE = {
    "cores": 2, "processor": "a processor", "system": "Linux", "python": "3.11.7",
    "time": "2026-01-02T03:04:05+00:00", "instructions": "avx512",
}  # fmt: skip
CELL = "cross_entropy sgd lr=0.1 batch=32 epochs=10"


def results(*found: Record, quick: bool = False) -> Results:
    return Results(quick, None, MACHINE, ["0123456789abcdef"], 3, 150.0, {}, list(found))


def repeats(job: str, contender: str, *seconds: float, **fields) -> list[Record]:
    return [
        Record(job, contender, repeat, value, **fields) for repeat, value in enumerate(seconds, 1)
    ]


def grid_10(ours: float = 10, loop: float = 160, peer: float = 55) -> list[Record]:
    """Invented measurements of the 6-cell grid at 10 epochs."""
    return [
        *repeats("grid-10", "ours", ours, accuracies={CELL: 98.7}),
        *repeats("grid-10", "report_loop", loop, accuracies={CELL: 98.8}),
        *repeats("grid-10", "jax_scan", peer, accuracies={CELL: 98.6}),
    ]


def row(page: str, start: str) -> list[str]:
    """The cells of the first table row that starts with `start`."""
    (line, *_) = (line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_shows_the_median_and_the_range() -> None:
    """One slow repeat does not change the published time, but it shows in the range."""
    found = results(*repeats("grid-1", "ours", 4.0, 30.0, 5.0))
    assert row(tables.page(found), OURS.label)[1] == "5.00 (4.00-30.0, n=3)"


def test_cold_and_warm_times_are_separate() -> None:
    """The first use, which compiles, does not affect the median of the warm repeats."""
    cold = Record("grid-1", "ours", COLD, 50.0, begins=3.25)
    page = tables.page(results(cold, *repeats("grid-1", "ours", 4.0)))
    assert row(page, OURS.label)[1] == "4.00 (n=1)"
    assert row(page, "grid-1")[2:] == ["50.0", "4.00 (n=1)", "3.25"]


def verdicts(found: list[Record], *targets_: str) -> list[targets.Verdict]:
    """The verdicts on the targets that contain these texts."""
    every = targets.verdicts(found)
    return [next(v for v in every if text in v.target) for text in targets_]


def test_verdicts_follow_from_the_numbers() -> None:
    """A target is reached only if the numbers say so, and the fastest peer is named."""
    loop, peer = verdicts(grid_10(loop=260), "report loop, 6", "fastest peer")
    assert (loop.word, loop.measured) == ("yes", "26.00 x")
    assert (peer.word, peer.measured) == ("yes", "5.50 x against JAX (scan)")
    loop, peer = verdicts(grid_10(ours=12), "report loop, 6", "fastest peer")
    assert (loop.word, peer.word) == ("no", "no")
    assert {v.word for v in targets.verdicts([])} == {"not measured"}


def test_a_target_within_the_range_is_reported_as_such(tmp_path: Path) -> None:
    """The median reaches the target but the slowest repeat misses it: the verdict says both."""
    found = [
        *repeats("grid-10", "ours", 10.0, 10.0, 11.0),
        *repeats("grid-10", "report_loop", 255.0),
    ]
    (loop,) = verdicts(found, "report loop, 6")
    assert loop.word == "yes, but the target is within the range"
    assert loop.measured == "25.50 x (23.18-25.50)"


def test_lenet_sweep_is_not_its_own_peer() -> None:
    """The fastest peer is never a variant of lenet-sweep."""
    found = [*grid_10(), *repeats("grid-10", "ours_bare", 1.0)]
    assert targets.fastest_peer(found, "grid-10") == ("jax_scan", 55)
    assert targets.fastest_peer(repeats("grid-10", "report_loop", 255.0), "grid-10") is None


def test_linear_and_nonlinear_cell_times_are_distinguished() -> None:
    """The fit finds 20 ms per cell, and a curve is not reported as linear."""
    counts = (100, 200, 500, 1000)
    straight = [r for n in counts for r in repeats(f"cells-{n}", "ours", 3 + 0.02 * n)]
    line = targets.fit_cell_times(straight)
    assert line is not None
    assert line.ms_per_cell == pytest.approx(20)
    assert line.intercept == pytest.approx(3)
    few = repeats("cells-20", "ours", 1)  # not on the line
    assert targets.fit_cell_times([*few, *straight]) == line
    assert targets.ms_per_cell_below_line([*few, *straight]) == (20, pytest.approx(50))
    assert "From 20 to 100 cells: 50 ms per cell." in tables.page(results(*few, *straight))
    assert targets.ms_per_cell_below_line(straight) is None
    bent = [r for n in counts for r in repeats(f"cells-{n}", "ours", 3 + (n / 100) ** 3)]
    for measured, word in ((bent, "no"), (straight, "yes")):
        (verdict,) = verdicts(measured, "linearly")
        assert verdict.word == word


def test_cold_target_uses_the_cold_time() -> None:
    """A warm start in under 4 s does not hide a slow first one."""
    cold = Record("startup", "ours", COLD, 5.0)
    (verdict,) = verdicts([cold, *repeats("startup", "ours", 1.0)], "tiny cells")
    assert verdict.word == "no"


def test_training_is_compared_without_start_and_end() -> None:
    """Two workers that halve the training reach the target, however long the start takes."""
    one = Record("workers-10", "one_worker", 1, 50.0, begins=5.0, ends=45.0, commit="a")
    two = Record("workers-10", "two_workers", 1, 30.0, begins=5.0, ends=25.0, commit="a")
    (verdict,) = verdicts([one, two], "6 cells, 10 epochs: training")
    assert (verdict.word, verdict.measured) == ("yes", "2.00 x")
    six = Record("workers-10", "two_workers", 1, 9.0, begins=0.75, ends=8.0)
    (verdict,) = verdicts([six], "start and end of 6 cells")
    assert (verdict.word, verdict.measured) == ("no", "1.75 s")


def test_accuracies_are_compared_within_sampling_error() -> None:
    """Rounding is not flagged; a peer that trained something else is, with the row."""
    near = accuracy.agreement({CELL: 97.1}, {CELL: 97.4})
    assert near is not None
    assert near.agrees
    assert near.difference == pytest.approx(-0.3)
    page = tables.page(
        results(*grid_10(), *repeats("grid-10", "vmap", 60.0, accuracies={CELL: 90.0}))
    )
    page = page[page.index("## Memory") :]
    assert row(page, "torch.func")[-1].startswith("**1 of 1 rows differ**: -8.70 points")
    assert row(page, LOOP.label)[-1].startswith("all 1 rows agree: +0.10 points")
    assert "rounding alone" not in page


def test_quick_results_explain_differing_accuracies() -> None:
    """After 200 steps, rounding alone can change an accuracy; a note says so."""
    quick = [replace(record, job="grid-1") for record in grid_10()]
    assert "rounding alone" in tables.page(replace(results(*quick), quick=True))


def test_accuracies_of_100_percent_can_be_compared() -> None:
    """The standard error of a perfect score is not zero."""
    equal = accuracy.agreement({CELL: 100.0}, {CELL: 100.0})
    assert equal is not None
    assert equal.agrees


def test_cold_measurements_come_first_and_repeats_alternate() -> None:
    """A machine that slows down affects all contenders."""
    steps = measuring.schedule(jobs.FULL[1:3], [OURS, LOOP], 2, cold=True)
    order = [(s.repeat, s.job.name, s.contender.name) for s in steps]
    assert order[:2] == [(COLD, "grid-1", "ours"), (COLD, "grid-1", "report_loop")]
    assert [repeat for repeat, *_ in order] == [COLD] * 2 + [1] * 4 + [2] * 4
    assert order[2:6] == [
        (1, job, name) for job in ("grid-1", "grid-5") for name in ("ours", "report_loop")
    ]


def test_a_warm_measurement_finds_filled_caches(tmp_path: Path, monkeypatch) -> None:
    """This also holds with selected jobs, or when resuming without a cache.

    If there is no cache, the command first runs once to fill it.
    """
    monkeypatch.setenv("LENET_SWEEP_BENCHMARKS", str(tmp_path))
    monkeypatch.setattr(measuring, "_accuracies", lambda folder, contender: {})
    seconds = iter(range(1, 9))
    filled: list[bool] = []

    def run_watched(command, folder, variables, *more) -> processes.Usage:
        cache = Path(variables["PYTHONPYCACHEPREFIX"])
        filled.append(any(cache.iterdir()))
        (cache / "compiled").touch()
        return processes.Usage(next(seconds), 1.0, 1.0, None, None, 0, "")

    monkeypatch.setattr(measuring, "run_watched", run_watched)
    bench = measuring.Bench(caches=True)
    one, two = (contenders.BY_NAME[name] for name in ("one_worker", "two_workers"))
    steps = [measuring.Step(jobs.grid(10), contender, 1) for contender in (one, two)]
    steps.append(measuring.Step(jobs.grid(1), one, COLD))
    assert [bench.measure(step).seconds for step in steps] == [2, 3, 4]
    assert filled == [False, True, True, False]


def test_rerun_is_only_for_contenders_that_keep_results() -> None:
    """For the other contenders, the table says that they train again."""
    (rerun,) = (job for job in jobs.FULL if job.rerun)
    assert contenders.takes_part(OURS, rerun)
    assert not contenders.takes_part(LOOP, rerun)
    page = tables.page(
        results(*repeats("rerun", "ours", 1.0), *repeats("grid-1", "report_loop", 60.0))
    )
    assert row(page, LOOP.label)[-1] == "trains again"


def fake_measure(seconds: float, log: list[tuple]) -> measuring.Measure:
    def measure(step: measuring.Step) -> Record:
        log.append((step.job.name, step.contender.name, step.repeat))
        return Record(*log[-1], seconds)

    return measure


def test_an_interrupted_benchmark_can_be_resumed(tmp_path: Path) -> None:
    """Ctrl-C keeps what has been measured, and it is not measured again."""
    path = tmp_path / "peers.json"
    steps = measuring.schedule([jobs.grid(1)], [OURS, LOOP], 2, cold=False)
    log: list[tuple] = []

    def interrupted(step: measuring.Step) -> Record:
        if len(log) == 3:
            raise KeyboardInterrupt
        return fake_measure(1.0, log)(step)

    stopped = measuring.run(results(), steps, interrupted, lambda r: records.write(path, r))
    assert stopped == records.read(path)
    before = records.resume(records.read(path), "fedcba", 2, 150.0)
    assert len(before.records) == 3
    assert before.commits == ["0123456789abcdef", "fedcba"]
    again: list[tuple] = []
    done = measuring.run(before, steps, fake_measure(1.0, again), lambda r: None)
    assert again == [("grid-1", "report_loop", 2)]
    assert [r.key for r in done.records] == [*log, *again]


def test_every_record_has_its_commit() -> None:
    """In a file that grew over weeks, every number has the commit it was measured at."""
    steps = measuring.schedule([jobs.grid(1)], [OURS], 2, cold=False)
    first = measuring.run(results(), steps[:1], fake_measure(1.0, []), lambda r: None)
    other = records.resume(first, "fedcba", 2, 150.0)
    both = measuring.run(other, steps, fake_measure(1.0, []), lambda r: None).records
    assert [r.commit for r in both] == ["0123456789abcdef", "fedcba"]
    assert all(r.time > "2026" for r in both)
    fewer = records.resume(replace(other, records=both), "fedcba", 1, 150.0)
    assert "There are at most 2 repeats" in tables.page(fewer)
    assert records.resume(other, "0123456789abcdef", 2, 150.0).commits[-1] == "0123456789abcdef"


def test_ratios_compare_the_same_repeat_and_commit() -> None:
    """A machine that doubles its speed between two repeats does not change the ratio."""
    slow = [Record("grid-10", "report_loop", n, s, commit="a") for n, s in ((1, 320.0), (2, 150.0))]
    fast = [
        Record("grid-10", "ours", n, s, commit="a") for n, s in ((1, 20.0), (2, 10.0), (3, 1.0))
    ]
    assert targets.ratio([*slow, *fast], "grid-10", "report_loop", "ours") == records.Spread(
        15.5, 15.0, 16.0, 2
    )
    later = [replace(record, commit="b") for record in fast]
    ratio = targets.ratio([*slow, *later], "grid-10", "report_loop", "ours")
    assert ratio == records.Spread(23.5, 7.5, 320.0, 2)


def test_published_numbers_are_not_lost_or_mixed(tmp_path: Path) -> None:
    """A few jobs do not replace all results, and two machines do not share a file."""
    path = tmp_path / "peers.json"
    here = machines.here() | {"instructions": "avx9"}
    elsewhere = replace(results(*grid_10()), environment=here)
    records.write(path, elsewhere)
    before = path.read_bytes()
    for words, message in (
        (["--only", "startup"], "would replace it with fewer results: add to it with --resume"),
        (["--peers", "vmap"], "would replace it with fewer results: add to it with --resume"),
        (["--only", "startup", "--resume"], "(avx9): use --out FOLDER"),
    ):
        with pytest.raises(SystemExit, match=re.escape(message)):
            main([*words, "--out", str(tmp_path)])
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="there is nothing to redraw"):
        main(["--redraw", "--out", str(tmp_path / "none")])


def test_a_new_machine_needs_a_marker_in_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and figure are written, and an error names the missing marker."""
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    folder = tmp_path / "a-new-machine"
    records.write(folder / "peers.json", results(*grid_10()))
    with pytest.raises(
        SystemExit, match="no marker <!-- peers ... --> names the folder a-new-machine"
    ):
        main(["--redraw", "--out", str(folder)])
    assert {path.name for path in folder.iterdir()} >= {"peers.md", "peers.png", "peers.svg"}


def test_processors_with_the_same_name_are_distinguished() -> None:
    """Virtual machines report "AMD EPYC" for any generation, one of them twice as fast."""
    here = machines.here()
    assert machines.comparable(here, dict(here))
    if (sys.platform, here["machine"]) == ("linux", "x86_64"):
        assert re.search(r", family \d+ model \d+$", here["processor"])
    for key in ("processor", "instructions"):
        assert not machines.comparable(here, here | {key: f"{here[key]}, another"})


def test_resuming_tries_failed_measurements_again() -> None:
    """A peer that has been repaired is measured with --resume."""
    failed = Record("grid-1", "ours", 1, failed="no disk")
    assert records.resume(results(failed), "x", 3, 150.0).records == []


def test_a_slow_contender_is_measured_once() -> None:
    """A job that takes longer than --long has only one warm repeat."""
    steps = measuring.schedule([jobs.grid(1, cold=True)], [LOOP], 3, cold=True)
    log: list[tuple] = []
    measuring.run(results(), steps, fake_measure(151.0, log), lambda r: None)
    assert [repeat for *_, repeat in log] == [COLD, 1]


def test_the_time_budget_is_kept() -> None:
    """A measurement that is expected to exceed the budget is not started."""
    steps = measuring.schedule([jobs.grid(1)], [LOOP], 3, cold=False)
    log: list[tuple] = []
    measuring.run(results(), steps, fake_measure(100.0, log), lambda r: None, budget=60.0)
    assert len(log) == 1


def test_a_failing_peer_does_not_stop_the_others(tmp_path: Path) -> None:
    """The table gives the reason, and the next contender is measured."""
    steps = measuring.schedule([jobs.grid(1)], [LOOP, OURS], 2, cold=False)

    def measure(step: measuring.Step) -> Record:
        failed = "ImportError: no such thing" if step.contender is LOOP else None
        return Record(step.job.name, step.contender.name, step.repeat, 2.0, failed=failed)

    page = tables.page(measuring.run(results(), steps, measure, lambda r: None))
    assert f"- {LOOP.label}: grid-1: ImportError: no such thing" in page
    assert row(page, LOOP.label)[1] == "failed"
    assert row(page, OURS.label)[1] == "2.00 (2.00-2.00, n=2)"


def test_a_peer_that_cannot_be_installed_has_a_reason(tmp_path: Path, monkeypatch) -> None:
    """The reason comes from pip, and the incomplete environment is not used later."""
    (tmp_path / "broken.txt").write_text("./no-such-folder-here\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("LENET_SWEEP_BENCHMARKS", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "_run", failing_pip)
    for _ in range(2):
        with pytest.raises(environments.UnavailableError, match="not installed: ERROR: no wheel"):
            environments.python_of("broken", shares_torch=False)


def failing_pip(*command: str) -> str:
    if "pip" in command:
        raise environments.UnavailableError("not installed: ERROR: no wheel")
    return ""


def test_child_processes_are_counted_and_killed(tmp_path: Path) -> None:
    """The memory of a child counts, and no child is left to disturb the next measurement."""
    child = "import os, signal; x = bytearray(60_000_000); print(os.getpid(), flush=True)\n"
    child += "signal.pause()"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE,\n"
        "                         start_new_session=True)\n"
        "print(child.stdout.readline().decode(), 'here begins a run', flush=True)\n"
        "import time\n"
        "while time.process_time() < 0.6: pass\n"
        "for epoch in range(2):\n"
        "    print('an epoch ends', flush=True)\n"
        "    while time.process_time() < 0.9 + 0.3 * epoch: pass\n"
    )
    command = [sys.executable, "-c", parent]
    usage = processes.run_watched(command, tmp_path, {"PATH": ""}, 60, ("begins", "epoch ends"))
    assert usage.status == 0, usage.output
    assert not Path(f"/proc/{usage.output.split()[0]}").exists()
    assert usage.peak_mb > 60
    assert usage.cpu_seconds > 0.3
    assert usage.begins < usage.ends < usage.seconds


def test_children_that_are_not_waited_for_are_counted(tmp_path: Path) -> None:
    """A tool that does not wait for its workers has still used their CPU time."""
    child = "import signal, time\nwhile time.process_time() < 1.5: pass\nprint(flush=True)\n"
    child += "signal.pause()"
    parent = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); child.kill()\n"
        "os._exit(0)\n"
    )
    usage = processes.run_watched([sys.executable, "-c", parent], tmp_path, {}, 60)
    assert usage.cpu_seconds > 0.7


def test_the_reason_of_a_failure_is_its_last_line(tmp_path: Path) -> None:
    """The table shows the error without the traceback."""
    command = [sys.executable, "-c", "print('fine'); raise ValueError('a reason')"]
    usage = processes.run_watched(command, tmp_path, {}, 60)
    assert measuring.failure_reason(usage) == "ValueError: a reason"
    endless = [sys.executable, "-c", "while True: pass"]
    assert processes.run_watched(endless, tmp_path, {}, 0.3).timed_out


def test_other_child_processes_are_left_alone(tmp_path: Path) -> None:
    """Only the process tree that was measured is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        processes.run_watched([sys.executable, "-c", ""], tmp_path, {}, 60)
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0


@pytest.mark.parametrize(
    "script", [bookkeeping.MEASURE, bookkeeping.MEASURE_LAUNCHER, engines.TRAIN]
)
def test_scripts_in_strings_import_existing_names(script: str) -> None:
    """The scripts that benchmarks start as processes, which mypy does not see."""
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                assert hasattr(importlib.import_module(node.module), alias.name), alias.name


def test_peers_and_lenet_sweep_get_the_same_grid(tmp_path: Path) -> None:
    """Every job has the same cells for all, including the default learning rates."""
    from lenet_sweep.config.grids import grid  # noqa: PLC0415
    from lenet_sweep.config.validation import validate_cells  # noqa: PLC0415

    inputs = contenders.Inputs(Path(sys.executable), tmp_path, tmp_path / "w.npz")
    for job in jobs.FULL:
        if job.tiny_cells or job.only:
            continue
        (command,) = contenders.commands(LOOP, job, inputs)
        task = common.parse_task(command[3:])
        theirs = {(s.lr, s.batch, s.epochs, s.loss, s.optimizer) for s in task.settings}
        typed = [word.split("=") for word in jobs.overrides(job)]
        cells, _ = validate_cells(grid({key: value.split(",") for key, value in typed}), NATIVE)
        ours = {(c.lr, c.batch, c.epochs, c.loss.name, c.optimizer.name) for c in cells}
        assert theirs == ours, job.name
        assert {c.dataset.limit or 60_000 for c in cells} == {task.limit}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """--redraw makes the same tables as the measurement did."""
    written = results(*grid_10(), Record("grid-10", "vmap", 1, failed="why | not"))
    records.write(tmp_path / "peers.json", written)
    assert records.read(tmp_path / "peers.json") == written
    assert len(json.loads((tmp_path / "peers.json").read_text())["records"]) == 4


def test_redrawing_needs_no_measurement(tmp_path: Path) -> None:
    """Tables and figure are generated from the raw numbers."""
    records.write(tmp_path / "peers.json", results(*grid_10()))
    assert main(["--redraw", "--out", str(tmp_path)]) == 0
    assert "16.00 x" in (tmp_path / "peers.md").read_text()
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "peers.svg").read_text()


def test_the_figure_shows_the_longest_grid_with_a_peer() -> None:
    """An interrupted benchmark still has a figure of what can be compared."""
    found = [*repeats("grid-1", "ours", 1.0), *repeats("grid-1", "vmap", 2.0)]
    assert drawing.longest_grid(results(*found, *repeats("grid-10", "ours", 9.0))) == "grid-1"
    assert drawing.longest_grid(results(*repeats("grid-1", "ours", 1.0))) is None


def test_every_folder_has_all_its_tables() -> None:
    """No number in a peers.md was typed by hand."""
    paths = [RESULTS / "peers.json", *RESULTS.glob("*/peers.json")]
    assert len(paths) > 1
    for path in paths:
        assert path.with_suffix(".md").read_text() == tables_file(records.read(path)), path


def test_the_documentation_has_the_numbers_of_the_files() -> None:
    """No number in a table of docs/performance.md was typed by hand, and no folder is missing."""
    text = DOCUMENT.read_text()
    assert performance_page.update(text, RESULTS, LINK) == text
    shown = {RESULTS / name for names in performance_page.folders(text) for name in names}
    assert shown == {path.parent for path in RESULTS.rglob("peers.json")}
    everyone = [records.read(folder / "peers.json").records for folder in shown]
    fastest = [(found, targets.fastest_peer(found, "grid-10")) for found in everyone]
    loops = [targets.ratio(found, "grid-10", "report_loop", "ours") for found in everyone]
    peers = [targets.ratio(found, "grid-10", peer[0], "ours") for found, peer in fastest if peer]
    for ratios, what in ((loops, "the training loop"), (peers, "the fastest")):
        medians = [ratio.median for ratio in ratios if ratio]
        claim = f"{min(medians):.0f} to {max(medians):.0f} times as fast as {what}"
        assert claim in " ".join(text.split())


def test_the_tables_of_a_page_are_updated_from_their_folders(tmp_path: Path, monkeypatch) -> None:
    """Redrawing one folder updates its column; the page has less than the folder."""
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- peers a b -->\nold\n<!-- /peers a b -->\nafter\n")
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.__main__.DOCUMENT", document)
    records.write(tmp_path / "a" / "peers.json", results(*grid_10(ours=16)))
    records.write(tmp_path / "b" / "peers.json", results(*grid_10()))
    assert main(["--redraw", "--out", str(tmp_path / "b")]) == 0
    page = document.read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert row(page, "report loop, 10 epochs")[1:] == ["160 (n=1), 10.00 x", "160 (n=1), 16.00 x"]
    assert row(page, "fastest peer, 10 epochs")[2] == "55.0 (n=1), 5.50 x<br>JAX (scan)"
    assert row(page, "targets reached")[1:] == ["0 of 2", "1 of 2"]
    assert "25 x as fast as the report loop, 6 cells, 10 epochs: 10.00 x<br>" in page
    assert "Memory" not in page
    assert "Memory" in (tmp_path / "b" / "peers.md").read_text()


def test_a_page_without_its_closing_marker_is_refused() -> None:
    """Nothing is overwritten if the place of a table is unclear."""
    with pytest.raises(ValueError, match="<!-- peers --> is missing"):
        tables.inserted("no markers", "a table", "peers")


def test_a_trial_run_is_labeled() -> None:
    """Results with few images cannot be mistaken for full results."""
    trial = replace(results(*grid_10()), limit=640)
    page = tables.page(trial)
    assert "Trial run with at most 640 training images" in page
    assert "The targets apply to the full jobs" in page
    assert "not measured" not in page
    assert jobs.with_limit(jobs.grid(1), 640).limit == 640
    assert jobs.with_limit(jobs.cells(100), 640).limit is None


def test_what_scaling_out_costs_is_what_was_measured() -> None:
    """No number in the tables of docs/scaling-out.md was typed by hand."""
    text = (ROOT / "docs" / "scaling-out.md").read_text()
    pages = executors.pages(json.loads(executors.RESULTS.read_text()))
    assert set(pages) == {"costs", "model"}
    for name, made in pages.items():
        assert tables.inserted(text, made, name) == text


def test_every_choice_of_a_setting_is_timed() -> None:
    """New choices of a group appear in the benchmark without further code."""
    timed = [setting for settings in choices.settings_of().values() for setting in settings]
    for group in ("optimizer", "loss", "activation", "schedule", "augment", "init", "pool"):
        for name in GROUPS[group].choices:
            assert {group: name} in timed
    assert {"batch_norm": True} in timed
    assert choices.label({"batch_norm": True}) == "batch_norm=true"


def test_cost_of_a_choice_is_the_median_of_ratios_within_a_repeat() -> None:
    """A repeat in which the machine was slow changes neither the ratio nor the table."""
    times = {
        "plain": [1.0, 10.0, 2.0],
        "augment=shift": [1.5, 15.0, 3.0],
    }
    (row,) = choices.ratios("native", times, 10.0)
    assert (row.cpu_seconds, row.ratio) == (30.0, 1.5)
    torch_only = replace(row, setting="pool=avg", engine="torch", ratio=1.0)
    lines = choices.table([row, torch_only]).splitlines()
    assert lines[2:] == ["| `pool=avg` | - | 1.00 | - |", "| `augment=shift` | 1.50 | - | - |"]
    both = choices.table([row, replace(row, engine="torch", cpu_seconds=330.0)])
    assert both.endswith("| `augment=shift` | 1.50 | 1.50 | 11.0 |")


def test_choices_are_measured_on_each_engine(tmp_path, monkeypatch, images) -> None:
    """The benchmark trains what the engines accept and writes the numbers and the table."""
    monkeypatch.setattr(choices.datasets, "load_dataset", lambda *_: images)
    monkeypatch.setattr(choices, "IMAGES", dict.fromkeys(ENGINE_VERSIONS, 512))
    arguments = ["choices", "--only", "pool", "augment", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    choices.main()
    numbers = json.loads((tmp_path / "choices.json").read_text())
    rows = {(row["setting"], row["engine"]) for row in numbers["epochs"]}
    assert ("augment=elastic", "torch") in rows
    assert (("augment=elastic", "native") in rows) == (support.unavailable_reason() is None)
    assert "| `pool=avg` |" in (tmp_path / "choices.md").read_text()
