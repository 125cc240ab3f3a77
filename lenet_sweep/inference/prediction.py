"""Classify pictures with a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from lenet_sweep.core.cells import MNIST_SIZE
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.data.catalog import FOLDER, IMAGE_FOLDER
from lenet_sweep.data.image_files import MAX_PIXELS, decode, read_bytes, scale, show, to_gray
from lenet_sweep.inference.page import find_digits
from lenet_sweep.inference.preprocess import Gray, Step, box_steps, mnist_steps

if TYPE_CHECKING:
    from lenet_sweep.inference.load import TrainedModel

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray[Any, Any]"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The class of a picture, and what the network saw.

    label: the predicted class, from 0. class_names: by class. probabilities: of each class; the
    softmax of the scores, which is calibrated at best for losses such as cross entropy. steps: from
    the picture to the network's input. box: where the digit is on its page, in pixels (left, top,
    right, bottom); None for a picture of one digit.
    """

    label: int
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    steps: tuple[Step, ...]
    box: tuple[int, int, int, int] | None = None

    @property
    def class_name(self) -> str:
        """The name of the predicted class."""
        return self.class_names[self.label]

    @property
    def probability(self) -> float:
        """The probability of the predicted class."""
        return self.probabilities[self.label]

    @property
    def image(self) -> Gray:
        """What the network saw, uint8 (height, width)."""
        return self.steps[-1].image

    def best(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, in descending order."""
        order = np.argsort(self.probabilities)[::-1][:count]
        return [(self.class_names[i], self.probabilities[i]) for i in order]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {value:.4f}" for name, value in self.best(3))
        return f"Prediction({shown})"


def predict(model: TrainedModel, image: Picture, *, raw: bool = False) -> Prediction:
    """Classify a picture.

    model: from `lenet_sweep.load_model`. image: a file, a PIL image, or an array (height, width) or
    (height, width, 3 or 4) of uint8, or of floats from 0 to 1.

    For a model of MNIST (or of IDX files of the same size), a scan or photo of one digit becomes an
    image like those of MNIST; see `inference.preprocess`. For other datasets, the picture is only
    converted to grayscale, inverted if its background is light (except for image folders), and
    scaled to the size of the dataset. raw: the picture is only converted to grayscale and scaled.

    Raises DataError if the picture cannot be read or has no digit, and UsageError for an array of
    another shape or type.
    """
    # Image folders are trained without turning or compositing their images.
    convert = _gray_as_trained if model.cell.dataset.name == IMAGE_FOLDER else _gray_as_seen
    gray, name = _read_gray(image, convert)
    steps = _named(name, lambda: _steps(model, gray, raw=raw))
    return _classify(model, [steps], [None])[0]


def predict_page(model: TrainedModel, image: Picture) -> list[list[Prediction]]:
    """Classify the digits on a page, by lines from top to bottom, each from left to right.

    For the arguments and errors, see `predict`; the model must be one that `predict` prepares
    digits for. Digits that touch each other are not separated.
    """
    if not _is_like_mnist(model):
        raise UsageError(
            "--page: must be used with a model trained on MNIST, or on IDX files with images of "
            "the same size"
        )
    gray, name = _read_gray(image, _gray_as_seen)
    lines = _named(name, lambda: find_digits(gray))
    found = [digit for line in lines for digit in line]
    classified = iter(
        _classify(model, [box_steps(digit.ink) for digit in found], [d.box for d in found])
    )
    return [[next(classified) for _ in line] for line in lines]


def _is_like_mnist(model: TrainedModel) -> bool:
    return model.cell.dataset.name in ("mnist", FOLDER) and model.size == MNIST_SIZE


def _steps(model: TrainedModel, gray: Gray, *, raw: bool) -> tuple[Step, ...]:
    if _is_like_mnist(model) and not raw:
        return mnist_steps(gray)
    steps = [Step("gray", gray)]
    if not raw and model.cell.dataset.name != IMAGE_FOLDER and _has_light_edge(gray):
        gray = 255 - gray
        steps.append(Step("light background: inverted", gray))
    height, width = model.size
    scaled = scale(Image.fromarray(gray), model.size)
    return (*steps, Step(f"scaled to {width} x {height}", scaled))


def _has_light_edge(gray: Gray) -> bool:
    edge = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    return bool(np.median(edge) > 127)


def _classify(
    model: TrainedModel,
    steps: list[tuple[Step, ...]],
    boxes: list[tuple[int, int, int, int] | None],
) -> list[Prediction]:
    import torch  # noqa: PLC0415 - takes seconds, and `--help` needs the rest of this module

    images = torch.from_numpy(np.stack([each[-1].image for each in steps])).unsqueeze(1)
    with torch.inference_mode():
        scores = model(images.to(model.pixel_mean.device))
        probabilities = torch.softmax(scores.double(), dim=1).cpu().numpy()
    return [
        Prediction(int(row.argmax()), model.class_names, tuple(map(float, row)), each, box)
        for row, each, box in zip(probabilities, steps, boxes, strict=True)
    ]


def _named(name: str, function: Callable[[], Any]) -> Any:
    """The result of a function, whose DataError gets the name of the picture."""
    try:
        return function()
    except DataError as error:
        raise type(error)(f"{name}: {error}") from error


def _read_gray(image: Picture, convert: Callable[[Image.Image], Gray]) -> tuple[Gray, str]:
    """A picture as gray levels (height, width), and its name for messages."""
    if isinstance(image, (str, Path)):
        path = Path(image)
        return decode(path, read_bytes(path), convert), show(path)
    if isinstance(image, np.ndarray):
        return convert(Image.fromarray(_check_array(image))), "image"
    if isinstance(image, Image.Image):
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"image: can have at most {MAX_PIXELS:,} pixels; scale it down")
        return convert(image), "image"
    raise UsageError(
        f"image={format_value(type(image).__name__)}: must be a file, a PIL image, or an array"
    )


def _gray_as_trained(image: Image.Image) -> Gray:
    return np.asarray(to_gray(image))


def _gray_as_seen(image: Image.Image) -> Gray:
    """The gray levels of an image as a viewer shows it: turned as its camera says, on white."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(to_gray(image))


def _check_array(array: np.ndarray[Any, Any]) -> Gray:
    """An array as uint8. Raises UsageError."""
    is_gray = array.ndim == 2
    is_color = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (is_gray or is_color) or not array.size:
        raise UsageError(
            "image: an array must have the shape (height, width) or (height, width, 3 or 4), not "
            f"{array.shape}"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise DataError(f"image: can have at most {MAX_PIXELS:,} pixels; scale it down")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"image: an array must be of uint8 or floats, not {array.dtype}")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise UsageError("image: an array of floats must have values from 0 to 1")
    pixels: Gray = np.rint(array * 255).astype(np.uint8)
    return pixels
