"""events.jsonl: what a sweep records for the live page, and that this never affects the sweep."""

import errno
import os
from dataclasses import replace

import pytest
from made_sweeps import launched, settings, store_all

from lenet_sweep.core.events import (
    CellFinished,
    Epoch,
    EpochEnded,
    Failed,
    Failure,
    Finished,
    Progress,
    SearchRound,
    Started,
)
from lenet_sweep.core.plans import make_plan
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.results import event_file
from lenet_sweep.results.event_file import (
    EventFileReader,
    LaunchEnded,
    LaunchStarted,
    RoundStarted,
    RunsAdded,
)
from lenet_sweep.runner import event_recorder
from lenet_sweep.runner.event_recorder import EventRecorder
from lenet_sweep.runner.run import run_sweep


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for the thread that writes, however busy the machine is."""
    monkeypatch.setattr(event_recorder, "END_TIMEOUT", 60.0)


@pytest.fixture
def plan(tmp_path, small_folder):
    cells, _ = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01])
    return make_plan(cells, lambda _: False)


def epoch(number=1, **values):
    return Epoch(number, **{"cost": 0.5, "accuracy": 90.0, "test_cost": 0.4, "seconds": 1.0,
                            "test_seconds": 0.1, **values})  # fmt: skip


def record(folder, plan, *events):
    recorder = EventRecorder(folder)
    recorder.on_start(plan, 2)
    for event in events:
        recorder.on_event(event)
    recorder.on_end()


def contents(folder):
    entries, _ = EventFileReader(folder / "events.jsonl").read()
    return [entry.content for entry in entries]


def test_a_sweep_records_its_launches_and_epochs(tmp_path, small_folder) -> None:
    """A second launch continues the file, and one that has nothing to train adds nothing."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1], epochs=2)
    options = replace(options, name="it")
    folder = run_sweep(cells, options, (), LOCAL).sweep.folder
    first = contents(folder)
    run = cells[0].run_id
    assert isinstance(first[0], LaunchStarted)
    assert first[0].runs == {run: (2,)}
    assert [e.result.epoch for e in first if isinstance(e, EpochEnded)] == [1, 2]
    assert first[-3:] == [CellFinished(run, 2), Finished(run), LaunchEnded()]
    assert not any(isinstance(event, Progress) for event in first)
    size = (folder / "events.jsonl").stat().st_size
    run_sweep(cells, options, (), LOCAL)
    assert (folder / "events.jsonl").stat().st_size == size
    longer, _ = settings(small_folder(), tmp_path / "out", lr=[0.1], epochs=3)
    run_sweep(longer, options, (), LOCAL)
    later = contents(folder)[len(first) :]
    assert later[1] == Started(run, 2)
    assert [e.result.epoch for e in later if isinstance(e, EpochEnded)] == [3]


def test_a_search_records_its_rounds_and_new_runs(tmp_path, small_folder) -> None:
    """Each run is listed once, when it is planned."""
    cells, _ = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01])
    plans = [make_plan(cells[:number], lambda _: False) for number in (1, 2)]
    (first,) = plans[0].runs
    (second,) = {*plans[1].runs} - {first}
    recorder = EventRecorder(tmp_path)
    recorder.on_start(plans[0], 2)
    recorder.on_plan(plans[1])
    recorder.on_round(SearchRound("a wave", (second,), {second.id: 1}, ((4, 3),), at_most=True))
    recorder.on_end()
    launch, added, started, _ = contents(tmp_path)
    assert launch.runs == {first.id: (3,)}
    assert added == RunsAdded({second.id: (3,)})
    assert started == RoundStarted("a wave", {second.id: (3, 1)}, ((4, 3),), at_most=True)


