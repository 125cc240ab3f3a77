"""Files of a dataset: find them and verify them by digest.

A catalog dataset may lie in any of three folders, uncompressed or as .gz. Nothing returned by
`find_catalog_files` is unverified.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataError, DataFolderError
from lenet_sweep.data.catalog import FILE_NAMES, DatasetSpec, File


class Content(NamedTuple):
    """The uncompressed bytes of a file, (N,) uint8, and the file that they were read from."""

    source: Path
    array: NDArray[np.uint8]


def find_catalog_files(
    spec: DatasetSpec, files: Sequence[File], root: Path
) -> tuple[dict[str, Content], dict[Path, str]]:
    """The verified contents of these files by name, and the problem of each rejected path.

    Uncompressed files are preferred to archives because they load in a third of the time.
    """
    contents: dict[str, Content] = {}
    problems: dict[Path, str] = {}
    absent = []
    folders = (download_folder(spec, root), root / "raw", root)
    for file in files:
        paths = [folder / f"{file.name}{suffix}" for suffix in ("", ".gz") for folder in folders]
        for path in paths:
            try:
                data = _read_verified(file, path)
            except DataError as error:
                problems[path] = str(error)
                continue
            if data is not None:
                contents[file.name] = Content(path, data)
                break
        if file.name not in contents and not problems.keys() & set(paths):
            absent.append(file.name)
    if absent:
        where = ", ".join(map(str, folders))
        problems[root] = f"no {', '.join(absent)}, uncompressed or as .gz, in {where}"
    return contents, problems


def load_catalog_files(spec: DatasetSpec, files: Sequence[File], root: Path) -> dict[str, Content]:
    """The verified contents of these files by name, in their order.

    Raises DataError if a file is missing or damaged.
    """
    contents, problems = find_catalog_files(spec, files, root)
    if len(contents) < len(files):
        raise unavailable_error(spec, root, unresolved_problems(contents, problems))
    return contents


def load_own_files(root: Path) -> tuple[dict[str, Content], str]:
    """The contents of the user's own files in `root`, and the digest (hex) of all of them.

    Raises DataFolderError if `root` is not a folder or a file is missing, and DataError if a file
    cannot be read.
    """
    if not root.is_dir():
        why = "is not a folder" if root.exists() else "there is no such folder"
        raise DataFolderError(
            f"dataset.root={root}: {why}; set it to the folder with {', '.join(FILE_NAMES)}, "
            "uncompressed or as .gz"
        )
    contents: dict[str, Content] = {}
    for name in FILE_NAMES:
        path = root / name
        data = read(path)
        if data is None:
            path = root / f"{name}.gz"
            archive = read(path)
            data = None if archive is None else _decompress(path, archive.data)
        if data is not None:
            contents[name] = Content(path, data)
    absent = [name for name in FILE_NAMES if name not in contents]
    if absent:
        raise DataFolderError(
            f"dataset.root={root}: contains no {', '.join(absent)}, uncompressed or as .gz; "
            "put the files there or choose another folder"
        )
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(content.array.data)
    return contents, digest.hexdigest()


def download_folder(spec: DatasetSpec, root: Path) -> Path:
    """The folder for downloads; the others may hold another dataset with the same file names."""
    return root / spec.folder / "raw"


def unpack(file: File, path: Path, archive: bytes | memoryview) -> NDArray[np.uint8]:
    """The verified content of an archive that was read from `path`. Raises DataError."""
    _check_digest(path, hashlib.md5(archive, usedforsecurity=False).hexdigest(), file.archive_md5)
    data = _decompress(path, archive)
    if file.sha256 is not None:
        _check_digest(path, _sha256(data), file.sha256)
    return data


def unresolved_problems(contents: dict[str, Content], problems: dict[Path, str]) -> list[str]:
    """The problems of files that were found nowhere else."""
    return [problem for path, problem in problems.items() if path.stem not in contents]


def unavailable_error(spec: DatasetSpec, root: Path, attempts: Iterable[str]) -> DataError:
    """The error for a dataset that cannot be obtained, listing all attempts."""
    lines = "".join(f"\n  {number}. {line}" for number, line in enumerate(attempts, 1))
    return DataError(
        f"{spec.folder} is not available.\nTried, in this order:{lines}\n"
        f"Fix: put these files, uncompressed or as .gz, into {download_folder(spec, root)}\n"
        f"  {', '.join(FILE_NAMES)}\n"
        "or set the folder that contains them with dataset.root=FOLDER"
    )


def read(path: Path) -> NDArray[np.uint8] | None:
    """The bytes of a file, None if it does not exist. Raises DataError if it cannot be read.

    The array is writable, so that `idx.decode` does not need to copy it.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():  # reading a pipe would block
            raise DataError(f"{path}: not a regular file; replace or rename it")
        with path.open("rb") as file:  # numpy.fromfile takes a disk error for the end of the file
            array = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
            return array[: file.readinto(array.data)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_verified(file: File, path: Path) -> NDArray[np.uint8] | None:
    """The verified content of a catalog file at `path`, None if `path` does not exist."""
    data = read(path)
    if data is None:
        return None
    if path.suffix == ".gz":
        return unpack(file, path, data.data)
    if file.sha256 is None:
        raise DataError(
            f"{path}: cannot be verified, because only the digest of {file.name}.gz is known; "
            "add that file"
        )
    _check_digest(path, _sha256(data), file.sha256)
    return data


def _decompress(path: Path, archive: bytes | memoryview) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(gzip.decompress(archive), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip archive: {error}") from error


def _sha256(data: NDArray[np.uint8]) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _check_digest(path: Path, digest: str, expected: str) -> None:
    if digest != expected:
        raise DataError(
            f"{path}: damaged, or a file of another dataset (digest {digest}, expected {expected})"
        )
