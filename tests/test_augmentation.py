"""Augmentation: the images of an epoch, compared with torchvision, and where they come from."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS, make_choice
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import NO_AUGMENTATION, Cell, describe_optional
from lenet_sweep.training import augmentation, resampling
from lenet_sweep.training.augmentation import (
    AUGMENTATIONS,
    affine_maps,
    augmented,
)
from lenet_sweep.training.engines.support import NATIVE, unavailable_reason
from lenet_sweep.training.random_words import below, fractions, image_keys, random_words

ALL = np.arange(60)
KEYS = image_keys(0, 1, ALL)
# Every option that changes images, at zero.
NO_STRENGTH = [
    {"augment": "shift", "augment.pixels": 0},
    {"augment": "affine", "augment.degrees": 0, "augment.translate": 0, "augment.scale": 0},
    {"augment": "elastic", "augment.alpha": 0},
    {"augment": "elastic", "augment.alpha": 1e-6},
    {"augment": "erase", "augment.p": 0},
    {"augment": "erase", "augment.size": 0},
]
STRENGTHS = [
    *({"augment": name} for name in AUGMENTATIONS),
    {"augment": "shift", "augment.pixels": 27},
    {"augment": "affine", "augment.degrees": 180, "augment.translate": 1, "augment.scale": 0.9,
     "augment.shear": 60},
    {"augment": "elastic", "augment.alpha": 1000, "augment.sigma": 0.1},
    {"augment": "elastic", "augment.alpha": 300, "augment.sigma": 28},
    {"augment": "erase", "augment.p": 1, "augment.size": 28},
]  # fmt: skip


def cell_of(**axes: object) -> Cell:
    (cell,), _ = validate_cells(grid({"device": "cpu"} | axes), NATIVE)
    return cell


def pictures(count: int = 60) -> np.ndarray:
    """Images with a gradient, noise and sharp edges, (count, 28, 28)."""
    words = random_words(np.arange(count, dtype=np.uint64), 98).astype("<u8")
    noise = words.view(np.uint8).reshape(count, 28, 28)
    y, x = np.indices((28, 28))
    smooth = np.broadcast_to(8 * x + y, noise.shape)
    return np.where(noise > 200, noise, smooth).astype(np.uint8)


PICTURES = pictures()


@pytest.fixture(params=["native", "numpy"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The code that resamples images."""
    if request.param == "numpy":
        monkeypatch.setattr(resampling, "_extension", lambda: None)
    elif unavailable_reason():
        pytest.skip(unavailable_reason())
    return request.param


def test_every_file_has_a_function() -> None:
    """Each augmentation that can be chosen can be trained, and the default changes nothing."""
    assert set(GROUPS["augment"].choices) == {"none", *AUGMENTATIONS}
    assert make_choice("augment", "none") == cell_of().augment == NO_AUGMENTATION


# The first digits of the SHA-256 of the images of `test_bytes_never_change`.
DIGESTS = {
    "shift": "b606c224382dea78",
    "affine": "c84a0e8aab2fa598",
    "elastic": "d397278723c72689",
    "erase": "4886a848e19aee2b",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_bytes_never_change(implementation: str, name: str) -> None:
    """Stored runs were trained on these images, on all machines and with all NumPy versions."""
    images = augmented(cell_of(augment=name, seed=3), 5, PICTURES, ALL)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == DIGESTS[name]


@pytest.mark.parametrize("axes", STRENGTHS, ids=str)
def test_both_implementations_give_the_same_bytes(monkeypatch, axes: dict) -> None:
    """NumPy replaces the extension exactly, for the default and the strongest settings."""
    if unavailable_reason():
        pytest.skip(unavailable_reason())
    native = augmented(cell_of(**axes), 1, PICTURES, ALL)
    monkeypatch.setattr(resampling, "_extension", lambda: None)
    np.testing.assert_array_equal(native, augmented(cell_of(**axes), 1, PICTURES, ALL))


@pytest.mark.skipif(bool(unavailable_reason()), reason="there is no native engine")
@settings(deadline=None)
@given(
    coefficients=st.lists(st.integers(-(2**20), 2**20), min_size=6, max_size=6),
    alpha=st.floats(0, 1000),
    sigma=st.floats(0.1, 28),
    seed=st.integers(0, 2**32 - 1),
)
def test_instruction_sets_give_the_same_bytes(
    coefficients: list[int], alpha: float, sigma: float, seed: int
) -> None:
    """Every kernel computes what NumPy computes, for any map and any field."""
    from lenet_sweep.training.engines import _native  # noqa: PLC0415 - may be missing

    order = ALL[::-3].copy()
    maps = np.tile(np.array(coefficients, np.int32), (len(order), 1))
    field = image_keys(seed, 1, order), *resampling.smoothing(alpha, sigma)
    mapped = resampling.affine_in_numpy(PICTURES, order, maps)
    displaced = resampling.elastic_in_numpy(PICTURES, order, *field)
    for name in _native.instruction_sets():
        np.testing.assert_array_equal(_native.affine(PICTURES, order, maps, name), mapped)
        np.testing.assert_array_equal(_native.elastic(PICTURES, order, *field, name), displaced)


@pytest.mark.parametrize("axes", NO_STRENGTH, ids=str)
def test_strength_zero_changes_nothing(implementation: str, axes: dict) -> None:
    """The images of an epoch are the training images themselves."""
    np.testing.assert_array_equal(augmented(cell_of(**axes), 7, PICTURES, ALL), PICTURES)


@pytest.mark.parametrize("axes", STRENGTHS, ids=str)
def test_images_keep_their_type_and_shape(axes: dict) -> None:
    """Engines get bytes from 0 to 255 in whole images, and most images are changed."""
    images = augmented(cell_of(**axes), 1, PICTURES, ALL)
    assert (images.dtype, images.shape) == (np.uint8, (60, 28, 28))
    assert images.flags.c_contiguous
    assert (images != PICTURES).any(axis=(1, 2)).mean() > 0.3


@settings(deadline=None)
@given(
    axes=st.sampled_from(STRENGTHS),
    order=st.lists(st.integers(0, 59), min_size=1, max_size=80),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(1, 100_000),
    data=st.data(),
)
def test_an_image_depends_on_its_index_seed_and_epoch_only(
    axes: dict, order: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    """The order of an epoch, and its division into pieces, do not change any image."""
    cell = cell_of(seed=seed, **axes)
    indices = np.array(order)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(order)), max_size=3)))
    pieces = np.split(indices, cuts)
    found = np.concatenate([augmented(cell, epoch, PICTURES, piece) for piece in pieces])
    np.testing.assert_array_equal(found, augmented(cell, epoch, PICTURES, ALL)[indices])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_epochs_and_seeds_differ(name: str) -> None:
    """Each epoch and each seed has other images."""
    versions = [
        augmented(cell_of(augment=name, seed=seed), epoch, PICTURES, ALL)
        for seed, epoch in ((0, 1), (0, 2), (1, 1), (1, 2))
    ]
    assert len({images.tobytes() for images in versions}) == 4


