"""TODO."""

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
from lenet_sweep.storage.files import _UNREADABLE, DamagedError, _read

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at the end of an epoch: what was learned, and how it got there.

    state: weights and optimizer state by name, as the engine gave them.
    predictions: (test images,) uint8, the predicted class of each test image; those of the
        held-out training images follow, if there are any.
    trace: (k, 2) float32, the loss of every 100th batch at its position in epochs.
    history: one Epoch per epoch trained, the last one's number being this snapshot's.
    person: who trained it.
    """

    state: Arrays
    predictions: NDArray[np.uint8]
    trace: NDArray[np.float32]
    history: tuple[Epoch, ...]
    person: str = ""

    @property
    def epoch(self) -> int:
        return self.history[-1].epoch


def _checksum(arrays: Arrays, *texts: str) -> str:
    digest = hashlib.sha256("".join(texts).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _to_bytes(snapshot: Snapshot, run_id: str) -> bytes:
    arrays: dict[str, NDArray[Any]] = {f"state.{k}": v for k, v in snapshot.state.items()}
    arrays |= {"predictions": snapshot.predictions, "trace": snapshot.trace}
    history = json.dumps([asdict(epoch) for epoch in snapshot.history])
    # asarray, since ascontiguousarray would make a number an array of one.
    # Keys carry no order in the format; one in a fixed order keeps equal snapshots equal bytes.
    arrays = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    texts = {"history": history, "person": snapshot.person, "run": run_id}
    return save(arrays, texts | {"sha256": _checksum(arrays, *texts.values())})


def _header(content: bytes) -> tuple[dict[str, str], tuple[Epoch, ...]]:
    """The texts in a safetensors header, a JSON object, and the history among them."""
    metadata: dict[str, str] = json.loads(content)["__metadata__"]
    return metadata, tuple(Epoch(**values) for values in json.loads(metadata["history"]))


def _read_snapshot(path: Path) -> Snapshot | None:
    content = _read(path)
    if content is None:
        return None
    try:
        length = int.from_bytes(content[:8], "little")
        metadata, epochs = _header(content[8 : 8 + length])
        history, person = metadata["history"], metadata.get("person", "")
        run_id = metadata.get("run", "")
        arrays = load(content)
        sound = metadata["sha256"] == _checksum(arrays, history, person, run_id)
    except _UNREADABLE as error:
        raise DamagedError(path) from error
    # A file of another run or epoch, copied here, is whole and all the same not what it should be.
    named = re.fullmatch(r"epoch-(\d+)", path.stem)
    of_another_epoch = named and int(named[1]) != epochs[-1].epoch
    if not sound or of_another_epoch or run_id not in ("", path.parent.name):
        raise DamagedError(path)
    return Snapshot(
        state={k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")},
        predictions=arrays["predictions"],
        trace=arrays["trace"],
        history=epochs,
        person=person,
    )
