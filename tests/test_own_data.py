"""Training on the user's own images: image folders, and IDX files with any number of classes."""

import base64
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forked_commands import run_forked
from generated_data import FILE_NAMES, idx_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import make_image_folder, png_bomb
from PIL import Image
from small_mnist import files_under, put

from lenet_sweep import analyse, load_results, sweep
from lenet_sweep.analysis.statistics import min_learned
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell, Dataset
from lenet_sweep.core.errors import DataError, DataFolderError, UsageError
from lenet_sweep.core.text import one_line
from lenet_sweep.data import decoded_images, idx, image_files, image_folder
from lenet_sweep.data.catalog import DATASETS
from lenet_sweep.data.datasets import find_dataset, load_dataset, load_test_images
from lenet_sweep.data.files import Content
from lenet_sweep.data.images import label_type
from lenet_sweep.report import sprites
from lenet_sweep.report.confusion import MAX_MATRIX, make_confusion
from lenet_sweep.report.sample_figures import correct_samples_figure, misclassified_figures
from lenet_sweep.report.style import render
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE

NAMES = ("cat", "dog", "snow leopard")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of decoded images, empty at first."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def animals(tmp_path: Path, cache: Path) -> Path:
    """A folder with images of three animals: 4 of each for training and 2 for testing."""
    return make_image_folder(tmp_path / "animals", NAMES, train=4, test=2)


def find(root: Path, size: int | None = None) -> Dataset:
    return find_dataset("image_folder", root, None, size=size)


def cells(**axes: object) -> list[Cell]:
    return validate_cells(grid(axes), NATIVE)[0]


# ---------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def animal_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over three animals: two learning rates, one of which learns nothing."""
    folder = tmp_path_factory.mktemp("animals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENET_SWEEP_DATA", str(folder / "cache"))
        root = make_image_folder(folder / "images", NAMES, train=60, test=20)
        axes = {
            "dataset": "image_folder", "dataset.root": root, "lr": [0.003, 100.0], "batch": 20,
            "optimizer": "adam", "out": folder / "out", "name": "it", "person": "Ada", "workers": 1,
        }  # fmt: skip
        first = {"epochs": 2, "figures": "none", "report": False}
        for more in (first, {"epochs": 4}):  # the second sweep resumes the runs of the first
            table = sweep(**axes, **more, progress=False)
            assert set(table["status"]) == {"ok"}
        yield folder


def test_image_folder_is_trained_and_ranked(animal_sweep: Path) -> None:
    """The network tells the classes apart, and the torch engine trains it."""
    table = load_results(animal_sweep / "out" / "sweeps" / "it")
    best = table.iloc[0]
    assert (best["rank"], best["accuracy"], best["lr"]) == (1, 100, 0.003)
    assert (table["accuracy"][table["lr"] == 100] < 50).all()
    assert set(table["dataset"]) == {"image_folder"}
    assert set(table["engine"]) == {"torch"}
    runs = (animal_sweep / "out" / "runs").iterdir()
    (good,) = (run for run in runs if "0.003" in (run / "run.json").read_text())
    assert [path.name for path in sorted(good.glob("epoch-*"))] == [
        "epoch-00002.safetensors", "epoch-00004.safetensors",
    ]  # fmt: skip


@pytest.mark.usefixtures("train_here")
def test_a_resumed_run_equals_an_uninterrupted_one(animal_sweep: Path, monkeypatch) -> None:
    """The order of the images is the same in each process, with and without the cache."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(animal_sweep / "other cache"))
    table = sweep(
        dataset="image_folder", lr=0.003, batch=20, optimizer="adam", epochs=4, progress=False,
        out=animal_sweep / "other", report=False, figures="none",
        **{"dataset.root": animal_sweep / "images"},
    )  # fmt: skip
    resumed = load_results(animal_sweep / "out" / "sweeps" / "it").set_index("cell")
    (alone,) = table.to_dict("records")
    assert alone["train_loss"] == resumed["train_loss"][alone["cell"]]


def test_page_and_warnings_name_the_classes(animal_sweep: Path, monkeypatch) -> None:
    """The confusion matrix, the images and the warnings have the names of the folders."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(animal_sweep / "cache"))
    folder = animal_sweep / "out" / "sweeps" / "it"
    html = (folder / "report.html").read_text()
    (table,) = re.findall(r'<table class="confusion.*?</table>', html, re.DOTALL)
    assert re.findall(r'<th scope="row"[^>]*><span>([^<]*)', table) == list(NAMES)
    assert re.findall(r'<th scope="col" class="class"[^>]*><span>([^<]*)', table) == list(NAMES)
    assert re.findall(r'class="correct">(\d+)', table) == ["20", "20", "20"]
    assert "class snow leopard, classified correctly" in html
    assert "digit" not in table
    (warning,) = (w for w in analyse(folder).warnings if w.kind == "collapsed")
    names = "|".join(NAMES)
    assert re.search(f"predicts? ({names}) for nearly all test images", warning.sentence)
    assert "correct for 33.33%" in warning.sentence


