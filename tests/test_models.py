"""Models of users: where their classes may come from, their options, their identity, training."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clusters import small_runs, start_executor
from forked_commands import run_forked
from image_files import make_image_folder
from torch import nn

from lenet_sweep import load_results, register_model, sweep
from lenet_sweep.config import model_import, own_models
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS, OPTION_DEFAULTS, cell_from_json
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import ModelError, UsageError
from lenet_sweep.core.events import EpochEnded, Failed, Finished
from lenet_sweep.core.names import short_names
from lenet_sweep.core.plans import Run
from lenet_sweep.data.images import Images
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.report.__main__ import main
from lenet_sweep.results.csv_file import read_records_csv, write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import settings_columns
from lenet_sweep.storage.store import Store
from lenet_sweep.training import engines
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.initial_weights import initialize
from lenet_sweep.training.loop import train

SOURCE = '''\
"""A dense network."""
from torch import nn

import layers_of_mine


class MyNet(nn.Module):
    """Two dense layers, with all that a resumed run must restore."""

    def __init__(self, hidden=16, dropout: float = 0, act="relu", norm=True, other=None):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, hidden),
            nn.BatchNorm1d(hidden) if norm else nn.Identity(),
            layers_of_mine.activation(act),
            nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )

    def forward(self, images):
        return self.layers(images)
'''
LAYERS = """\
from torch import nn


def activation(name):
    return {"relu": nn.ReLU, "tanh": nn.Tanh}[name]()
