"""Datasets from mirrors: whole or not at all, and what is said meanwhile."""

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
from made_data import FILE_NAMES
from small_mnist import ARCHIVES, SMALL, Mirror, Said, assert_small, files_under, put

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import download, files
from lenet_sweep.data.datasets import Images, ensure_dataset, load_dataset


def test_download_from_a_mirror(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """What is downloaded is laid out as torchvision does it, and shown as it arrives."""
    dataset = known(mirror.serve())
    said = Said()
    ensure_dataset(dataset, tmp_path, said)
    expected = {f"MNIST/raw/{name}": content for name, content in SMALL.items()}
    expected |= {f"MNIST/raw/{name}.gz": content for name, content in ARCHIVES.items()}
    assert files_under(tmp_path) == expected
    assert_small(load_dataset(dataset, tmp_path))
    assert [(what, total) for what, total, _ in said.transfers] == [
        (f"{mirror.url}{name}.gz", len(ARCHIVES[name])) for name in FILE_NAMES
    ]
    assert all(sum(counts) == total for _, total, counts in said.transfers)
    ensure_dataset(dataset, tmp_path)
    assert len(mirror.asked) == 4  # the second time nothing is missing


def test_only_what_is_missing_is_downloaded(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """One damaged file costs one download, and the replacement is said."""
    path = put(tmp_path / "MNIST/raw", SMALL) / FILE_NAMES[2]
    path.write_bytes(SMALL[path.name][:-1])
    said = Said()
    ensure_dataset(known(mirror.serve()), tmp_path, said)
    assert mirror.asked == [f"/{FILE_NAMES[2]}.gz"]
    assert path.read_bytes() == SMALL[path.name]
    assert f"{path} was damaged: replaced by verified content" in said.lines


@pytest.mark.parametrize("bad", [b"", b"<html>sign in first</html>", ARCHIVES[FILE_NAMES[0]][:-1]])
def test_mirror_that_is_damaged_once(
    bad: bytes, mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A transfer damaged by chance is made again; its content is never used."""
    dataset = known(mirror.serve())
    mirror.answers[f"/{FILE_NAMES[0]}.gz"].insert(0, bad)
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))
    assert len(mirror.asked) == 5


def test_mirror_that_stays_damaged(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A mirror with wrong content is left for the next one."""
    dataset = known(mirror.serve("bad/"), mirror.serve("good/"))
    mirror.answers[f"/bad/{FILE_NAMES[1]}.gz"] = [b"wrong"]
    ensure_dataset(dataset, tmp_path)
    assert_small(load_dataset(dataset, tmp_path))
    assert mirror.asked == [f"/bad/{FILE_NAMES[0]}.gz"] + [f"/bad/{FILE_NAMES[1]}.gz"] * 2 + [
        f"/good/{name}.gz" for name in FILE_NAMES[1:]
    ]


def test_transfer_that_breaks_off(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A download that ends early is no download: nothing of it stays."""
    mirror.held_back = 5
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
        ensure_dataset(known(mirror.serve()), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_server_that_is_none(mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Something else that answers at a mirror's address is one of the things tried."""
    mirror.speaks_http = False
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: 220 ready"):
        ensure_dataset(known(mirror.url), tmp_path)


def test_answer_without_end(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends and sends does not fill the memory."""
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        ensure_dataset(known(mirror.serve()), tmp_path)


def test_mirror_that_never_answers(
    tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a firewall that swallows everything, a mirror costs seconds, once, not minutes."""
    hung_up = threading.Event()
    asked = []

    def swallow(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.full_url)
        hung_up.wait()
        raise OSError

    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(urllib.request, "urlopen", swallow)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"http://nowhere/.*: no answer within 0\.05 s"):
        ensure_dataset(known("http://nowhere/"), tmp_path)
    hung_up.set()
    assert time.monotonic() - began < 5
    assert len(asked) == 1


def test_two_at_once(mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Two sweeps that start together on an empty folder both get whole files."""
    dataset = known(mirror.serve())
    start = threading.Barrier(4)

    def sweep(_: int) -> Images:
        start.wait()
        ensure_dataset(dataset, tmp_path)
        return load_dataset(dataset, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for images in pool.map(sweep, range(4)):
            assert_small(images)
    assert len(files_under(tmp_path)) == 8


def test_content_that_is_there_already(tmp_path: Path) -> None:
    """Of two sweeps that download at once, neither calls the other's file damaged."""
    path = tmp_path / "file"
    assert not files.write(path, b"new")
    assert not files.write(path, b"new")
    assert files.write(path, b"newer")
    assert path.read_bytes() == b"newer"


# Disks --------------------------------------------------------------------------------------------


def test_file_where_a_folder_should_be(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A file in the way of the data folder is named; what was downloaded is not half kept."""
    (tmp_path / "MNIST").write_text("in the way")
    with pytest.raises(
        DataError, match=r"MNIST/raw/train.*cannot be written.*dataset\.root=FOLDER"
    ):
        ensure_dataset(known(mirror.serve()), tmp_path)
    assert files_under(tmp_path) == {"MNIST": b"in the way"}


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")])
def test_full_disk(
    step: tuple[object, str],
    mirror: Mirror,
    tmp_path: Path,
    known: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk is said, with the path; the damaged file stays and no part of a new one."""
    path = put(tmp_path / "MNIST/raw", SMALL) / FILE_NAMES[0]
    path.write_bytes(b"damaged")
    before = files_under(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*step, full)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*No space left on device"):
        ensure_dataset(known(mirror.serve()), tmp_path)
    assert files_under(tmp_path) == before


def test_folder_in_place_of_a_file(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A folder that bears a file's name is said, not stumbled over."""
    path = tmp_path / "MNIST/raw" / FILE_NAMES[0]
    path.mkdir(parents=True)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: not a file"):
        load_dataset(known(), tmp_path)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be written"):
        ensure_dataset(known(mirror.serve()), tmp_path)


# What is shown ------------------------------------------------------------------------------------


def test_progress_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal each download is one plain line, and stdout stays clean."""
    progress = download.StderrProgress()
    with progress.transfer("http://mirror/a.gz", 2_500_000) as advance:
        advance(1_000_000)
        advance(1_500_000)
    with progress.transfer("a wheel", None):
        pass
    progress.say("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "downloading http://mirror/a.gz (2.5 MB)\ndownloading a wheel\ndone\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar shows how much of a download has arrived."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with download.StderrProgress().transfer("[a].gz", 2_500_000) as advance:
        advance(2_500_000)
    assert "downloading [a].gz" in terminal.getvalue()
    assert "2.5/2.5 MB" in terminal.getvalue()


def test_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a write leaves the old file and nothing beside it."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    put(tmp_path, SMALL)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / FILE_NAMES[0], b"new")
    assert files_under(tmp_path) == SMALL
