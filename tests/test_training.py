"""Training of one run: snapshots, checkpoints, resuming, and failures."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import ENGINE_VERSIONS
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import (
    CellFinished,
    EndedEarly,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Interrupted,
    Progress,
    Started,
    Waiting,
    decode,
    encode,
)
from lenet_sweep.core.plans import Run
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training import engines, loop
from lenet_sweep.training.augmentation import AUGMENTATIONS
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.progress import describe_failure


@pytest.fixture
def start(tmp_path: Path, small_folder) -> Callable[..., tuple[Iterator[Event], RunFolder]]:
    """Create a run on small data in the test's own store: its events and its folder."""

    def begin(
        *epochs: int,
        stop=lambda: False,
        retrain: bool = False,
        wait: bool = True,
        out: str = "",
        **axes,
    ):
        settings = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
        (cell,), options = validate_cells(grid(settings | {"epochs": max(epochs)} | axes), NATIVE)
        folder = Store(tmp_path / out).run_folder(cell.run_id)
        events = loop.train(
            Run(cell, tuple(sorted(epochs))),
            folder,
            options.data_root,
            retrain=retrain,
            wait=wait,
            stop=stop,
            environment={"person": "Ada"},
        )
        return events, folder

    return begin


def stop_after(epochs: int, events: Iterator[Event], stopped: list[bool]) -> list[Event]:
    """Collect events until this many epochs have ended, then request a stop."""
    seen = []
    for event in events:
        seen.append(event)
        if sum(isinstance(e, EpochEnded) for e in seen) == epochs:
            stopped.append(True)
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


def test_cells_that_differ_in_epochs_share_a_run(start) -> None:
    """They are trained once, and each has its own snapshot."""
    events, folder = start(1, 3)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, CellFinished)] == [1, 3]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [1, 2, 3]
    assert isinstance(seen[-1], Finished)
    assert folder.read(folder.snapshot_path(1)).epoch == 1
    assert len(folder.read(folder.snapshot_path(3)).history) == 3
    assert not folder.checkpoint_path.exists()


def test_losses_are_reported_every_100_batches(start) -> None:
    """A loss is reported after the first batch and after every 100th batch that follows."""
    events, _ = start(1, batch=2)
    assert [e.seen for e in events if isinstance(e, Progress)] == [2, 202, 402]


def test_cost_is_the_mean_over_images(start) -> None:
    """A smaller last batch counts by its number of images."""
    events, folder = start(1, batch=399, lr=1e-9)
    *_, result = (e.result for e in events if isinstance(e, EpochEnded))
    trace = folder.read(folder.snapshot_path(1)).trace
    assert trace.shape == (1, 2)
    # At a tiny learning rate, the mean cost of 600 images is that of a single batch.
    single, _ = start(1, batch=600, lr=1e-9)
    *_, expected = (e.result for e in single if isinstance(e, EpochEnded))
    assert result.cost == pytest.approx(expected.cost, rel=1e-6)


def test_longer_training_resumes_from_the_snapshot(start) -> None:
    """Extending 100 epochs to 200 trains 100, and ends with the same state as 200 at once."""
    list(start(1)[0])
    events, folder = start(1, 3)
    seen = list(events)
    assert seen[0] == CellFinished(seen[0].run_id, 1)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [1]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [2, 3]
    uninterrupted, other = start(3, out="other")
    list(uninterrupted)
    same_state(folder, other, 3)


@pytest.mark.parametrize(
    ("engine", "optimizer", "shuffle", "epochs"),
    [
        *product(["native"], NATIVE.choices["optimizer"], [True], [1]),
        *product(["torch"], GROUPS["optimizer"].choices, [True], [1]),
        *product(ENGINE_VERSIONS, ["sgd", "adam"], [False], [3]),
    ],
)
def test_a_stopped_run_resumes_bit_for_bit(start, engine, optimizer, shuffle, epochs) -> None:
    """A run that was stopped after any epoch ends with the weights of an uninterrupted run."""
    if engine == "native" and support.unavailable_reason():
        pytest.skip(support.unavailable_reason())
    axes = {"engine": engine, "optimizer": optimizer, "shuffle": shuffle, "batch": 300}
    stopped: list[bool] = []
    events, folder = start(epochs + 1, stop=lambda: bool(stopped), **axes)
    seen = stop_after(epochs, events, stopped)
    assert isinstance(seen[-1], Interrupted)
    assert folder.read(folder.checkpoint_path).epoch == epochs
    events, _ = start(epochs + 1, **axes)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [epochs]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [epochs + 1]
    uninterrupted, other = start(epochs + 1, out="other", **axes)
    list(uninterrupted)
    same_state(folder, other, epochs + 1)