def test_images_as_they_are_are_not_copied() -> None:
    """Without augmentation, engines read the training images themselves."""
    assert augmented(cell_of(), 1, PICTURES, ALL) is None


@settings(deadline=None)
@given(pixels=st.integers(0, 27), seed=st.integers(0, 1000))
def test_shift_moves_all_pixels_of_an_image_equally(pixels: int, seed: int) -> None:
    """Pixels move by at most `pixels` in each direction, and black pixels follow them."""
    cell = cell_of(augment="shift", seed=seed, **{"augment.pixels": pixels})
    moved = augmented(cell, 1, PICTURES, ALL)
    shifts = below(random_words(image_keys(seed, 1, ALL), 2), 2 * pixels + 1) - pixels
    for n, (right, down) in enumerate(shifts):
        expected = np.zeros((28, 28), np.uint8)
        source = PICTURES[n, max(0, -down) : 28 - max(0, down), max(0, -right) : 28 - max(0, right)]
        expected[max(0, down) :, max(0, right) :][: len(source), : source.shape[1]] = source
        np.testing.assert_array_equal(moved[n], expected)


def test_every_shift_is_equally_likely() -> None:
    """All whole numbers from -pixels to pixels occur, in both directions independently."""
    point = np.zeros((1, 28, 28), np.uint8)
    point[0, 13, 13] = 255
    images = point.repeat(5000, axis=0)
    moved = augmented(cell_of(augment="shift", **{"augment.pixels": 1}), 1, images, np.arange(5000))
    _, y, x = np.nonzero(moved)
    counts = np.bincount(3 * (y - 12) + x - 12, minlength=9)
    assert len(counts) == 9
    assert abs(counts - 5000 / 9).max() < 4 * np.sqrt(5000 / 9)


@settings(deadline=None, max_examples=50)
@given(
    degrees=st.floats(-180, 180),
    translate=st.tuples(st.floats(-28, 28), st.floats(-28, 28)),
    scale=st.floats(0.3, 1.9),
    shear=st.floats(-60, 60),
)
def test_affine_is_that_of_torchvision(
    degrees: float, translate: tuple[float, float], scale: float, shear: float
) -> None:
    """The parameters mean the same, including the direction of the rotation; so do the pixels."""
    from torchvision.transforms.v2 import functional  # noqa: PLC0415 - slow to import

    (expected,) = functional.affine(
        torch.from_numpy(PICTURES[:1]), degrees, list(translate), scale, [shear, 0.0],
        interpolation=functional.InterpolationMode.BILINEAR,
    )  # fmt: skip
    shift = np.array(translate)[:, None]
    maps = affine_maps(np.array([degrees]), shift, np.array([scale]), np.array([shear]))
    (found,) = resampling.affine(PICTURES, ALL[:1], maps)
    assert_pixels_close(found, expected.numpy())