def test_figures_are_drawn(animal_sweep: Path) -> None:
    """An image folder gets the same figures as MNIST."""
    names = {p.name.rpartition("_")[2] for p in (animal_sweep / "out/sweeps/it/figures").iterdir()}
    assert {"cost.png", "correct.png"} <= names


@pytest.mark.usefixtures("train_here")
@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_three_hundred_classes_from_idx_files(dtype, tmp_path: Path) -> None:
    """Labels above 255 are read, trained and stored, and the page has no huge matrix."""
    random = np.random.default_rng(0)
    labels = np.arange(300, dtype=dtype)
    images = random.integers(0, 256, (300, 28, 28)).astype(np.uint8)
    files = [idx_bytes(images), idx_bytes(labels), idx_bytes(images), idx_bytes(labels)]
    root = put(tmp_path / "data", dict(zip(FILE_NAMES, files, strict=True)))
    dataset = find_dataset("folder", root, None)
    assert (dataset.classes, dataset.size) == (300, (28, 28))
    loaded = load_dataset(dataset, root)
    assert loaded.train_labels.dtype == np.uint16
    assert np.array_equal(loaded.train_labels, labels)
    if dtype == np.int32:  # both are trained alike
        return
    table = sweep(
        dataset="folder", optimizer="adam", lr=0.001, batch=10, epochs=20, shuffle=True,
        out=tmp_path / "out", name="it", progress=False, **{"dataset.root": root},
    )  # fmt: skip
    assert list(table["status"]) == ["ok"]
    (cell,) = load_sweep(tmp_path / "out" / "sweeps" / "it").cells
    run = Store(tmp_path / "out").run_folder(cell.run_id)
    predictions = run.read(run.snapshot_path(20)).predictions
    assert predictions.dtype == np.uint16
    assert predictions.shape == (300,)
    assert predictions.max() > 255
    html = (tmp_path / "out" / "sweeps" / "it" / "report.html").read_text()
    assert "The 20 classes (of 300) with the lowest accuracy" in html
    assert 'class="confusion' not in html


# ---------------------------------------------------------------- what is read


def test_classes_are_the_sorted_folder_names(animals: Path) -> None:
    """Each image has the label of its folder; a class may have no test images."""
    (animals / "test" / "dog" / "000.png").unlink()
    (animals / "test" / "dog" / "001.png").unlink()
    (animals / "test" / "dog").rmdir()
    (animals / "train" / "cat" / ".DS_Store").write_bytes(b"a hidden file is ignored")
    (animals / "train" / "notes.txt").write_text("so is a file beside the classes")
    dataset = find(animals)
    assert dataset.classes == 3
    images = load_dataset(dataset, animals)
    assert images.class_names == NAMES
    assert list(np.bincount(images.train_labels)) == [4, 4, 4]
    assert list(images.test_labels) == [0, 0, 2, 2]
    with Image.open(animals / "test" / "snow leopard" / "001.png") as last:
        assert np.array_equal(images.test_images[-1], np.asarray(last))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="requires named pipes")
def test_a_forged_digest_opens_no_file_outside_the_cache(tmp_path: Path, cache: Path) -> None:
    """A digest from someone else's sweep.json is no path; a pipe there would block."""
    os.mkfifo(tmp_path / "pipe.npz")
    assert decoded_images.read(cache, str(tmp_path / "pipe")) is None


def test_training_images_are_mixed(tmp_path: Path, cache: Path) -> None:
    """`limit` and `holdout` take images of all classes, in the same order every time."""
    root = make_image_folder(tmp_path / "images", NAMES, train=40, test=1)
    dataset = find_dataset("image_folder", root, 60, 30)
    images = load_dataset(dataset, root)
    assert (np.bincount(images.train_labels, minlength=3) >= 5).all()
    assert (np.bincount(images.holdout_labels, minlength=3) >= 5).all()
    assert load_dataset(dataset, root).train_labels.tolist() == images.train_labels.tolist()


