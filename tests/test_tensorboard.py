"""The tracker `tensorboard`, read with TensorBoard's own reader."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import made_sweeps
import pytest
from PIL import Image

from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Epoch
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.storage.store import Store
from lenet_sweep.track import TrackedCell, TrackedSweep, collect, tracking
from lenet_sweep.track.tensorboard import TensorBoardTracker

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata")


@pytest.fixture
def made(tmp_path: Path, small_folder: Callable[..., Path]) -> Sweep:
    """A sweep of three cells of 3 epochs, of which the last one failed."""
    return made_sweeps.tracked(small_folder(), tmp_path / "out")


def read(folder: Path) -> object:
    """All that TensorBoard finds in the folder of a cell."""
    events = accumulator.EventAccumulator(str(folder), {accumulator.TENSORS: 0})
    return events.Reload()


def folder_of(sweep: Sweep, number: int) -> Path:
    return sweep.folder / "tensorboard" / sweep.cells[number].file_name


def files(sweep: Sweep) -> dict[Path, bytes]:
    paths = (sweep.folder / "tensorboard").rglob("*")
    return {path: path.read_bytes() for path in paths if path.is_file()}


def test_tensorboard_reads_curves_settings_and_pictures(made: Sweep) -> None:
    """Each cell is a run with a point per epoch; its settings and outcome are on the page HPARAMS,
    and the best cell has pictures.
    """
    tracking.write_sweep("tensorboard", made)
    best = read(folder_of(made, 0))
    assert {*best.Tags()["scalars"]} == {"accuracy", "train_loss", "test_loss", "seconds"}
    points = best.Scalars("accuracy")
    history = Store(made.store.out).run_folder(made.cells[0].run_id).history()
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == pytest.approx([e.accuracy for e in history])
    gaps = [b.wall_time - a.wall_time for a, b in pairwise(points)]
    assert gaps == pytest.approx([e.seconds + e.test_seconds for e in history[1:]])
    data = best.PluginTagToContent("hparams")
    start = hparams.parse_session_start_info_plugin_data(data[hparams.SESSION_START_INFO_TAG])
    assert start.hparams["lr"].number_value == 0.1
    assert start.hparams["optimizer"].string_value == "sgd"
    assert start.hparams["optimizer.nesterov"].bool_value is False
    assert "clip_norm" not in start.hparams  # it has no value
    end = hparams.parse_session_end_info_plugin_data(data[hparams.SESSION_END_INFO_TAG])
    assert end.status == 1  # success
    for tag in ("correct", "misclassified"):
        (picture,) = best.Images(tag)
        (path,) = (made.folder / "figures").glob(f"*_{tag}*.png")
        assert picture.encoded_image_string == path.read_bytes()
        size = Image.open(io.BytesIO(picture.encoded_image_string)).size
        assert (picture.width, picture.height, picture.step) == (*size, 3)
    failed = read(folder_of(made, 2)).PluginTagToContent("hparams")
    end = hparams.parse_session_end_info_plugin_data(failed[hparams.SESSION_END_INFO_TAG])
    assert end.status == 2  # failure


def test_writing_twice_changes_nothing(made: Sweep) -> None:
    """The files are the same, byte by byte."""
    tracking.write_sweep("tensorboard", made)
    first = files(made)
    assert len(first) == 3
    tracking.write_sweep("tensorboard", load_sweep(made.folder))
    assert files(made) == first


@pytest.fixture
def tracked(made: Sweep) -> tuple[TensorBoardTracker, TrackedSweep, TrackedCell]:
    """An open tracker, its sweep, and a finished cell."""
    sweep = collect.tracked_sweep(made.folder, made.manifest)
    tracker = TensorBoardTracker()
    tracker.open(sweep)
    return tracker, sweep, next(collect.tracked_cells(made))


def test_epochs_are_appended(
    made: Sweep, tracked: tuple[TensorBoardTracker, TrackedSweep, TrackedCell]
) -> None:
    """An open TensorBoard sees new epochs of the same file, also those of a resumed sweep, and
    after a process was killed while it wrote.
    """
    tracker, sweep, cell = tracked
    tracker.log(replace(cell, history=cell.history[:1], status="running"))
    reader = read(folder_of(made, 0))
    tracker.log(replace(cell, history=cell.history[:2], status="unfinished"))
    (path,) = folder_of(made, 0).iterdir()
    number = path.stat().st_ino
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 10)
    resumed = TensorBoardTracker()
    resumed.open(sweep)
    resumed.log(cell)
    assert path.stat().st_ino == number  # some readers keep the file open
    reader.Reload()
    assert [point.step for point in reader.Scalars("accuracy")] == [1, 2, 3]
    assert reader.Images("correct")


def test_changed_results_replace_the_file(
    made: Sweep, tracked: tuple[TensorBoardTracker, TrackedSweep, TrackedCell]
) -> None:
    """After a cell was trained again, its old curve is gone."""
    tracker, _, cell = tracked
    tracker.log(replace(cell, history=(Epoch(1, 2.0, 50.0, 2.0, 1.0, 0.1),), status="failed"))
    tracker.log(cell)
    assert [p.step for p in read(folder_of(made, 0)).Scalars("accuracy")] == [1, 2, 3]
    assert len(files(made)) == 1


def test_fewer_epochs_do_not_replace_the_file(
    tracked: tuple[TensorBoardTracker, TrackedSweep, TrackedCell], made: Sweep
) -> None:
    """A sweep that resumes from a checkpoint keeps the epochs that it trains again."""
    tracker, _, cell = tracked
    running = replace(cell, status="running")
    tracker.log(running)
    before = files(made)
    tracker.log(replace(running, history=cell.history[:1]))
    assert files(made) == before


def test_nothing_is_written_outside_the_folder(
    tracked: tuple[TensorBoardTracker, TrackedSweep, TrackedCell], made: Sweep, tmp_path: Path
) -> None:
    """Neither through the settings of a received sweep.json, nor through a link."""
    tracker, _, cell = tracked
    before = {*tmp_path.iterdir()}
    hostile = replace(cell.cell, activation="x/../../../../../../y")
    tracker.log(replace(cell, cell=hostile))
    (folder,) = (made.folder / "tensorboard").iterdir()
    assert folder.name == hostile.file_name
    (tmp_path / "elsewhere").mkdir()
    folder_of(made, 0).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="must not be a link"):
        tracker.log(cell)
    assert {*tmp_path.iterdir()} - before == {tmp_path / "elsewhere"}
    assert not list((tmp_path / "elsewhere").iterdir())
