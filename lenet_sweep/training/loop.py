"""Training of one run, epoch by epoch, with snapshots and checkpoints in the store."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import ModelError, StoreError
from lenet_sweep.core.events import (
    CellFinished,
    Damaged,
    EndedEarly,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Interrupted,
    LockedElsewhere,
    Progress,
    Started,
    Waiting,
    epoch_begun,
)
from lenet_sweep.core.patience import is_exhausted
from lenet_sweep.core.plans import Run
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.data.images import Images, Labels, Pixels
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import RunFolder
from lenet_sweep.training import engines
from lenet_sweep.training.augmentation import augmented
from lenet_sweep.training.engines import Engine
from lenet_sweep.training.schedules import learning_rates

REPORT_EVERY = 100  # batches, as in the report
CHECKPOINT_EVERY = 10.0  # seconds; a power cut loses at most this, and a write takes 0.3 to 1 MB


def train(
    run: Run,
    folder: RunFolder,
    data_root: Path | None,
    *,
    retrain: bool,
    wait: bool,
    stop: Callable[[], bool],
    environment: Mapping[str, Any],
    threads: Callable[[], int] = lambda: 1,
) -> Iterator[Event]:
    """Train a run until all of its snapshots are in the store, yielding its events.

    Training resumes from the newest snapshot. If another process is training the run, this yields
    LockedElsewhere and returns, or, with `wait`, waits for the result. Every exception becomes a
    Failed event and a failure record in the run's folder.

    retrain: train from the start, replacing the snapshots one by one. Other snapshots of the run
        are kept, and no checkpoints are written because they would not be used.
    wait: wait for another process that is training the run.
    stop: called every 100 batches; once it returns True, the last finished epoch is checkpointed
        and training ends with Interrupted.
    environment: the provenance recorded in run.json.
    threads: called as often as `stop`; the number of threads that the engine may use.
    """
    lock = None
    epoch = 0  # no epoch was started
    person = _person(environment)
    try:
        lock = folder.claim(timeout=0)
        if lock is None and not wait:
            yield LockedElsewhere(run.id)
            return
        while lock is None:
            yield Waiting(run.id)
            lock = folder.claim(timeout=0.5)
            if lock is None and stop():
                yield Interrupted(run.id)
                return
        for read in (folder.failure, folder.description):  # reading detects damage
            read()
        for path in folder.move_damaged_files():
            yield Damaged(run.id, str(path))
        if not _diverges_later(run, folder.failure()):
            folder.clear_failure()
        for event in _train(run, folder, data_root, retrain, stop, environment, threads):
            epoch = epoch_begun(event) or epoch
            yield event
    except (Exception, SystemExit) as error:  # noqa: BLE001 - every failure is a row in the table
        failure = _failure(error, epoch, person)
        folder.write_failure(failure)
        yield Failed(run.id, failure)
    finally:
        if lock:
            lock.release()


def _diverges_later(run: Run, failure: Failure | None) -> bool:
    """Whether an earlier training of this run diverged after the last epoch to train now."""
    return failure is not None and failure.status == "diverged" and failure.epoch > run.cell.epochs


def _person(environment: Mapping[str, Any]) -> str:
    return str(environment.get("person", ""))


class _DivergedError(Exception):
    """A loss is infinite or NaN."""


def _failure(error: BaseException, epoch: int, person: str) -> Failure:
    if isinstance(error, _DivergedError):
        return Failure("diverged", epoch, str(error), person=person)
    if isinstance(error, ModelError):  # the message says all; the cause is in the user's code
        trace = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
        return Failure("failed", epoch, str(error), trace, person)
    if isinstance(error, StoreError):  # a problem of the disk, so a traceback would not help
        return Failure("failed", epoch, str(error), person=person)
    trace = "".join(traceback.format_exception(error))
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, MemoryError):
        reason += " (out of memory; reduce workers=N)"
    return Failure("failed", epoch, reason, trace, person)


def _train(
    run: Run,
    folder: RunFolder,
    data_root: Path | None,
    retrain: bool,
    stop: Callable[[], bool],
    environment: Mapping[str, Any],
    threads: Callable[[], int],
) -> Iterator[Event]:
    missing = [cell.epochs for cell in run.cells() if retrain or not folder.result(cell)]
    for epoch in sorted(set(run.snapshot_epochs) - set(missing)):  # finished by another process
        yield CellFinished(run.id, epoch)
    if not missing:
        yield Finished(run.id)
        return
    images = _images(run.cell.dataset, data_root)
    engine = engines.build_engine(run.cell, _append_holdout_to_test(images))
    # A user's schedule imports torch, which takes seconds; do it before the first epoch is timed.
    learning_rates(run.cell, 0, 1, math.ceil(len(images.train_labels) / run.cell.batch))
    folder.write_description(
        run.cell, {**environment, "engine": engine.detail}, _describe_images(run.cell, images)
    )
    saver = _Saver(folder, missing, retrain)
    snapshot = None if retrain else folder.latest(until=missing[0])
    for path in folder.move_damaged_files():
        yield Damaged(run.id, str(path))
    if snapshot:
        engine.restore(snapshot.state)
        saver.saved_epoch = snapshot.epoch
    yield Started(run.id, saver.saved_epoch)
    if snapshot and snapshot.epoch in missing:  # the checkpoint of a longer run is this result
        saver.save(snapshot)
        yield CellFinished(run.id, snapshot.epoch)
    for epoch in range(saver.saved_epoch + 1, missing[-1] + 1):
        if snapshot and is_exhausted(snapshot.history, run.cell.patience):
            break
        began = time.perf_counter()
        losses = yield from _train_epoch(engine, run, epoch, images.train_images, stop, threads)
        if losses is None:
            saver.write_checkpoint(snapshot)
            yield Interrupted(run.id)
            return
        seconds = time.perf_counter() - began
        snapshot = _snapshot(
            engine, run.cell, snapshot, losses, images, seconds, _person(environment)
        )
        saver.save(snapshot)
        # Yield only after the write: if that fails, the failure belongs to this epoch.
        yield EpochEnded(run.id, snapshot.history[-1])
        if epoch in missing:
            yield CellFinished(run.id, epoch)
    assert snapshot is not None
    longer = [epoch for epoch in missing if epoch > snapshot.epoch]
    if longer and run.cell.patience:
        folder.write_early_end(snapshot)
        yield EndedEarly(run.id, snapshot.epoch, run.cell.patience)
        for epoch in longer:
            yield CellFinished(run.id, epoch)
    yield Finished(run.id)


class _Saver:
    """Writes the missing snapshots of a run, and a checkpoint every CHECKPOINT_EVERY seconds.

    saved_epoch: the last epoch that is in the store.
    """

    def __init__(self, folder: RunFolder, missing: Collection[int], retrain: bool) -> None:
        self.saved_epoch = 0
        self._saved_at = time.monotonic()
        self._folder = folder
        self._missing = missing
        self._retrain = retrain
        checkpoint = folder.read(folder.checkpoint_path)
        self._newest = checkpoint.epoch if checkpoint else 0  # of a longer run; must not be lost

    def save(self, snapshot: Snapshot) -> None:
        """Save an epoch as a snapshot if it is missing, or as a checkpoint if one is due."""
        epoch = snapshot.epoch
        if epoch in self._missing:
            self._folder.write_snapshot(snapshot)
            if epoch >= self._newest:
                self._folder.clear_checkpoint()
            self.saved_epoch, self._saved_at = epoch, time.monotonic()
        elif time.monotonic() - self._saved_at > CHECKPOINT_EVERY:
            self.write_checkpoint(snapshot)

    def write_checkpoint(self, snapshot: Snapshot | None) -> None:
        """Save the last finished epoch as a checkpoint, unless the store has it or a later one."""
        if self._retrain or snapshot is None:
            return
        if snapshot.epoch > max(self.saved_epoch, self._newest):
            self._folder.write_checkpoint(snapshot)
            self.saved_epoch, self._saved_at = snapshot.epoch, time.monotonic()


def _describe_images(cell: Cell, images: Images) -> dict[str, Any]:
    """What the trained network can be used with, without the dataset; see `RunFolder`."""
    facts: dict[str, Any] = {"class_names": images.class_names}
    if cell.normalize == "standard":
        facts["pixel_mean"], facts["pixel_std"] = images.pixel_statistics
    return facts


# Most runs of a worker share a dataset, which is then read and verified once.
_images = lru_cache(maxsize=1)(load_dataset)


def _append_holdout_to_test(images: Images) -> Images:
    """Append the held-out images to the test images, because engines evaluate only the latter."""
    if not len(images.holdout_labels):
        return images
    return replace(
        images,
        test_images=np.concatenate([images.test_images, images.holdout_images]),
        test_labels=np.concatenate([images.test_labels, images.holdout_labels]),
    )


def _accuracy(predictions: Labels, labels: Labels) -> float:
    return 100 * int(np.count_nonzero(predictions == labels)) / len(labels)


def _mean(losses: NDArray[np.float32]) -> float:
    return float(losses.mean(dtype=np.float64))


def _train_epoch(
    engine: Engine,
    run: Run,
    epoch: int,
    train_images: Pixels,
    stop: Callable[[], bool],
    threads: Callable[[], int],
) -> Generator[Event, None, NDArray[np.float32] | None]:
    """Train one epoch. Returns the batch losses, or None if `stop` ended it early."""
    batch, images = run.cell.batch, len(train_images)
    order = epoch_order(run.cell, epoch, images)
    losses: list[NDArray[np.float32]] = []
    # The report prints the loss of the first batch and of every 100th after it.
    for start, end in pairwise([0, *range(batch, images, REPORT_EVERY * batch), images]):
        engine.threads = threads()
        first = (epoch - 1) * math.ceil(images / batch) + start // batch
        lrs = learning_rates(
            run.cell, first, math.ceil((end - start) / batch), math.ceil(images / batch)
        )
        pixels = augmented(run.cell, epoch, train_images, order[start:end])
        losses.append(engine.train(order[start:end], lrs, step=first, images=pixels))
        _check_finite(losses[-1], epoch, start // batch)
        if stop():
            return None
        if math.ceil(end / batch) % REPORT_EVERY == 1:
            yield Progress(run.id, epoch, end, images, float(losses[-1][-1]))
    return np.concatenate(losses)


def epoch_order(cell: Cell, epoch: int, images: int) -> NDArray[np.int64]:
    """The order of the training images in an epoch, (images,): file order, or a permutation.

    The permutation depends only on the seed and the epoch, so that a resumed run needs no random
    state. RandomState is used because NumPy guarantees that its streams never change (NEP 19).
    """
    if not cell.shuffle:
        return np.arange(images)
    return np.random.RandomState([cell.seed, epoch]).permutation(images)


def _check_finite(losses: NDArray[np.float32], epoch: int, earlier: int) -> None:
    invalid = np.flatnonzero(~np.isfinite(losses))
    if len(invalid):
        batch = earlier + invalid[0] + 1
        raise _DivergedError(
            f"the loss became {losses[invalid[0]]} in batch {batch} of epoch {epoch}"
        )


def _snapshot(
    engine: Engine,
    cell: Cell,
    previous: Snapshot | None,
    losses: NDArray[np.float32],
    images: Images,
    seconds: float,
    person: str,
) -> Snapshot:
    """Evaluate the engine and collect its state at the end of an epoch."""
    began = time.perf_counter()
    evaluation = engine.evaluate()
    test_seconds = time.perf_counter() - began
    history = previous.history if previous else ()
    epoch = len(history) + 1
    if not np.isfinite(evaluation.losses).all():
        raise _DivergedError(
            f"the loss on the test images became infinite or NaN after epoch {epoch}"
        )
    # The loss of a batch is the mean over its images, and the last batch may be smaller.
    starts = np.arange(len(losses)) * cell.batch
    sizes = np.minimum(cell.batch, len(images.train_labels) - starts)
    reported = np.arange(0, len(losses), REPORT_EVERY)
    position = epoch - 1 + (starts + sizes)[reported] / len(images.train_labels)
    trace = np.stack([position, losses[reported]], axis=1).astype(np.float32)
    tested = len(images.test_labels)
    held_out = evaluation.predictions[tested:]
    result = Epoch(
        epoch=epoch,
        cost=float(np.average(losses.astype(np.float64), weights=sizes)),
        accuracy=_accuracy(evaluation.predictions[:tested], images.test_labels),
        test_cost=_mean(evaluation.losses[:tested]),
        seconds=seconds,
        test_seconds=test_seconds,
        holdout_accuracy=_accuracy(held_out, images.holdout_labels) if len(held_out) else None,
        threads=engine.threads,
        holdout_cost=_mean(evaluation.losses[tested:]) if len(held_out) else None,
    )
    return Snapshot(
        state=engine.state(),
        predictions=evaluation.predictions,
        trace=np.concatenate([previous.trace, trace]) if previous else trace,
        history=(*history, result),
        person=person,
    )
