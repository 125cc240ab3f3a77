"""`python -m lenet_sweep.export`: the exported networks compute the same, and their model card."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from in_process import training_here
from markdown_it import MarkdownIt
from safetensors import safe_open
from safetensors.torch import load_file

from lenet_sweep import LeNet5, load_model, sweep
from lenet_sweep.data.datasets import load_test_images
from lenet_sweep.export import main
from lenet_sweep.inference import export
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.storage.files import read_json, write_json

ALL = "safetensors,onnx,state_dict,torch_export"
FILES = {"model.safetensors", "model.onnx", "state_dict.pt", "model.pt2", "README.md"}
MODEL = '''\
from torch import nn

from lenet_sweep import register_model


@register_model("branches")
class Branches(nn.Sequential):
    """A network whose computation depends on its input, which no exporter can trace."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images):
        return super().forward(images if images.sum() > 100 else images + 1)
'''


def run_sweep(out: Path, data: Path, **settings) -> Path:
    values = {"dataset": "folder", "device": "cpu", "figures": "none", "report": False}
    values |= {"out": out, "progress": False, "dataset.root": str(data), "batch": 16, "epochs": 1}
    return Path(sweep(**values | settings).attrs["folder"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_folder) -> Path:
    """The folder of a sweep whose network has all that an export could lose."""
    with training_here():
        return run_sweep(
            tmp_path_factory.mktemp("sweep"), small_folder(), optimizer="adam", lr=[0.001, 0.01],
            batch_norm=True, pool="avg", activation="tanh", width=0.5, normalize="standard",
            dropout=0.1, person="<b>Ada</b> | [x](http://evil.example) `code` $x$",
        )  # fmt: skip


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    assert main([str(folder), "--rank", "2", "--format", ALL, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    return out


@pytest.fixture(scope="module")
def images(folder) -> np.ndarray:
    """The test images as input of the exported networks, (200, 1, 28, 28) float32."""
    found = load_sweep(folder)
    pixels = load_test_images(found.cells[0].dataset, found.data_root).images
    return pixels[:, None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def expected(folder, images) -> np.ndarray:
    with torch.no_grad():
        return load_model(folder, 2)(torch.from_numpy(images)).numpy()


def test_onnx_computes_the_same(exported, images, expected) -> None:
    """ONNX Runtime gives the same scores for all test images, in batches of any size."""
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    assert [node.name for node in session.get_inputs()] == ["images"]
    for batch in (images, images[:7], images[:1]):
        (scores,) = session.run(["scores"], {"images": batch})
        np.testing.assert_allclose(scores, expected[: len(batch)], rtol=1e-4, atol=1e-4)


def test_torch_export_computes_the_same(exported, images, expected) -> None:
    program = torch.export.load(exported / "model.pt2").module()
    for batch in (images, images[:1]):
        scores = program(torch.from_numpy(batch)).detach().numpy()
        np.testing.assert_allclose(scores, expected[: len(batch)], rtol=1e-4, atol=1e-4)


def test_the_weights_fit_the_class(exported, images, expected) -> None:
    """With the normalization in the metadata, the weights give the same scores in a plain LeNet5.

    The pickle contains only tensors.
    """
    state = torch.load(exported / "state_dict.pt", weights_only=True)
    with safe_open(exported / "model.safetensors", "pt") as file:
        facts = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in state)
    network = LeNet5("tanh", "avg", batch_norm=True, width=0.5).eval()
    network.load_state_dict(weights)
    mean, std = float(facts["pixel_mean"]), float(facts["pixel_std"])
    scores = network.logits((torch.from_numpy(images) - mean) / std)
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    assert json.loads(facts["class_names"]) == list("0123456789")


def test_the_card_says_what_the_network_is(folder, exported) -> None:
    """Accuracy with its interval, digest, command, settings and warnings; text from outside is
    plain text.
    """
    found = load_sweep(folder)
    row, cell = found.table.iloc[1], found.cells_by_id[found.table["cell"][1]]
    text = (exported / "README.md").read_text()
    html = MarkdownIt("gfm-like", {"linkify": False}).enable("table").render(text)
    shown = dict(re.findall(r"<td>(.*?)</td>\s*<td>(.*?)</td>", html))
    assert shown["accuracy"].startswith(f"{row['accuracy']:.2f}% of the test images (95%")
    assert shown["digest of the dataset"] == cell.dataset.digest
    assert shown["normalize"] == "standard"
    assert shown["lr"] == f"{cell.lr:g}"
    assert unescape(shown["person"]) == "<b>Ada</b> | [x](http://evil.example) `code` $x$"
    assert unescape(shown["command"]) == found.manifest.launches[-1]["command"]
    assert "only one seed" in html or "seed" in html.partition("Warnings")[2]
    assert not {"b", "a", "img", "script"} & set(re.findall(r"<(\w+)", html))
    assert "(pixel - 0." in text
    assert "processor" in shown
    assert "host" not in shown


def test_text_of_a_received_folder_stays_text(folder, tmp_path) -> None:
    """A command in a sweep.json of someone else adds no markup to the card."""
    values = read_json(folder / "sweep.json")
    payload = "x\n\n# heading <script>alert(1)</script> ![x](http://evil.example/x.png)"
    values["launches"][0]["command"] = payload
    values["store"] = str(load_sweep(folder).store.out)
    (tmp_path / "received").mkdir()
    write_json(tmp_path / "received" / "sweep.json", values)
    assert main([str(tmp_path / "received"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    html = MarkdownIt("gfm-like", {"linkify": False}).enable("table").render(text)
    assert not {"script", "img", "a"} & set(re.findall(r"<(\w+)", html))
    assert html.count("<h1>") == 1
    assert "&lt;script&gt;" in html


def test_another_readme_is_not_replaced(folder, exported, tmp_path, capsys) -> None:
    """A model card is replaced; a README of something else is an error."""
    (tmp_path / "README.md").write_text("# My project\n")
    assert main([str(folder), "--out", str(tmp_path)]) == 2
    assert (
        "contains a README.md that is not a model card; choose another" in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert main([str(folder), "--rank", "2", "--out", str(exported)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x", "--format", "onnx,keras"], "--format keras: must be one or more of safe"),
        ([], "the following arguments are required: --out; python -m lenet_sweep.export DIR"),
        (["--out", "x", "--rank", "3"], "rank=3: must be a whole number from 1 to 2"),
    ],
)
def test_mistakes_are_explained(folder, capsys, arguments: list[str], message: str) -> None:
    assert main([str(folder), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_missing_package_is_named(folder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert main([str(folder), "--out", str(tmp_path / "x"), "--format", "onnx"]) == 2
    assert capsys.readouterr().err == (
        "error: --format onnx: requires onnx and onnxscript; run: "
        "pip install 'lenet-sweep[export]'\n"
    )
    assert not (tmp_path / "x").exists()


def test_a_model_that_cannot_be_traced_is_explained(
    own_registry, tmp_path, small_folder, capsys, monkeypatch
) -> None:
    """Its weights can still be exported."""
    path = tmp_path / "branches_of_mine.py"
    path.write_text(MODEL)
    monkeypatch.setenv("LENET_SWEEP_MODELS", str(path))
    folder = run_sweep(tmp_path / "out", small_folder(), model="branches")
    command = [str(folder), "--out", str(tmp_path / "x"), "--format"]
    assert main([*command, "torch_export"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: --format torch_export: torch cannot export model=branches: ")
    assert len(printed.splitlines()) == 1
    assert main([*command, "safetensors"]) == 0


TIED = '''\
from torch import nn

from lenet_sweep import register_model


@register_model("tied")
class Tied(nn.Sequential):
    """Two layers share their weights."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10), nn.Linear(10, 10))
        self[3].weight = self[2].weight
'''


def test_tied_weights_are_exported(own_registry, tmp_path, small_folder, monkeypatch) -> None:
    """Weights that share memory are written under each of their names."""
    path = tmp_path / "tied_of_mine.py"
    path.write_text(TIED)
    monkeypatch.setenv("LENET_SWEEP_MODELS", str(path))
    folder = run_sweep(tmp_path / "out", small_folder(), model="tied")
    out = tmp_path / "x"
    assert main([str(folder), "--out", str(out), "--format", "safetensors,state_dict"]) == 0
    weights = load_file(out / "model.safetensors")
    assert torch.equal(weights["2.weight"], weights["3.weight"])
    assert torch.load(out / "state_dict.pt", weights_only=True).keys() == weights.keys()