"""
Write = Callable[..., types.ModuleType]


@pytest.fixture(autouse=True)
def own_models_only_here(own_registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget at the end what a test registers and imports."""
    for name in ("_registered", "_locations"):
        monkeypatch.setattr(own_models, name, {})
    monkeypatch.setattr(own_models, "_files", set())
    monkeypatch.setattr(model_import, "_classes", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(own_models.VARIABLE, raising=False)
    before = set(sys.modules)
    yield
    for name in [n for n in set(sys.modules) - before if n.endswith("_of_mine")]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes modules into a folder and imports the last one."""

    def write(folder: str = "code", **sources: str) -> types.ModuleType:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for name, source in sources.items():
            (path / f"{name}.py").write_text(source)
            sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(path))
        return importlib.import_module(name)

    return write


@pytest.fixture
def my_net(write: Write) -> type:
    return write(layers_of_mine=LAYERS, net_of_mine=SOURCE).MyNet


def cells_of(model: Any, **settings: Any) -> list[Cell]:
    settings = {"device": "cpu", "model": own_models.names_of_classes(model)} | settings
    return validate_cells(grid(settings), NATIVE)[0]


def cell_of(model: Any, **settings: Any) -> Cell:
    (cell,) = cells_of(model, **settings)
    return cell


def folder_settings(data: Path) -> dict[str, str]:
    return {"dataset": "folder", "dataset.root": str(data)}


# ---------------------------------------------------------------- sweeps


def test_a_class_is_swept_with_its_arguments(my_net, tmp_path, small_folder, capsys) -> None:
    """Rows of the class and of lenet5 are in one table, which also loads without the class."""
    table = sweep(
        model=["lenet5", my_net], epochs=1, device="cpu", figures="none", out=tmp_path / "out",
        workers=1,
        **folder_settings(small_folder()), **{"model.hidden": [16, 32], "model.dropout": 0.5},
    )  # fmt: skip
    assert list(table["status"]) == ["ok"] * 3
    assert list(table.loc[table["model"] == "MyNet", "model.hidden"].sort_values()) == [16, 32]
    assert "model.hidden and model.dropout apply to MyNet only" in capsys.readouterr().out
    own_models.GROUPS["model"].choices.pop("MyNet")
    for name in [name for name in OPTION_DEFAULTS if name.startswith("model.")]:
        del OPTION_DEFAULTS[name]
    folder = Path(table.attrs["folder"])
    assert load_results(folder)["model.hidden"].equals(table["model.hidden"])
    assert main([str(folder), "--out", str(tmp_path / "page")]) == 0
    tables = [(place / "results.md").read_text() for place in (folder, tmp_path / "page")]
    assert tables[0] == tables[1]
    assert "| model | hidden |" in tables[0]
    assert "MyNet" in (tmp_path / "page" / "report.html").read_text()


@pytest.mark.usefixtures("train_here")
def test_images_may_have_any_size_and_number_of_classes(
    write, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the dataset; the augmentations and lenet5 take one size only."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(tmp_path / "cache"))
    source = SOURCE.replace("784", "1024").replace("(hidden, 10)", "(hidden, 3)")
    model = write(layers_of_mine=LAYERS, net_of_mine=source).MyNet
    root = make_image_folder(tmp_path / "images", ("cat", "dog", "owl"), train=20, test=5)
    settings = {
        "dataset": "image_folder", "dataset.root": root, "dataset.size": 32, "device": "cpu",
    }  # fmt: skip
    table = sweep(model=model, epochs=1, out=tmp_path / "out", progress=False, **settings)
    assert list(table["status"]) == ["ok"]
    assert list(table["dataset"]) == ["image_folder 32x32"]
    for wrong in ({"augment": "shift"}, {"model": "lenet5"}):
        ((key, value),) = wrong.items()
        message = f"dataset.size=32: {key}={value} takes images of 28 x 28 pixels"
        with pytest.raises(UsageError, match=message):
            sweep(**{"model": model} | settings | wrong)
    with pytest.raises(UsageError, match=r"failed for images of shape \(2, 1, 28, 28\)"):
        sweep(**{"model": model} | settings | {"dataset.size": 28})


@pytest.mark.usefixtures("train_here")
def test_settings_of_other_models_are_not_in_its_row(my_net, tmp_path, small_folder) -> None:
    """A model of a user has no activation, pooling or width, and its caption names none."""
    table = sweep(
        model=my_net, epochs=1, device="cpu", figures="none", report=False, out=tmp_path,
        progress=False, init="xavier_uniform", normalize="standard", loss="nll",
        **folder_settings(small_folder()),
    )  # fmt: skip
    (row,) = table.to_dict("records")
    assert row["status"] == "ok"
    for name in ("activation", "pool", "width", "batch_norm", "dropout"):
        assert row[name] is None
    text = (Path(table.attrs["folder"]) / "results.md").read_text()
    assert "model MyNet, init xavier\\_uniform, normalize standard" in text
    assert "activation" not in text


@pytest.mark.slow
def test_a_script_needs_no_main_guard(tmp_path, small_folder) -> None:
    """Workers execute what comes before the sweep, whose values are not part of the model."""
    data = f"dataset='folder', device='cpu', figures='none', **{folder_settings(small_folder())!r}"
    data = data.replace("'dataset': 'folder', ", "")
    script = SOURCE.replace("import layers_of_mine\n", LAYERS).replace("layers_of_mine.", "")
    script += f"table = sweep(model=MyNet, epochs=1, lr=[0.1], {data})\nprint(*table['status'])\n"
    script = f"from lenet_sweep import sweep\n{script}raise SystemExit\n"
    ids = []
    for text in (script, script.replace("lr=[0.1]", "lr=[0.1, 0.2]")):
        (tmp_path / "script.py").write_text(text)
        result = run_python("script.py", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert set(result.stdout.splitlines()[-1].split()) == {"ok"}
        ids.append({path.name for path in (tmp_path / "outputs" / "runs").iterdir()})
    assert len(ids[0]) == 1
    assert len(ids[1]) == 2  # the first run was not trained again
    early = script.replace("\n\nclass MyNet", f"\nsweep(lr=1, epochs=1, {data})\n\nclass MyNet")
    (tmp_path / "script.py").write_text(early)
    result = run_python("script.py", cwd=tmp_path)
    assert "calls sweep() before it defines the class" in result.stderr
    assert "move the class to a separate file, such as my_model.py" in result.stderr


def run_python(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


REGISTERED = SOURCE.replace(
    "class MyNet",
    'from lenet_sweep import register_model\n\n\n@register_model("mine")\nclass MyNet',
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file that registers a model."""
    (tmp_path / "layers_of_mine.py").write_text(LAYERS)
    (tmp_path / "net_of_mine.py").write_text(REGISTERED)
    return tmp_path


def small_command(data: Path) -> list[str]:
    return [
        "-m", "lenet_sweep", "dataset=folder", f"dataset.root={data}", "device=cpu",
        "figures=none", "report=false", "name=it",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lenet_local", "joblib"])
def test_the_command_line_takes_a_file(files, small_folder, launcher: str) -> None:
    """--models FILE adds its models and their options, for all launchers, and lists them."""
    command = [*small_command(small_folder()), "--models", "net_of_mine.py"]
    words = [f"hydra/launcher={launcher}", "model=mine,lenet5", "model.hidden=8,16",
             "model.act=tanh", "epochs=1"]  # fmt: skip
    result = run_python(*command, *words, "-m", cwd=files)
    assert result.returncode == 0, result.stderr
    assert "model.hidden and model.act apply to mine only" in result.stdout
    table = load_results(files / "outputs" / "sweeps" / "it")
    assert sorted(table["model"]) == ["lenet5", "mine", "mine"]
    assert set(table["model.act"].dropna()) == {"tanh"}
    help_text = run_python(*command, "--help", cwd=files).stdout
    assert re.search(r"model.hidden=16 +argument of MyNet; a whole number", help_text)


def test_the_command_line_checks_the_options(files, small_folder) -> None:
    """A wrong option or setting is one line, with status 2."""
    _, _, *small = small_command(small_folder())
    command = [*small, "--models=net_of_mine.py", "model=mine"]
    for word, message in {
        "model.hiddenn=3": "did you mean model.hidden?",
        "model.hidden=2.5": "model.hidden=2.5: must be a whole number, like its default 16",
        "dropout=0.5": "dropout=0.5: applies to lenet5 and lenet5_1998 only, not to mine; use "
        "model.dropout=0.5",
    }.items():
        result = run_forked(*command, word, cwd=files)
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_installed_package_adds_a_model(files, small_folder) -> None:
    """Its entry point names the module, which is imported only if its model is used."""
    packages = files / "site-packages"
    info = packages / "plugin_of_mine-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "plugin_of_mine.py").write_text("print('imported')\n" + REGISTERED)
    (packages / "layers_of_mine.py").write_text(LAYERS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lenet_sweep.models]\nmine = plugin_of_mine\n")
    environment = {"PYTHONPATH": str(packages)}
    command = [*small_command(small_folder()), "epochs=1"]
    result = run_python(*command, cwd=files, **environment)
    assert result.returncode == 0, result.stderr
    assert "imported" not in result.stdout
    result = run_python(*command, "model=minne", cwd=files, **environment)
    assert "must be one of lenet5, lenet5_1998, mine; did you mean model=mine?" in result.stderr
    result = run_python(*command, "model=mine", "model.hidden=8", cwd=files, **environment)
    assert result.returncode == 0, result.stderr
    assert "imported" in result.stdout
    table = load_results(files / "outputs" / "sweeps" / "it")
    assert set(table["model.hidden"].dropna()) == {8}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "registers no model; put @register_model"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("\n1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero (bad_of_mine.py:2)"),
        ("raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
        (REGISTERED.replace('"mine"', '"lenet5"'), "model=lenet5 already exists in lenet-sweep"),
        (REGISTERED.replace('"mine"', '"my net"'), "must be up to 60 letters, digits"),
    ],
)
def test_a_file_that_registers_no_model_is_explained(
    write, tmp_path, monkeypatch, source: str, message: str
) -> None:
    """The message is one line and names the file."""
    write(layers_of_mine=LAYERS)
    (tmp_path / "bad_of_mine.py").write_text(source)
    monkeypatch.setenv(own_models.VARIABLE, str(tmp_path / "bad_of_mine.py"))
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        own_models.add_models()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- classes that cannot be used


class InnerOnly(nn.Module):
    """Is replaced below, so that its name is another class."""


REPLACED = InnerOnly
InnerOnly = nn.Identity  # type: ignore[misc, assignment] # on purpose


def class_in_a_function() -> type:
    class Local(nn.Module):
        pass

    return Local


def class_of_a_notebook() -> type:
    return type("Cell", (nn.Module,), {"__module__": "a_notebook", "__qualname__": "Cell"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (class_in_a_function, "it is defined inside a function; move the class to a separate file"),
        (class_of_a_notebook, "not defined in a Python file; move the class to a separate file"),
        (lambda: REPLACED, "test_models.InnerOnly now names another object; move the class"),
        (lambda: lambda: 0, "model=<lambda>: must be the name of a model, or a subclass of torch"),
        (lambda: int, "model=int: must be the name of a model, or a subclass of torch.nn.Module"),
        (lambda: partial(nn.Linear, 3), "model=partial: must be the name of a model"),
        (nn.Identity, "model=Identity(...): give the class, as in model=Identity"),
        (lambda: nn.Linear, "model=Linear: the argument in_features of Linear needs a default"),
    ],
)  # fmt: skip
def test_classes_that_workers_cannot_import_are_rejected(make, message: str) -> None:
    """The message says why, and what to do."""
    with pytest.raises(UsageError, match=re.escape(message)):
        sweep(model=make())


def test_two_classes_with_one_name_are_rejected(my_net, write) -> None:
    """Their rows could not be told apart."""
    other = write("other", other_of_mine=SOURCE).MyNet
    with pytest.raises(UsageError, match="two classes have this name; rename one of them"):
        sweep(model=[my_net, other])


def test_an_argument_called_name_is_rejected(write) -> None:
    """It would be the name of the model."""
    source = SOURCE.replace("other=None", 'name="x"')
    with pytest.raises(UsageError, match="the argument 'name' of MyNet conflicts"):
        cell_of(write(layers_of_mine=LAYERS, net_of_mine=source).MyNet)


# ---------------------------------------------------------------- options


def test_arguments_are_options_of_their_type(my_net) -> None:
    """A whole number stays one, and an annotation turns a default of 0 into 0.0."""
    cell = cell_of(my_net, **{"model.hidden": 32.0, "model.dropout": 1, "model.norm": False})
    assert cell.model.options == (
        ("hidden", 32),
        ("dropout", 1.0),
        ("act", "relu"),
        ("norm", False),
    )
    assert [type(value) for _, value in cell.model.options] == [int, float, str, bool]
    assert str(cell.model) == "MyNet hidden=32 dropout=1 norm=false"
    assert cell_of(my_net) == cell_of({"name": my_net, "hidden": 16})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("hidden", 2.5, "must be a whole number, like its default 16"),
        ("hidden", "many", "must be a whole number"),
        ("hidden", True, "must be a whole number"),
        ("dropout", "high", "must be a number"),
        ("act", 3, "must be text of up to 100 printable characters"),
        ("act", "a\nb", "must be one line of up to 100 printable characters"),
        ("norm", 1, "must be true or false"),
        ("other", 1, "the model has no option other"),
    ],
)
def test_values_are_checked_against_the_type(my_net, option: str, value, message: str) -> None:
    """As for the options of optimizers and losses."""
    with pytest.raises(UsageError, match=message):
        cell_of(my_net, **{f"model.{option}": value})