def test_a_torn_line_is_ignored(tmp_path, plan) -> None:
    """The line that a killed launch has left incomplete does not hide those of the next launch."""
    run = plan.runs[0].id
    record(tmp_path, plan, Started(run, 0))
    path = tmp_path / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    reader = EventFileReader(path)
    assert [entry.content for entry in reader.read()[0]][-1] == Started(run, 0)
    record(tmp_path, plan, EpochEnded(run, epoch()))
    more = [entry.content for entry in reader.read()[0]]
    assert [type(content) for content in more] == [LaunchStarted, EpochEnded, LaunchEnded]
    assert reader.malformed == 1


@pytest.mark.parametrize(
    "line",
    [
        "", "null", "[]", "{}", "\xff", "[" * 5000, '{"time": 1}', '{"time": "x", "launch": "a"}',
        '{"time": 1, "launch": "a", "kind": "Nothing"}',
        '{"time": 1, "launch": "a", "kind": "Started", "run_id": ["a"], "epoch": 0}',
        '{"time": 1, "launch": "a", "kind": "Started", "run_id": "a", "epoch": "1"}',
        '{"time": 1, "launch": "a", "kind": "EpochEnded", "run_id": "a", "result": {"epoch": 1}}',
        '{"time": 1, "launch": "a", "kind": "LaunchStarted", "runs": 1}',
        '{"time": 1, "launch": "a", "kind": "Started", "run_id": "a", "epoch": NaN}',
        '{"time": 1e999, "launch": "a", "kind": "LaunchEnded"}',
        '{"time": 1, "launch": "a", "kind": "RunsAdded", "runs": {"a": [0]}}',
        *(
            '{"time": 1, "launch": "a", "kind": "RoundStarted", "stage": "s", "runs": {"a": [3, 1]}'
            ', "later": [[1, 2]], "at_most": false}'.replace(right, forged)
            for right, forged in {
                '"s"': "7", "[3, 1]": "[3]", "3, 1": "3, 4", "[[1, 2]]": "[[-1, 2]]",
                "1, 2": '1, "2"', "false": '"no"', '"later"': '"earlier"',
            }.items()
        ),
    ],
)  # fmt: skip
def test_malformed_lines_are_ignored(tmp_path, line) -> None:
    """A line with other content, or with values of other types, is skipped."""
    good = '{"time": 1, "launch": "a", "kind": "LaunchEnded"}'
    (tmp_path / "events.jsonl").write_text(f"{good}\n{line}\n{good}\n", encoding="latin-1")
    assert contents(tmp_path) == [LaunchEnded(), LaunchEnded()]


def test_the_file_is_bounded(tmp_path, plan, monkeypatch) -> None:
    """In a long sweep, epochs are left out first, then everything; tracebacks always are."""
    run = plan.runs[0].id
    failure = Failure("failed", 1, "r" * 10**6, "t" * 10**6)
    with monkeypatch.context() as limits:
        limits.setattr(event_recorder, "MAX_EPOCH_BYTES", 3000)
        limits.setattr(event_recorder, "MAX_BYTES", 4000)
        record(tmp_path, plan, *[EpochEnded(run, epoch(n)) for n in range(1, 100)])
        first = contents(tmp_path)
        assert 3 < sum(isinstance(event, EpochEnded) for event in first) < 20
        assert first[-1] == LaunchEnded()
        for _ in range(5):
            record(tmp_path, plan, Failed(run, failure))
        assert (tmp_path / "events.jsonl").stat().st_size <= 4000
    (tmp_path / "new").mkdir()
    record(tmp_path / "new", plan, Failed(run, failure))
    assert (tmp_path / "new/events.jsonl").stat().st_size < 3000


def test_a_full_file_still_shows_that_the_launch_is_alive(tmp_path, plan, monkeypatch) -> None:
    """Epochs that are left out change the time of the file."""
    monkeypatch.setattr(event_recorder, "MAX_BYTES", 0)
    monkeypatch.setattr(event_recorder, "MAX_EPOCH_BYTES", 0)
    path = tmp_path / "events.jsonl"
    path.touch()
    os.utime(path, (1e9, 1e9))
    record(tmp_path, plan, EpochEnded(plan.runs[0].id, epoch()))
    assert path.stat().st_size == 0
    assert path.stat().st_mtime > 1e9


