"""load_model: the network of a row classifies like the run that trained it, and clear errors."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from image_files import make_image_folder
from torch import nn

from lenet_sweep import load_model, load_results, sweep
from lenet_sweep.config import model_import, own_models, registry
from lenet_sweep.core.errors import DataError, StoreError, UsageError
from lenet_sweep.data.datasets import load_test_images
from lenet_sweep.inference.load import TrainedModel
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.storage.files import read_json, write_json

# Rows with every setting that changes the network or its input, and with some that do not.
ROWS: list[dict[str, Any]] = [
    {},
    {"epochs": 3},
    {"optimizer": "adam", "normalize": "standard"},
    {"optimizer": "adam", "normalize": "standard", "engine": "torch"},
    {"optimizer": "adam", "normalize": "standard", "width": 1.5},
    {"optimizer": "adam", "model": "lenet5_1998", "init": "xavier_uniform"},
    {"optimizer": "adam", "width": 0.5, "activation": "gelu"},
    {"optimizer": "adam", "width": 2, "batch_norm": True, "dropout": 0.5},
    {"optimizer": "rmsprop", "batch_norm": True, "normalize": "standard"},
    {"optimizer": "adam", "pool": "avg", "activation": "tanh", "dropout": 0.2},
    {"optimizer": "adam", "pool": "power_mean", "activation": "softplus"},
    {"optimizer": "adam", "pool": "power_mean", "pool.norm_type": 3},
    {"optimizer": "adamw", "activation": "elu", "loss": "mse"},
    {"optimizer": "adagrad", "activation": "silu", "loss": "binary_cross_entropy"},
    {"optimizer": "adam", "activation": "leaky_relu", "loss": "nll", "seed": 3},
    {"activation": "sigmoid", "augment": "shift", "schedule": "cosine"},
    {"shuffle": True, "clip_norm": 1.0, "epochs": 8, "patience": 1},
]  # fmt: skip

SOURCE = '''\
"""A dense network with a buffer that its state_dict leaves out."""
import torch
from torch import nn


class MyNet(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 10)
        )
        self.register_buffer("steps", torch.zeros(1), persistent=False)

    def forward(self, images):
        if self.training:
            self.steps += 1
        return self.layers(images) * self.steps
'''


@pytest.fixture
def my_net(own_registry, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Write a module with a model, and import its class. What it registers is then forgotten."""
    for name in ("_registered", "_locations"):
        monkeypatch.setattr(own_models, name, {})
    monkeypatch.setattr(model_import, "_classes", {})

    def write(source: str = SOURCE, name: str = "net_of_mine") -> type[nn.Module]:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return importlib.import_module(name).MyNet

    yield write
    sys.modules.pop("net_of_mine", None)


def run_sweep(out: Path, data: Path, **settings: Any) -> pd.DataFrame:
    values = {"dataset": "folder", "device": "cpu", "figures": "none", "report": False}
    values |= {"out": out, "progress": False, "dataset.root": str(data)}
    return sweep(**values | settings)


def check_accuracy(folder: Path, number: int, model: TrainedModel) -> None:
    """The accuracy of a model is that of a row, up to images whose best two scores are close."""
    found = load_sweep(folder)
    row, cell = found.table.iloc[number - 1], found.cells_by_id[model.cell.id]
    tests = load_test_images(cell.dataset, found.data_root)
    with torch.no_grad():
        scores = model(torch.from_numpy(tests.images).unsqueeze(1))
    best_two, _ = scores.topk(2, dim=1)
    close = (best_two[:, 0] - best_two[:, 1] < 1e-4).numpy()
    right = scores.argmax(1).numpy() == tests.labels
    assert not model.training
    assert abs(100 * right.mean() - row["accuracy"]) <= 100 * close.mean() + 1e-9, cell
    floats = torch.from_numpy(tests.images[:2]).unsqueeze(1).float() / 255
    assert torch.equal(model(floats), model(torch.from_numpy(tests.images[:2]).unsqueeze(1)))
    assert torch.equal(model(floats), model(floats.double()))