def test_settings_that_only_lenet5_has_are_rejected(my_net) -> None:
    """The message suggests the argument of that name, if there is one."""
    with pytest.raises(UsageError, match=r"not to MyNet; use model.dropout=0.5$"):
        cell_of(my_net, dropout=0.5)
    with pytest.raises(UsageError, match=r"activation=tanh: .* not to MyNet; remove activation$"):
        cell_of(my_net, activation="tanh")
    assert cell_of(my_net, width=1, pool=None) == cell_of(my_net)


def test_a_grid_of_several_models_has_only_cells_that_make_sense(my_net) -> None:
    """A setting of lenet5 is an axis for lenet5 only, and a line says so."""
    axes = {"dropout": [0, 0.5], "model.hidden": [8, 16], "lr": [0.1, 0.2], "device": "cpu"}
    names = own_models.names_of_classes(["lenet5", my_net])
    cells, options = validate_cells(grid(axes | {"model": names}), NATIVE)
    assert len(cells) == len(set(cells)) == 8
    assert sorted(cell.dropout for cell in cells if cell.model.name == "lenet5") == [0, 0, 0.5, 0.5]
    assert options.unused == (
        "dropout applies to lenet5 only; MyNet runs without it",
        "model.hidden applies to MyNet only; lenet5 runs without it",
    )
    assert set(short_names(cells).values()) >= {"lr 0.1, lenet5, dropout 0.5"}
    assert {name for cell, name in short_names(cells).items() if cell.model_source} == {
        f"lr {lr}, {model}" for lr in (0.1, 0.2) for model in ("MyNet", "MyNet hidden=8")
    }


