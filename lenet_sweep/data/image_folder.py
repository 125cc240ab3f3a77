"""Folders of image files, DIR/train/<class>/* and DIR/test/<class>/*: find, identify and decode.

The classes are the subfolders of train/, sorted by name. Files are sorted by name in each class.
The training images are then mixed, always in the same order, so that `limit` and `holdout` take
images of all classes, and so that training without shuffling does not see one class after another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataFolderError
from lenet_sweep.core.text import describe_os_error, one_line
from lenet_sweep.data.image_files import decode as decode_file
from lenet_sweep.data.image_files import read_bytes, scale, show, to_gray
from lenet_sweep.data.images import MAX_CLASSES, Images, Labels, label_type

MAX_TOTAL_BYTES = 2**30  # of all images after scaling, one byte per pixel
MAX_THREADS = 8  # that decode
IGNORED = ("Thumbs.db", "desktop.ini")  # in addition to hidden files
LAYOUT = "put the images into train/CLASS/ and test/CLASS/"

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFile:
    """An image file and its label."""

    path: Path
    label: int


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a dataset, in the order of the images.

    class_names: by label. size: height and width to which the images are scaled, in pixels.
    """

    class_names: tuple[str, ...]
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    size: tuple[int, int]

    @property
    def all(self) -> tuple[ImageFile, ...]:
        """The training images, then the test images."""
        return self.train + self.test


def find(root: Path, size: tuple[int, int]) -> ImageFiles:
    """Find the image files in `root`, without reading them.

    Raises DataFolderError, naming the folder and the fix, if the folders are not as described in
    this module, or if the images would take more than MAX_TOTAL_BYTES.
    """
    if not root.is_dir():
        why = "is not a folder" if root.exists() else "there is no such folder"
        raise DataFolderError(
            f"dataset.root={show(root)}: {why}; set it to the folder with train/ and test/"
        )
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise DataFolderError(f"dataset.root={show(root)}: no folder {part}/; {LAYOUT}")
    train, test = (_class_folders(root / part) for part in ("train", "test"))
    if not 2 <= len(train) <= MAX_CLASSES:
        raise DataFolderError(
            f"{show(root / 'train')}: must contain a folder for each of 2 to {MAX_CLASSES} "
            f"classes, not {len(train)}; {LAYOUT}"
        )
    if not test:
        raise DataFolderError(f"{show(root / 'test')}: contains no class folders; {LAYOUT}")
    if unknown := sorted(test.keys() - train.keys()):
        raise DataFolderError(
            f"{show(test[unknown[0]])}: there is no train/{show(unknown[0])}; each class needs "
            "training images"
        )
    names = sorted(train)
    parts = [
        [
            ImageFile(path, label)
            for label, name in enumerate(names)
            if name in folders
            for path in _image_paths(folders[name])
        ]
        for folders in (train, test)
    ]
    _check_total(root, len(parts[0]) + len(parts[1]), size)
    order = np.random.RandomState(0).permutation(len(parts[0]))
    mixed = tuple(parts[0][index] for index in order)
    return ImageFiles(tuple(map(one_line, names)), mixed, tuple(parts[1]), size)


def fingerprint(files: ImageFiles) -> str:
    """The identity (hex) of the files and of the size to which they are scaled.

    Reads all files but decodes none. Raises DataError if a file cannot be read.
    """
    return _combine(files, _parallel(lambda file: _sha256(read_bytes(file.path)), files))


def decode(files: ImageFiles) -> tuple[Images, str]:
    """Decode all images, and return them with the fingerprint of the files as they were decoded.

    Images are converted to gray as Pillow's mode "L" (ITU-R 601) and scaled by bilinear
    interpolation, without keeping the aspect ratio. Of several frames, the first one is used.
    Transparency is ignored. Raises DataError, naming the file, if one cannot be decoded.
    """
    pixels = np.empty((len(files.all), *files.size), np.uint8)
    hashes = []

    def decode_one(file: ImageFile) -> tuple[NDArray[np.uint8], bytes]:
        content = read_bytes(file.path)
        pixels = decode_file(file.path, content, lambda image: scale(to_gray(image), files.size))
        return pixels, _sha256(content)

    for index, (image, content_hash) in enumerate(_parallel(decode_one, files)):
        pixels[index] = image
        hashes.append(content_hash)
    count = len(files.train)
    images = Images(
        train_images=pixels[:count],
        train_labels=_labels(files.train, files),
        test_images=pixels[count:],
        test_labels=_labels(files.test, files),
        class_names=files.class_names,
    )
    return images, _combine(files, hashes)


def digest(images: Images) -> str:
    """The identity (hex) of decoded images: class names, labels and pixels, in their order."""
    arrays = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    header = [images.class_names, [(array.dtype.str, array.shape) for array in arrays]]
    sha256 = hashlib.sha256(json.dumps(header).encode())
    for array in arrays:
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _class_folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in _list(folder) if path.is_dir()}


def _image_paths(folder: Path) -> list[Path]:
    paths = sorted(_list(folder), key=lambda path: path.name)
    for path in paths:
        if path.is_dir():
            raise DataFolderError(f"{show(path)}: a folder inside a class; {LAYOUT}")
    if not paths:
        raise DataFolderError(f"{show(folder)}: contains no images; add some or remove the folder")
    return paths


def _list(folder: Path) -> list[Path]:
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise DataFolderError(f"dataset.root: cannot list {describe_os_error(error)}") from error
    return [path for path in paths if not path.name.startswith(".") and path.name not in IGNORED]


def _check_total(root: Path, count: int, size: tuple[int, int]) -> None:
    total = count * size[0] * size[1]
    if total > MAX_TOTAL_BYTES:
        raise DataFolderError(
            f"dataset.root={show(root)}: {count:,} images of {size[0]} x {size[1]} pixels take "
            f"{total / 2**30:.1f} GiB, but the limit is {MAX_TOTAL_BYTES / 2**30:g} GiB; set a "
            "smaller dataset.size or remove images"
        )


def _parallel(function: Callable[[ImageFile], T], files: ImageFiles) -> Iterator[T]:
    """The results for all files, in order. Reading and decoding do not hold Python's lock."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        yield from pool.map(function, files.all)


def _combine(files: ImageFiles, hashes: Iterator[bytes] | list[bytes]) -> str:
    names = [(file.path.parent.name, file.path.name, file.label) for file in files.all]
    header = [files.class_names, files.size, len(files.train), names]
    sha256 = hashlib.sha256(json.dumps(header).encode())
    for content_hash in hashes:
        sha256.update(content_hash)
    return sha256.hexdigest()


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _labels(part: tuple[ImageFile, ...], files: ImageFiles) -> Labels:
    return np.array([file.label for file in part], label_type(len(files.class_names)))
