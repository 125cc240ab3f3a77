"""Damaged files of a sweep never give a wrong row or a crash; they are reported and rebuilt."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from forked_commands import run_forked

from lenet_sweep import load_results
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.events import Failure
from lenet_sweep.core.plans import Run
from lenet_sweep.results import records
from lenet_sweep.results.records import Record
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training import loop
from lenet_sweep.training.engines.support import NATIVE

COMPARED = ["rank", "accuracy", "batch", "lr", "epochs", "person", "status", "train_loss", "cell"]


def damages(path: Path, seed: int) -> Iterator[None]:
    """Apply many damages to a file, one at a time, and restore it at the end.

    Flips a bit in every 64 bytes, then truncates at every 64th byte. The file is changed in place
    from its end, because rewriting it each time would take minutes.
    """
    original = path.read_bytes()
    rng = random.Random(seed)
    for start in range(0, len(original), 64):
        position = rng.randrange(start, min(start + 64, len(original)))
        for byte in (original[position] ^ (1 << rng.randrange(8)), original[position]):
            with path.open("r+b") as file:
                file.seek(position)
                file.write(bytes([byte]))
            if byte != original[position]:
                yield
    for start in reversed(range(0, len(original), 64)):
        os.truncate(path, start)
        yield
    path.write_bytes(original)


@pytest.fixture
def trained(tmp_path, small_folder):
    """A finished run of 1 and 2 epochs, with every kind of file that a run folder may contain."""
    settings = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
    cells, options = validate_cells(grid(settings | {"epochs": [1, 2]}), NATIVE)
    store = Store(tmp_path)
    folder = store.run_folder(cells[0].run_id)

    def train() -> None:
        for _ in loop.train(
            Run(cells[1], (1, 2)), folder, options.data_root,
            retrain=False, wait=True, stop=lambda: False, environment={"person": "Ada"},
        ):  # fmt: skip
            pass

    train()
    folder.write_checkpoint(folder.read(folder.snapshot_path(2)))
    folder.write_failure(Failure("failed", 3, "RuntimeError: why", "trace", "Ada"))
    (folder.path / "lock").touch()
    return store, folder, cells, train


def rows(store: Store, cells) -> list[Record | None]:
    return [records.stored_record(cell, store) for cell in cells]


def files(folder: RunFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.path.iterdir()) if path.is_file()}


def test_damage_to_a_run_folder_never_gives_a_wrong_row(trained) -> None:
    """With any file truncated or a bit flipped, each row is correct or missing."""
    store, folder, cells, _ = trained
    original = files(folder)
    read = {  # what is read from each file
        "run.json": folder.description,
        "failure.json": folder.failure,
        "checkpoint.safetensors": lambda: (
            (snapshot := folder.read(folder.checkpoint_path)) and snapshot.history
        ),
        "epoch-00001.safetensors": lambda: records.stored_record(cells[0], store),
        "epoch-00002.safetensors": lambda: records.stored_record(cells[1], store),
        "lock": lambda: rows(store, cells),
    }
    assert {path.name for path in original} == set(read)
    tried = detected = 0
    for path, content in original.items():
        expected = read[path.name]()
        for _ in damages(path, seed=len(content)):
            store.damaged.clear()
            result = read[path.name]()
            tried += 1
            if store.damaged:
                assert result is None
                assert store.damaged == [path]
                detected += 1
            else:  # irrelevant bytes, such as spaces in a header, are not checked
                assert result == expected
    assert tried > 20_000
    assert detected > 0.99 * tried


def test_damaged_snapshots_are_retrained_to_the_same_weights(trained) -> None:
    """After any damage to snapshots and checkpoints, training restores the original weights."""
    store, folder, cells, train = trained
    folder.checkpoint_path.unlink()
    folder.clear_failure()
    expected, original = rows(store, cells), files(folder)
    rng = random.Random(0)
    for _ in range(30):
        for path in (folder.snapshot_path(1), folder.snapshot_path(2), folder.checkpoint_path):
            content = original[folder.snapshot_path(1)]
            damaged = bytearray(content[: rng.randrange(len(content))])
            if rng.random() < 0.5 or not damaged:
                damaged = bytearray(content)
                damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            if path != folder.checkpoint_path or rng.random() < 0.5:
                path.write_bytes(damaged)
        train()
        for row, true in zip(rows(store, cells), expected, strict=True):
            assert row["accuracy"] == true["accuracy"]
            assert row["train_loss"] == true["train_loss"]
        for epoch in (1, 2):
            retrained = folder.read(folder.snapshot_path(epoch)).state
            folder.snapshot_path(epoch).write_bytes(original[folder.snapshot_path(epoch)])
            for name, value in folder.read(folder.snapshot_path(epoch)).state.items():
                assert retrained[name].tobytes() == value.tobytes()


@pytest.fixture(scope="module")
def swept(tmp_path_factory, small_folder) -> tuple[Path, list[str], pd.DataFrame]:
    """A named sweep of two launches, to be copied."""
    place = tmp_path_factory.mktemp("swept")
    settings = [
        "-m", "batch=32", "name=mine", "figures=none", "person=Ada", "workers=1",
        "dataset=folder", f"dataset.root={small_folder()}", "device=cpu",
    ]  # fmt: skip
    for lr in ("0.01", "0.1,1e30"):
        run_forked(*settings, f"lr={lr}", "epochs=2", cwd=place)
    arguments = [*settings, "lr=0.1,1e30", "epochs=2"]
    return place, arguments, pd.read_csv(place / "outputs/sweeps/mine/results.csv")


@pytest.mark.parametrize(
    "name",
    [
        "runs/*/epoch-00002.safetensors",
        "runs/*/failure.json",
        "runs/*/run.json",
        "sweeps/mine/sweep.json",
        "sweeps/mine/results.*",
    ],
)
@pytest.mark.parametrize("how", ["empty", pytest.param("half", marks=pytest.mark.slow), "flipped"])
def test_the_same_command_repairs_damaged_files(swept, tmp_path, name, how) -> None:
    """After damage to any file, the same command reports it and restores the table.

    A damaged sweep.json also listed the cells of an earlier launch, which are not lost.
    """
    place, arguments, expected = swept
    shutil.copytree(place / "outputs", tmp_path / "outputs")
    paths = list((tmp_path / "outputs").glob(name))
    assert paths
    for path in paths:
        content = path.read_bytes()
        damaged = {
            "empty": b"",
            "half": content[: len(content) // 2],
            "flipped": bytes(
                b ^ 16 if i == len(content) // 3 else b for i, b in enumerate(content)
            ),
        }[how]
        assert damaged != content
        path.write_bytes(damaged)
    if name != "sweeps/mine/sweep.json":
        arguments = [*arguments[:-2], "lr=0.01,0.1,1e30", arguments[-1]]
    done = run_forked(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # one of the cells diverges
    assert "Traceback" not in done.stdout + done.stderr
    frame = pd.read_csv(tmp_path / "outputs/sweeps/mine/results.csv")
    pd.testing.assert_frame_equal(frame[COMPARED], expected[COMPARED])
    if name.endswith(("safetensors", "failure.json", "sweep.json")):
        assert "was damaged: it has been renamed" in done.stdout
        assert list((tmp_path / "outputs").glob(name + ".damaged"))
    assert len(load_results(tmp_path / "outputs/sweeps/mine")) == 3
