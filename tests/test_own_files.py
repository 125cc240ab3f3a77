"""Custom optimizers, losses, and activations: one YAML file each, in a --config-dir."""

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
# RMSprop that normalizes the gradient by an estimate of its variance.
name: own_rms
class: RMSprop
default_lr: 0.001
centered: true # subtract the squared mean of the gradient from the mean of its square
alpha: 0.99    # decay rate of the running mean; min 0; below 1
momentum: 0.0  # fraction of the previous step that is added; min 0
"""


@pytest.fixture
def small(small_folder: Callable[..., Path]) -> list[str]:
    """Overrides that make a run short."""
    return ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
            "person=Ada"]  # fmt: skip


def lenet_sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lenet_sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, group: str, name: str, content: str) -> Path:
    (folder / group).mkdir(parents=True, exist_ok=True)
    (folder / group / f"{name}.yaml").write_text(content)
    return folder


def test_one_file_adds_an_optimizer(small, tmp_path) -> None:
    """--help lists it, it is trained and swept with others, and its options are checked."""
    folder = write(tmp_path / "mine", "optimizer", "own_rms", RMSPROP)
    config_dir = ["--config-dir", str(folder)]
    help_text = lenet_sweep(*config_dir, "--help").stdout
    assert "optimizer=own_rms" in help_text
    assert "decay rate of the running mean; a number, at least 0 and less than 1" in help_text
    done = lenet_sweep(
        *config_dir, "-m", "optimizer=own_rms,sgd", "optimizer.momentum=0,0.9", "epochs=1", *small,
        f"out={tmp_path / 'out'}", "name=it",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "out" / "sweeps" / "it"
    table = load_results(sweep)
    assert sorted(table["optimizer"]) == ["own_rms", "own_rms", "sgd", "sgd"]
    assert set(table["optimizer.momentum"]) == {0.0, 0.9}
    assert set(table["optimizer.alpha"].dropna()) == {0.99}
    for override, message in (
        ("optimizer.alpha=2", "optimizer.alpha=2: must be a number, at least 0 and less than 1"),
        ("optimizer.apha=0.5", "did you mean optimizer.alpha?"),
    ):
        result = lenet_sweep(*config_dir, "optimizer=own_rms", override, f"out={tmp_path / 'out'}")
        assert result.returncode == 2
        assert message in result.stderr


@pytest.mark.slow
def test_results_do_not_need_the_file(small, tmp_path, capsys) -> None:
    """The class and the options are stored, so the page can be built on another machine."""
    folder = write(tmp_path / "mine", "optimizer", "own_rms", RMSPROP)
    command = ["optimizer=own_rms", "epochs=1", *small, f"out={tmp_path / 'out'}", "name=it"]
    assert lenet_sweep("--config-dir", str(folder), *command).returncode == 0
    shutil.rmtree(folder)
    (run,) = (tmp_path / "out" / "runs").iterdir()
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["classes"] == [["optimizer", "RMSprop"]]
    assert settings["optimizer"]["options"] == [
        ["centered", True], ["alpha", 0.99], ["momentum", 0.0],
    ]  # fmt: skip
    sweep = tmp_path / "out" / "sweeps" / "it"
    assert main([str(sweep), "--out", str(tmp_path / "page")]) == 0
    assert "own_rms" in (tmp_path / "page" / "report.html").read_text()


def test_the_class_and_every_option_are_part_of_the_run(own_registry, tmp_path) -> None:
    """A changed class or default under the same name gives another run, never a stored result."""
    ids = set()
    for content in (
        RMSPROP, RMSPROP.replace("0.99", "0.9"), RMSPROP.replace("class: RMSprop", "class: SGD")
        .replace("alpha: 0.99 ", "dampening: 0.99 ").replace("centered: true", "maximize: true"),
    ):  # fmt: skip
        write(tmp_path, "optimizer", "own_rms", content)
        registry.add_folder(tmp_path)
        (cell,), _ = validate_cells(grid({"optimizer": "own_rms", "device": "cpu"}), NATIVE)
        ids.add(cell.run_id)
    assert len(ids) == 3


SMOOTH_L1 = """\
# Smooth L1 loss.
name: smooth_l1
class: SmoothL1Loss
input: logits
target: one_hot
beta: 0.5  # error at which the loss becomes linear; above 0
"""


def test_one_file_adds_a_loss_with_options(small, tmp_path, capsys) -> None:
    """Its option is swept, and the results can be read on a machine without the file."""
    folder = write(tmp_path / "mine", "loss", "smooth_l1", SMOOTH_L1)
    done = lenet_sweep(
        "--config-dir", str(folder), "-m", "loss=smooth_l1,nll", "loss.beta=0.5,1", "epochs=1",
        *small, f"out={tmp_path / 'out'}", "name=it",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    sweep = tmp_path / "out" / "sweeps" / "it"
    table = load_results(sweep).sort_values(["loss", "loss.beta"])
    assert list(table["loss"]) == ["nll", "smooth_l1", "smooth_l1"]
    assert list(table["loss.beta"].fillna(-1)) == [-1, 0.5, 1]
    assert main([str(sweep), "--out", str(tmp_path / "page")]) == 0
    assert "smooth_l1" in (tmp_path / "page" / "report.html").read_text()


def test_the_target_and_every_option_of_a_loss_are_part_of_the_run(own_registry, tmp_path) -> None:
    """A changed file under the same name gives another run; stating the default does not."""
    plain = "name: mine\nclass: MultiLabelSoftMarginLoss\ninput: logits\n"
    contents = {
        "target not given": plain,
        "default target": f"{plain}target: classes\n",
        "target": f"{plain}target: one_hot\n",
        "input": plain.replace("logits", "log_probabilities"),
        "option": SMOOTH_L1.replace("smooth_l1", "mine"),
        "default of the option": SMOOTH_L1.replace("smooth_l1", "mine").replace("0.5", "1.0"),
    }
    ids = {}
    for change, content in contents.items():
        write(tmp_path, "loss", "mine", content)
        registry.add_folder(tmp_path)
        (cell,), _ = validate_cells(grid({"loss": "mine", "device": "cpu"}), NATIVE)
        ids[change] = cell.run_id
        stored = json.loads(json.dumps(cell.to_json()))
        del registry.LOSSES["mine"]  # as on a machine without the file
        copy = registry.cell_from_json(stored)
        assert (copy, copy.run_id) == (cell, cell.run_id)
        assert registry.takes_one_hot(copy) == ("target: one_hot" in content)
        assert registry.takes_logits(copy) == ("input: logits" in content)
    assert ids.pop("target not given") == ids["default target"]
    assert len(set(ids.values())) == len(ids)


def test_a_loss_of_an_earlier_version_keeps_its_id(own_registry, tmp_path) -> None:
    """Results of a loss without options, from before losses could have some, are still found."""
    write(
        tmp_path, "loss", "own_margin", "name: own_margin\nclass: MultiMarginLoss\ninput: logits\n"
    )
    registry.add_folder(tmp_path)
    axes = {"loss": "own_margin", "device": "cpu", "engine": "torch"}
    (cell,), _ = validate_cells(grid(axes), NATIVE)
    assert cell.to_json()["loss"] == "own_margin"
    assert cell.id == "1635ce4536b7bf25-e100"


@pytest.mark.parametrize(
    ("group", "name", "content", "message"),
    [
        ("optimizer", "sgd", RMSPROP, "optimizer=sgd already exists in lenet-sweep"),
        ("optimizer", "mine", RMSPROP, "name=own_rms: must be mine, the name of the file"),
        ("optimizer", "own_rms", RMSPROP.replace("class: RMSprop", "class: Module"),
         "class=Module: must be a subclass of torch.optim.Optimizer"),
        ("optimizer", "own_rms", RMSPROP.replace("class: RMSprop", "class: os.system"),
         "class=os.system: must be a subclass"),
        ("optimizer", "own_rms", RMSPROP.replace("alpha:", "alpah:"),
         "alpah: RMSprop has no such option; it takes alpha"),
        ("optimizer", "own_rms", RMSPROP.replace("min 0;", "minimum 0;"), "cannot parse 'minimum"),
        ("optimizer", "own_rms", RMSPROP.replace("0.001", "-1"), "default_lr=-1: must be a number"),
        ("optimizer", "own_rms", RMSPROP.replace("0.99 ", "high "), "alpha=high: the default of"),
        ("optimizer", "own_rms", RMSPROP.replace("min 0;", "min zero;"), "cannot parse 'min zero'"),
        ("optimizer", "own_rms", RMSPROP.replace("min 0;", "requires nesterov > 0;"),
         "alpha: requires nesterov, which is not an option of this file"),
        ("optimizer", "own_rms", RMSPROP + "{", "not a YAML file of settings"),
        ("optimizer", "own_rms", RMSPROP + "a: &b [*b]\n", "must not contain references"),
        ("optimizer", "own_rms", RMSPROP + "#" * 100_000, "must have at most 100000 characters"),
        ("optimizer", "own_rms", RMSPROP + f"a: {'[' * 20}1{']' * 20}\n", "20 levels of nesting"),
        ("activation", "mish", "name: mish\n\tclass: Mish\n", "not a YAML file of settings"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: pixels\n",
         "input=pixels: must be one of logits, log_probabilities"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: logits\ntarget: labels\n",
         "target=labels: must be one of classes, one_hot"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: logits\nbeta: 1  # b\n",
         "beta: MultiMarginLoss has no such option; it takes p, margin"),
        ("loss", "margin",
         "name: margin\nclass: MultiMarginLoss\ninput: logits\np: 1  # power; one of 1 or 2\n",
         "p: cannot parse 'one of 1 or 2'"),
        ("activation", "elu2", "name: elu2\nclass: ELU\nalpha: 2\n",
         "alpha: activation files cannot have options"),
        ("activation", "mish", "name: mish\nclass: Mash\n", "class=Mash: must be a subclass"),
        ("activation", "mish", "- mish\n", "must contain settings in the form"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_rejected_in_one_line(
    own_registry, tmp_path, group: str, name: str, content: str, message: str
) -> None:
    """The message names the file, the key, and what is allowed."""
    write(tmp_path, group, name, content)
    with pytest.raises(UsageError) as error:  # noqa: PT012 - either of the two may raise
        registry.add_folder(tmp_path)
        validate_cells(grid({group: name, "device": "cpu"}), NATIVE)
    assert message in str(error.value)
    assert f"{name}.yaml" in str(error.value)
    assert "\n" not in str(error.value)
