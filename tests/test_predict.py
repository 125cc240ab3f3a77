"""`python -m lenet_sweep.predict` and `predict`: photos, pages, and files that are no pictures."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import make_image_folder, png_bomb
from photos import page, photo
from PIL import Image
from scipy import ndimage

from lenet_sweep import load_model, sweep
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data.datasets import find_dataset, load_test_images
from lenet_sweep.data.images import LabeledImages
from lenet_sweep.inference.load import TrainedModel
from lenet_sweep.inference.page import find_digits
from lenet_sweep.inference.prediction import Prediction, predict, predict_page
from lenet_sweep.predict import main

MODEL = """\
from torch import nn

from lenet_sweep import register_model


@register_model("dense")
class Dense(nn.Sequential):
    def __init__(self, hidden=16):
        super().__init__(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, 10))
"""


@pytest.fixture(scope="module")
def digits(mnist_root: Path) -> LabeledImages:
    """MNIST's test images."""
    return load_test_images(find_dataset("mnist", mnist_root, None), mnist_root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mnist_root: Path) -> Path:
    """The folder of a sweep on MNIST."""
    table = sweep(
        optimizer="adam", lr=0.003, batch=32, epochs=2, device="cpu", figures="none",
        report=False, progress=False, out=tmp_path_factory.mktemp("mnist") / "outputs",
        **{"dataset.limit": 12000},
    )  # fmt: skip
    return Path(table.attrs["folder"])


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return load_model(folder)


def share_right(found: list[Prediction], labels) -> float:
    return float(np.mean([each.label == label for each, label in zip(found, labels, strict=True)]))


def test_photos_are_classified_and_raw_is_worse(model, digits) -> None:
    """At least nine of ten photos of ink on unevenly lit paper; hardly any as they are."""
    photos = [photo(digits.images[n], n) for n in range(30)]
    labels = digits.labels[:30]
    assert share_right([predict(model, each) for each in photos], labels) >= 0.9
    assert share_right([predict(model, each, raw=True) for each in photos], labels) <= 0.4


def test_images_of_the_dataset_stay_as_they_are(model, digits) -> None:
    """Prepared or raw, on a dark or a light background, MNIST's own digits are classified."""
    images, labels = digits.images[:60], digits.labels[:60]
    for kind in (images, 255 - images):
        assert share_right([predict(model, image) for image in kind], labels) >= 0.9
    assert share_right([predict(model, image, raw=True) for image in images], labels) >= 0.9
    seen = np.stack([predict(model, image).image for image in images]).astype(float)
    assert np.abs(seen - images).mean() < 8
    assert (predict(model, images[0], raw=True).image == images[0]).all()


def test_thin_strokes_are_widened(model, digits) -> None:
    """A fine pen on a large sheet leaves enough ink in 28 x 28 pixels."""
    found = []
    for image in digits.images[:20]:
        large = np.asarray(Image.fromarray(image).resize((560, 560), Image.Resampling.BICUBIC))
        thin = ndimage.binary_erosion(large > 90, iterations=14)
        found.append(predict(model, np.where(thin, 0, 255).astype(np.uint8)))
    widened = [each for each in found if any("widened" in step.name for step in each.steps)]
    assert len(widened) >= 10
    assert min(each.image.max() for each in widened) > 200


def test_a_picture_may_be_a_file_an_image_or_an_array(model, digits, tmp_path) -> None:
    """All give the same result, with what the network saw and every step."""
    picture = photo(digits.images[0], 0)
    picture.save(tmp_path / "digit.png")
    pixels = np.asarray(picture)
    first = predict(model, tmp_path / "digit.png")
    assert first.class_name == str(digits.labels[0])
    assert first.probability == max(first.probabilities) > 0.5
    assert sum(first.probabilities) == pytest.approx(1)
    assert first.best(1) == [(first.class_name, first.probability)]
    assert first.image.shape == (28, 28)
    assert first.steps[-1].name == "centered by mass"
    for same in (
        str(tmp_path / "digit.png"), picture, pixels, np.stack([pixels] * 3, axis=2), pixels / 255
    ):  # fmt: skip
        assert predict(model, same).probabilities == pytest.approx(first.probabilities, abs=0.02)