@pytest.mark.parametrize(
    ("mode", "name", "options"),
    [
        ("RGB", "x.png", {}), ("RGBA", "x.png", {}), ("P", "x.gif", {}), ("L", "x.bmp", {}),
        ("L", "x.pgm", {}), ("1", "x.png", {}), ("RGB", "x.jpg", {"quality": 90}),
        ("RGB", "X.JPEG", {}), ("RGB", "x.webp", {"lossless": True}), ("LA", "x.png", {}),
        ("CMYK", "x.jpg", {}), ("P", "x.png", {}),
    ],
)  # fmt: skip
def test_formats_are_converted_to_gray_as_pillow_does(
    mode: str, name: str, options: dict, animals: Path
) -> None:
    """Color images become ITU-R 601 gray, and all are scaled to the same size."""
    random = np.random.default_rng(0)
    color = Image.fromarray(random.integers(0, 256, (40, 70, 3)).astype(np.uint8))
    path = animals / "test" / "snow leopard" / f"zz{name}"
    color.convert(mode).save(path, **options)
    images = load_dataset(find(animals), animals)
    with Image.open(path) as picture:
        expected = picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    assert np.array_equal(images.test_images[-1], np.asarray(expected))


@pytest.mark.parametrize("suffix", ["png", "pgm"])
def test_images_of_16_bits_are_scaled_and_not_clipped(suffix: str, animals: Path) -> None:
    """The darkest and the brightest value become 0 and 255."""
    values = np.linspace(0, 65535, 28 * 28).astype(np.uint16).reshape(28, 28)
    Image.fromarray(values).save(animals / "test" / "snow leopard" / f"zz.{suffix}")
    assert np.array_equal(load_dataset(find(animals), animals).test_images[-1], values >> 8)


def test_size_is_chosen(animals: Path) -> None:
    """dataset.size scales the images, and is part of the identity of the dataset."""
    small, usual = find(animals, 20), find(animals)
    assert (small.size, usual.size) == ((20, 20), (28, 28))
    assert small.digest != usual.digest
    assert load_dataset(small, animals).train_images.shape == (12, 20, 20)
    assert find(animals, 28) == usual


# ---------------------------------------------------------------- identity and cache


def test_the_digest_follows_the_content(animals: Path, tmp_path: Path) -> None:
    """A pixel, a class name or an order changes it; the format of the files does not."""
    before = find(animals).digest
    path = animals / "train" / "cat" / "000.png"
    with Image.open(path) as picture:
        pixels = np.array(picture)
    path.unlink()
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))
    assert find(animals).digest == before
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))
    assert find(animals).digest != before
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))
    assert find(animals).digest == before
    path.with_suffix(".bmp").rename(path.with_name("zz.bmp"))
    assert find(animals).digest != before
    path.with_name("zz.bmp").rename(path.with_suffix(".bmp"))
    for part in ("train", "test"):
        (animals / part / "cat").rename(animals / part / "bat")
    assert find(animals).digest != before


def test_a_change_with_the_same_time_and_size_is_noticed(animals: Path) -> None:
    """Files are identified by their content, so that an editor or a copy cannot hide a change."""
    path = animals / "train" / "cat" / "zz.bmp"
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(path)
    before, times = find(animals).digest, path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find(animals).digest != before


def test_workers_do_not_decode_again(animals: Path, cache: Path, monkeypatch) -> None:
    """Once found, the images come from the cache, also in the next sweep."""
    dataset = find(animals)
    expected = load_dataset(dataset, animals)

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(image_folder, "decode_file", fail)
    assert find(animals) == dataset
    assert np.array_equal(load_dataset(dataset, animals).test_images, expected.test_images)
    assert load_test_images(dataset, animals).class_names == NAMES


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("damage", ["truncated", "changed", "unpicklable", "missing", "read-only"])
def test_the_cache_can_be_damaged_or_deleted(
    damage: str, animals: Path, cache: Path, tmp_path: Path, monkeypatch
) -> None:
    """The images are decoded again; nothing else depends on the cache, and nothing is unpickled."""
    dataset = find(animals)
    expected = load_dataset(dataset, animals)
    (path,) = cache.glob("*.npz")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "changed":
        arrays = dict(np.load(path))
        arrays["train_images"][0, 0, 0] ^= 1
        np.savez(path, **arrays)
    elif damage == "unpicklable":
        payload = np.array([Payload(tmp_path / "unpickled")], dtype=object)
        np.savez(path, class_names=payload)
    elif damage == "missing":
        path.unlink()
    else:
        monkeypatch.setenv("LENET_SWEEP_DATA", str(path))  # a file: nothing can be written in it
    assert np.array_equal(load_dataset(dataset, animals).train_images, expected.train_images)
    assert find(animals) == dataset
    assert not (tmp_path / "unpickled").exists()


