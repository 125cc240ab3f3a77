"""One run against the store: read-outs, checkpoints, resume, and every way to fail."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lenet_sweep.config.keys import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import ENGINE_VERSIONS, Run
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import (
    CellFinished,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Paused,
    Progress,
    Started,
    Stopped,
    Waiting,
    decode,
    encode,
)
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training import engines, loop
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.progress import describe_failure


@pytest.fixture
def start(tmp_path: Path, small_folder) -> Callable[..., tuple[Iterator[Event], RunFolder]]:
    """Begin a run on small data in the test's own store: its events, and its folder."""

    def begin(
        *epochs: int,
        stop=lambda: False,
        should_pause=None,
        retrain: bool = False,
        wait: bool = True,
        out: str = "",
        **axes,
    ):
        settings = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
        (cell,), options = validate_cells(grid(settings | {"epochs": max(epochs)} | axes), NATIVE)
        folder = Store(tmp_path / out).run(cell.run_id)
        events = loop.train(
            Run(cell, tuple(sorted(epochs))),
            folder,
            options.data_root,
            retrain=retrain,
            wait=wait,
            stop=stop,
            environment={"person": "Ada"},
            may_pause=lambda: should_pause is not None,
            should_pause=should_pause,
        )
        return events, folder

    return begin


def stop_after(epochs: int, events: Iterator[Event], asked: list[bool]) -> list[Event]:
    """Take events until so many epochs have ended, then ask to stop."""
    seen = []
    for event in events:
        seen.append(event)
        if sum(isinstance(e, EpochEnded) for e in seen) == epochs:
            asked.append(True)
    return seen


def same_state(one: RunFolder, other: RunFolder, epoch: int) -> None:
    a, b = one.read(one.snapshot_path(epoch)), other.read(other.snapshot_path(epoch))
    assert a.state.keys() == b.state.keys()
    for name, value in a.state.items():
        np.testing.assert_array_equal(value, b.state[name])
    np.testing.assert_array_equal(a.predictions, b.predictions)
    np.testing.assert_array_equal(a.trace, b.trace)
    assert [(e.epoch, e.cost, e.accuracy) for e in a.history] == [
        (e.epoch, e.cost, e.accuracy) for e in b.history
    ]


def test_read_outs_at_several_epochs_are_one_training(start) -> None:
    """Cells that differ only in epochs cost one run, each with its own read-out."""
    events, folder = start(1, 3)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, CellFinished)] == [1, 3]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [1, 2, 3]
    assert isinstance(seen[-1], Finished)
    assert folder.read(folder.snapshot_path(1)).epoch == 1
    assert len(folder.read(folder.snapshot_path(3)).history) == 3
    assert not folder.checkpoint.exists()


def test_losses_are_reported_as_in_the_report(start) -> None:
    """A loss after the first batch and after every hundredth one that follows."""
    events, _ = start(1, batch=2)
    assert [e.seen for e in events if isinstance(e, Progress)] == [2, 202, 402]


def test_cost_is_the_mean_over_images(start) -> None:
    """A ragged last batch counts by its images, not as a whole batch."""
    events, folder = start(1, batch=399, lr=1e-9)
    *_, result = (e.result for e in events if isinstance(e, EpochEnded))
    trace = folder.read(folder.snapshot_path(1)).trace
    assert trace.shape == (1, 2)
    # With weights that all but stand still, the mean cost of 600 images is that of one batch.
    whole, _ = start(1, batch=600, lr=1e-9)
    *_, expected = (e.result for e in whole if isinstance(e, EpochEnded))
    assert result.cost == pytest.approx(expected.cost, rel=1e-6)


def test_longer_training_goes_on_from_the_read_out(start) -> None:
    """100 epochs extended to 200 trains 100, and ends as 200 in one go do."""
    list(start(1)[0])
    events, folder = start(1, 3)
    seen = list(events)
    assert seen[0] == CellFinished(seen[0].run_id, 1)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [1]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [2, 3]
    uncut, other = start(3, out="other")
    list(uncut)
    same_state(folder, other, 3)


