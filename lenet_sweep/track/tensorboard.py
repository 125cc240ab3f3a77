"""The tracker `tensorboard`: an event file for each cell, in the folder of the sweep.

The content of a file is a function of the cell's results, and grows as they do. Writing it again
therefore adds what is missing, in whichever process.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from lenet_sweep.config.trackers import register_tracker
from lenet_sweep.core.errors import StoreError
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.storage.files import make_folder, read_file, write_atomic
from lenet_sweep.track import RUNNING, UNFINISHED, TrackedCell, TrackedSweep, Tracker, metrics

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

FOLDER = "tensorboard"  # in the folder of the sweep
FILE = "events.out.tfevents.0000000000.lenet_sweep"  # TensorBoard reads *tfevents*
IMAGES = {"correct": "_correct.png", "misclassified": "_misclassified-01.png"}


@register_tracker("tensorboard")
class TensorBoardTracker(Tracker):
    """Writes event files with hyperparameters, a curve per metric, and sample pictures."""

    def open(self, sweep: TrackedSweep) -> None:
        self._folder = sweep.folder.resolve() / FOLDER
        self._started = sweep.started
        import tensorboard.compat.proto.event_pb2  # noqa: F401, PLC0415 - fail early if it is broken

    def log(self, cell: TrackedCell) -> None:
        folder = self._folder / cell.cell.file_name
        if (folder / FILE).resolve() != folder / FILE:  # through a link in a received folder
            raise StoreError(f"{folder / FILE}: must not be a link or be inside a linked folder")
        content = _encode(_events(cell, self._started))
        before = read_file(folder / FILE) or b""
        if before.startswith(content):  # also if this process knows fewer epochs
            return
        if before and content.startswith(before):
            with (folder / FILE).open("ab") as file:
                file.write(content[len(before) :])
        else:
            make_folder(folder)
            write_atomic(folder / FILE, content)


def _events(cell: TrackedCell, started: float) -> list[Event]:
    """The events of a cell: its settings, its epochs, its outcome and its pictures, in order."""
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - slow to import
    from tensorboard.plugins.hparams import plugin_data_pb2 as hparams  # noqa: PLC0415 - as above

    times = cell.times(started)
    ended = times[-1] if times else started
    start = hparams.SessionStartInfo(start_time_secs=started)
    for name, value in cell.settings.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    events = [
        Event(wall_time=started, file_version="brain.Event:2"),
        _hparams_event("session_start_info", start, started),
    ]
    for time, epoch in zip(times, cell.history, strict=True):
        event = Event(wall_time=time, step=epoch.epoch)
        for name, value in metrics(epoch).items():
            event.summary.value.add(tag=name, simple_value=value)
        events.append(event)
    if cell.status in (RUNNING, UNFINISHED):
        return events
    status = "STATUS_SUCCESS" if cell.status in ("ok", STOPPED) else "STATUS_FAILURE"
    end = hparams.SessionEndInfo(status=status, end_time_secs=ended)
    events.append(_hparams_event("session_end_info", end, ended))
    for tag, suffix in IMAGES.items():
        for path in cell.figures:
            if path.name.endswith(suffix):
                event = Event(wall_time=ended, step=len(cell.history))
                content = path.read_bytes()
                image = event.summary.value.add(tag=tag).image
                image.encoded_image_string = content
                image.width, image.height = Image.open(io.BytesIO(content)).size
                image.colorspace = 3  # RGB
                events.append(event)
    return events


def _hparams_event(kind: str, info: Any, time: float) -> Event:
    """An event for TensorBoard's page HPARAMS. kind: the name of a field of HParamsPluginData."""
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - slow to import
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # noqa: PLC0415 - as above

    data = plugin_data_pb2.HParamsPluginData(**{kind: info}, version=metadata.PLUGIN_DATA_VERSION)
    event = Event(wall_time=time)
    value = event.summary.value.add(tag=f"_hparams_/{kind}", tensor=metadata.NULL_TENSOR)
    value.metadata.plugin_data.plugin_name = metadata.PLUGIN_NAME
    value.metadata.plugin_data.content = data.SerializeToString(deterministic=True)
    return event


def _encode(events: Sequence[Event]) -> bytes:
    """The content of the event file."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415 - as above

    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return content.getvalue()