def test_a_change_after_planning_is_reported(animals: Path, cache: Path) -> None:
    """Without the cache, changed images end in an error and not in a wrong accuracy."""
    dataset = find(animals)
    for path in cache.iterdir():
        path.unlink()
    (animals / "train" / "cat" / "000.png").unlink()
    with pytest.raises(DataError, match="dataset=image_folder: the content has changed"):
        load_dataset(dataset, animals)


def test_the_images_are_only_read(animals: Path) -> None:
    """Nothing is written into the user's folder."""
    before = files_under(animals)
    load_dataset(find(animals), animals)
    assert files_under(animals) == before


# ---------------------------------------------------------------- wrong folders


def remove(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def only_one_class(root: Path) -> None:
    for part in ("train", "test"):
        for name in NAMES[1:]:
            remove(root / part / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, "dataset.root=ROOT: there is no such folder; set it to the folder with train/"),
        (lambda root: remove(root / "train"), "dataset.root=ROOT: no folder train/; put the"),
        (lambda root: remove(root / "test"), "dataset.root=ROOT: no folder test/; put the"),
        (lambda root: (root / "train" / "bat").mkdir(), "ROOT/train/bat: contains no images; add"),
        (lambda root: (root / "test" / "bat").mkdir(),
         "ROOT/test/bat: there is no train/bat; each class needs training images"),
        (only_one_class, "ROOT/train: must contain a folder for each of 2 to 1000 classes, not 1"),
        (lambda root: [remove(root / "test" / name) for name in NAMES],
         "ROOT/test: contains no class folders"),
        (lambda root: (root / "train" / "cat" / "more").mkdir(),
         "ROOT/train/cat/more: a folder inside a class"),
    ],
)  # fmt: skip
def test_wrong_folders_are_reported(
    change: Callable[[Path], object], message: str, animals: Path
) -> None:
    """The message is one line that names the folder and the fix."""
    change(animals)
    with pytest.raises(DataFolderError) as caught:
        find(animals)
    assert str(caught.value).startswith(message.replace("ROOT", str(animals)))
    assert one_line(str(caught.value)) == str(caught.value)


def pixels_of(side: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG, JPEG, BMP, GIF, PGM or WebP image; convert or remove it"),
        (b"not an image", "not a PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG, JPEG"),
        (pixels_of(28)[:-30], "damaged image: "),
        (png_bomb(9_000), "an image can have at most 67,108,864 pixels; scale it down"),
        (png_bomb(30_000), "an image can have at most 67,108,864 pixels; scale it down"),
        (png_bomb(2**31 - 1), "an image can have at most 67,108,864 pixels; scale it down"),
    ],
)
def test_unreadable_images_are_named(content: bytes, message: str, animals: Path) -> None:
    """A file that is not an image, or would need too much memory, ends in one line."""
    path = animals / "train" / "dog" / "zz.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        find(animals)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert one_line(str(caught.value)) == str(caught.value)


