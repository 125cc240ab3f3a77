"""The store: files are written atomically, and damaged files are never used as results."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.storage import atomic
from lenet_sweep.storage.files import DamagedError, make_folder, read_json, write_atomic, write_json
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store


def snapshot(epochs: int = 2, fill: float = 0.5) -> Snapshot:
    return Snapshot(
        state={
            "weight.a": np.full((3, 2), fill, np.float32),
            "optimizer.0.step": np.array(7.0, np.float32),
        },
        predictions=np.arange(10, dtype=np.uint8),
        trace=np.array([[0.1, 2.3], [1.1, 0.4]], np.float32),
        history=tuple(Epoch(e, 1 / e, 90.0 + e, 0.3, 5.1, 0.4) for e in range(1, epochs + 1)),
    )


HOLDER = """
import sys
from pathlib import Path
from lenet_sweep.storage.store import RunFolder
lock = RunFolder(Path(sys.argv[1])).claim(timeout=5)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    folder = Store(tmp_path).run_folder("0123456789abcdef")
    make_folder(folder.path)
    return folder


def test_a_snapshot_round_trips(folder) -> None:
    """Weights, predictions, trace and history are read back unchanged."""
    folder.write_snapshot(snapshot())
    read = folder.read(folder.snapshot_path(2))
    assert read.history == snapshot().history
    np.testing.assert_array_equal(read.predictions, snapshot().predictions)
    np.testing.assert_array_equal(read.trace, snapshot().trace)
    assert read.state.keys() == snapshot().state.keys()
    for name, value in snapshot().state.items():
        np.testing.assert_array_equal(read.state[name], value)
        assert read.state[name].shape == value.shape


def test_a_damaged_snapshot_is_never_used(folder) -> None:
    """After any flipped bit or truncation, a snapshot gives its original content or none."""
    folder.write_snapshot(snapshot())
    path = folder.snapshot_path(2)
    intact = path.read_bytes()
    rng = random.Random(0)
    damages = [intact[:n] for n in range(0, len(intact), 64)]
    for _ in range(300):
        position = rng.randrange(len(intact))
        flipped = intact[position] ^ (1 << rng.randrange(8))
        damages.append(intact[:position] + bytes([flipped]) + intact[position + 1 :])
    detected = 0
    for damaged in damages:
        path.write_bytes(damaged)
        read = folder.read(path)
        if read is None:
            detected += 1
            assert path.read_bytes() == damaged  # reading does not move files
        else:  # an irrelevant byte, such as a space in the header
            assert read.history == snapshot().history
            np.testing.assert_array_equal(read.state["weight.a"], snapshot().state["weight.a"])
            np.testing.assert_array_equal(read.predictions, snapshot().predictions)
    assert detected > 0.9 * len(damages)


def test_training_resumes_from_the_newest_usable_snapshot(folder) -> None:
    """A run to epoch 4 resumes from epoch 3, and never from epoch 5."""
    for epochs in (1, 3, 5):
        folder.write_snapshot(snapshot(epochs))
    folder.write_checkpoint(snapshot(6))
    assert [folder.latest(until=e) and folder.latest(until=e).epoch for e in (1, 2, 4, 5, 9)] == [
        1, 1, 3, 5, 6,
    ]  # fmt: skip
    folder.snapshot_path(3).write_bytes(b"damaged")
    assert folder.latest(until=4).epoch == 1


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch) -> None:
    """If the disk is full, the old content stays and the error names the file."""
    path = tmp_path / "results.csv"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="results.csv: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_only_one_process_holds_a_run(folder) -> None:
    """A run that another process has locked is not trained; the lock ends with that process."""
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            HOLDER,
            str(folder.path),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert folder.claim(timeout=0) is None
        holder.kill()
        holder.wait()
    lock = folder.claim(timeout=0)
    assert lock is not None
    lock.release()


def test_a_claim_removes_temporary_files(folder) -> None:
    """Temporary files of killed processes do not accumulate."""
    temporary = folder.path / ".epoch-00001.safetensors.1a2b3c4d.tmp"
    temporary.write_bytes(b"half")
    folder.claim(timeout=0).release()
    assert not temporary.exists()


def test_a_failure_is_recorded_until_it_is_cleared(folder) -> None:
    """The reason of a failure stays in the run's folder until the run is retried."""
    failure = Failure("killed", 3, "the worker process was terminated by SIGKILL", "trace")
    folder.write_failure(failure)
    assert folder.failure() == failure
    assert json.loads((folder.path / "failure.json").read_text())["epoch"] == 3
    folder.clear_failure()
    assert folder.failure() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"status": "x"}', b"\xff\xfe", b"[" * 9999]
)
def test_a_damaged_failure_record_is_ignored(folder, content: bytes) -> None:
    """A damaged record is detected, and moved aside by the process that trains the run."""
    path = folder.path / "failure.json"
    path.write_bytes(content)
    assert folder.failure() is None
    assert folder.damaged == [path]
    assert path.exists()  # reading does not move files
    assert folder.move_damaged_files() == [path]
    assert (folder.path / "failure.json.damaged").read_bytes() == content
    assert folder.failure() is None


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path) -> None:
    """If out= is a file, the error says so and names the fix."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="cannot create the folder .*out=FOLDER"):
        Store(tmp_path).run_folder("x").claim(timeout=0)


def test_damage_to_a_json_record_is_detected(tmp_path) -> None:
    """Every truncation and flipped bit is detected, unless it does not change the values."""
    path = tmp_path / "record.json"
    values = {"lr": 0.1, "cells": [1, 2], "person": "Zoë", "none": None}
    write_json(path, values)
    intact = path.read_bytes()
    damages = [intact[:n] for n in range(len(intact) - 1)]  # the last byte is a newline
    for position in range(len(intact)):
        for bit in range(8):
            flipped = bytes([intact[position] ^ (1 << bit)])
            damages.append(intact[:position] + flipped + intact[position + 1 :])
    detected = 0
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            assert read_json(path) == values  # for example, a changed whitespace character
        except DamagedError:
            detected += 1
    assert detected > 0.95 * len(damages)


def test_only_old_temporary_files_are_removed(tmp_path) -> None:
    """The temporary file of a killed process is removed later; one in use stays."""
    old, new = tmp_path / ".results.csv.1a2b3c4d.tmp", tmp_path / ".results.csv.5e6f7a8b.tmp"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    atomic.remove_stale_temporaries(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_a_snapshot_of_another_run_or_epoch_is_not_used(tmp_path, folder) -> None:
    """An intact file that was copied from another epoch or run is rejected."""
    folder.write_snapshot(snapshot(2))
    folder.snapshot_path(3).write_bytes(folder.snapshot_path(2).read_bytes())
    assert folder.read(folder.snapshot_path(3)) is None
    other = Store(tmp_path).run_folder("fedcba9876543210")
    make_folder(other.path)
    for path in (other.snapshot_path(2), other.checkpoint_path):
        path.write_bytes(folder.snapshot_path(2).read_bytes())
        assert other.read(path) is None
    assert other.latest(until=9) is None


def test_files_with_other_names_are_ignored(folder) -> None:
    """A copy made with a file manager is not a snapshot."""
    folder.write_snapshot(snapshot(2))
    (folder.path / "epoch-00001 (copy).safetensors").write_bytes(b"")
    assert folder.latest(until=9).epoch == 2
