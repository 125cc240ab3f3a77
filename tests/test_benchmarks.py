"""The bench tells the truth about what it measured; nothing is timed here."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lenet_sweep.training.engines.support import NATIVE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    accuracy,
    contenders,
    drawing,
    environments,
    executors,
    jobs,
    machines,
    measuring,
    processes,
    records,
    tables,
    targets,
)
from benchmarks.__main__ import main  # noqa: E402
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


def took(job: str, contender: str, *seconds: float, **more) -> list[Record]:
    return [
        Record(job, contender, repeat, value, **more) for repeat, value in enumerate(seconds, 1)
    ]


def card(ours: float = 10, loop: float = 160, peer: float = 55) -> list[Record]:
    """Made numbers of the card's command at 10 epochs."""
    return [
        *took("card-10", "ours", ours, accuracies={CELL: 98.7}),
        *took("card-10", "report_loop", loop, accuracies={CELL: 98.8}),
        *took("card-10", "jax_scan", peer, accuracies={CELL: 98.6}),
    ]


def row(page: str, start: str) -> list[str]:
    """The cells of the first table row that begins with `start`."""
    (line, *_) = (line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_time_in_the_table_is_the_median_with_its_range() -> None:
    """One slow repeat does not change what is published, but its range shows it."""
    found = results(*took("card-1", "ours", 4.0, 30.0, 5.0))
    assert row(tables.page(found), OURS.what)[1] == "5.00 (4.00-30.0, n=3)"


def test_cold_is_not_among_the_warm() -> None:
    """A first use with its compilations is told apart instead of spoiling the median."""
    cold = Record("card-1", "ours", COLD, 50.0, begins=3.25)
    page = tables.page(results(cold, *took("card-1", "ours", 4.0)))
    assert row(page, OURS.what)[1] == "4.00 (n=1)"
    assert row(page, "card-1")[2:] == ["50.0", "4.00 (n=1)", "3.25"]


def test_targets_are_judged_by_the_numbers() -> None:
    """A reader sees yes only where the target was reached, and which peer was the fastest."""
    loop, peer, *_ = targets.verdicts(card())
    assert (loop.word, loop.measured) == ("yes", "16.00 x")
    assert (peer.word, peer.measured) == ("yes", "5.50 x, jax_scan")
    loop, peer, *_ = targets.verdicts(card(ours=12))
    assert (loop.word, peer.word) == ("no", "no")
    assert {v.word for v in targets.verdicts([])} == {"not measured"}


def test_a_target_that_the_repeats_do_not_settle_is_told(tmp_path: Path) -> None:
    """Where the slowest repeat misses what the median reaches, a reader is told both."""
    found = [*took("card-10", "ours", 10.0, 10.0, 11.0), *took("card-10", "report_loop", 155.0)]
    loop, *_ = targets.verdicts(found)
    assert (loop.word, loop.measured) == ("yes, within the spread", "15.50 x (14.09-15.50)")


def test_lenet_sweep_is_no_peer_of_itself() -> None:
    """The fastest peer is never a line of our own, however fast."""
    found = [*card(), *took("card-10", "ours_bare", 1.0)]
    assert targets.fastest_peer(found, "card-10") == ("jax_scan", 55)


def test_the_cost_over_cells_is_a_line_or_is_not() -> None:
    """20 ms a cell is told as such; a cost that bends is not called straight."""
    counts = (100, 200, 500, 1000)
    straight = [r for n in counts for r in took(f"cells-{n}", "ours", 3 + 0.02 * n)]
    line = targets.cell_line(straight)
    assert line is not None
    assert line.ms_per_cell == pytest.approx(20)
    assert line.seconds_at_none == pytest.approx(3)
    few = took("cells-20", "ours", 1)  # of which each has a figure, more of the 100 than of the 20
    assert targets.cell_line([*few, *straight]) == line
    assert targets.ms_with_figure([*few, *straight]) == pytest.approx(50)
    assert "drawn too: 50 ms a cell" in tables.page(results(*few, *straight))
    assert targets.ms_with_figure(straight) is None
    bent = [r for n in counts for r in took(f"cells-{n}", "ours", 3 + (n / 100) ** 3)]
    words = {v.target[:20]: v.word for v in targets.verdicts(bent)}
    assert words["the cost over cells "] == "no"
    assert {v.target[:20]: v.word for v in targets.verdicts(straight)}[
        "the cost over cells "
    ] == "yes"


def test_start_up_is_judged_cold() -> None:
    """A warm start under 4 s does not hide that the first one takes longer."""
    cold = Record("startup", "ours", COLD, 5.0, begins=3.0)
    begins, whole = targets.verdicts([cold, *took("startup", "ours", 1.0)])[2:4]
    assert (begins.word, whole.word) == ("yes", "no")


def test_accuracies_within_sampling_error_agree() -> None:
    """Rounding is no difference; a peer that trained something else is flagged with its row."""
    near = accuracy.agreement({CELL: 97.1}, {CELL: 97.4})
    assert near is not None
    assert near.agrees
    assert near.difference == pytest.approx(-0.3)
    page = tables.page(results(*card(), *took("card-10", "vmap", 60.0, accuracies={CELL: 90.0})))
    page = page[page.index("### Memory") :]
    assert row(page, "torch.func")[-1].startswith("**1 of 1 apart**: -8.70 points")
    assert row(page, LOOP.what)[-1].startswith("agrees, 1 rows: +0.10 points")
    assert "rounding alone" not in page


def test_the_quick_form_says_how_little_its_accuracies_tell() -> None:
    """After 200 steps a flagged row is likely no fault, which is told below it."""
    quick = [replace(record, job="card-1") for record in card()]
    assert "rounding alone" in tables.page(replace(results(*quick), quick=True))


def test_an_accuracy_of_all_or_nothing_has_an_error_too() -> None:
    """Two perfect scores can be compared: no division by zero."""
    equal = accuracy.agreement({CELL: 100.0}, {CELL: 100.0})
    assert equal is not None
    assert equal.agrees


def test_cold_comes_first_and_repeats_alternate() -> None:
    """A machine that slows down meets every contender alike."""
    steps = measuring.schedule(jobs.FULL[1:3], [OURS, LOOP], 2, cold=True)
    told = [(s.repeat, s.job.name, s.contender.name) for s in steps]
    assert told[:2] == [(COLD, "card-1", "ours"), (COLD, "card-1", "report_loop")]
    assert [t[0] for t in told] == [COLD] * 2 + [1] * 4 + [2] * 4
    assert told[2:6] == [
        (1, job, who) for job in ("card-1", "card-5") for who in ("ours", "report_loop")
    ]


def test_whoever_is_measured_warm_has_been_cold(tmp_path: Path, monkeypatch) -> None:
    """With jobs picked by hand, or resumed on another machine, a warm repeat finds its caches.

    Where there are none, the command is first run once for them alone.
    """
    monkeypatch.setenv("LENET_SWEEP_BENCHMARKS", str(tmp_path))
    monkeypatch.setattr(measuring, "_accuracies", lambda folder, contender: {})
    seconds = iter(range(1, 9))
    found: list[bool] = []

    def watch(command, folder, variables, *more) -> processes.Taken:
        cache = Path(variables["PYTHONPYCACHEPREFIX"])
        found.append(any(cache.iterdir()))
        (cache / "compiled").touch()
        return processes.Taken(next(seconds), 1.0, 1.0, None, 0, "")

    monkeypatch.setattr(measuring, "watched", watch)
    bench = measuring.Bench(caches=True)
    one, two = (contenders.BY_NAME[name] for name in ("one_worker", "two_workers"))
    steps = [measuring.Step(jobs.card(10), who, 1) for who in (one, two)]
    steps.append(measuring.Step(jobs.card(1), one, COLD))
    assert [bench.measure(step).seconds for step in steps] == [2, 3, 4]
    assert found == [False, True, True, False]


def test_only_who_keeps_a_sweep_is_asked_for_it_again() -> None:
    """A rerun is measured for tools that have one; for the others the table says so."""
    (again,) = (job for job in jobs.FULL if job.again)
    assert contenders.takes_part(OURS, again)
    assert not contenders.takes_part(LOOP, again)
    page = tables.page(results(*took("rerun", "ours", 1.0), *took("card-1", "report_loop", 60.0)))
    assert row(page, LOOP.what)[-1] == "trains again"


def measured_by(seconds: float, log: list[tuple]) -> measuring.Measure:
    def measure(step: measuring.Step) -> Record:
        log.append((step.job.name, step.contender.name, step.repeat))
        return Record(*log[-1], seconds)

    return measure


def test_a_cut_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    """Hours of measuring survive Ctrl-C: what is written is not measured again."""
    path = tmp_path / "peers.json"
    steps = measuring.schedule([jobs.card(1)], [OURS, LOOP], 2, cold=False)
    log: list[tuple] = []

    def cut(step: measuring.Step) -> Record:
        if len(log) == 3:
            raise KeyboardInterrupt
        return measured_by(1.0, log)(step)

    stopped = measuring.run(results(), steps, cut, lambda r: records.write(path, r))
    assert stopped == records.read(path)
    before = records.resumed(records.read(path), "fedcba", 2, 150.0)
    assert len(before.records) == 3
    assert before.commits == ["0123456789abcdef", "fedcba"]
    again: list[tuple] = []
    done = measuring.run(before, steps, measured_by(1.0, again), lambda r: None)
    assert again == [("card-1", "report_loop", 2)]
    assert [r.key for r in done.records] == [*log, *again]


def test_each_number_says_what_was_measured() -> None:
    """A file that was filled over weeks tells of which commit each of its numbers is."""
    steps = measuring.schedule([jobs.card(1)], [OURS], 2, cold=False)
    first = measuring.run(results(), steps[:1], measured_by(1.0, []), lambda r: None)
    other = records.resumed(first, "fedcba", 2, 150.0)
    both = measuring.run(other, steps, measured_by(1.0, []), lambda r: None).records
    assert [r.commit for r in both] == ["0123456789abcdef", "fedcba"]
    assert all(r.time > "2026" for r in both)
    fewer = records.resumed(replace(other, records=both), "fedcba", 1, 150.0)
    assert "at most 2, fewer" in tables.page(fewer)
    assert records.resumed(other, "0123456789abcdef", 2, 150.0).commits[-1] == "0123456789abcdef"


def test_repeats_of_one_turn_are_compared_with_each_other() -> None:
    """A machine that was twice as fast in its second turn makes no one faster or slower."""
    slow = [Record("card-10", "report_loop", n, s, commit="a") for n, s in ((1, 320.0), (2, 150.0))]
    fast = [
        Record("card-10", "ours", n, s, commit="a") for n, s in ((1, 20.0), (2, 10.0), (3, 1.0))
    ]
    assert targets.ratio([*slow, *fast], "card-10", "report_loop", "ours") == records.Spread(
        15.5, 15.0, 16.0, 2
    )
    later = [replace(record, commit="b") for record in fast]
    ratio = targets.ratio([*slow, *later], "card-10", "report_loop", "ours")
    assert ratio == records.Spread(23.5, 7.5, 320.0, 2)


def test_published_numbers_are_not_lost_or_mixed(tmp_path: Path) -> None:
    """Some jobs alone do not replace all that was measured, nor stand beside another machine's."""
    path = tmp_path / "peers.json"
    here = machines.here() | {"instructions": "avx9"}
    remote_devices = replace(results(*card()), environment=here)
    records.write(path, remote_devices)
    before = path.read_bytes()
    for words, told in (
        (["--only", "startup"], "would be left with these jobs and peers alone: --resume"),
        (["--peers", "vmap"], "would be left with these jobs and peers alone: --resume"),
        (["--only", "startup", "--resume"], "(avx9), another machine: use --out"),
    ):
        with pytest.raises(SystemExit, match=re.escape(told)):
            main([*words, "--out", str(tmp_path)])
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="nothing was measured there"):
        main(["--redraw", "--out", str(tmp_path / "none")])


