"""IDX, the file format of MNIST: strict decoding of bytes into images and labels."""

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataError
from lenet_sweep.data.files import Content


def decode(
    images_file: Content, labels_file: Content
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode images (N, 28, 28) and their labels (N,) in 0..9, with N at least 1.

    The arrays are writable: views of the given bytes if those are writable, else copies. Raises
    DataError, naming the file and the problem.
    """
    images = _decode_file(images_file, "images", (28, 28))
    labels = _decode_file(labels_file, "labels", ())
    if len(images) != len(labels):
        raise DataError(
            f"{labels_file.source}: {len(labels)} labels for the {len(images)} images "
            f"of {images_file.source}; each image needs one"
        )
    invalid = np.flatnonzero(labels > 9)
    if len(invalid):
        raise DataError(
            f"{labels_file.source}: label {labels[invalid[0]]} at position {invalid[0]}; "
            "must be 0 to 9"
        )
    return images, labels


def _decode_file(file: Content, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The (count, *shape) array of a file: big-endian magic number and dimensions, then bytes."""
    dimensions = 1 + len(shape)
    offset = 4 * (1 + dimensions)
    expected_magic = 0x0800 + dimensions  # 08 is the code of unsigned bytes
    if len(file.array) < offset:
        raise DataError(
            f"{file.source}: has {len(file.array)} bytes, but the IDX header of {kind} is {offset} "
            "bytes long"
        )
    magic, count, *size = (
        int.from_bytes(file.array[at : at + 4].tobytes(), "big") for at in range(0, offset, 4)
    )
    if magic != expected_magic:
        raise DataError(
            f"{file.source}: magic number {magic}; must be {expected_magic} for IDX {kind}"
        )
    if tuple(size) != shape:
        pixels = " x ".join(map(str, size))
        raise DataError(f"{file.source}: images of {pixels} pixels; must be 28 x 28")
    if count == 0:
        raise DataError(f"{file.source}: contains no {kind}; at least one is required")
    length = offset + count * int(np.prod(shape, dtype=int))
    if len(file.array) != length:
        raise DataError(
            f"{file.source}: has {len(file.array)} bytes, but must have {length} for the {count} "
            f"{kind} that its header declares"
        )
    array = file.array[offset:].reshape(count, *shape)
    return array if array.flags.writeable else array.copy()  # torch needs writable arrays
