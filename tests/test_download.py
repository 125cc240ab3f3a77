"""Downloads from mirrors: complete or not at all, and what is displayed meanwhile."""

import errno
import io
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from generated_data import FILE_NAMES
from small_mnist import ARCHIVES, SMALL, Mirror, RecordedProgress, assert_small, files_under, put

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import mirror as mirror_module
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.data.download import ensure_dataset, write_file
from lenet_sweep.data.images import Images
from lenet_sweep.data.transfer import StderrProgress


def test_download_from_a_mirror(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """Downloads have torchvision's folder layout and are displayed as they arrive."""
    dataset = small_dataset(mirror.serve())
    recorded = RecordedProgress()
    ensure_dataset(dataset, tmp_path, recorded)
    expected = {f"MNIST/raw/{name}": content for name, content in SMALL.items()}
    expected |= {f"MNIST/raw/{name}.gz": content for name, content in ARCHIVES.items()}
    assert files_under(tmp_path) == expected
    assert_small(load_dataset(dataset, tmp_path))
    assert [(what, total) for what, total, _ in recorded.transfers] == [
        (f"{mirror.url}{name}.gz", len(ARCHIVES[name])) for name in FILE_NAMES
    ]
    assert all(sum(counts) == total for _, total, counts in recorded.transfers)
    ensure_dataset(dataset, tmp_path)
    assert len(mirror.requested) == 4  # the second call downloads nothing


def test_only_what_is_missing_is_downloaded(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """One damaged file causes one download, and its replacement is reported."""
    path = put(tmp_path / "MNIST/raw", SMALL) / FILE_NAMES[2]
    path.write_bytes(SMALL[path.name][:-1])
    recorded = RecordedProgress()
    ensure_dataset(small_dataset(mirror.serve()), tmp_path, recorded)
    assert mirror.requested == [f"/{FILE_NAMES[2]}.gz"]
    assert path.read_bytes() == SMALL[path.name]
    assert f"{path} was damaged: replaced by verified content" in recorded.lines


@pytest.mark.parametrize("bad", [b"", b"<html>sign in first</html>", ARCHIVES[FILE_NAMES[0]][:-1]])
def test_a_damaged_transfer_is_repeated(
    bad: bytes, mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A transfer that was damaged by chance is repeated, and its content is never used."""
    dataset = small_dataset(mirror.serve())
    mirror.answers[f"/{FILE_NAMES[0]}.gz"].insert(0, bad)
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))
    assert len(mirror.requested) == 5


def test_a_mirror_with_wrong_content_is_skipped(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """After two damaged transfers, the next mirror is used."""
    dataset = small_dataset(mirror.serve("bad/"), mirror.serve("good/"))
    mirror.answers[f"/bad/{FILE_NAMES[1]}.gz"] = [b"wrong"]
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))
    assert mirror.requested == [f"/bad/{FILE_NAMES[0]}.gz"] + [f"/bad/{FILE_NAMES[1]}.gz"] * 2 + [
        f"/good/{name}.gz" for name in FILE_NAMES[1:]
    ]


def test_an_incomplete_transfer_leaves_no_file(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A download that ends early is an error, and nothing of it is kept."""
    mirror.withheld = 5
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
        ensure_dataset(small_dataset(mirror.serve()), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_server_that_is_not_http(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A server with another protocol at a mirror's address is listed as an attempt."""
    mirror.speaks_http = False
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: 220 ready"):
        ensure_dataset(small_dataset(mirror.url), tmp_path)


def test_an_endless_answer(
    mirror: Mirror,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that never stops sending does not fill the memory."""
    monkeypatch.setattr(mirror_module, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        ensure_dataset(small_dataset(mirror.serve()), tmp_path)


def test_a_mirror_that_never_answers(
    tmp_path: Path, small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a firewall that drops packets, a mirror costs seconds, once."""
    hung_up = threading.Event()
    requested = []

    def swallow(request: urllib.request.Request, timeout: float) -> None:
        requested.append(request.full_url)
        hung_up.wait()
        raise OSError

    monkeypatch.setattr(mirror_module, "TIMEOUT", 0.05)
    monkeypatch.setattr(urllib.request, "urlopen", swallow)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"http://nowhere/.*: no response within 0\.05 s"):
        ensure_dataset(small_dataset("http://nowhere/"), tmp_path)
    hung_up.set()
    assert time.monotonic() - began < 5
    assert len(requested) == 1


def test_concurrent_downloads(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """Sweeps that start together with an empty data folder all get complete files."""
    dataset = small_dataset(mirror.serve())
    start = threading.Barrier(4)

    def sweep(_: int) -> Images:
        start.wait()
        ensure_dataset(dataset, tmp_path)
        return load_dataset(dataset, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for images in pool.map(sweep, range(4)):
            assert_small(images)
    assert len(files_under(tmp_path)) == 8


def test_identical_content_is_not_called_damaged(tmp_path: Path) -> None:
    """Of two sweeps that download at once, neither reports the other's file as damaged."""
    path = tmp_path / "file"
    assert not write_file(path, b"new")
    assert not write_file(path, b"new")
    assert write_file(path, b"newer")
    assert path.read_bytes() == b"newer"


# Disks --------------------------------------------------------------------------------------------


def test_a_file_in_place_of_the_data_folder(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """The error names it, and no part of the download is kept."""
    (tmp_path / "MNIST").write_text("in the way")
    with pytest.raises(
        DataError, match=r"MNIST/raw/train.*cannot be written.*dataset\.root=FOLDER"
    ):
        ensure_dataset(small_dataset(mirror.serve()), tmp_path)
    assert files_under(tmp_path) == {"MNIST": b"in the way"}


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")])
def test_full_disk(
    step: tuple[object, str],
    mirror: Mirror,
    tmp_path: Path,
    small_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the path; the old file stays, and no part of a new one is left."""
    path = put(tmp_path / "MNIST/raw", SMALL) / FILE_NAMES[0]
    path.write_bytes(b"damaged")
    before = files_under(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*step, full)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*No space left on device"):
        ensure_dataset(small_dataset(mirror.serve()), tmp_path)
    assert files_under(tmp_path) == before


def test_folder_in_place_of_a_file(
    mirror: Mirror, tmp_path: Path, small_dataset: Callable[..., Dataset]
) -> None:
    """A folder with the name of a file is reported."""
    path = tmp_path / "MNIST/raw" / FILE_NAMES[0]
    path.mkdir(parents=True)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: not a regular file"):
        load_dataset(small_dataset(), tmp_path)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be written"):
        ensure_dataset(small_dataset(mirror.serve()), tmp_path)


# Display ----------------------------------------------------------------------------------------


def test_progress_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    """If stderr is not a terminal, each download is one line, and stdout stays empty."""
    progress = StderrProgress()
    with progress.transfer("http://mirror/a.gz", 2_500_000) as advance:
        advance(1_000_000)
        advance(1_500_000)
    with progress.transfer("a wheel", None):
        pass
    progress.on_message("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "downloading http://mirror/a.gz (2.5 MB)\ndownloading a wheel\ndone\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, a bar shows how much of a download has arrived."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with StderrProgress().transfer("[a].gz", 2_500_000) as advance:
        advance(2_500_000)
    assert "downloading [a].gz" in terminal.getvalue()
    assert "2.5/2.5 MB" in terminal.getvalue()


def test_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a write keeps the old file and leaves no temporary file."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    put(tmp_path, SMALL)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / FILE_NAMES[0], b"new")
    assert files_under(tmp_path) == SMALL
