"""Datasets: their identity, and their images and labels.

Reading a dataset has three steps: find its files and verify them (`files`), then decode them
(`idx`). Files are verified each time they are loaded, so that a flipped bit on a disk ends in an
error before the first epoch and not in a wrong accuracy. Nothing here writes or downloads; see
`download.ensure_dataset`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data import files, idx
from lenet_sweep.data.catalog import FILE_NAMES, FOLDER, find_spec

TEST_FILES = FILE_NAMES[2:]


@dataclass(frozen=True, eq=False)
class Images:
    """Images and labels for an engine: uint8, C-contiguous, pixels 0..255, labels 0..9."""

    train_images: NDArray[np.uint8]  # (N, 28, 28)
    train_labels: NDArray[np.uint8]  # (N,)
    test_images: NDArray[np.uint8]  # (M, 28, 28)
    test_labels: NDArray[np.uint8]  # (M,)
    # Training images that are held out, to rank cells without the test set: (H, 28, 28) and (H,).
    holdout_images: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 28, 28), "u1"))
    holdout_labels: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, "u1"))


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """The mean and the standard deviation of the pixels of images, as fractions of 255.

    Computed from integer counts, so that they do not depend on the order of a sum.
    """
    counts = np.bincount(images.reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=counts))) or 1.0


def default_root() -> Path:
    """The default data folder: $LENET_SWEEP_DATA, else lenet-sweep in the user's cache folder.

    Raises UsageError if the home directory of that folder does not exist.
    """
    configured = os.environ.get("LENET_SWEEP_DATA")
    if configured:
        return _expand_home(Path(configured))
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore relative paths.
    return _expand_home(cache if cache.is_absolute() else Path("~/.cache")) / "lenet-sweep"


def find_dataset(
    name: str, root: Path | None, limit: int | None, holdout: int | None = None
) -> Dataset:
    """The identity of a dataset. Reads nothing for catalog datasets, and all files of a "folder".

    Raises UsageError for an unknown name, a folder without `root`, a limit outside 1..N (N training
    images), or a holdout that leaves no training image, and DataError if the files of a "folder"
    are missing or malformed.
    """
    if name == FOLDER:
        contents, digest = files.load_own_files(_own_root(root))
        count = len(_decode(contents).train_images)
    else:
        spec = find_spec(name)
        digest, count = spec.digest, spec.train_count
    _check_limit(limit, count)
    _check_holdout(holdout, limit or count)
    # A limit that selects all images is the same dataset as no limit.
    return Dataset(name, digest, None if limit == count else limit, holdout)


def load_dataset(dataset: Dataset, root: Path | None) -> Images:
    """Load and verify the dataset in `root` (None: default_root()). Never downloads.

    Raises DataError if a file is missing or damaged, or if the content of a "folder" has changed
    since `find_dataset`; UsageError if the limit is outside 1..N.
    """
    if dataset.name == FOLDER:
        contents, digest = files.load_own_files(_own_root(root))
    else:
        spec = find_spec(dataset.name)
        contents, digest = files.load_catalog_files(spec, spec.files, data_root(root)), spec.digest
    images = _decode(contents)
    _check_digest(dataset, digest)
    _check_limit(dataset.limit, len(images.train_images))
    limit = dataset.limit or len(images.train_images)
    trained = limit - (dataset.holdout or 0)
    _check_holdout(dataset.holdout, limit)
    return replace(
        images,
        train_images=_slice(images.train_images, 0, trained),
        train_labels=_slice(images.train_labels, 0, trained),
        holdout_images=_slice(images.train_images, trained, limit),
        holdout_labels=_slice(images.train_labels, trained, limit),
    )


def load_test_images(
    dataset: Dataset, root: Path | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load only the test images (M, 28, 28) and their labels (M,), verified like `load_dataset`.

    For a catalog dataset this skips the training images, which are six times as large.
    Raises the same errors as `load_dataset`.
    """
    if dataset.name == FOLDER:  # its digest covers all files
        images = load_dataset(replace(dataset, limit=None, holdout=None), root)
        return images.test_images, images.test_labels
    spec = find_spec(dataset.name)
    _check_digest(dataset, spec.digest)
    tests = [file for file in spec.files if file.name in TEST_FILES]
    contents = files.load_catalog_files(spec, tests, data_root(root))
    return idx.decode(*(contents[name] for name in TEST_FILES))


def _decode(contents: dict[str, files.Content]) -> Images:
    train_images, train_labels, test_images, test_labels = (contents[name] for name in FILE_NAMES)
    return Images(*idx.decode(train_images, train_labels), *idx.decode(test_images, test_labels))


def _slice(array: NDArray[np.uint8], start: int, end: int) -> NDArray[np.uint8]:
    # A copy, so that the memory of the rest can be freed.
    return array if end - start == len(array) else array[start:end].copy()


def _check_digest(dataset: Dataset, digest: str) -> None:
    if digest != dataset.digest:
        raise DataError(
            f"dataset={dataset.name}: the content has changed since this run was planned "
            f"(digest {digest}, expected {dataset.digest}); start the sweep again"
        )


def _check_limit(limit: int | None, count: int) -> None:
    if limit is not None and not 1 <= limit <= count:
        raise UsageError(
            f"dataset.limit={limit}: must be from 1 to {count}, the number of training images, "
            "or null for all"
        )


def _check_holdout(holdout: int | None, count: int) -> None:
    if holdout is not None and not 1 <= holdout < count:
        raise UsageError(
            f"holdout={holdout}: must be from 1 to {count - 1} (there are {count} training "
            "images), or null for none"
        )


def _own_root(root: Path | None) -> Path:
    if root is None:
        raise UsageError(
            "dataset=folder requires dataset.root=FOLDER, the folder with the four files "
            f"{', '.join(FILE_NAMES)}, uncompressed or as .gz"
        )
    return _expand_home(root)


def data_root(root: Path | None) -> Path:
    """The folder of a catalog dataset; None is the default. Raises UsageError like default_root."""
    return default_root() if root is None else _expand_home(root)


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{path}: there is no such home directory; "
            "set the data folder with dataset.root=FOLDER or LENET_SWEEP_DATA"
        ) from error