def resumes_as_uninterrupted(start, **axes) -> list[Epoch]:
    """Stop a run of three epochs after the first, resume it, and compare it with one that was not
    stopped. Returns the results of that one.
    """
    stopped: list[bool] = []
    events, folder = start(3, stop=lambda: bool(stopped), **axes)
    assert isinstance(stop_after(1, events, stopped)[-1], Interrupted)
    events, _ = start(3, **axes)
    assert [e.epoch for e in events if isinstance(e, Started)] == [1]
    uninterrupted, other = start(3, out="other", **axes)
    history = [e.result for e in uninterrupted if isinstance(e, EpochEnded)]
    same_state(folder, other, 3)
    return history


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(name, marks=[] if name in ("nll", "mse") else pytest.mark.slow)
        for name in GROUPS["loss"].choices
    ],
)
def test_a_stopped_run_of_any_loss_resumes_bit_for_bit(start, loss) -> None:
    """Whichever loss is trained, an interruption changes neither weights, costs nor accuracies."""
    history = resumes_as_uninterrupted(start, engine="torch", loss=loss, batch=100, lr=0.1)
    assert history[-1].cost < history[0].cost
    assert history[-1].test_cost < history[0].test_cost


@pytest.mark.parametrize("augment", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("engine", ENGINE_VERSIONS)
def test_a_stopped_run_with_augmentation_resumes_bit_for_bit(start, engine, augment) -> None:
    """Epochs after an interruption see the same augmented images as without one."""
    if engine == "native" and support.unavailable_reason():
        pytest.skip(support.unavailable_reason())
    resumes_as_uninterrupted(start, engine=engine, augment=augment, batch=40, shuffle=True)


@pytest.mark.skipif(bool(support.unavailable_reason()), reason="there is no native engine")
@pytest.mark.parametrize("augment", sorted(AUGMENTATIONS))
def test_engines_agree_on_augmented_epochs(start, augment) -> None:
    """Both engines train on the same augmented images, in all epochs."""
    costs = []
    for axes in ({"engine": "native"}, {"engine": "torch"}, {"engine": "torch", "augment": "none"}):
        shared = {"augment": augment, "batch": 40, "optimizer": "adam", "out": str(axes)}
        events, _ = start(3, **shared | axes)
        costs.append([e.result.cost for e in events if isinstance(e, EpochEnded)])
    assert costs[0] == pytest.approx(costs[1], rel=1e-4)
    assert costs[2] != pytest.approx(costs[1], rel=1e-3)


def test_each_epoch_has_other_augmented_images(start) -> None:
    """At a tiny learning rate, the cost of an epoch depends on its images alone."""
    costs = {}
    for augment in ("none", "shift"):
        events, _ = start(3, augment=augment, lr=1e-12)
        costs[augment] = [e.result.cost for e in events if isinstance(e, EpochEnded)]
    assert costs["none"] == pytest.approx([costs["none"][0]] * 3, rel=1e-9)
    assert len(set(costs["shift"])) == 3


def test_stopping_in_the_first_epoch_leaves_no_snapshot(start) -> None:
    """A run that is stopped before its first epoch ends starts from scratch."""
    events, folder = start(1, stop=lambda: True)
    assert isinstance(list(events)[-1], Interrupted)
    assert folder.latest(until=9) is None


def test_checkpoints_are_written_in_long_runs(start, monkeypatch) -> None:
    """Between snapshots, a power cut loses at most the time between checkpoints."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", -1.0)
    events, folder = start(3)
    for event in events:
        if isinstance(event, EpochEnded) and event.result.epoch == 2:
            assert folder.read(folder.checkpoint_path).epoch == 2
    assert not folder.checkpoint_path.exists()


def test_retraining_replaces_only_its_own_snapshots(start) -> None:
    """reuse=false trains from the first epoch, and keeps other snapshots of the run."""
    list(start(1, 2)[0])
    _, folder = start(1)
    before = folder.snapshot_path(1).stat().st_mtime_ns, folder.snapshot_path(2).stat().st_mtime_ns
    events, _ = start(1, retrain=True)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [0]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [1]
    assert folder.snapshot_path(1).stat().st_mtime_ns > before[0]
    assert folder.snapshot_path(2).stat().st_mtime_ns == before[1]


def test_a_shorter_cell_keeps_the_checkpoint_of_a_longer_one(start) -> None:
    """A run of 4 epochs that was interrupted after 3 resumes there, even after a run of 2."""
    stopped: list[bool] = []
    events, folder = start(4, stop=lambda: bool(stopped))
    stop_after(3, events, stopped)
    list(start(2)[0])
    assert folder.read(folder.checkpoint_path).epoch == 3
    events, _ = start(4)
    assert [e.epoch for e in events if isinstance(e, Started)] == [3]


@pytest.mark.parametrize("epochs", [(2,), (2, 3)])
def test_a_checkpoint_at_the_last_epoch_of_a_cell_is_its_result(start, epochs) -> None:
    """An interrupted longer run has trained the cell; nothing is trained again."""
    stopped: list[bool] = []
    events, folder = start(4, stop=lambda: bool(stopped))
    assert isinstance(stop_after(2, events, stopped)[-1], Interrupted)
    events, _ = start(*epochs)
    seen = list(events)
    assert [e.epoch for e in seen if isinstance(e, CellFinished)] == [*epochs]
    assert [e.result.epoch for e in seen if isinstance(e, EpochEnded)] == [*epochs[1:]]
    uninterrupted, other = start(*epochs, out="other")
    list(uninterrupted)
    for epoch in epochs:
        same_state(folder, other, epoch)


def test_a_diverging_run_reports_batch_and_epoch(start) -> None:
    """A non-finite loss ends the run as diverged, with the batch and the epoch."""
    events, folder = start(2, lr=1e30)
    *_, last = events
    assert isinstance(last, Failed)
    assert last.failure.status == "diverged"
    assert "in batch" in last.failure.reason
    assert "of epoch 1" in last.failure.reason
    assert folder.failure() == last.failure


def test_snapshots_before_a_failure_are_kept(start, monkeypatch) -> None:
    """A run that fails in its third epoch keeps its snapshot of the first one."""
    build = engines.build_engine

    def breaking(cell, images):
        engine = build(cell, images)
        calls = []
        train = engine.train

        def failing(order, *args, **kwargs):
            calls.append(len(order))
            if sum(calls) > 1200:
                raise RuntimeError("out of luck")
            return train(order, *args, **kwargs)

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
    assert folder.has_intact_snapshot(1)
    monkeypatch.setattr(engines, "build_engine", build)
    seen = list(start(1, 4)[0])
    assert isinstance(seen[-1], Finished)
    assert folder.failure() is None


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), ValueError("\x1b[31m")])
def test_every_exception_is_a_failure(start, monkeypatch, error) -> None:
    """A run never ends without a final event, even on SystemExit or MemoryError."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(engines, "build_engine", broken)
    *_, last = start(1)[0]
    assert isinstance(last, Failed)
    assert last.failure.reason.startswith(type(error).__name__)


def test_damaged_images_are_not_trained_on(start, small_folder, tmp_path) -> None:
    """A flipped bit in the data is a failure of the run, not a wrong accuracy."""
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
    """Two sweeps that need the same run train it once; the second uses the first one's result."""
    first, folder = start(1)
    next(first)  # the run is locked from here on
    second, _ = start(1)
    assert isinstance(next(second), Waiting)
    list(first)
    seen = [e for e in second if not isinstance(e, Waiting)]
    assert [type(e) for e in seen] == [CellFinished, Finished]
    assert folder.has_intact_snapshot(1)


def test_waiting_ends_when_asked_to_stop(start) -> None:
    """Ctrl-C also ends a sweep that is waiting for another one."""
    first, _ = start(1)
    next(first)
    second, _ = start(1, stop=lambda: True)
    assert isinstance(list(second)[-1], Interrupted)
    first.close()


@pytest.mark.parametrize(
    "event",
    [
        Waiting("a"),
        Started("a", 3),
        Progress("a", 1, 64, 60000, 2.31),
        EpochEnded("a", Epoch(1, 0.1, 99.0, 0.2, 5.0, 0.4)),
        EpochEnded("a", Epoch(1, 0.1, 99.0, 0.2, 5.0, 0.4, threads=2)),
        EndedEarly("a", 7, 3),
        CellFinished("a", 1),
        Finished("a"),
        Failed("a", Failure("failed", 2, "why\n\x00", "trace")),
        Interrupted("a"),
    ],
)
def test_events_round_trip_through_json(event: Event) -> None:
    """An event of a worker arrives unchanged and takes one line."""
    assert decode(encode(event)) == event
    assert "\n" not in encode(event)


def test_run_json_records_settings_and_person(start) -> None:
    """run.json contains the settings and who trained the run."""
    events, folder = start(1, seed=3)
    list(events)
    text = (folder.path / "run.json").read_text()
    assert '"seed": 3' in text
    assert '"person": "Ada"' in text


def test_different_settings_are_different_runs(start) -> None:
    """Runs with two seeds have separate folders."""
    _, one = start(1, seed=0)
    _, other = start(1, seed=1)
    assert one.path != other.path


def test_held_out_images_are_evaluated_and_not_trained_on(start) -> None:
    """holdout=100 trains on the other 500 images and evaluates both the test and the held-out
    images.
    """
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
    alone, beside = limited.history[-1], snapshot.history[-1]
    assert (alone.accuracy, alone.test_cost) == (beside.accuracy, beside.test_cost)
    assert alone.holdout_accuracy is alone.holdout_cost is None
    assert beside.holdout_accuracy is not None
    assert beside.holdout_cost not in (None, beside.test_cost)


def test_a_lock_error_is_a_failure_without_an_epoch(runs_of, monkeypatch) -> None:
    """A run that fails before its first epoch reports no epoch."""

    def refuse(self: RunFolder, timeout: float) -> None:
        raise StoreError(f"cannot lock {self.path}")

    monkeypatch.setattr(RunFolder, "claim", refuse)
    (run,), context = runs_of(lr=0.1)
    (event,) = loop.train(
        run, Store(context.out).run_folder(run.id), None,
        retrain=False, wait=True, stop=lambda: False, environment={},
    )  # fmt: skip
    assert isinstance(event, Failed)
    assert describe_failure(event.failure).startswith("failed: cannot lock ")
