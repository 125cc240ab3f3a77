"""Optimizers, losses, and activations of the user's own: one YAML file in a --config-dir each."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_sweep import load_results
from lenet_sweep.config import registry
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.errors import UsageError
from lenet_sweep.report.__main__ import main
from lenet_sweep.training.engines.support import NATIVE

RMSPROP = """\
# RMSprop: step sizes from a running mean of the squared gradient.
name: rmsprop
class: RMSprop
default_lr: 0.001
alpha: 0.99    # decay rate of the running mean; min 0; below 1
momentum: 0.0  # fraction of the previous step that is added; min 0
"""


@pytest.fixture
def small(small_folder: Callable[..., Path]) -> list[str]:
    return ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
            "person=Ada"]  # fmt: skip


def lenet_sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lenet_sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, group: str, name: str, content: str) -> Path:
    (folder / group).mkdir(parents=True, exist_ok=True)
    (folder / group / f"{name}.yaml").write_text(content)
    return folder


def test_an_optimizer_is_added_by_one_file(small, tmp_path) -> None:
    """It is in --help, trains with torch beside the others, and its options are checked."""
    folder = write(tmp_path / "mine", "optimizer", "rmsprop", RMSPROP)
    own = ["--config-dir", str(folder)]
    shown = lenet_sweep(*own, "--help").stdout
    assert "optimizer=rmsprop" in shown
    assert "decay rate of the running mean; a number, at least 0 and less than 1" in shown
    done = lenet_sweep(
        *own, "-m", "optimizer=rmsprop,sgd", "optimizer.momentum=0,0.9", "epochs=1", *small,
        f"out={tmp_path / 'out'}", "name=it",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "out" / "sweeps" / "it"
    table = load_results(sweep)
    assert sorted(table["optimizer"]) == ["rmsprop", "rmsprop", "sgd", "sgd"]
    assert set(table["optimizer.momentum"]) == {0.0, 0.9}
    assert set(table["optimizer.alpha"].dropna()) == {0.99}
    for wrong, message in (
        ("optimizer.alpha=2", "optimizer.alpha=2: must be a number, at least 0 and less than 1"),
        ("optimizer.apha=0.5", "did you mean optimizer.alpha?"),
    ):
        refused = lenet_sweep(*own, "optimizer=rmsprop", wrong, f"out={tmp_path / 'out'}")
        assert refused.returncode == 2
        assert message in refused.stderr


def test_results_do_not_need_the_file(small, tmp_path, capsys) -> None:
    """Class and options are recorded, so a reader on another machine has the whole page."""
    folder = write(tmp_path / "mine", "optimizer", "rmsprop", RMSPROP)
    command = ["optimizer=rmsprop", "epochs=1", *small, f"out={tmp_path / 'out'}", "name=it"]
    assert lenet_sweep("--config-dir", str(folder), *command).returncode == 0
    shutil.rmtree(folder)
    (run,) = (tmp_path / "out" / "runs").iterdir()
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["classes"] == [["optimizer", "RMSprop"]]
    assert settings["optimizer"]["options"] == [["alpha", 0.99], ["momentum", 0.0]]
    sweep = tmp_path / "out" / "sweeps" / "it"
    assert main([str(sweep), "--out", str(tmp_path / "page")]) == 0
    assert "rmsprop" in (tmp_path / "page" / "report.html").read_text()


def test_the_class_and_every_option_are_part_of_the_run(own_registry, tmp_path) -> None:
    """Another class or default under the same name is another run, never a stored result."""
    ids = set()
    for content in (
        RMSPROP, RMSPROP.replace("0.99", "0.9"), RMSPROP.replace("class: RMSprop", "class: SGD")
        .replace("alpha: 0.99 ", "dampening: 0.99 "),
    ):  # fmt: skip
        write(tmp_path, "optimizer", "rmsprop", content)
        registry.add_folder(tmp_path)
        (cell,), _ = validate_cells(grid({"optimizer": "rmsprop", "device": "cpu"}), NATIVE)
        ids.add(cell.run_id)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("group", "name", "content", "message"),
    [
        ("optimizer", "sgd", RMSPROP, "optimizer=sgd comes with lenet-sweep; rename the file"),
        ("optimizer", "mine", RMSPROP, "name=rmsprop: must be mine, as the file"),
        ("optimizer", "rmsprop", RMSPROP.replace("class: RMSprop", "class: Module"),
         "class=Module: must be a subclass of torch.optim.Optimizer"),
        ("optimizer", "rmsprop", RMSPROP.replace("class: RMSprop", "class: os.system"),
         "class=os.system: must be a subclass"),
        ("optimizer", "rmsprop", RMSPROP.replace("alpha:", "alhpa:"), "alhpa: RMSprop takes alpha"),
        ("optimizer", "rmsprop", RMSPROP.replace("min 0;", "minimum 0;"), "cannot read 'minimum"),
        ("optimizer", "rmsprop", RMSPROP.replace("0.001", "-1"), "default_lr=-1: must be a number"),
        ("optimizer", "rmsprop", RMSPROP.replace("0.99 ", "high "), "alpha=high: the default of"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: pixels\n",
         "input=pixels: must be one of logits, log_probabilities"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: logits\np: 1\n",
         "p: a loss has no options"),
        ("activation", "mish", "name: mish\nclass: Mash\n", "class=Mash: must be a subclass"),
        ("activation", "mish", "- mish\n", "must hold key: value"),
    ],
)  # fmt: skip
def test_a_file_in_another_form_is_refused_with_a_line(
    own_registry, tmp_path, group: str, name: str, content: str, message: str
) -> None:
    """The line names the file, the key, and what is allowed."""
    write(tmp_path, group, name, content)
    with pytest.raises(UsageError) as error:  # noqa: PT012 - the first of the two that notices
        registry.add_folder(tmp_path)
        validate_cells(grid({group: name, "device": "cpu"}), NATIVE)
    assert message in str(error.value)
    assert f"{name}.yaml" in str(error.value)
    assert "\n" not in str(error.value)
