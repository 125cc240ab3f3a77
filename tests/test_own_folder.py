"""dataset=folder: a user's own IDX files, and dataset.limit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generated_data import FILE_NAMES, idx_bytes
from small_mnist import ARCHIVES, SMALL, assert_small, files_under, put, sha256

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data.datasets import find_dataset, load_dataset
from lenet_sweep.data.download import ensure_dataset


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_own_folder(suffix: str, tmp_path: Path) -> None:
    """A user's IDX files are read, compressed or not, and nothing is written."""
    put(tmp_path, ARCHIVES if suffix else SMALL, suffix)
    before = files_under(tmp_path)
    dataset = find_dataset("folder", tmp_path, None)
    assert dataset == Dataset("folder", sha256(b"".join(SMALL.values())), None)
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))
    assert files_under(tmp_path) == before


def test_small_folder_can_be_learned(small_folder: Callable[..., Path]) -> None:
    """The classes of the generated data that other tests train on are separable."""
    root = small_folder()
    images = load_dataset(find_dataset("folder", root, None), root)
    assert images.train_images.shape == (600, 28, 28)
    assert images.test_images.shape == (200, 28, 28)
    train = images.train_images.reshape(600, -1).astype(float)
    means = np.stack([train[images.train_labels == label].mean(0) for label in range(10)])
    distances = np.abs(images.test_images.reshape(200, 1, -1) - means).sum(2)
    assert (distances.argmin(1) == images.test_labels).all()
    assert small_folder() == root
    assert small_folder(seed=1) != root


def zeros(*shape: int) -> bytes:
    return idx_bytes(np.zeros(shape, np.uint8))