def test_an_argument_may_be_called_like_a_setting(write) -> None:
    """activation and pool of the model are options, also in a grid with lenet5."""
    source = SOURCE.replace('act="relu"', 'activation="relu"').replace("(act)", "(activation)")
    model = write(layers_of_mine=LAYERS, net_of_mine=source).MyNet
    own, shipped = cells_of([model, "lenet5"], **{"model.activation": "tanh"})
    assert own.model.changed == {"activation": "tanh"}
    assert shipped == cell_of("lenet5")


# ---------------------------------------------------------------- identity


def test_a_changed_source_is_another_run(my_net, write) -> None:
    """So is a changed module that it imports; a copy elsewhere is the same run."""
    original = cell_of(my_net)
    copy = write("copy", layers_of_mine=LAYERS, net_of_mine=SOURCE).MyNet
    assert copy is not my_net
    assert cell_of(copy).run_id == original.run_id
    ids = {original.run_id}
    for number, (layers, source) in enumerate([
        (LAYERS, SOURCE.replace("784, hidden", "784, hidden, bias=False")),
        (LAYERS.replace("nn.Tanh", "nn.Sigmoid"), SOURCE),
        (LAYERS, SOURCE.replace("hidden=16", "hidden=17")),
    ]):  # fmt: skip
        module = write(f"changed{number}", layers_of_mine=layers, net_of_mine=source)
        ids.add(cell_of(module.MyNet).run_id)
    assert len(ids) == 4


