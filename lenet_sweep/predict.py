"""`python -m lenet_sweep.predict PICTURE...`: classify pictures with the network of a sweep."""

from __future__ import annotations

import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import DataError, StoreError, UsageError
from lenet_sweep.core.text import format_value, pluralize, replace_unprintable
from lenet_sweep.inference.options import add_model_options, load, select

if TYPE_CHECKING:
    from lenet_sweep.inference.load import TrainedModel
    from lenet_sweep.inference.prediction import Prediction

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp")  # of a folder's files
SHOWN = 3  # classes of each picture
UNSURE = 0.5  # a class with a lower probability is marked
MAX_ART = 4  # pictures that are drawn as text
ERRORS = (UsageError, DataError, StoreError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the classes of pictures; returns the exit status.

    A picture that cannot be read gets one line on standard error, and the status is then 1.
    """
    parser = Parser(
        prog="python -m lenet_sweep.predict",
        usage="python -m lenet_sweep.predict PICTURE... [--sweep DIR] [--rank N] [--page] [--raw]",
        description="Classify scans and photos with a trained network from a sweep.",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        type=Path,
        help="a PNG, JPEG, BMP, GIF, PGM or WebP file, or a folder of such files",
    )
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="DIR",
        help="the folder of a sweep (default: the latest in outputs/sweeps)",
    )
    add_model_options(parser)
    parser.add_argument(
        "--page", action="store_true", help="each picture is a page of digits, read line by line"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="only convert to grayscale and rescale, for images like those of the dataset",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write a PNG of all preprocessing steps of each picture to this folder",
    )
    try:
        options = parser.parse_args(arguments)
        if options.page and options.raw:
            parser.error("--page and --raw cannot be combined")
        paths = [path for given in options.pictures for path in _pictures(given)]
        row = select(options)
        say(row.description)
        model = load(row, options)
        return _predict_all(paths, model, options)
    except ERRORS as error:
        return report_error(error)


def _pictures(path: Path) -> Iterator[Path]:
    """A file, or the pictures in a folder, sorted by name."""
    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"{format_value(path)}: there is no such file or folder")
        yield path
        return
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UsageError(
            f"{format_value(path)}: no pictures in this folder ({', '.join(SUFFIXES)})"
        )
    yield from found


def _predict_all(paths: Sequence[Path], model: TrainedModel, options: Namespace) -> int:
    status = 0
    for path, name in zip(paths, _distinct_names(paths), strict=True):
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's, about odd metadata
                lines = _predict(path, model, options)
        except DataError as error:
            status = report_error(error)
            continue
        _print(path, lines, drawn=len(paths) <= MAX_ART and not options.page)
        if options.out:
            _write_steps(name, lines, options.out)
    if options.out and status == 0:
        say(f"Written to {options.out}{os.sep}")
    return status


def _predict(path: Path, model: TrainedModel, options: Namespace) -> list[list[Prediction]]:
    """The predictions of a picture, by lines of a page."""
    from lenet_sweep.inference import prediction  # noqa: PLC0415 - slow to import; not for --help

    if options.page:
        return prediction.predict_page(model, path)
    return [[prediction.predict(model, path, raw=options.raw)]]


def _print(path: Path, lines: list[list[Prediction]], *, drawn: bool) -> None:
    from lenet_sweep.inference.drawing import text_art  # noqa: PLC0415 - as above

    name = replace_unprintable(str(path))
    if any(found.box for line in lines for found in line):
        count = pluralize(sum(map(len, lines)), "digit")
        say(f"{name}: {count} in {pluralize(len(lines), 'line')}")
        for line in lines:
            say("  " + " ".join(_class_text(found) for found in line))
        return
    ((found,),) = lines
    shown = ", ".join(f"{label} {100 * value:.1f}%" for label, value in found.best(SHOWN))
    say(f"{name}: {shown}")
    if drawn:
        say(f"  {'; '.join(step.name for step in found.steps)}; the network saw:")
        for row in text_art(found.image):
            say(f"  |{row}")


def _class_text(found: Prediction) -> str:
    return found.class_name + ("?" if found.probability < UNSURE else "")


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """The names of the files without suffix; repeated ones are numbered, as in scan_2."""
    names: dict[str, str] = {}  # by the name on a file system that ignores case
    for path in paths:
        name, number = path.stem, 1
        while name.casefold() in names:
            number += 1
            name = f"{path.stem}_{number}"
        names[name.casefold()] = name
    return [*names.values()]


def _write_steps(name: str, lines: list[list[Prediction]], out: Path) -> None:
    from lenet_sweep.inference.drawing import steps_picture  # noqa: PLC0415 - as above
    from lenet_sweep.storage.files import make_folder, write_atomic  # noqa: PLC0415

    make_folder(out)
    several = sum(map(len, lines)) > 1
    for row, line in enumerate(lines, 1):
        for column, found in enumerate(line, 1):
            place = f"-{row}-{column}" if several else ""
            write_atomic(out / f"{name}{place}-steps.png", steps_picture(found.steps))


if __name__ == "__main__":
    sys.exit(main())