def test_photos_are_turned_as_the_camera_says(model, digits, tmp_path) -> None:
    """A phone stores a photo as its sensor saw it, with the orientation beside it."""
    picture = photo(digits.images[2], 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    expected = predict(model, picture)
    assert predict(model, tmp_path / "turned.png").probabilities == expected.probabilities


def test_transparent_pixels_are_paper(model, digits, tmp_path) -> None:
    """A digit that was drawn on a transparent layer is dark ink on white."""
    ink = digits.images[1]
    layers = [np.zeros_like(ink)] * 3 + [ink]
    Image.fromarray(np.stack(layers, axis=2)).save(tmp_path / "layer.png")
    assert predict(model, tmp_path / "layer.png").label == digits.labels[1]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(784), "must have the shape"),
        (np.zeros((28, 28, 2), np.uint8), "must have the shape"),
        (np.zeros((28, 28), np.int64), "must be of uint8 or floats, not int64"),
        (np.full((28, 28), 255.0), "values from 0 to 1"),
        (np.full((28, 28), np.nan), "values from 0 to 1"),
        (7, "must be a file, a PIL image, or an array"),
    ],
)
def test_other_values_are_explained(model, image, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict(model, image)


def test_a_blank_page_has_no_digit(model) -> None:
    """Noise and uneven light are not ink."""
    for seed in range(6):
        paper = photo(np.zeros((28, 28), np.uint8), seed)
        with pytest.raises(DataError, match="image: no digit found"):
            predict(model, paper)
    with pytest.raises(DataError, match="no digit found"):
        predict_page(model, Image.new("L", (300, 300), 200))


# ---------------------------------------------------------------- pages


def test_a_page_is_read_line_by_line(model, digits) -> None:
    """Its ruled line and dust are no digits, and each digit has its place on the page."""
    lines = [digits.images[:6], digits.images[10:14], digits.images[20:26]]
    labels = [digits.labels[:6], digits.labels[10:14], digits.labels[20:26]]
    found = predict_page(model, page(lines))
    assert [len(line) for line in found] == [6, 4, 6]
    flat = [each for line in found for each in line]
    assert share_right(flat, np.concatenate(labels)) >= 0.85
    for line, top in zip(found, (30, 170, 310), strict=True):
        assert all(abs(each.box[1] - top) < 30 for each in line)
        assert [each.box[0] for each in line] == sorted(each.box[0] for each in line)


def test_the_parts_of_a_digit_stay_together() -> None:
    """The bar of a 5 belongs to it, even if there is a small gap, and digits beside it do not."""
    paper = np.full((200, 400), 220, np.uint8)
    paper[60:68, 60:100] = 20  # the bar
    paper[72:140, 60:70] = 20  # the body
    paper[60:140, 150:160] = 20  # a 1
    ((five, one),) = find_digits(paper)
    assert five.box == pytest.approx((60, 60, 100, 140), abs=2)
    assert one.box == pytest.approx((150, 60, 160, 140), abs=2)


# ---------------------------------------------------------------- the command


@pytest.fixture
def pictures(tmp_path, digits) -> Path:
    """A folder with photos of three digits, and a text file."""
    place = tmp_path / "pictures"
    place.mkdir()
    for n in range(3):
        photo(digits.images[n], n).save(place / f"{n}.jpg", quality=90)
    (place / "notes.txt").write_text("not a picture")
    return place


def test_the_command_prints_classes_and_what_the_network_saw(
    folder, pictures, digits, tmp_path, capsys, monkeypatch
) -> None:
    """By default, it uses the latest sweep; --out draws all steps."""
    monkeypatch.chdir(folder.parents[2])
    assert main([str(pictures / "0.jpg"), "--out", str(tmp_path / "steps")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"Row 1 of {Path('outputs/sweeps') / folder.name}: cross_entropy")
    assert printed[1].startswith(f"{pictures / '0.jpg'}: {digits.labels[0]} ")
    assert "centered by mass" in printed[2]
    assert any("@" in line for line in printed[3:])
    with Image.open(tmp_path / "steps" / "0-steps.png") as drawn:
        assert drawn.width > 6 * 196
    assert main([str(pictures), "--sweep", str(folder)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if ".jpg: " in line]
    assert [Path(row.partition(":")[0]).name for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]


def test_steps_of_pictures_with_the_same_name_are_kept(folder, pictures, tmp_path) -> None:
    """Files from two folders, and with another suffix, do not replace each other's steps."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(pictures / "1.jpg", other / "0.JPG")
    shutil.copy(pictures / "2.jpg", other / "0_2.jpg")
    same = [pictures / "0.jpg", other / "0.JPG", other / "0_2.jpg"]
    out = tmp_path / "steps"
    assert main([*map(str, same), "--sweep", str(folder), "--out", str(out)]) == 0
    drawn = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(drawn) == ["0-steps.png", "0_2-steps.png", "0_2_2-steps.png"]
    assert len({*drawn.values()}) == 3


def test_the_command_reads_a_page(folder, digits, tmp_path, capsys) -> None:
    page([digits.images[:4], digits.images[10:14]]).save(tmp_path / "page.png")
    assert main([str(tmp_path / "page.png"), "--page", "--sweep", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == f"{tmp_path / 'page.png'}: 8 digits in 2 lines"
    assert len(printed[2].split()) == len(printed[3].split()) == 4


def truncated_png() -> bytes:
    content = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(content, "PNG")
    return content.getvalue()[:5000]


def blank_png() -> bytes:
    content = io.BytesIO()
    Image.new("L", (300, 200), 230).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG, JPEG"),
        (b"a text file\n", "not a PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a PNG, JPEG|damaged image"),
        (truncated_png(), "damaged image"),
        (png_bomb(60_000), "an image can have at most"),
        (png_bomb(2**31 - 1), "an image can have at most|damaged image"),
        (png_bomb(0), "not a PNG, JPEG|damaged image"),
        (blank_png(), "no digit found"),
    ],
    ids=["empty", "text", "header", "truncated", "bomb", "huge", "no pixels", "blank"],
)
def test_a_file_that_is_no_picture_costs_one_line(
    folder, pictures, tmp_path, capsys, content: bytes, message: str
) -> None:
    """The line names the file and the reason, and the other pictures are classified."""
    bad = tmp_path / "bad\x1b[31m.png"
    bad.write_bytes(content)
    arguments = [str(bad), str(pictures / "0.jpg"), "--sweep", str(folder)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ")
    assert "bad\N{REPLACEMENT CHARACTER}[31m.png: " in printed.err
    assert any(part in printed.err for part in message.split("|"))
    assert "0.jpg: " in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png: there is no such file or folder"),
        (["."], ".: no pictures in this folder"),
        (["x.png", "--page", "--raw"], "--page and --raw cannot be combined"),
        ([], "the following arguments are required: PICTURE; python -m lenet_sweep.predict"),
        (["x.png"], "--sweep: there is no sweep in outputs"),
        (["x.png", "--sweep", "nowhere"], "no sweep in nowhere"),
        (["x.png", "--rank", "many"], "argument --rank: invalid int value: 'many'"),
        (["x.png", "--models", "y.py", "--sweep", "SWEEP"], "--models: the model of row 1 is"),
        (
            ["x.png", "--rank", "9", "--sweep", "SWEEP"],
            "rank=9: must be a whole number from 1 to 1",
        ),
    ],
)
def test_mistakes_on_the_command_line_are_explained(
    folder, tmp_path, capsys, monkeypatch, arguments: list[str], message: str
) -> None:
    """One line, and the exit status 2."""
    monkeypatch.chdir(tmp_path)
    if "x.png" in arguments:
        Path("x.png").write_bytes(blank_png())
    assert main([str(folder) if word == "SWEEP" else word for word in arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["predict", "export"])
def test_help_does_not_import_torch(command: str, tmp_path) -> None:
    """`--help` and mistakes are answered at once."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', *sys.argv[1:]]\n"
        "try:\n"
        f"    runpy.run_module('lenet_sweep.{command}', run_name='__main__')\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    for arguments, status in ((["--help"], 0), (["--no-such-option"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"COLUMNS": "120"}, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert all(len(line) <= 120 for line in done.stdout.splitlines())


# ---------------------------------------------------------------- other models and datasets


def test_an_own_model_is_found_by_its_registered_name(tmp_path, small_folder) -> None:
    """--models names the file that registers it, and the folder of the sweep only the name."""
    (tmp_path / "dense_of_mine.py").write_text(MODEL)
    data = ["dataset=folder", f"dataset.root={small_folder()}", "batch=20", "figures=none"]
    models = ["--models", "dense_of_mine.py"]
    Image.fromarray(np.eye(28, dtype=np.uint8) * 200).save(tmp_path / "x.png")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("lenet_sweep", *models, "-m", "model=dense", "epochs=1", "device=cpu", *data)
    assert done.returncode == 0, done.stderr
    done = run("lenet_sweep.predict", "x.png", *models)
    assert done.returncode == 0, done.stderr
    assert "x.png: " in done.stdout
    done = run("lenet_sweep.predict", "x.png")
    assert done.returncode == 2
    assert done.stderr == (
        "error: model=dense: add --models FILE.py with the file that registers it\n"
    )


@pytest.mark.usefixtures("train_here")
def test_images_of_a_folder_are_read_as_in_training(tmp_path, monkeypatch) -> None:
    """A picture only becomes gray and is scaled, and its class has its name."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(tmp_path / "cache"))
    root = make_image_folder(tmp_path / "images", ("cat", "dog", "owl"), train=60, test=5)
    table = sweep(
        dataset="image_folder", optimizer="adam", batch=10, epochs=2, device="cpu", figures="none",
        report=False, progress=False, out=tmp_path / "out", **{"dataset.root": str(root)},
    )  # fmt: skip
    model = load_model(table)
    path = root / "test" / "dog" / "000.png"
    found = predict(model, path)
    assert (found.image == np.asarray(Image.open(path))).all()
    assert found.class_name in ("cat", "dog", "owl")
    assert [step.name for step in found.steps] == ["gray", "scaled to 28 x 28"]
    with pytest.raises(UsageError, match="--page: must be used with a model trained on MNIST"):
        predict_page(model, path)