def test_arguments_are_part_of_the_run(my_net) -> None:
    """Every value of an argument is another run, and the name is, too."""
    ids = {cell.run_id for cell in cells_of(my_net, **{"model.hidden": [8, 16, 32]})}
    register_model("other")(my_net)
    assert len({*ids, cell_of(my_net).run_id}) == 4


def test_modules_are_found_without_running_them(write, tmp_path) -> None:
    """Relative imports, packages and imports in functions count; installed packages do not."""
    package = tmp_path / "code" / "package_of_mine"
    installed = tmp_path / "code" / "site-packages"
    for folder in (package, installed):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sub.py").write_text("from . import deep\n")
    (package / "deep.py").write_text("value = 1\n")
    (installed / "library_of_mine.py").write_text("value = 1\n")
    source = SOURCE.replace(
        "import layers_of_mine\n", LAYERS + "\n\ndef later():\n    import late_of_mine\n\n"
    ).replace("layers_of_mine.", "")
    (package / "net.py").write_text(f"from .sub import deep\nimport library_of_mine\n{source}")
    sys.path.append(str(installed))
    write(late_of_mine="raise RuntimeError\n", start_of_mine="import package_of_mine.net")
    model = sys.modules["package_of_mine.net"].MyNet
    location = own_models._locate(model)
    assert location.folders == (str(tmp_path / "code"),)
    digests = [location.digest]
    for path in (installed / "library_of_mine.py", package / "deep.py", package / "__init__.py",
                 tmp_path / "code" / "late_of_mine.py"):  # fmt: skip
        path.write_text("value = 2\n")
        digests.append(own_models._locate(model).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_a_stored_cell_needs_no_code(my_net) -> None:
    """Its name, arguments and digest are in its JSON, but not where the code is."""
    cell = cell_of(my_net, **{"model.hidden": 8})
    text = json.dumps(cell.to_json())
    del GROUPS["model"].choices["MyNet"]
    copy = cell_from_json(json.loads(text))
    assert (copy, copy.id) == (cell, cell.id)
    assert copy.model.changed == {"hidden": 8}
    assert "net_of_mine" not in text


def test_a_row_of_an_earlier_source_is_not_used(my_net, write, tmp_path) -> None:
    """Without its run in the store, a row of results.csv is found by its settings; not this one."""
    shipped, cell = cells_of(["lenet5", my_net], engine="torch")
    records = [
        settings_columns(c)
        | {"cell": c.id, "person": "Ada", "status": "ok", "accuracy": 90.0, "error": ""}
        | {"train_loss": 1.0, "seconds_per_epoch": 1.0, "seconds": 1.0}
        for c in (shipped, cell)
    ]
    frame = ranked_table(records)
    frame["cell"] = ["0" * 16 + "-e100", "1" * 16 + "-e100"]  # of other versions
    write_csv(frame, tmp_path / "results.csv")
    assert set(read_records_csv(tmp_path, [shipped, cell])) == {shipped}


# ---------------------------------------------------------------- training


def train_here(cell: Cell, epochs: list[int], folder: Path, data: Path) -> list[Any]:
    """Train a run in this process, and return its events."""
    run = Run(replace(cell, epochs=epochs[-1]), tuple(epochs))
    return list(train(
        run, Store(folder).run_folder(run.id), data, retrain=False, wait=False,
        stop=lambda: False, environment={"person": "Ada"},
    ))  # fmt: skip


STATEFUL = SOURCE.replace(
    "        self.layers = nn.Seq",
    "        self.register_buffer('calls', torch.zeros(()), persistent=False)\n"
    "        self.layers = nn.Seq",
).replace(
    "        return self.layers(images)",
    "        if self.training:\n            self.calls += 1\n"
    "        return self.layers(images + self.calls / 1000 + torch.rand(1))",
).replace("from torch import nn", "import torch\nfrom torch import nn")  # fmt: skip


def test_a_resumed_run_is_bit_identical(write, tmp_path, small_folder) -> None:
    """Dropout, batch statistics and every buffer continue as if there had been no interruption."""
    model = write(layers_of_mine=LAYERS, net_of_mine=STATEFUL).MyNet
    cell = cell_of(
        model, optimizer="adam", shuffle=True, seed=3, **{"model.dropout": 0.5},
        **folder_settings(small_folder()),
    )  # fmt: skip
    data = small_folder()
    assert isinstance(train_here(cell, [3], tmp_path / "once", data)[-1], Finished)
    torch.rand(5)  # the state of the process does not matter
    assert isinstance(train_here(cell, [1], tmp_path / "twice", data)[-1], Finished)
    torch.rand(7)
    seen = train_here(cell, [3], tmp_path / "twice", data)
    assert len([event for event in seen if isinstance(event, EpochEnded)]) == 2
    folders = [Store(tmp_path / name).run_folder(cell.run_id) for name in ("once", "twice")]
    one, other = (folder.read(folder.snapshot_path(3)) for folder in folders)
    assert {"buffer.calls", "weight.layers.2.running_var"} <= one.state.keys()
    assert one.state["buffer.calls"] == 30
    for name, array in one.state.items():
        assert array.tobytes() == other.state[name].tobytes(), name
    assert one.trace.tobytes() == other.trace.tobytes()
    assert one.predictions.tobytes() == other.predictions.tobytes()


LENET5 = """\
import torch
from torch import nn


class Copy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.conv3, self.linear1 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        self.linear2 = nn.Linear(84, 10)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = nn.functional.max_pool2d(layer(x).relu(), 2)
        return self.linear2(self.linear1(self.conv3(x).relu().flatten(1)).relu())
"""


@pytest.mark.parametrize("loss", GROUPS["loss"].choices)
@pytest.mark.parametrize("init", ["torch", "kaiming_normal"])
def test_a_copy_of_lenet5_is_trained_like_lenet5(
    write, images: Images, loss: str, init: str
) -> None:
    """Initial weights, losses and results are the same, to the last bit."""
    model = write(copy_of_mine=LENET5).Copy
    settings = {"loss": loss, "init": init, "normalize": "standard", "engine": "torch", "seed": 4}
    results = []
    for cell in cells_of([model, "lenet5"], **settings):
        engine = engines.build_engine(cell, images)
        losses = engine.train(np.arange(320))
        evaluation = engine.evaluate()
        results.append([losses.tobytes(), evaluation.losses.tobytes(), *engine.state()])
    assert results[0] == results[1]


def test_the_caller_keeps_its_random_state(my_net, images: Images) -> None:
    """Creating, training and testing a model does not change torch's global generator."""
    cell = cell_of(my_net, **{"model.dropout": 0.5})
    torch.manual_seed(11)
    before = torch.get_rng_state()
    engine = engines.build_engine(cell, images)
    engine.train(np.arange(64))
    engine.evaluate()
    assert torch.equal(torch.get_rng_state(), before)


def test_lazy_layers_get_seeded_and_named_weights(write, images: Images) -> None:
    """Their shapes are those of the images, and init applies to them."""
    source = SOURCE.replace("nn.Linear(784, hidden)", "nn.LazyLinear(hidden)")
    model = write(layers_of_mine=LAYERS, net_of_mine=source).MyNet
    first, again = (engines.build_engine(cell_of(model, seed=1), images) for _ in range(2))
    weights = first.state()["weight.layers.1.weight"]
    assert weights.shape == (16, 784)
    assert weights.tobytes() == again.state()["weight.layers.1.weight"].tobytes()
    orthogonal = engines.build_engine(cell_of(model, seed=1, init="orthogonal"), images)
    expected = initialize("orthogonal", 1, [(16, 784), (10, 16)])
    np.testing.assert_array_equal(orthogonal.state()["weight.layers.5.weight"], expected[1])


def linear(forward: str, layer: str = "nn.Linear(784, 10)", before: str = "") -> str:
    """The source of a model with one layer."""
    return (
        "from torch import nn\n\n\nclass MyNet(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        f"        {before or 'pass'}\n        self.layer = {layer}\n\n"
        f"    def forward(self, images):\n        return {forward}\n"
    )


SCORES = "self.layer(images.flatten(1))"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            linear(SCORES, "nn.Linear(784, 5)"),
            "returns 5 scores for each image, but the dataset has 10 classes, with labels 0 to 9",
        ),
        (
            linear(f"{SCORES}.flatten()"),
            "a score for each class, for two images (2, 1, 28, 28), not float32 (20,)",
        ),
        (linear(f"{SCORES}.argmax(1)"), "not int64 (2,)"),
        (linear(f"({SCORES}, 1)"), "not a tuple"),
        (linear("self.layer(images)"), "failed for images of shape (2, 1, 28, 28): RuntimeError"),
        (linear(SCORES, before="self.x.y"), "AttributeError: 'MyNet' object has no attribute 'x'"),
        (
            linear("images.flatten(1)[:, :10]", "nn.LazyLinear(10)"),
            "has layers that its forward method does not use",
        ),
        (linear("images.flatten(1)[:, :10]", "None"), "has no parameters to train"),
    ],
)
def test_a_wrong_output_is_explained_before_training(
    write, tmp_path, small_folder, source: str, message: str
) -> None:
    """sweep() rejects the model; on the command line, its row says the same."""
    model = write(net_of_mine=source).MyNet
    with pytest.raises(UsageError, match=re.escape(message)):
        sweep(model=model, out=tmp_path, device="cpu", **folder_settings(small_folder()))
    cell = cell_of(model, **folder_settings(small_folder()))
    *_, failed = train_here(cell, [1], tmp_path, small_folder())
    assert isinstance(failed, Failed)
    assert message in failed.failure.reason
    assert not failed.failure.reason.startswith("ModelError")