LABELS = np.frombuffer(SMALL[FILE_NAMES[1]], np.uint8, offset=8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (FILE_NAMES[0], b"", "has 0 bytes, but the IDX header of images is 16 bytes long"),
        (FILE_NAMES[1], b"\0" * 7, "has 7 bytes, but the IDX header of labels is 8 bytes long"),
        (FILE_NAMES[0], zeros(28, 28), "magic number 2050; must be 2051 for IDX images"),
        (FILE_NAMES[1], SMALL[FILE_NAMES[0]], "magic number 2051; must be 2049 or 2817"),
        (FILE_NAMES[2], SMALL[FILE_NAMES[3]], "magic number 2049; must be 2051 for IDX images"),
        (FILE_NAMES[0], zeros(1, 28, 1025), "images of 28 x 1025 pixels; must be from 1 x 1 to"),
        (FILE_NAMES[0], zeros(30, 0, 28), "images of 0 x 28 pixels; must be from 1 x 1 to"),
        (FILE_NAMES[2], zeros(20, 32, 32), "images of 32 x 32 pixels; must be 28 x 28"),
        (
            FILE_NAMES[2],
            SMALL[FILE_NAMES[2]][:-1],
            "has 15695 bytes, but must have 15696 for the 20",
        ),
        (FILE_NAMES[2], SMALL[FILE_NAMES[2]] + b"\0", "has 15697 bytes, but must have 15696 for"),
        (FILE_NAMES[3], SMALL[FILE_NAMES[3]] + b"\0", "has 29 bytes, but must have 28 for the 20"),
        (FILE_NAMES[1], idx_bytes(LABELS[:-1]), "29 labels for the 30 images of"),
        (FILE_NAMES[3], idx_bytes(LABELS), "30 labels for the 20 images of"),
        (
            FILE_NAMES[1],
            idx_bytes(np.r_[LABELS[:-1], np.uint8(11)]),
            "label 11 at position 29, but no label 10; the labels of more than 10 classes",
        ),
        (
            FILE_NAMES[1],
            idx_bytes(np.r_[LABELS[:-1], np.int32(1000)]),
            "label 1000 at position 29; must be 0 to 999",
        ),
        (FILE_NAMES[1], idx_bytes(np.r_[LABELS[:-1], np.int16(-1)]), "label -1 at position 29"),
        (FILE_NAMES[1], zeros(30), "no label above 0; at least 2 classes are required"),
        (FILE_NAMES[3], idx_bytes(np.full(20, 10, np.uint8)), "label 10 at position 0; must be 0"),
        (FILE_NAMES[3], idx_bytes(np.full(20, 255, np.uint8)), "label 255 at position 0"),
        (FILE_NAMES[0], zeros(0, 28, 28), "contains no images; at least one is required"),
        (FILE_NAMES[3], zeros(0), "contains no labels; at least one is required"),
    ],
)
def test_invalid_file_is_reported(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """The message names the file and its fault before anything is trained."""
    put(tmp_path, SMALL | {name: content})
    with pytest.raises(DataError) as caught:
        find_dataset("folder", tmp_path, None)
    assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


@pytest.mark.parametrize(
    "content",
    [
        ARCHIVES[FILE_NAMES[0]][:-1],  # truncated: EOFError
        ARCHIVES[FILE_NAMES[0]][:20] + b"\xff" * 20 + ARCHIVES[FILE_NAMES[0]][40:],  # zlib.error
        SMALL[FILE_NAMES[0]],  # not compressed: OSError
        ARCHIVES[FILE_NAMES[0]] + b"more",
    ],
)
def test_damaged_archive_is_reported(content: bytes, tmp_path: Path) -> None:
    """The message names a damaged archive, for each kind of damage."""
    put(tmp_path, ARCHIVES | {FILE_NAMES[0]: content}, ".gz")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged gzip archive: ."):
        find_dataset("folder", tmp_path, None)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    """The message names all missing files."""
    put(tmp_path, {name: SMALL[name] for name in FILE_NAMES[:2]})
    with pytest.raises(DataError, match=f"contains no {FILE_NAMES[2]}, {FILE_NAMES[3]}, "):
        find_dataset("folder", tmp_path, None)
    with pytest.raises(
        DataError, match=f"no such folder; set it to the folder with {FILE_NAMES[0]}, "
    ):
        find_dataset("folder", tmp_path / "absent", None)


def test_own_folder_needs_a_root() -> None:
    """The message for dataset=folder alone names the missing key."""
    with pytest.raises(UsageError, match=r"dataset=folder requires dataset\.root=FOLDER"):
        find_dataset("folder", None, None)


def test_changed_folder_is_rejected(tmp_path: Path) -> None:
    """Images that change while a sweep runs do not enter its table."""
    dataset = find_dataset("folder", put(tmp_path, SMALL), None)
    content = bytearray(SMALL[FILE_NAMES[2]])
    content[100] ^= 1
    (tmp_path / FILE_NAMES[2]).write_bytes(content)
    for use in (load_dataset, ensure_dataset):
        with pytest.raises(DataError, match="dataset=folder: the content has changed"):
            use(dataset, tmp_path)


# The limit ----------------------------------------------------------------------------------------


def test_limit(tmp_path: Path) -> None:
    """dataset.limit selects the first training images and keeps all test images."""
    put(tmp_path, SMALL)
    images = load_dataset(find_dataset("folder", tmp_path, 7), tmp_path)
    full = load_dataset(find_dataset("folder", tmp_path, None), tmp_path)
    assert np.array_equal(images.train_images, full.train_images[:7])
    assert np.array_equal(images.train_labels, full.train_labels[:7])
    assert np.array_equal(images.test_images, full.test_images)
    assert np.array_equal(images.test_labels, full.test_labels)
    assert images.train_images.base is None  # a copy: the other images are not kept in memory


@pytest.mark.parametrize("limit", [0, -1, 31])
def test_limit_out_of_range(limit: int, tmp_path: Path) -> None:
    """The message for an invalid limit gives the valid range."""
    put(tmp_path, SMALL)
    message = rf"dataset\.limit={limit}: must be from 1 to 30"
    with pytest.raises(UsageError, match=message):
        find_dataset("folder", tmp_path, limit)
    dataset = replace(find_dataset("folder", tmp_path, None), limit=limit)
    with pytest.raises(UsageError, match=message):
        load_dataset(dataset, tmp_path)
    with pytest.raises(UsageError, match="must be from 1 to 60000"):
        find_dataset("mnist", None, 60_001)


def test_limit_of_all_images_is_no_limit() -> None:
    """A limit of 60,000 is the same dataset as all of MNIST."""
    assert find_dataset("mnist", None, 60_000) == find_dataset("mnist", None, None)
    assert find_dataset("mnist", None, 59_999).limit == 59_999
