"""IDX, the file format of MNIST: strict decoding of bytes into images and labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataError
from lenet_sweep.data.files import Content
from lenet_sweep.data.images import MAX_CLASSES, MAX_SIDE, Labels, Pixels, label_type

UNSIGNED_BYTES = {0x08: ">u1"}
INTEGERS = UNSIGNED_BYTES | {0x0B: ">i2", 0x0C: ">i4"}


@dataclass(frozen=True, eq=False)
class ImagesAndLabels:
    """Images, uint8 (N, height, width), and their labels, int64 (N,), as stored in two files."""

    images: Pixels
    labels: NDArray[np.int64]
    labels_file: Content


def read(images_file: Content, labels_file: Content) -> ImagesAndLabels:
    """The images and labels of two files, with N at least 1.

    The images are writable: a view of the given bytes if those are writable, else a copy. Raises
    DataError, naming the file and the problem.
    """
    images = _decode_file(images_file, "images", 3, UNSIGNED_BYTES)
    labels = _decode_file(labels_file, "labels", 1, INTEGERS)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_file.source}: {len(labels)} labels for the {len(images)} images "
            f"of {images_file.source}; each image needs one"
        )
    return ImagesAndLabels(images, labels.astype(np.int64), labels_file)


def decode(
    images_file: Content, labels_file: Content, classes: int, size: tuple[int, int]
) -> tuple[Pixels, Labels]:
    """Decode images of this size (height, width) and their labels, 0 to classes - 1; see `read`.

    Raises DataError, naming the file and the problem.
    """
    pair = read(images_file, labels_file)
    if pair.images.shape[1:] != size:
        raise DataError(
            f"{images_file.source}: images of {_by(pair.images.shape[1:])} pixels; "
            f"must be {_by(size)}"
        )
    return pair.images, checked_labels(pair, classes)


def checked_labels(pair: ImagesAndLabels, classes: int) -> Labels:
    """The labels of a pair in their `label_type`. Raises DataError unless 0 to classes - 1."""
    invalid = np.flatnonzero((pair.labels < 0) | (pair.labels >= classes))
    if len(invalid):
        raise DataError(
            f"{pair.labels_file.source}: label {pair.labels[invalid[0]]} at position {invalid[0]}; "
            f"must be 0 to {classes - 1}"
        )
    return pair.labels.astype(label_type(classes))


def count_classes(train: ImagesAndLabels) -> int:
    """The number of classes of training images: their largest label plus 1.

    With more than 10 classes, each label up to the largest one must occur, so that a damaged label
    does not become a class. Raises DataError if the labels do not make 2 to MAX_CLASSES classes.
    """
    largest = int(train.labels.max())
    if largest < 1:
        raise DataError(
            f"{train.labels_file.source}: no label above 0; at least 2 classes are required, "
            "with labels starting at 0"
        )
    classes = min(largest + 1, MAX_CLASSES)
    checked_labels(train, classes)
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if classes > 10 and len(missing):
        position = int(train.labels.argmax())
        raise DataError(
            f"{train.labels_file.source}: label {largest} at position {position}, but no label "
            f"{missing[0]}; the labels of more than 10 classes must not have gaps"
        )
    return classes


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _decode_file(file: Content, kind: str, dimensions: int, types: dict[int, str]) -> NDArray[Any]:
    """The array of a file: big-endian magic number and dimensions, then values.

    types: NumPy's name of each allowed type, by its code in the magic number.
    """
    offset = 4 * (1 + dimensions)
    if len(file.array) < offset:
        raise DataError(
            f"{file.source}: has {len(file.array)} bytes, but the IDX header of {kind} is {offset} "
            "bytes long"
        )
    magic, *shape = (
        int.from_bytes(file.array[at : at + 4].tobytes(), "big") for at in range(0, offset, 4)
    )
    if magic not in (allowed := [0x100 * code + dimensions for code in types]):
        raise DataError(
            f"{file.source}: magic number {magic}; must be {' or '.join(map(str, allowed))} "
            f"for IDX {kind}"
        )
    count, *size = shape
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise DataError(
            f"{file.source}: images of {_by(tuple(size))} pixels; "
            f"must be from 1 x 1 to {MAX_SIDE} x {MAX_SIDE}"
        )
    if count == 0:
        raise DataError(f"{file.source}: contains no {kind}; at least one is required")
    dtype = np.dtype(types[magic >> 8])
    length = offset + prod(shape) * dtype.itemsize
    if len(file.array) != length:
        raise DataError(
            f"{file.source}: has {len(file.array)} bytes, but must have {length} for the {count} "
            f"{kind} that its header declares"
        )
    array = file.array[offset:].view(dtype).reshape(shape)
    return array if array.flags.writeable else array.copy()  # torch needs writable arrays
