"""IDX files, the format of MNIST and its kin: reading, strict parsing, writing in one step."""

import gzip
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataError
from lenet_sweep.storage import atomic


class Content(NamedTuple):
    """What a file holds and where it was read."""

    source: Path
    array: NDArray[np.uint8]  # its bytes, uncompressed


def read(path: Path) -> NDArray[np.uint8] | None:
    """The file's bytes, None if there is no such file. Raises DataError if it cannot be read.

    They are writable, so that `parse` need not copy them.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would block for ever
            raise DataError(f"{path}: not a file")
        with path.open("rb") as file:  # not numpy's fromfile, to which a failing disk is an end
            array = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
            return array[: file.readinto(array.data)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def decompress(path: Path, archive: bytes | memoryview) -> NDArray[np.uint8]:
    """What the gzip archive read from `path` holds. Raises DataError."""
    try:
        return np.frombuffer(gzip.decompress(archive), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip archive: {error}") from error


def parse(
    images_file: Content, labels_file: Content
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 28, 28) and their labels (N,) in 0..9, N at least 1; both writable.

    They are views of the bytes where those are writable, else copies.

    Raises DataError naming the file and what is wrong with it.
    """
    images = _parse_file(images_file, "images", (28, 28))
    labels = _parse_file(labels_file, "labels", ())
    if len(images) != len(labels):
        raise DataError(
            f"{labels_file.source}: {len(labels)} labels for the {len(images)} images "
            f"of {images_file.source}; each image needs one"
        )
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        raise DataError(
            f"{labels_file.source}: label {labels[wrong[0]]} at position {wrong[0]}; "
            "allowed are 0 to 9"
        )
    return images, labels


def _parse_file(file: Content, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The (count, *shape) array: big-endian magic number and dimensions, then unsigned bytes."""
    dimensions = 1 + len(shape)
    offset = 4 * (1 + dimensions)
    magic = 0x0800 + dimensions  # 08: unsigned bytes
    if len(file.array) < offset:
        raise DataError(
            f"{file.source}: {len(file.array)} bytes, but the IDX header of {kind} has {offset}"
        )
    found, count, *size = (
        int.from_bytes(file.array[at : at + 4].tobytes(), "big") for at in range(0, offset, 4)
    )
    if found != magic:
        raise DataError(f"{file.source}: magic number {found}; IDX {kind} begin with {magic}")
    if tuple(size) != shape:
        pixels = " x ".join(map(str, size))
        raise DataError(f"{file.source}: images of {pixels} pixels; allowed are 28 x 28")
    if count == 0:
        raise DataError(f"{file.source}: holds no {kind}; at least one is needed")
    expected = offset + count * int(np.prod(shape, dtype=int))
    if len(file.array) != expected:
        raise DataError(
            f"{file.source}: {len(file.array)} bytes, but {expected} for the {count} {kind} "
            "that its header announces"
        )
    array = file.array[offset:].reshape(count, *shape)
    return array if array.flags.writeable else array.copy()  # torch wants writable ones


def write(path: Path, data: bytes | memoryview) -> bool:
    """Write a file in one step: others see the old content or the new, never a part.

    True if other content was replaced. Raises DataError, and leaves what was there.
    """
    try:
        old = read(path)
    except DataError:  # unreadable: to be replaced
        old = np.empty(0, np.uint8)
    if old is not None and old.data == data:  # another process was faster
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(path, data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; "
            "make room or name another folder with dataset.root=FOLDER"
        ) from error
    return old is not None
