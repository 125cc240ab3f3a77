"""A cache of decoded image folders, so that each is decoded once and not in every worker.

    <data folder>/decoded/<digest>.npz           the arrays, which `read` verifies
    <data folder>/decoded/<fingerprint>.digest   the digest of the files with this fingerprint

The cache is only an optimization: it may be deleted, and files that cannot be written or are
damaged are ignored. Nothing in it is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from lenet_sweep.data import image_folder
from lenet_sweep.data.images import Images
from lenet_sweep.storage import atomic

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def digest_of(folder: Path, fingerprint: str) -> str | None:
    """The digest of the files with a fingerprint; None if they are not in the cache."""
    with contextlib.suppress(OSError, ValueError):
        text = (folder / f"{fingerprint}.digest").read_text(encoding="ascii")
        if re.fullmatch("[0-9a-f]{64}", text):
            return text
    return None


def read(folder: Path, digest: str) -> Images | None:
    """The images with a digest (hex); None if the cache does not have them, intact."""
    if not re.fullmatch("[0-9a-f]{64}", digest):  # from a file that someone else wrote
        return None
    try:
        with (
            (folder / f"{digest}.npz").open("rb") as file,  # np.load would not close a damaged one
            np.load(file, allow_pickle=False) as stored,
        ):
            names = json.loads(bytes(stored["class_names"]))
            arrays = {name: stored[name] for name in ARRAYS}
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, MemoryError):
        return None
    images = Images(**arrays, class_names=tuple(names))
    return images if image_folder.digest(images) == digest else None


def write(folder: Path, fingerprint: str, digest: str, images: Images) -> None:
    """Add images to the cache, if the disk permits."""
    content = io.BytesIO()
    names = np.frombuffer(json.dumps(images.class_names).encode(), np.uint8)
    np.savez(content, class_names=names, **{name: getattr(images, name) for name in ARRAYS})
    with contextlib.suppress(OSError):
        atomic.make_folder(folder)
        atomic.replace_file(folder / f"{digest}.npz", content.getbuffer())
        atomic.replace_file(folder / f"{fingerprint}.digest", digest.encode())
