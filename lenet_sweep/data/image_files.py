"""Decode image files that anyone may have made: limits on their size, and errors of one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.errors import DataError
from lenet_sweep.core.text import one_line, replace_unprintable

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")  # Pillow's names; PPM includes PGM
FORMAT_NAMES = "PNG, JPEG, BMP, GIF, PGM or WebP"
MAX_FILE_BYTES = 2**28
MAX_PIXELS = 2**26  # of one file; a small file can contain a huge image

T = TypeVar("T")


def read_bytes(path: Path) -> bytes:
    """The content of a file of at most MAX_FILE_BYTES. Raises DataError."""
    try:
        if not path.exists():
            raise DataError(f"{show(path)}: there is no such file; check the path")
        if not path.is_file():  # reading a pipe would block
            raise DataError(f"{show(path)}: not a regular file; choose an image file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{show(path)}: cannot be read: {error.strerror or error}; repair or remove it"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{show(path)}: more than {MAX_FILE_BYTES:,} bytes; scale it down")
    return content


def decode(path: Path, content: bytes, convert: Callable[[Image.Image], T]) -> T:
    """The result of `convert` for the image in the content of a file. Raises DataError.

    path: named in messages. convert: must load the pixels, which may fail.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - only needed for image files

    too_large = DataError(
        f"{show(path)}: an image can have at most {MAX_PIXELS:,} pixels; scale it down"
    )
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:  # reads only the header
            if image.width * image.height <= MAX_PIXELS:
                return convert(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{show(path)}: not a {FORMAT_NAMES} image; convert or remove it"
        ) from error
    except Exception as error:  # Pillow raises many types for damaged files
        raise DataError(
            f"{show(path)}: damaged image: {one_line(str(error)) or type(error).__name__}; "
            "repair or remove it"
        ) from error
    raise too_large


def to_gray(image: Image.Image) -> Image.Image:
    """An image in Pillow's mode "L" (ITU-R 601); of 16 bits per pixel, the upper 8."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - as above

    if image.mode.startswith("I"):  # convert("L") would clip at 255
        return pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")


def scale(gray: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels (height, width) of a gray image, scaled bilinearly without its aspect ratio."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - as above

    if gray.size != size[::-1]:
        gray = gray.resize(size[::-1], pillow.Resampling.BILINEAR)
    return np.asarray(gray)


def show(path: Path | str) -> str:
    """A path as text that is safe to print."""
    return replace_unprintable(str(path))
