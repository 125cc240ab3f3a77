"""Snapshots: the state of a run at the end of an epoch, as a safetensors file with a checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from lenet_sweep.core.events import Epoch
from lenet_sweep.storage.files import UNREADABLE, DamagedError, read_file

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """The state and the history of a run at the end of an epoch.

    state: weights and optimizer state by name, as returned by the engine.
    predictions: (N,), the predicted class of each test image, followed by those of the held-out
        training images if there are any; uint8, or uint16 for more than 256 classes.
    trace: (k, 2) float32, the position (in epochs) and loss of every 100th batch.
    history: one Epoch for each epoch trained; the last one is the epoch of this snapshot.
    person: who trained the run.
    """

    state: Arrays
    predictions: NDArray[np.unsignedinteger[Any]]
    trace: NDArray[np.float32]
    history: tuple[Epoch, ...]
    person: str = ""

    @property
    def epoch(self) -> int:
        """The number of epochs trained."""
        return self.history[-1].epoch


def _checksum(arrays: Arrays, *texts: str) -> str:
    digest = hashlib.sha256("".join(texts).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def encode_snapshot(snapshot: Snapshot, run_id: str) -> bytes:
    """The content of the snapshot's file: safetensors, with texts and a checksum as metadata."""
    arrays: dict[str, NDArray[Any]] = {f"state.{k}": v for k, v in snapshot.state.items()}
    arrays |= {"predictions": snapshot.predictions, "trace": snapshot.trace}
    history = json.dumps([asdict(epoch) for epoch in snapshot.history])
    # Use asarray because ascontiguousarray turns a scalar into an array of one element. Sort the
    # names so that equal snapshots have equal bytes.
    arrays = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    texts = {"history": history, "person": snapshot.person, "run": run_id}
    return save(arrays, texts | {"sha256": _checksum(arrays, *texts.values())})


def parse_header(content: bytes) -> tuple[dict[str, str], tuple[Epoch, ...]]:
    """The metadata of a safetensors header (a JSON object), and the decoded history in it."""
    metadata: dict[str, str] = json.loads(content)["__metadata__"]
    return metadata, tuple(Epoch(**values) for values in json.loads(metadata["history"]))


def read_snapshot(path: Path) -> Snapshot | None:
    """Read and verify a snapshot; None if there is no file.

    Raises DamagedError if the content is damaged or belongs to another run or epoch, and StoreError
    if the file cannot be read.
    """
    content = read_file(path)
    if content is None:
        return None
    try:
        length = int.from_bytes(content[:8], "little")
        metadata, epochs = parse_header(content[8 : 8 + length])
        history, person = metadata["history"], metadata.get("person", "")
        run_id = metadata.get("run", "")
        arrays = load(content)
        intact = metadata["sha256"] == _checksum(arrays, history, person, run_id)
    except UNREADABLE as error:
        raise DamagedError(path) from error
    # An intact file of another run or epoch may have been copied here.
    file_epoch = re.fullmatch(r"epoch-(\d+)", path.stem)
    is_other_epoch = file_epoch and int(file_epoch[1]) != epochs[-1].epoch
    if not intact or is_other_epoch or run_id not in ("", path.parent.name):
        raise DamagedError(path)
    return Snapshot(
        state={k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")},
        predictions=arrays["predictions"],
        trace=arrays["trace"],
        history=epochs,
        person=person,
    )