def test_the_native_engine_does_not_train_it(my_net) -> None:
    """engine=auto is torch, and a message says why."""
    cells, options = validate_cells(
        grid({"device": "cpu", "model": own_models.names_of_classes(my_net)}), NATIVE
    )
    assert cells[0].engine == "torch"
    if NATIVE.unavailable_reason() is None:
        assert "does not support model=MyNet (only lenet5, lenet5_1998)" in options.notes[0]
    with pytest.raises(UsageError, match="engine=native"):
        cell_of(my_net, engine="native")


@pytest.mark.parametrize("change", ["source", "import", "removed"])
def test_a_worker_does_not_train_changed_code(
    my_net, write, tmp_path, small_folder, change: str
) -> None:
    """A file that changed after the sweep was planned gives a failed row with the reason."""
    runs, context = small_runs(
        tmp_path, small_folder(), model=own_models.names_of_classes(my_net), workers=1
    )
    code = tmp_path / "code"
    if change == "source":
        (code / "net_of_mine.py").write_text(SOURCE + "# changed\n")
    elif change == "import":
        (code / "layers_of_mine.py").write_text(LAYERS.replace("nn.Tanh", "nn.Sigmoid"))
    else:
        shutil.rmtree(code)
    *_, failed = LOCAL.execute(runs, context)
    assert isinstance(failed, Failed)
    message = "cannot be imported: ModuleNotFoundError"
    if change != "removed":
        message = "its source in .*net_of_mine.py, or in a module that it imports, differs"
    assert re.search(f"model MyNet:? {message}", failed.failure.reason)