@pytest.mark.usefixtures("train_here")
def test_the_accuracy_of_every_row_is_reproduced(own_registry, tmp_path, small_folder) -> None:
    """Each network of a sweep over all kinds of settings has the accuracy of its row."""
    for group, name, text in (
        ("pool", "power_mean", "class: LPPool2d\nnorm_type: 2.0  # the power; min 1\n"),
        ("activation", "softplus", "class: Softplus\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(f"# For a test.\nname: {name}\n{text}")
    registry.add_folder(tmp_path)
    rows = [{"batch": 16, "epochs": 1} | row for row in ROWS]
    study = {"title": "All settings", "rows": rows}
    table = run_sweep(tmp_path / "out", small_folder(), study=study, holdout=100)
    assert list(table["status"]) == ["ok"] * len(ROWS)
    assert table["accuracy"].nunique() > 5
    folder = Path(table.attrs["folder"])
    written = pd.read_csv(folder / "results.csv")
    for number, cell in enumerate(written["cell"], 1):
        model = load_model(folder, number)
        assert model.cell.id == cell
        check_accuracy(folder, number, model)
        assert model.epochs == table["epochs_trained"][number - 1]
        assert load_model(folder, cell=cell).cell == model.cell


@pytest.fixture(scope="module")
def normalized(tmp_path_factory, small_folder) -> Path:
    """The folder of a sweep: two rows with normalize=standard, and one that diverged."""
    out = tmp_path_factory.mktemp("normalized")
    table = run_sweep(
        out, small_folder(), normalize="standard", lr=[0.1, 0.01, 1e30], batch=16, epochs=2
    )
    assert list(table["status"]) == ["ok", "ok", "diverged"]
    return Path(table.attrs["folder"])


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = read_json(path)
    change(values)
    write_json(path, values)


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of a sweep and of its store."""
    shutil.copytree(folder.parents[1], to)
    return to / "sweeps" / folder.name


def test_runs_of_earlier_versions_take_the_normalization_from_their_dataset(
    normalized, tmp_path
) -> None:
    """Without the dataset, the message says what is missing."""
    folder = copy_of(normalized, tmp_path / "copy")
    (run,) = (load_sweep(folder).store.out / "runs").glob(f"{load_sweep(folder).cells[0].run_id}")
    new = load_model(folder, cell=load_sweep(folder).cells[0].id)
    edit_json(run / "run.json", lambda values: values.pop("images"))
    old = load_model(folder, cell=new.cell.id)
    assert new.pixel_std != 1
    assert (old.pixel_mean, old.pixel_std) == (new.pixel_mean, new.pixel_std)
    assert old.class_names == new.class_names == tuple("0123456789")
    edit_json(folder / "sweep.json", lambda values: values.update(data_root=str(tmp_path / "no")))
    with pytest.raises((DataError, UsageError), match="dataset"):
        load_model(folder, cell=new.cell.id)


def test_a_table_may_be_sorted_and_filtered(normalized) -> None:
    """The row of the given table counts, not that of results.csv."""
    table = load_results(normalized)
    other = table[table["lr"] == 0.01]
    assert load_model(other).cell.lr == 0.01
    assert load_model(table.sort_values("lr", ascending=False), 2).cell.lr == 0.1
    with pytest.raises(UsageError, match="or a table that sweep"):
        load_model(pd.read_csv(normalized / "results.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 4}, "rank=4: must be a whole number from 1 to 3"),
        ({"rank": 0}, "rank=0: must be a whole number"),
        ({"rank": 1.5}, "rank=1.5: must be a whole number"),
        ({"rank": 3}, r"row 3 of .* diverged, so it has no result: the loss became"),
        ({"cell": "0123456789abcdef-e1"}, "cell=0123456789abcdef-e1: must be a cell of"),
        ({"rank": 2, "cell": "x"}, "rank=2, cell=x: give only one"),
        ({"device": "gpu"}, "device=gpu: must be a device of torch"),
        ({"device": "meta"}, "device=meta: must be a device of torch"),
        ({"model": nn.Linear}, "model=Linear: the model of row 1 is lenet5"),
    ],
)
def test_wrong_arguments_are_explained(normalized, arguments: dict[str, Any], message: str) -> None:
    """One line names the argument, its value, and what is allowed."""
    with pytest.raises(UsageError, match=message) as error:
        load_model(normalized, **arguments)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_weights_are_explained(normalized, tmp_path) -> None:
    """The message names the file and the remedy."""
    folder = copy_of(normalized, tmp_path / "copy")
    (path,) = (tmp_path / "copy" / "runs" / load_model(folder).cell.run_id).glob("epoch-00002*")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{path.name} is damaged; run the command of the sweep"):
        load_model(folder)
    path.unlink()
    with pytest.raises(StoreError, match=f"not in the store: there is no .*{path.name}; copy"):
        load_model(folder)
    with pytest.raises(FileNotFoundError, match="no sweep in"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 1e5}, "the weights in the store do not fit"),
        ({"width": "x"}, "cannot be built"),
        ({"classes": [["activation", "Module"]], "activation": "x"}, "cannot be built"),
        (
            {"classes": [["activation", "modules"]], "activation": "x"},
            "subclass of torch.nn.Module",
        ),
        ({"classes": [["pool", "Linear"]]}, "cannot be built"),
        ({"dataset": {"classes": 10**9}}, "the dataset of row 1 must have"),
        ({"dataset": {"size": [10**6, 10**6]}}, "the dataset of row 1 must have"),
    ],
)
def test_settings_of_a_received_folder_cannot_do_harm(
    normalized, tmp_path, changes: dict[str, Any], message: str
) -> None:
    """Settings that nobody can have trained give one line, and allocate nothing."""
    folder = copy_of(normalized, tmp_path / "copy")
    cell = load_model(folder).cell
    state = folder / "sweep.json"

    def change(values: dict[str, Any]) -> None:
        values["cells"] = [values["cells"][0]]
        for key, value in changes.items():
            if isinstance(value, dict):
                values["cells"][0][key].update(value)
            else:
                values["cells"][0][key] = value

    edit_json(state, change)
    changed = load_sweep(folder).cells[0]
    runs = tmp_path / "copy" / "runs"
    shutil.copytree(runs / cell.run_id, runs / changed.run_id)
    snapshot = load_sweep(normalized).store.run_folder(cell.run_id).latest(9)
    load_sweep(folder).store.run_folder(changed.run_id).write_snapshot(snapshot)
    with pytest.raises((StoreError, UsageError), match=message) as error:
        load_model(folder, cell=changed.id)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", "0.1"), ("epochs", "2"), ("seed", None), ("launches", ["x"])]
)
def test_values_of_a_wrong_type_are_explained(
    normalized, tmp_path, name: str, value: object
) -> None:
    """A sweep.json of someone else may contain anything."""
    folder = copy_of(normalized, tmp_path / "copy")

    def change(values: dict[str, Any]) -> None:
        place = values if name == "launches" else values["cells"][0]
        assert name in place
        place[name] = value

    edit_json(folder / "sweep.json", change)
    with pytest.raises(StoreError, match=r"sweep.json contains a value of the wrong type; get"):
        load_model(folder)


def test_an_own_model_is_loaded_with_its_class(my_net, tmp_path, small_folder) -> None:
    """Its buffers count; another class, changed code, or no class at all is explained."""
    cls = my_net()
    table = run_sweep(
        tmp_path / "out", small_folder(), model=["lenet5", cls], batch=16, epochs=1, engine="torch",
        normalize="standard", **{"model.hidden": 24},
    )  # fmt: skip
    folder = Path(table.attrs["folder"])
    number = [*table["model"]].index("MyNet") + 1
    model = load_model(table, number, model=cls)
    assert model.network.layers[1].out_features == 24
    check_accuracy(folder, number, model)
    registry.GROUPS["model"].choices.pop("MyNet")  # as in a new process
    check_accuracy(folder, number, load_model(folder, number, model=cls))
    with pytest.raises(UsageError, match="your own model MyNet; pass its class, as in model=MyNet"):
        load_model(folder, number)
    with pytest.raises(UsageError, match=f"model=Linear: the model of row {number} is MyNet"):
        load_model(folder, number, model=nn.Linear)
    changed = my_net(SOURCE + "\n# changed\n")
    with pytest.raises(UsageError, match="model=MyNet: the source of the class.* is not the one"):
        load_model(folder, number, model=changed)


def test_nothing_in_a_received_folder_is_imported(my_net, tmp_path, small_folder) -> None:
    """The folder only has the name and the digest of a model; files beside it are not touched."""
    table = run_sweep(tmp_path / "out", small_folder(), model=my_net(), batch=16, epochs=1)
    folder = Path(table.attrs["folder"])
    trap = tmp_path / "trap"
    for place in (folder, folder.parents[1], Path(folder.parents[1] / "runs")):
        (place / "net_of_mine.py").write_text(f"open({str(trap)!r}, 'w')\n")
    sys.modules.pop("net_of_mine")
    with pytest.raises(UsageError, match="pass its class"):
        load_model(folder)
    assert "net_of_mine" not in sys.modules
    assert not trap.exists()


@pytest.mark.usefixtures("train_here")
def test_images_of_another_size_and_other_classes(tmp_path, my_net, monkeypatch) -> None:
    """The names of the classes are known without the dataset."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(tmp_path / "cache"))
    source = SOURCE.replace("784", "1024").replace("(hidden, 10)", "(hidden, 3)")
    root = make_image_folder(tmp_path / "images", ("cat", "dog", "owl"), train=20, test=5)
    cls = my_net(source)
    table = run_sweep(
        tmp_path / "out", root, dataset="image_folder", model=cls, epochs=1, batch=8,
        **{"dataset.size": 32},
    )  # fmt: skip
    check_accuracy(Path(table.attrs["folder"]), 1, load_model(table, model=cls))
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "cache")
    model = load_model(table, model=cls)
    assert model.class_names == ("cat", "dog", "owl")
    assert (model.size, model.noun) == ((32, 32), "class")
    with pytest.raises(ValueError, match=r"shape \(B, 1, 32, 32\), not \(5, 32, 32\)"):
        model(torch.zeros(5, 32, 32))


@pytest.mark.usefixtures("train_here")
def test_a_stopped_row_has_the_network_of_its_last_epoch(tmp_path, small_folder) -> None:
    """`epochs` says how far it was trained, and its accuracy is that of the table."""
    table = run_sweep(
        tmp_path / "out", small_folder(), lr=[0.1, 0.05, 0.02, 0.01, 1e-3], batch=16, epochs=4,
        search="halving", holdout=100, **{"search.eta": 2, "search.first": 1, "search.keep": 1},
    )  # fmt: skip
    folder = Path(table.attrs["folder"])
    stopped = table[table["status"] == "stopped"]
    assert len(stopped)
    for number in stopped.index + 1:
        model = load_model(folder, number)
        assert model.epochs == table["epochs_trained"][number - 1] < model.cell.epochs
        tests = load_test_images(model.cell.dataset, small_folder())
        predicted = model(torch.from_numpy(tests.images).unsqueeze(1)).argmax(1).numpy()
        accuracy = 100 * np.mean(predicted == tests.labels)
        assert abs(accuracy - table["accuracy_at"][number - 1]) <= 0.5
    run = load_sweep(folder).store.run_folder(model.cell.run_id)
    shutil.rmtree(run.path)
    with pytest.raises(StoreError, match="its weights are not in the store"):
        load_model(folder, cell=model.cell.id)


def test_the_store_may_be_elsewhere(normalized, tmp_path) -> None:
    """sweep.json says where it is, relative to the folder of the sweep."""
    copy = copy_of(normalized, tmp_path / "copy")
    (tmp_path / "store").mkdir()
    (tmp_path / "copy" / "runs").rename(tmp_path / "store" / "runs")
    with pytest.raises(StoreError, match="not in the store"):
        load_model(copy)
    edit_json(copy / "sweep.json", lambda values: values.update(store="../../../store"))
    assert load_model(copy).cell == load_model(normalized).cell