def test_a_new_machine_needs_its_place_in_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and figure are made, and what the documentation lacks is said in a line."""
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    folder = tmp_path / "a-new-machine"
    records.write(folder / "peers.json", results(*card()))
    with pytest.raises(SystemExit, match="there is no <!-- peers a-new-machine -->"):
        main(["--redraw", "--out", str(folder)])
    assert {path.name for path in folder.iterdir()} >= {"peers.md", "peers.png", "peers.svg"}


def test_two_processors_that_share_a_name_are_told_apart() -> None:
    """Virtual machines call an EPYC of any generation "AMD EPYC", one of them twice as fast."""
    here = machines.here()
    assert machines.alike(here, dict(here))
    if (sys.platform, here["machine"]) == ("linux", "x86_64"):
        assert re.search(r", family \d+ model \d+$", here["processor"])
    for key in ("processor", "instructions"):
        assert not machines.alike(here, here | {key: f"{here[key]}, another"})


def test_what_failed_is_tried_again_when_resumed() -> None:
    """A peer that was repaired gets its numbers with --resume."""
    failed = Record("card-1", "ours", 1, failed="no disk")
    assert records.resumed(results(failed), "x", 3, 150.0).records == []


def test_a_slow_contender_is_measured_once() -> None:
    """What takes longer than --long does not hold up everyone five times."""
    steps = measuring.schedule([jobs.card(1, cold=True)], [LOOP], 3, cold=True)
    log: list[tuple] = []
    measuring.run(results(), steps, measured_by(151.0, log), lambda r: None)
    assert [repeat for *_, repeat in log] == [COLD, 1]


def test_the_budget_is_kept() -> None:
    """A measurement that is known not to fit any more is not begun."""
    steps = measuring.schedule([jobs.card(1)], [LOOP], 3, cold=False)
    log: list[tuple] = []
    measuring.run(results(), steps, measured_by(100.0, log), lambda r: None, budget=60.0)
    assert len(log) == 1


def test_a_peer_that_fails_is_a_line_and_stops_nobody(tmp_path: Path) -> None:
    """The table says why a peer has no numbers, and the next one is measured all the same."""
    steps = measuring.schedule([jobs.card(1)], [LOOP, OURS], 2, cold=False)

    def measure(step: measuring.Step) -> Record:
        failed = "ImportError: no such thing" if step.contender is LOOP else None
        return Record(step.job.name, step.contender.name, step.repeat, 2.0, failed=failed)

    page = tables.page(measuring.run(results(), steps, measure, lambda r: None))
    assert f"- {LOOP.what}: card-1: ImportError: no such thing" in page
    assert row(page, LOOP.what)[1] == "failed"
    assert row(page, OURS.what)[1] == "2.00 (2.00-2.00, n=2)"


def test_what_cannot_be_installed_says_so(tmp_path: Path, monkeypatch) -> None:
    """The reason is pip's own sentence; the half-made environment is not taken for a whole one."""
    (tmp_path / "broken.txt").write_text("./no-such-folder-here\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("LENET_SWEEP_BENCHMARKS", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "_run", refused)
    for _ in range(2):
        with pytest.raises(environments.UnavailableError, match="not installed: ERROR: no wheel"):
            environments.python_of("broken", beside_torch=False)


def refused(*command: str) -> str:
    if "pip" in command:
        raise environments.UnavailableError("not installed: ERROR: no wheel")
    return ""


def test_all_processes_are_counted_and_none_is_left(tmp_path: Path) -> None:
    """A contender cannot hide its memory in a child, nor leave one that disturbs the next."""
    child = "import os, signal; x = bytearray(60_000_000); print(os.getpid(), flush=True)\n"
    child += "signal.pause()"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE,\n"
        "                         start_new_session=True)\n"
        "print(child.stdout.readline().decode(), 'here begins it', flush=True)\n"
        "import time\n"
        "while time.process_time() < 0.6: pass\n"
    )
    taken = processes.watched(
        [sys.executable, "-c", parent], tmp_path, {"PATH": ""}, 60, "  here begins"
    )
    assert taken.status == 0, taken.output
    assert not Path(f"/proc/{taken.output.split()[0]}").exists()
    assert taken.peak_mb > 60
    assert taken.cpu_seconds > 0.3