def test_too_many_pixels_are_rejected_before_decoding(animals: Path, monkeypatch) -> None:
    """The size of all images together is limited, and the message says how to reduce it."""
    monkeypatch.setattr(image_folder, "MAX_TOTAL_BYTES", 18 * 28 * 28)
    find(animals)
    with pytest.raises(
        DataFolderError, match=r"18 images of 29 x 29 pixels take .* smaller dataset"
    ):
        find(animals, 29)
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 50)
    with pytest.raises(DataError, match="more than 50 bytes; scale it down"):
        find(animals)


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")
def test_names_are_shown_on_one_line(tmp_path: Path, cache: Path) -> None:
    """A hostile folder name cannot break a line of the terminal or the page."""
    root = make_image_folder(tmp_path / "images", ("a\nb", "<b>\x1b[31m"), train=2, test=1)
    images = load_dataset(find(root), root)
    assert images.class_names == ("<b>\\x1b[31m", "a b")


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=imagefolder"], "did you mean dataset=image_folder?"),
        (["dataset=image_folder"], "requires dataset.root=FOLDER, the folder with train/ and"),
        (["dataset=image_folder", "dataset.root=ROOT", "dataset.size=32"],
         "dataset.size=32: model=lenet5 takes images of 28 x 28 pixels; use dataset.size=28"),
        (["dataset=image_folder", "dataset.root=ROOT", "dataset.size=0"],
         "dataset.size=0: must be a whole number from 1 to 1024"),
        (["dataset.size=28"], "dataset.size=28: only dataset=image_folder scales its images"),
        (["dataset=image_folder", "dataset.root=ROOT", "image_size=28"],
         "did you mean dataset.size?"),
        (["dataset=image_folder", "dataset.root=ROOT", "engine=native"],
         "engine=native: the native engine does not support dataset.classes=3 (only 10)"),
    ],
)  # fmt: skip
def test_invalid_settings_are_one_line(words: list[str], message: str, animals: Path) -> None:
    """The command line names the key, what is allowed and the fix, with exit status 2."""
    words = [word.replace("ROOT", str(animals)) for word in words]
    done = run_forked(*words, cwd=animals)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_idx_images_of_another_size_are_rejected_by_lenet5(tmp_path: Path) -> None:
    """The message says what the images have, what the model takes, and what to do."""
    labels = idx_bytes(np.array([0, 1], np.uint8))
    images = idx_bytes(np.zeros((2, 20, 30), np.uint8))
    root = put(tmp_path, dict(zip(FILE_NAMES, (images, labels, images, labels), strict=True)))
    assert find_dataset("folder", root, None).size == (20, 30)
    with pytest.raises(UsageError, match=r"20 x 30 pixels, but model=lenet5 takes"):
        cells(dataset="folder", **{"dataset.root": root})


def test_ten_classes_of_28_pixels_are_trained_natively(tmp_path: Path, cache: Path) -> None:
    """The native engine trains what has the shape of MNIST, whatever its files are."""
    root = make_image_folder(tmp_path / "images", [f"kind {n}" for n in range(10)], 2, 1)
    (cell,) = cells(dataset="image_folder", device="cpu", **{"dataset.root": root})
    assert NATIVE.unsupported_reason(replace(cell, engine="torch")) in (
        None,
        NATIVE.unavailable_reason(),
    )


def test_classes_and_size_are_part_of_the_run(animals: Path) -> None:
    """They are stored if they are not those of MNIST, whose run ids have not changed."""
    (mnist,) = cells(device="cpu", engine="torch")
    assert mnist.to_json()["dataset"].keys() == {"name", "digest", "limit", "holdout"}
    (cell,) = cells(dataset="image_folder", **{"dataset.root": animals})
    stored = json.loads(json.dumps(cell.to_json()))
    assert stored["dataset"]["classes"] == 3
    other_size = replace(cell, dataset=replace(cell.dataset, size=(20, 30)))
    assert other_size.data == "image_folder 20x30"
    for each in (mnist, cell, other_size):
        copy = cell_from_json(json.loads(json.dumps(each.to_json())))
        assert (copy, copy.run_id) == (each, each.run_id)
    assert len({cell.run_id, other_size.run_id, mnist.run_id}) == 3


# ---------------------------------------------------------------- any number of classes


