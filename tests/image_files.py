"""Generated folders of image files: learnable, with a pattern for each class."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_image_folder(
    root: Path, names: Sequence[str], train: int = 40, test: int = 10, noise: int = 60
) -> Path:
    """Write train/<name>/*.png and test/<name>/*.png, with this number of images per class."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 196, (len(names), 7, 7)).repeat(4, 1).repeat(4, 2)
    for part, count in (("train", train), ("test", test)):
        for pattern, name in zip(patterns, names, strict=True):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = pattern + random.integers(0, noise, (28, 28))
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(folder / f"{number:03}.png")
    return root


def png_bomb(side: int) -> bytes:
    """A PNG of a few bytes that declares side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + crc

    size = side.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
