"""Recorded learning curves: read with `load_curves`, written by benchmarks/record_curves.py.

Needs only NumPy, so that every tool can read them. README.md describes the files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """The learning curves of all runs of a sweep, and their predictions at some epochs.

    settings: the JSON values of the longest cell of each setting, without its seed. seeds: of each
        setting. source: how the sweep was recorded: `command`, `git_revision`, `environment`.
    train_loss, test_loss, holdout_loss: (settings, seeds, epochs), mean per image.
    test_accuracy, holdout_accuracy: (settings, seeds, epochs), percent.
    seconds, test_seconds: (settings, seeds, epochs), of training, and of testing.
    readouts: (readouts,), the epochs after which predictions were recorded.
    predictions: (settings, seeds, readouts, images), the predicted classes of the test images,
        followed by those of the held-out images.
    labels: (images,), their true classes. test_images: the number of test images.
    """

    settings: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    source: dict[str, Any]
    train_loss: Floats
    test_accuracy: Floats
    test_loss: Floats
    holdout_accuracy: Floats
    holdout_loss: Floats
    seconds: Floats
    test_seconds: Floats
    readouts: NDArray[np.int64]
    predictions: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    test_images: int

    def correct(self, setting: int, seed: int, readout: int) -> NDArray[np.bool_]:
        """(held-out images,): whether each was correct; arguments: indices into the axes."""
        held_out = slice(self.test_images, None)
        return self.predictions[setting, seed, readout, held_out] == self.labels[held_out]


CURVES = ("train_loss", "test_accuracy", "test_loss", "holdout_accuracy", "holdout_loss",
          "seconds", "test_seconds")  # fmt: skip


def load_curves(folder: Path = FOLDER) -> Curves:
    """Read the curves in a folder. Raises OSError or ValueError if a file cannot be read."""
    texts = json.loads((folder / "settings.json").read_text())
    arrays: dict[str, Any] = {}
    for name in ("curves.npz", "predictions.npz"):
        with np.load(folder / name, allow_pickle=False) as file:
            arrays |= {key: file[key] for key in file.files}
    # In the file, the predictions for an image are neighbors, which compresses them best.
    predictions = np.ascontiguousarray(arrays.pop("predictions").transpose(1, 2, 3, 0))
    return Curves(
        settings=tuple(texts["settings"]),
        seeds=tuple(texts["seeds"]),
        source=texts["source"],
        predictions=predictions,
        test_images=int(arrays.pop("test_images")),
        **arrays,
    )


def save_curves(curves: Curves, folder: Path = FOLDER) -> None:
    """Write the curves to a folder, for `load_curves`. Equal curves give equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: getattr(curves, name) for name in ("settings", "seeds", "source")}
    content = json.dumps(texts, indent=1)
    (folder / "settings.json").write_text(content + "\n")
    np.savez_compressed(folder / "curves.npz", **{name: getattr(curves, name) for name in CURVES})
    np.savez_compressed(
        folder / "predictions.npz",
        predictions=np.ascontiguousarray(curves.predictions.transpose(3, 0, 1, 2)),
        readouts=curves.readouts,
        labels=curves.labels,
        test_images=np.int64(curves.test_images),
    )


def equal(one: Curves, other: Curves) -> bool:
    """Whether all values are equal, bit by bit."""

    def bits(value: Any) -> Any:
        array = isinstance(value, np.ndarray)
        return (value.dtype, value.shape, value.tobytes()) if array else value

    names = [field.name for field in fields(Curves)]
    return all(bits(getattr(one, name)) == bits(getattr(other, name)) for name in names)