def test_a_file_that_sweeps_when_it_is_imported_is_explained(write) -> None:
    """A worker does not start a sweep; the message says what to do."""
    sweeping = "import lenet_sweep\n\nif __name__ != 'net_of_mine':\n    lenet_sweep.sweep()\n"
    model = write(layers_of_mine=LAYERS, net_of_mine=SOURCE + sweeping).MyNet
    location = replace(own_models._locate(model), module="loop_of_mine")
    path = Path(sys.modules["net_of_mine"].__file__)
    with pytest.raises(ModelError, match=r"its file calls sweep\(\); move the class to a sep"):
        model_import.import_class(replace(location, file=str(path)))


def test_a_model_that_is_not_known_is_explained(my_net, images: Images, monkeypatch) -> None:
    """A worker that got no location, for example of another version, says so."""
    cell = cell_of(my_net)
    monkeypatch.setattr(own_models, "_locations", {})
    with pytest.raises(ModelError, match="its code is not known to this process"):
        engines.build_engine(cell, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_jobs_of_a_cluster_import_the_class(
    name: str, my_net, tmp_path, small_folder, monkeypatch
) -> None:
    """The snapshots are those of local workers, although the job has another sys.path."""
    model = own_models.names_of_classes(my_net)
    settings = {"model": model, "model.dropout": 0.5, "lr": [0.1, 0.2], "epochs": 2}
    runs, context = small_runs(tmp_path, small_folder(), **settings)
    with start_executor(name, tmp_path) as target:
        seen = list(target.executor.execute(runs, context))
    assert sum(isinstance(event, Finished) for event in seen) == 2, seen
    runs, local = small_runs(tmp_path / "local", small_folder(), **settings)
    assert [e for e in LOCAL.execute(runs, local) if isinstance(e, Finished)]
    for run in runs:
        actual, expected = (
            folder.read(folder.snapshot_path(2)).state
            for folder in (Store(where.out).run_folder(run.id) for where in (context, local))
        )
        for key, array in expected.items():
            assert actual[key].tobytes() == array.tobytes()