def confused(classes: int, images: int = 500, names: tuple[str, ...] = ()) -> tuple:
    """Labels and predictions, every third of which is wrong, and class names."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images).astype(label_type(classes))
    wrong = (labels + random.integers(0, classes, images)) % classes
    predictions = np.where(np.arange(images) % 3 == 0, wrong, labels).astype(labels.dtype)
    return labels, predictions, names or tuple(f"kind {n}" for n in range(classes))


@given(classes=st.integers(2, 60), images=st.integers(1, 300))
def test_confusion_counts_every_image_once(classes: int, images: int) -> None:
    """The matrix has the true classes in rows, and the lists have its largest errors."""
    labels, predictions, names = confused(classes, images)
    confusion = make_confusion(labels, predictions, names, "class")
    assert confusion.counts.sum() == images
    assert np.array_equal(confusion.counts.sum(axis=1), np.bincount(labels, minlength=classes))
    assert np.trace(confusion.counts) == (labels == predictions).sum()
    assert confusion.is_shown == (classes <= MAX_MATRIX)
    counts = [pair.count for pair in confusion.pairs]
    assert counts == sorted(counts, reverse=True)
    for pair in confusion.pairs:
        true, predicted = names.index(pair.true), names.index(pair.predicted)
        assert ((labels == true) & (predictions == predicted)).sum() == pair.count
        assert pair.share == 100 * pair.count / (labels == true).sum()
    if len(confusion.pairs) == confusion.distinct_pairs:
        assert sum(counts) == (labels != predictions).sum()
    percents = [each.percent for each in confusion.worst]
    assert percents == sorted(percents)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, ("no", "yes")),
        (26, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        (100, ()),
        (2, ("a" * 99, "b")),
    ],
)
def test_figures_caption_images_with_class_names(classes: int, names: tuple[str, ...]) -> None:
    """Short names share a line, longer ones get two, and no name leaves its column."""
    labels, predictions, names = confused(classes, 60, names)
    images = np.full((60, 30, 20), 200, np.uint8)
    pages = misclassified_figures(images, labels, predictions, names=names, inverted=False)
    figure = pages[0]()
    assert "true class → predicted class" in " ".join(text.get_text() for text in figure.texts)
    (tiles,) = figure.artists
    wrong = np.flatnonzero(labels != predictions)
    assert set(tiles.captions) == {
        f"{names[labels[i]]} → {names[predictions[i]]}".replace(
            *(" → ", " → ") if max(map(len, names)) <= 3 else (" → ", "\n→ ")
        )
        for i in wrong
    }
    x, y = tiles.corners[0]
    assert (tiles.raster[y + 42, x + 42] == 200).all()  # as it is, not as a negative
    edges = tiles.raster[:, :: tiles.wide]
    assert (edges == 255).all()
    assert render(correct_samples_figure(images, labels, predictions, names=names)).size


def test_digits_are_called_digits(tmp_path: Path) -> None:
    """The datasets of the catalog keep their wording and get the names of their classes."""
    assert DATASETS["mnist"].class_names == tuple("0123456789")
    assert DATASETS["fashion_mnist"].class_names[9] == "Ankle boot"
    assert all(len(spec.class_names) == 10 for spec in DATASETS.values())
    torchvision = pytest.importorskip("torchvision")
    assert list(DATASETS["fashion_mnist"].class_names) == torchvision.datasets.FashionMNIST.classes
    assert list(DATASETS["kmnist"].class_names) == torchvision.datasets.KMNIST.classes


@given(st.integers(2, 999))
def test_a_network_has_learned_well_above_chance(classes: int) -> None:
    """The limit is above chance and below 100%, and falls with the number of classes."""
    chance = 100 / classes
    assert chance < min_learned(classes) < 100
    assert min_learned(classes + 1) < min_learned(classes)
    assert min_learned(10) == 50


@given(
    classes=st.integers(2, 1000),
    dtype=st.sampled_from([np.uint8, np.int16, np.int32]),
    data=st.data(),
)
@settings(max_examples=50)
def test_idx_labels_of_all_types_are_read(classes: int, dtype: type, data: st.DataObject) -> None:
    """Labels are the same whatever their type in the file, in the smallest type that fits."""
    if dtype == np.uint8:
        classes = min(classes, 256)
    labels = np.array(data.draw(st.permutations(range(classes))), dtype)
    images = np.zeros((classes, 1, 1), np.uint8)
    files = [
        Content(Path("x"), np.frombuffer(bytearray(idx_bytes(array)), np.uint8))
        for array in (images, labels)
    ]
    assert idx.count_classes(idx.read(*files)) == classes
    decoded = idx.decode(*files, classes, (1, 1))[1]
    assert decoded.dtype == (np.uint8 if classes <= 256 else np.uint16)
    assert np.array_equal(decoded, labels)


@given(
    height=st.integers(1, 90), width=st.integers(1, 90), count=st.integers(1, 30),
    inverted=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_sprites_hold_images_of_any_size(
    height: int, width: int, count: int, inverted: bool
) -> None:
    """Each tile is a square with its image in the middle, dark on light if inverted."""
    images = np.full((count, height, width), 255, np.uint8)
    sprite = sprites.make_sprite(images, inverted=inverted)
    with Image.open(io.BytesIO(base64.b64decode(sprite.uri.partition(",")[2]))) as picture:
        sheet = np.asarray(picture.convert("L"))
    side = min(max(height, width), sprites.MAX_SIDE)
    middle = (side - 1) // 2
    assert sheet.shape == (sprite.rows * side, sprite.columns * side)
    for index in range(count):
        x, y = sprite.position(index)
        assert sheet[y * side + middle, x * side + middle] == (0 if inverted else 255)