def test_a_disk_that_is_full_for_a_moment_loses_nothing(tmp_path, plan, monkeypatch) -> None:
    """A write that was done in part is repeated."""
    failures = ['{"time": 1, "lau']
    original = event_recorder._append

    def append(file, entries):
        if failures:
            file.write(failures.pop(0).encode())
            raise OSError(errno.ENOSPC, "full")
        return original(file, entries)

    monkeypatch.setattr(event_recorder, "_append", append)
    record(tmp_path, plan, EpochEnded(plan.runs[0].id, epoch()))
    assert [type(event) for event in contents(tmp_path)] == [LaunchStarted, EpochEnded, LaunchEnded]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "full", "read-only"])
def test_a_file_that_cannot_be_written_does_not_affect_the_sweep(
    tmp_path, small_folder, kind
) -> None:
    """The sweep trains and ends as usual, without a message, and a link is not followed."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1], epochs=1)
    options = replace(options, name="it")
    folder = launched(cells, options).sweep.folder

    def execute(runs, context):
        (run,) = runs
        yield Started(run.id, 0)
        store_all(cells, tmp_path / "out", small_folder(), lambda _: [])
        yield from (CellFinished(run.id, 1), Finished(run.id))

    path, other = folder / "events.jsonl", tmp_path / "other"
    path.unlink()
    other.write_text("mine")
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(other),
        "full": lambda: path.symlink_to("/dev/full"),
        "read-only": lambda: (path.touch(), path.chmod(0)),
    }[kind]()
    result = run_sweep(cells, options, (), replace(LOCAL, execute=execute))
    assert result.exit_status == 0
    assert result.observer_errors == ()
    assert other.read_text() == "mine"


def test_a_disk_that_hangs_does_not_delay_the_sweep(tmp_path, plan, monkeypatch) -> None:
    """Events are queued for a thread, and those that do not fit are lost."""
    release = event_recorder.threading.Event()
    monkeypatch.setattr(event_recorder, "MAX_WAITING", 10)
    monkeypatch.setattr(event_recorder, "END_TIMEOUT", 0.0)
    original = event_recorder._open
    monkeypatch.setattr(event_recorder, "_open", lambda path: (release.wait(), original(path))[1])
    record(tmp_path, plan, *[EpochEnded(plan.runs[0].id, epoch(n)) for n in range(1, 1000)])
    assert not (tmp_path / "events.jsonl").exists()
    release.set()


def test_reading_follows_a_file_that_is_replaced(tmp_path, plan) -> None:
    """A sweep's folder that was deleted and launched again starts over."""
    record(tmp_path, plan)
    reader = EventFileReader(tmp_path / "events.jsonl")
    assert len(reader.read()[0]) == 2
    assert reader.read() == ([], False)
    (tmp_path / "events.jsonl").rename(tmp_path / "old")
    record(tmp_path, plan)
    entries, is_new = reader.read()
    assert is_new
    assert len(entries) == 2


def test_reading_is_done_in_parts(tmp_path, plan, monkeypatch) -> None:
    """A large file is read in chunks, and a line longer than a chunk is skipped."""
    monkeypatch.setattr(event_file, "CHUNK", 1000)
    run = plan.runs[0].id
    (tmp_path / "events.jsonl").write_text("x" * 2500 + "\n")
    record(tmp_path, plan, *[EpochEnded(run, epoch(n)) for n in range(1, 21)])
    reader = EventFileReader(tmp_path / "events.jsonl")
    epochs = []
    for _ in range(20):
        entries, _ = reader.read()
        epochs += [e.content.result.epoch for e in entries if isinstance(e.content, EpochEnded)]
    assert epochs == [*range(1, 21)]