@pytest.mark.parametrize("engine", ENGINE_VERSIONS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_stopped_run_goes_on_bit_for_bit(start, engine, optimizer, shuffle, cut) -> None:
    """A run that was stopped after any epoch ends with the weights of one that was not."""
    if engine == "native" and support.missing():
        pytest.skip(support.missing())
    axes = {"engine": engine, "optimizer": optimizer, "shuffle": shuffle, "batch": 100}
    asked: list[bool] = []
    events, folder = start(4, stop=lambda: bool(asked), **axes)
    seen = stop_after(cut, events, asked)
    assert isinstance(seen[-1], Stopped)
    assert folder.read(folder.checkpoint).epoch == cut
    events, _ = start(4, **axes)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [cut]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == list(range(cut + 1, 5))
    uncut, other = start(4, out="other", **axes)
    list(uncut)
    same_state(folder, other, 4)


def test_stopping_in_the_first_epoch_leaves_nothing_to_mistake(start) -> None:
    """A run stopped before its first epoch ended starts anew."""
    events, folder = start(1, stop=lambda: True)
    assert isinstance(list(events)[-1], Stopped)
    assert folder.latest(until=9) is None


def test_checkpoints_are_written_in_long_runs(start, monkeypatch) -> None:
    """Between read-outs a power cut costs at most the time between checkpoints."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", -1.0)
    events, folder = start(3)
    for event in events:
        if isinstance(event, EpochEnded) and event.result.epoch == 2:
            assert folder.read(folder.checkpoint).epoch == 2
    assert not folder.checkpoint.exists()


def test_training_anew_replaces_only_what_it_trains(start) -> None:
    """reuse=false trains from the first epoch on, and keeps other read-outs of the run."""
    list(start(1, 2)[0])
    _, folder = start(1)
    before = folder.snapshot_path(1).stat().st_mtime_ns, folder.snapshot_path(2).stat().st_mtime_ns
    events, _ = start(1, retrain=True)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [0]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [1]
    assert folder.snapshot_path(1).stat().st_mtime_ns > before[0]
    assert folder.snapshot_path(2).stat().st_mtime_ns == before[1]


def test_a_shorter_cell_does_not_cost_a_longer_ones_checkpoint(start) -> None:
    """A run of 4 epochs that was cut after 3 still goes on from there after one of 2 was asked."""
    asked: list[bool] = []
    events, folder = start(4, stop=lambda: bool(asked))
    stop_after(3, events, asked)
    list(start(2)[0])
    assert folder.read(folder.checkpoint).epoch == 3
    events, _ = start(4)
    assert [e.epoch for e in events if isinstance(e, Started)] == [3]


def test_a_paused_run_goes_on_bit_for_bit(start) -> None:
    """A run that gives way after each epoch, read-outs or not, ends as one that never did."""
    ended = []
    for turn in range(1, 5):
        events, folder = start(2, 4, should_pause=lambda: True)
        seen = list(events)
        assert [e.epoch for e in seen if isinstance(e, Started)] == [turn - 1]
        ended += [(e.result.epoch, e.waits_for_answer) for e in seen if isinstance(e, EpochEnded)]
        assert isinstance(seen[-1], Paused if turn < 4 else Finished)
    assert ended == [(1, True), (2, True), (3, True), (4, False)]
    assert not folder.checkpoint.exists()
    uncut, other = start(2, 4, out="other")
    list(uncut)
    same_state(folder, other, 4)


def test_a_paused_run_may_be_taken_at_once(start) -> None:
    """Whoever hears that a run is paused finds it free."""
    events, folder = start(2, should_pause=lambda: True)
    for event in events:
        lock = folder.claim(timeout=0)
        assert (lock is not None) == isinstance(event, Paused)
    assert isinstance(event, Paused)
    lock.release()


def test_a_run_that_would_lose_a_longer_ones_checkpoint_does_not_pause(start) -> None:
    """A run cut after 3 epochs of 4 keeps that checkpoint while one of 2 epochs is asked to go."""
    asked: list[bool] = []
    events, folder = start(4, stop=lambda: bool(asked))
    stop_after(3, events, asked)
    *_, last = start(2, should_pause=lambda: True)[0]
    assert isinstance(last, Finished)
    assert folder.read(folder.checkpoint).epoch == 3


def test_training_anew_does_not_pause(start) -> None:
    """reuse=false makes no checkpoint that it could go on from, and so is trained in one go."""
    *_, last = start(3, retrain=True, should_pause=lambda: True)[0]
    assert isinstance(last, Finished)


def test_a_diverging_run_says_where(start) -> None:
    """A loss that is no number ends the run as diverged, with the batch and the epoch."""
    events, folder = start(2, lr=1e30)
    *_, last = events
    assert isinstance(last, Failed)
    assert last.failure.status == "diverged"
    assert "in batch" in last.failure.reason
    assert "of epoch 1" in last.failure.reason
    assert folder.failure() == last.failure


def test_what_was_read_out_before_a_failure_is_kept(start, monkeypatch) -> None:
    """A run that fails in its third epoch still has its read-out of the first one."""
    build = engines.build_engine

    def breaking(cell, images):
        engine = build(cell, images)
        calls = []
        train = engine.train

        def failing(order):
            calls.append(len(order))
            if sum(calls) > 1200:
                raise RuntimeError("out of luck")
            return train(order)

        engine.train = failing
        return engine

    monkeypatch.setattr(engines, "build_engine", breaking)
    events, folder = start(1, 4)
    seen = list(events)
    assert isinstance(seen[-1], Failed)
    assert seen[-1].failure.status == "failed"
    assert seen[-1].failure.epoch == 3
    assert seen[-1].failure.reason == "RuntimeError: out of luck"
    assert 'raise RuntimeError("out of luck")' in seen[-1].failure.traceback
    assert folder.has(1)
    monkeypatch.setattr(engines, "build_engine", build)
    seen = list(start(1, 4)[0])
    assert isinstance(seen[-1], Finished)
    assert folder.failure() is None


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), ValueError("\x1b[31m")])
def test_whatever_is_raised_is_a_failure(start, monkeypatch, error) -> None:
    """A run cannot end without saying so, whichever way it ends."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(engines, "build_engine", broken)
    *_, last = start(1)[0]
    assert isinstance(last, Failed)
    assert last.failure.reason.startswith(type(error).__name__)


def test_images_that_were_damaged_are_not_trained_on(start, small_folder, tmp_path) -> None:
    """A flipped bit in the data is a failure of the run and not a slightly wrong accuracy."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in small_folder().iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    events, _ = start(1, **{"dataset.root": str(copy)})
    images = copy / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[1000] ^= 1
    images.write_bytes(content)
    *_, last = events
    assert isinstance(last, Failed)
    assert last.failure.reason.startswith("DataError")


def test_a_run_waits_for_the_process_that_trains_it(start) -> None:
    """Two sweeps that need the same run train it once: the second takes the first's result."""
    first, folder = start(1)
    next(first)  # holds the run from here on
    second, _ = start(1)
    assert isinstance(next(second), Waiting)
    list(first)
    seen = [e for e in second if not isinstance(e, Waiting)]
    assert [type(e) for e in seen] == [CellFinished, Finished]
    assert folder.has(1)


def test_waiting_ends_when_asked_to_stop(start) -> None:
    """Ctrl-C also ends a sweep that waits for another one."""
    first, _ = start(1)
    next(first)
    second, _ = start(1, stop=lambda: True)
    assert isinstance(list(second)[-1], Stopped)
    first.close()


@pytest.mark.parametrize(
    "event",
    [
        Waiting("a"),
        Started("a", 3),
        Progress("a", 1, 64, 60000, 2.31),
        EpochEnded("a", Epoch(1, 0.1, 99.0, 0.2, 5.0, 0.4)),
        EpochEnded("a", Epoch(1, 0.1, 99.0, 0.2, 5.0, 0.4), waits_for_answer=True),
        CellFinished("a", 1),
        Finished("a"),
        Failed("a", Failure("failed", 2, "why\n\x00", "trace")),
        Paused("a"),
        Stopped("a"),
    ],
)
def test_events_pass_through_a_pipe_unchanged(event: Event) -> None:
    """What a worker says arrives as it was said, one line each."""
    assert decode(encode(event)) == event
    assert "\n" not in encode(event)


def test_a_run_describes_itself(start) -> None:
    """The folder of a run tells its settings and who trained it with what."""
    events, folder = start(1, seed=3)
    list(events)
    text = (folder.path / "run.json").read_text()
    assert '"seed": 3' in text
    assert '"person": "Ada"' in text


def test_other_settings_are_another_run(start) -> None:
    """A store never mixes the runs of two seeds."""
    _, one = start(1, seed=0)
    _, other = start(1, seed=1)
    assert one.path != other.path


def test_held_out_images_rank_and_are_not_trained_on(start) -> None:
    """holdout=100 trains on the other 500, and measures on both the test and the held-out ones."""
    events, folder = start(2, holdout=100, batch=50)
    seen = list(events)
    assert max(e.total for e in seen if isinstance(e, Progress)) == 500
    snapshot = folder.read(folder.snapshot_path(2))
    assert len(snapshot.predictions) == 200 + 100
    events, other = start(2, **{"dataset.limit": 500}, batch=50, out="other")
    list(events)
    limited = other.read(other.snapshot_path(2))
    for name, value in limited.state.items():  # the same 500 images, the same weights
        np.testing.assert_array_equal(value, snapshot.state[name])
    np.testing.assert_array_equal(limited.predictions, snapshot.predictions[:200])
    assert limited.history[-1].accuracy == snapshot.history[-1].accuracy
    assert limited.history[-1].holdout_accuracy is None
    assert snapshot.history[-1].holdout_accuracy is not None


def test_a_folder_that_cannot_be_locked_is_no_epoch(runs_of, monkeypatch) -> None:
    """A run that reached no epoch failed in none."""

    def refuse(self: RunFolder, timeout: float) -> None:
        raise StoreError(f"cannot lock {self.path}")

    monkeypatch.setattr(RunFolder, "claim", refuse)
    (run,), setup = runs_of(lr=0.1)
    (event,) = loop.train(
        run, Store(setup.out).run(run.id), None, retrain=False, wait=True, stop=lambda: False,
        environment={},
    )  # fmt: skip
    assert isinstance(event, Failed)
    assert describe_failure(event.failure).startswith("failed: cannot lock ")
