"""Datasets: their identity, and their images and labels.

Reading a dataset has three steps: find its files and verify them (`files`), then decode them
(`idx`); for a folder of image files, see `image_folder`. Files are verified each time they are
loaded, so that a flipped bit on a disk ends in an error before the first epoch and not in a wrong
accuracy. Nothing here downloads (see `download.ensure_dataset`), and only the cache of decoded
image folders is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lenet_sweep.core.cells import MNIST_SIZE, Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data import decoded_images, files, idx, image_folder
from lenet_sweep.data.catalog import FILE_NAMES, FOLDER, IMAGE_FOLDER, OWN_DATASETS, find_spec
from lenet_sweep.data.images import Images, LabeledImages, Labels, Pixels

TRAIN_FILES, TEST_FILES = FILE_NAMES[:2], FILE_NAMES[2:]


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
    name: str,
    root: Path | None,
    limit: int | None,
    holdout: int | None = None,
    size: int | None = None,
) -> Dataset:
    """The identity of a dataset. Reads nothing for catalog datasets, and all of the user's files.

    size: height and width in pixels to which the images of an "image_folder" are scaled; None: 28.

    Raises UsageError for an unknown name, a dataset of the user without `root`, a size for another
    dataset, a limit outside 1..N (N training images), or a holdout that leaves no training image,
    and DataError if the user's files are missing or malformed.
    """
    if size is not None and name != IMAGE_FOLDER:
        raise UsageError(
            f"dataset.size={size}: only dataset={IMAGE_FOLDER} scales its images; "
            "remove dataset.size"
        )
    if name == IMAGE_FOLDER:
        dataset, count = _find_image_folder(_own_root(name, root), size or MNIST_SIZE[0])
    elif name == FOLDER:
        dataset, count = _find_folder(_own_root(name, root))
    else:
        spec = find_spec(name)
        dataset = Dataset(name, spec.digest, classes=len(spec.class_names))
        count = spec.train_count
    _check_limit(limit, count)
    _check_holdout(holdout, limit or count)
    # A limit that selects all images is the same dataset as no limit.
    return replace(dataset, limit=None if limit == count else limit, holdout=holdout)


def load_dataset(dataset: Dataset, root: Path | None, *, read_only: bool = False) -> Images:
    """Load and verify the dataset in `root` (None: default_root()). Never downloads.

    read_only: do not add the decoded images of an image folder to the cache.
    Raises DataError if a file is missing or damaged, or if the user's files have changed since
    `find_dataset`; UsageError if the limit is outside 1..N.
    """
    if dataset.name == IMAGE_FOLDER:
        images = _load_image_folder(dataset, root, read_only=read_only)
    elif dataset.name == FOLDER:
        contents, digest = files.load_own_files(_own_root(FOLDER, root))
        _check_digest(dataset, digest)
        images = _decode(contents, dataset, _numbers(dataset.classes))
    else:
        spec = find_spec(dataset.name)
        contents = files.load_catalog_files(spec, spec.files, data_root(root))
        _check_digest(dataset, spec.digest)
        images = _decode(contents, dataset, spec.class_names)
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
    dataset: Dataset, root: Path | None, *, read_only: bool = False
) -> LabeledImages:
    """Load only the test images, verified like `load_dataset`.

    For a catalog dataset this skips the training images, which are six times as large.
    read_only: as for `load_dataset`. Raises the same errors as `load_dataset`.
    """
    if dataset.name in OWN_DATASETS:  # their digests cover all files
        every = replace(dataset, limit=None, holdout=None)
        images = load_dataset(every, root, read_only=read_only)
        return LabeledImages(
            images.test_images,
            images.test_labels,
            images.class_names,
            inverted=dataset.name != IMAGE_FOLDER,
        )
    spec = find_spec(dataset.name)
    _check_digest(dataset, spec.digest)
    tests = [file for file in spec.files if file.name in TEST_FILES]
    contents = files.load_catalog_files(spec, tests, data_root(root))
    return LabeledImages(*_decode_part(contents, TEST_FILES, dataset), spec.class_names)


def _find_folder(root: Path) -> tuple[Dataset, int]:
    """The identity of the IDX files in `root`, and the number of training images."""
    contents, digest = files.load_own_files(root)
    train = idx.read(*(contents[name] for name in TRAIN_FILES))
    height, width = train.images.shape[1:]
    dataset = Dataset(FOLDER, digest, classes=idx.count_classes(train), size=(height, width))
    _decode(contents, dataset, ())  # checks the test images, too
    return dataset, len(train.images)


def _find_image_folder(root: Path, side: int) -> tuple[Dataset, int]:
    """The identity of the image files in `root`, and the number of training images.

    They are decoded if they are not in the cache.
    """
    found = image_folder.find(root, (side, side))
    fingerprint = image_folder.fingerprint(found)
    digest = decoded_images.digest_of(_cache(), fingerprint)
    if digest is None:
        digest = _decode_image_folder(found)[1]
    classes = len(found.class_names)
    return Dataset(IMAGE_FOLDER, digest, classes=classes, size=found.size), len(found.train)


def _load_image_folder(dataset: Dataset, root: Path | None, *, read_only: bool) -> Images:
    """The images of a folder, from the cache or else from its files. Raises DataError."""
    if images := decoded_images.read(_cache(), dataset.digest):
        return images
    found = image_folder.find(_own_root(IMAGE_FOLDER, root), dataset.size)
    images, digest = _decode_image_folder(found, read_only=read_only)
    _check_digest(dataset, digest)
    return images


def _decode_image_folder(
    found: image_folder.ImageFiles, *, read_only: bool = False
) -> tuple[Images, str]:
    """Decode image files, and add them to the cache if allowed. Returns them and their digest."""
    images, fingerprint = image_folder.decode(found)
    digest = image_folder.digest(images)
    if not read_only:
        decoded_images.write(_cache(), fingerprint, digest, images)
    return images, digest


def _cache() -> Path:
    """The folder of decoded images."""
    return default_root() / "decoded"


def _numbers(classes: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(map(str, range(classes)))


def _decode(
    contents: dict[str, files.Content], dataset: Dataset, class_names: tuple[str, ...]
) -> Images:
    train, test = (_decode_part(contents, names, dataset) for names in (TRAIN_FILES, TEST_FILES))
    return Images(*train, *test, class_names=class_names)


def _decode_part(
    contents: dict[str, files.Content], names: Sequence[str], dataset: Dataset
) -> tuple[Pixels, Labels]:
    images_file, labels_file = (contents[name] for name in names)
    return idx.decode(images_file, labels_file, dataset.classes, dataset.size)


def _slice(array: NDArray[Any], start: int, end: int) -> NDArray[Any]:
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


def _own_root(name: str, root: Path | None) -> Path:
    """The folder of the user's own dataset. Raises UsageError if it is not given."""
    if root is None:
        content = f"the four files {', '.join(FILE_NAMES)}, uncompressed or as .gz"
        if name == IMAGE_FOLDER:
            content = "train/ and test/, each with a folder of images for each class"
        raise UsageError(f"dataset={name} requires dataset.root=FOLDER, the folder with {content}")
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
