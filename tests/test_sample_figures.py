"""The figures of test images, correctly classified and misclassified."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_figures import all_text, digits, tiles_of
from PIL import Image

from lenet_sweep.report import sample_figures
from lenet_sweep.report.sample_figures import correct_samples_figure, misclassified_figures
from lenet_sweep.report.style import render, save


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_misclassified_image_appears_once(data):
    """Each one is on exactly one page, with its labels, its picture, and its index."""
    count = data.draw(st.integers(0, 60))
    per_page = data.draw(st.integers(1, 40))
    digit = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    labels, predictions = (np.array(data.draw(digit), int) for _ in range(2))
    makers = misclassified_figures(digits(count)[0], labels, predictions, per_page=per_page)
    pages = [make() for make in makers]
    wrong = [i for i in range(count) if labels[i] != predictions[i]]
    assert len(pages) == math.ceil(len(wrong) / per_page)
    tiles = [tile for page in pages for tile in tiles_of(page)]
    assert sorted(index for _, index, _ in tiles) == wrong
    assert [index for _, index, _ in tiles] == sorted(
        wrong, key=lambda i: (labels[i], predictions[i], i)
    )
    for number, page in enumerate(pages, 1):
        full = per_page if number < len(pages) else len(wrong) - per_page * (len(pages) - 1)
        assert len(tiles_of(page)) == full
        noun = "image" if len(wrong) == 1 else "images"
        title = (
            f"{len(wrong)} misclassified test {noun} out of {count}, page {number} of {len(pages)}"
        )
        assert page.get_suptitle() == title
    for caption, index, pixel in tiles:
        assert caption == f"{labels[index]} → {predictions[index]}"
        assert pixel == int(238 - index * (238 / 255))


def test_pages_are_drawn_on_demand(monkeypatch):
    """The 90 pages of a collapsed cell are not in memory at the same time."""
    drawn = []
    tiled = sample_figures._tiled
    monkeypatch.setattr(sample_figures, "_tiled", lambda *a, **k: drawn.append(1) or tiled(*a, **k))
    pages = misclassified_figures(*digits(9000, wrong_every=1))
    assert not drawn
    first = pages[0]()
    assert len(drawn) == 1
    assert len(tiles_of(first)) == 100
    assert "9,000 misclassified test images out of 9,000, page 1 of 90" in all_text(first)


def test_no_page_without_misclassified_images():
    """A perfect network gets no empty page."""
    images, labels, _ = digits(50)
    assert list(misclassified_figures(images, labels, labels)) == []


@pytest.mark.parametrize("kind", ["correct", "misclassified"])
def test_captions_are_centered_below_their_image(kind, tmp_path):
    """Each image has two lines of captions that overlap nothing."""
    blank, labels = np.zeros((60_100, 28, 28), np.uint8), np.arange(60_100) % 10
    if kind == "correct":
        figure = correct_samples_figure(blank, labels, labels)
    else:
        predictions = np.where(np.arange(60_100) < 60_000, labels, (labels + 1) % 10)
        figure = misclassified_figures(blank, labels, predictions)[0]()
    (tiles,) = figure.artists
    with Image.open(save(render(figure), tmp_path / "page.png")) as picture:
        page = np.asarray(picture.convert("L"))[-len(tiles.raster) :].astype(int)
    side = tiles.wide - 24
    for x, y in tiles.corners:
        assert (page[y : y + side, x : x + side] == 238).all()
        below = page[y + side : y + tiles.high, x - 12 : x + side + 12] < 200
        lines = np.flatnonzero(below.any(axis=1))
        assert lines[0] >= 2
        assert lines[-1] < len(below) - 8
        assert (np.diff(lines) > 1).sum() == 1  # one gap: two lines
        across = np.flatnonzero(below.any(axis=0))
        assert across[0] >= 4
        assert across[-1] < below.shape[1] - 4
        assert abs(across[0] + across[-1] - below.shape[1] + 1) <= 3


def test_correct_samples_are_correct_and_distinct():
    """The samples are ten different correctly classified images, with their digits."""
    images, labels, predictions = digits(200)
    figure = correct_samples_figure(images, labels, predictions)
    tiles = tiles_of(figure)
    assert len({index for _, index, _ in tiles}) == 10
    for caption, index, pixel in tiles:
        assert labels[index] == predictions[index]
        assert caption == f"{labels[index]} ✓"
        assert pixel == int(238 - index * (238 / 255))
    across, down = ({corner[k] for corner in figure.artists[0].corners} for k in (0, 1))
    assert (len(across), len(down)) == (5, 2)
    right = (labels == predictions).sum()
    assert figure.get_suptitle() == f"10 of {right} correctly classified test images"


def test_correct_samples_depend_on_the_seed():
    """The same seed gives the same samples, another seed gives others."""
    first, same, other = (tiles_of(correct_samples_figure(*digits(999), seed=s)) for s in (3, 3, 4))
    assert first == same
    assert first != other


@pytest.mark.parametrize("right", [0, 1, 3, 9])
def test_few_correct_samples(right):
    """If fewer than ten images are correct, all are shown; if none is, the figure says so."""
    images, labels, _ = digits(30)
    predictions = np.where(np.arange(30) < right, labels, (labels + 1) % 10)
    figure = correct_samples_figure(images, labels, predictions)
    if right:
        assert sorted(index for _, index, _ in tiles_of(figure)) == list(range(right))
    else:
        assert figure.artists == []
        assert "No test image was classified correctly" in all_text(figure)


def test_image_figures_check_their_arrays():
    """Wrong types and shapes are rejected at once, before a page is drawn."""
    images, labels, predictions = digits(20)
    bad = [
        (images / 255, labels, predictions),
        (images[:, 0], labels, predictions),
        (images[:19], labels, predictions),
        (images, labels[:, None], predictions),
        (images, labels, predictions[:1]),
        (images, labels, predictions / 1),
    ]
    for arrays in bad:
        for function in (correct_samples_figure, misclassified_figures):
            with pytest.raises(ValueError, match=r"images (must|need)"):
                function(*arrays)
    with pytest.raises(ValueError, match="count must be at least 1"):
        correct_samples_figure(images, labels, predictions, count=0)
    with pytest.raises(ValueError, match="per_page must be at least 1"):
        misclassified_figures(images, labels, predictions, per_page=0)