def test_the_time_of_children_nobody_waits_for_is_counted(tmp_path: Path) -> None:
    """A tool that forgets its workers has used their processor time all the same."""
    child = "import signal, time\nwhile time.process_time() < 1.5: pass\nprint(flush=True)\n"
    child += "signal.pause()"
    parent = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); child.kill()\n"
        "os._exit(0)\n"
    )
    taken = processes.watched([sys.executable, "-c", parent], tmp_path, {}, 60)
    assert taken.cpu_seconds > 0.7


def test_a_failure_is_told_in_its_last_line(tmp_path: Path) -> None:
    """What went wrong stands in the table without the stack that led to it."""
    command = [sys.executable, "-c", "print('fine'); raise ValueError('of this kind')"]
    taken = processes.watched(command, tmp_path, {}, 60)
    assert measuring.reason(taken) == "ValueError: of this kind"
    endless = [sys.executable, "-c", "while True: pass"]
    assert processes.watched(endless, tmp_path, {}, 0.3).timed_out


def test_other_processes_of_the_measurer_are_left_alone(tmp_path: Path) -> None:
    """Only what was measured is ended; whoever runs beside it goes on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as beside:
        processes.watched([sys.executable, "-c", ""], tmp_path, {}, 60)
        assert beside.poll() is None
        beside.communicate(b"\n")
    assert beside.returncode == 0


def test_peers_and_lenet_sweep_are_given_the_same_grid(tmp_path: Path) -> None:
    """Every job means the same cells for all, learning rates of the optimizers included."""
    from lenet_sweep.config.keys import grid  # noqa: PLC0415
    from lenet_sweep.config.validation import validate_cells  # noqa: PLC0415

    inputs = contenders.Inputs(Path(sys.executable), tmp_path, tmp_path / "w.npz")
    for job in jobs.FULL:
        if job.made or job.only:
            continue
        (command,) = contenders.commands(LOOP, job, inputs)
        task = common.asked(command[3:])
        theirs = {(s.lr, s.batch, s.epochs, s.loss, s.optimizer) for s in task.settings}
        typed = [word.split("=") for word in jobs.words(job)]
        cells, _ = validate_cells(grid({key: value.split(",") for key, value in typed}), NATIVE)
        ours = {(c.lr, c.batch, c.epochs, c.loss, c.optimizer.name) for c in cells}
        assert theirs == ours, job.name
        assert {c.dataset.limit or 60_000 for c in cells} == {task.limit}


def test_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    """--redraw makes the same table out of the file as the measurement did."""
    made = results(*card(), Record("card-10", "vmap", 1, failed="why | not"))
    records.write(tmp_path / "peers.json", made)
    assert records.read(tmp_path / "peers.json") == made
    assert len(json.loads((tmp_path / "peers.json").read_text())["records"]) == 4


def test_redrawing_needs_no_measurement(tmp_path: Path) -> None:
    """A table and a figure can be had again from the raw numbers alone."""
    records.write(tmp_path / "peers.json", results(*card()))
    assert main(["--redraw", "--out", str(tmp_path)]) == 0
    assert "16.00 x" in (tmp_path / "peers.md").read_text()
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    assert "lenet-sweep" in (tmp_path / "peers.svg").read_text() or (
        "<svg" in (tmp_path / "peers.svg").read_text()
    )


def test_the_figure_takes_the_longest_card_that_several_have_done() -> None:
    """A measurement that was cut early still has a figure, of what can be compared."""
    found = [*took("card-1", "ours", 1.0), *took("card-1", "vmap", 2.0)]
    assert drawing.longest_card(results(*found, *took("card-10", "ours", 9.0))) == "card-1"
    assert drawing.longest_card(results(*took("card-1", "ours", 1.0))) is None


def test_the_documentation_has_the_table_of_the_file() -> None:
    """No number in docs/performance.md was typed by hand."""
    text = (ROOT / "docs" / "performance.md").read_text()
    path = ROOT / "benchmarks" / "results" / "peers.json"
    made = tables.page(records.read(path))
    assert tables.inserted(text, made) == text
    for other in path.parent.glob("*/peers.json"):
        made = tables.summary(records.read(other))
        assert tables.inserted(text, made, f"peers {other.parent.name}") == text
    with pytest.raises(ValueError, match="there is no <!-- peers -->"):
        tables.inserted("no markers", made)


def test_another_machine_has_a_summary(tmp_path: Path, monkeypatch) -> None:
    """What a folder inside the results holds stands in the documentation at its own place."""
    document = tmp_path / "performance.md"
    document.write_text(
        "<!-- peers -->\nmine\n<!-- /peers -->\n<!-- peers b -->\n<!-- /peers b -->"
    )
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.__main__.DOCUMENT", document)
    records.write(tmp_path / "b" / "peers.json", results(*card()))
    assert main(["--redraw", "--out", str(tmp_path / "b")]) == 0
    kept, made = document.read_text().split("<!-- peers b -->")
    assert "mine" in kept
    assert "16.00 x" in made
    assert "Memory" not in made
    assert "Memory" in (tmp_path / "b" / "peers.md").read_text()


def test_a_trial_is_called_one() -> None:
    """Numbers of a few images are not taken for those of all of them."""
    trial = replace(results(*card()), limit=640)
    page = tables.page(trial)
    assert "A trial: at most 640 training images" in page
    assert "The targets are meant for the full jobs" in page
    assert "not measured" not in page
    assert jobs.limited(jobs.card(1), 640).limit == 640
    assert jobs.limited(jobs.cells(100), 640).limit is None


def test_what_scaling_out_costs_is_what_was_measured() -> None:
    """No number in the tables of docs/scaling-out.md was typed by hand."""
    text = (ROOT / "docs" / "scaling-out.md").read_text()
    pages = executors.pages(json.loads(executors.RESULTS.read_text()))
    assert set(pages) == {"costs", "model"}
    for name, made in pages.items():
        assert tables.inserted(text, made, name) == text