def assert_pixels_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Positions are rounded to 1/256 pixels, which changes a pixel by two levels at most."""
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 3


def test_affine_parameters_are_uniform_within_their_limits() -> None:
    """Rotation, shift, size and shear are between the largest changes to either side."""
    seen = []

    def record(degrees, translate, scale, shear):
        seen.append(np.stack([degrees, *translate, scale, shear]))
        return np.zeros((len(degrees), 2, 3))

    options = {"degrees": 30, "translate": 0.25, "scale": 0.5, "shear": 20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "affine_maps", record)
        axes = {f"augment.{name}": value for name, value in options.items()}
        images = np.zeros((5000, 28, 28), np.uint8)
        augmented(cell_of(augment="affine", **axes), 1, images, np.arange(5000))
    (values,) = seen
    limits = np.array([30, 7, 7, 0.5, 20])[:, None]
    shares = (values - np.array([0, 0, 0, 1, 0])[:, None]) / limits  # from -1 to 1
    assert (np.abs(shares) <= 1).all()
    np.testing.assert_allclose(np.quantile(shares, [0.05, 0.5, 0.95], 1).T, [[-0.9, 0, 0.9]] * 5,
                               atol=0.05)  # fmt: skip
    assert np.abs(np.corrcoef(shares) - np.eye(5)).max() < 0.06


def test_elastic_displaces_as_torchvision_does() -> None:
    """The fields are added to the positions, x first, as in torchvision's `elastic`."""
    from torchvision.transforms.v2 import functional  # noqa: PLC0415 - slow to import

    field = resampling.smoothing(34, 4)
    found = resampling.elastic(PICTURES, ALL, KEYS, 34, 4)
    by_x, by_y = resampling.displacements(KEYS, *field)
    for n in range(5):
        pixels = np.stack([by_x[n], by_y[n]], -1) / 256
        displacement = torch.from_numpy(pixels * 2 / 28)[None].float()  # in half images
        (expected,) = functional.elastic(torch.from_numpy(PICTURES[n : n + 1]), displacement)
        assert_pixels_close(found[n], expected.numpy())


@pytest.mark.parametrize(("alpha", "sigma"), [(34, 4), (8, 2), (2, 0.5), (60, 10), (0.05, 1)])
def test_displacements_are_smoothed_noise(alpha: float, sigma: float) -> None:
    """The formula of Simard et al. in floating point gives the same fields."""
    words = random_words(KEYS, 196).astype("<u8")
    noise = (2.0 * words.view(np.uint8) - 255).reshape(-1, 2, 28, 28) / 256
    expected = alpha * gaussian_filter(noise, sigma, axes=(2, 3), mode="wrap", truncate=10)
    fields = resampling.displacements(KEYS, *resampling.smoothing(alpha, sigma))
    error = np.abs(np.stack(fields, 1) / 256 - expected)
    assert error.max() < 0.005 * np.abs(expected).max() + 1 / 256
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(3**-0.5, rel=0.01)


def test_erase_blackens_one_rectangle() -> None:
    """A fraction p of the images loses a rectangle of at most `size` pixels in each direction."""
    white = np.full((4000, 28, 28), 255, np.uint8)
    axes = {"augment.p": 0.3, "augment.size": 9}
    images = augmented(cell_of(augment="erase", **axes), 1, white, np.arange(4000))
    erased = images == 0
    assert ((images == 255) | erased).all()
    heights, widths = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(erased.sum(axis=(1, 2)), heights * widths)
    share = (heights > 0).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert set(heights) == set(widths) == set(range(10))
    assert erased.any(axis=(0, 1)).all()  # in all columns and rows
    assert erased.any(axis=(0, 2)).all()


@given(st.lists(st.floats(-np.pi, np.pi), min_size=1))
def test_sine_and_cosine_are_accurate(angles: list[float]) -> None:
    """The series agrees with NumPy's functions."""
    radians = np.array(angles)
    sin, cos = augmentation._sin_cos(radians)
    np.testing.assert_allclose(sin, np.sin(radians), atol=1e-14)
    np.testing.assert_allclose(cos, np.cos(radians), atol=1e-14)


def test_random_numbers_are_uniform_and_distinct() -> None:
    """No two images or epochs share a key, and bits and fractions are balanced."""
    keys = np.concatenate([image_keys(s, e, np.arange(1000)) for s in (0, 1) for e in (1, 2, 3)])
    assert len(np.unique(keys)) == 6000
    words = random_words(keys, 10)
    assert len(np.unique(words)) == words.size
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / np.sqrt(bits.size)
    values = fractions(words)
    assert 0 <= values.min() < 0.001
    assert 0.999 < values.max() < 1
    assert abs(np.corrcoef(values, rowvar=False) - np.eye(10)).max() < 0.06


def test_texts_name_the_augmentation() -> None:
    """Names of cells say which augmentation they have, or that they have none."""
    cell = cell_of(augment="shift", **{"augment.pixels": 3})
    assert describe_optional("augment", cell.augment) == "shift pixels=3"
    assert describe_optional("augment", cell_of().augment) == "no augment"
