"""Choices of the user, such as an optimizer: one YAML file each, in a --config-dir."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_commands import run_forked

from lenet_sweep import load_results
from lenet_sweep.config import registry
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.report.__main__ import main
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.lenet5 import seeded_lenet5
from lenet_sweep.training.schedules import learning_rates

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
            "report=false", "person=Ada", "workers=1"]  # fmt: skip


def lenet_sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_forked(*arguments)


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
        del registry.GROUPS["loss"].choices["mine"]  # as on a machine without the file
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


RESTARTS = """\
# Cosines that start again at lr.
name: restarts
class: CosineAnnealingWarmRestarts
interval: step
T_0: 8        # steps of the first cosine; min 1
eta_min: 0.01 # smallest learning rate; min 0
"""
TRUNCATED = """\
# A normal distribution without its tails; biases are zero.
name: truncated
class: trunc_normal_
std: 0.05 # standard deviation; above 0
"""
POWER_MEAN = """\
# The power mean of 2 x 2 values, times a constant.
name: power_mean
class: LPPool2d
norm_type: 2.0 # the power; min 1
"""
OWN = {
    "schedule": ("restarts", RESTARTS, "constant", "eta_min", "0.01,0.02", "-1"),
    "init": ("truncated", TRUNCATED, "torch", "std", "0.05,0.1", "0"),
    "pool": ("power_mean", POWER_MEAN, "max", "norm_type", "1,2", "0.5"),
}


@pytest.mark.parametrize(
    "group",
    ["schedule", *(pytest.param(name, marks=pytest.mark.slow) for name in ("init", "pool"))],
)
def test_one_file_adds_a_choice_with_options(small, tmp_path, group: str) -> None:
    """--help lists it, it is trained and swept with a built-in choice, and options are checked."""
    name, content, other, option, values, wrong = OWN[group]
    folder = write(tmp_path / "mine", group, name, content)
    config_dir = ["--config-dir", str(folder)]
    help_text = lenet_sweep(*config_dir, "--help").stdout
    assert f"{group}={name}\n    {group}." in help_text
    done = lenet_sweep(
        *config_dir, "-m", f"{group}={name},{other}", f"{group}.{option}={values}", "epochs=1",
        *small, f"out={tmp_path / 'out'}", "name=it",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)  # the table can be read on a machine without the file
    table = load_results(tmp_path / "out" / "sweeps" / "it")
    assert sorted(table[group]) == sorted([name, name, other])
    assert set(table[f"{group}.{option}"].dropna()) == set(map(float, values.split(",")))
    assert table.loc[table[group] == name, "train_loss"].nunique() == 2
    write(tmp_path / "mine", group, name, content)
    for override, message in (
        (f"{group}.{option}={wrong}", f"{group}.{option}={wrong}: must be a number "),
        (f"{group}.nothing=1", f"the {group} has no option nothing"),
    ):
        result = lenet_sweep(*config_dir, f"{group}={name}", override, f"out={tmp_path / 'out'}")
        assert result.returncode == 2
        assert message in result.stderr


def own_cell(tmp_path: Path, group: str, content: str, **axes: object) -> Cell:
    """The cell that selects a choice defined by this content."""
    name = content.partition("name: ")[2].partition("\n")[0]
    write(tmp_path, group, name, content)
    registry.add_folder(tmp_path)
    settings = {"device": "cpu", "lr": 0.1, "epochs": 5} | axes
    (cell,), _ = validate_cells(grid(settings | {group: name}), NATIVE)
    return cell


@pytest.mark.parametrize(
    ("group", "content", "changes"),
    [
        ("schedule", RESTARTS,
         [("class: Cosine", "class: Cosine"), ("0.01", "0.02"), ("step\n", "epoch\n"),
          ("T_0: 8 ", "T_0: 9 ")]),
        ("schedule", "name: mine\nclass: ConstantLR\nfactor: 0.5\n",
         [("", ""), ("ConstantLR", "PolynomialLR\nhorizon: total_iters"), ("0.5", "0.25"),
          ("ConstantLR", "ConstantLR\nhorizon: total_iters")]),
        ("init", TRUNCATED, [("", ""), ("0.05", "0.06"), ("trunc_normal_", "normal_")]),
        ("pool", POWER_MEAN, [("", ""), ("2.0", "3.0")]),
    ],
)  # fmt: skip
def test_every_part_of_a_file_is_part_of_the_run(
    own_registry, tmp_path, group: str, content: str, changes: list[tuple[str, str]]
) -> None:
    """A changed file under the same name gives another run, also on a machine without the file."""
    ids = set()
    for old, new in changes:
        changed = content.replace(old, new)
        if "PolynomialLR" in changed:
            changed = changed.replace("factor", "power")
        cell = own_cell(tmp_path, group, changed)
        ids.add(cell.run_id)
        stored = json.loads(json.dumps(cell.to_json()))
        del registry.GROUPS[group].choices[getattr(cell, group).name]
        copy = registry.cell_from_json(stored)
        assert (copy, copy.run_id) == (cell, cell.run_id)
    assert len(ids) == len(changes)


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("horizon", [False, True])
def test_a_schedule_has_the_learning_rates_of_torchs_scheduler(
    own_registry, tmp_path, interval: str, horizon: bool
) -> None:
    """Each part of a run has the same ones, wherever it resumes."""
    content = RESTARTS.replace("step\n", f"{interval}\n").replace("T_0: 8 ", "T_0: 2 ")
    if horizon:
        content = f"name: mine\nclass: CosineAnnealingLR\ninterval: {interval}\nhorizon: T_max\n"
    cell = own_cell(tmp_path, "schedule", content)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 2, eta_min=0.01)
    if horizon:
        total = 5 if interval == "epoch" else 15
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    expected = []
    for step in range(15):  # 3 steps in each of 5 epochs
        expected.append(optimizer.param_groups[0]["lr"])
        if interval == "step" or step % 3 == 2:
            optimizer.step()
            scheduler.step()
    np.testing.assert_array_equal(learning_rates(cell, 0, 15, 3), expected)
    for first in (14, 7, 3):
        np.testing.assert_array_equal(learning_rates(cell, first, 1, 3), expected[first])
    longer = replace(cell, epochs=6, horizon=6 if cell.horizon else None)
    assert (longer.run_id == cell.run_id) == (not horizon)
    assert cell.engine == ("torch" if NATIVE.unavailable_reason() else "native")


def test_an_initialization_depends_on_the_seed_only(own_registry, tmp_path) -> None:
    """Weights are those of torch's function, biases are zero, and torch's state is left alone."""
    cell = own_cell(tmp_path, "init", TRUNCATED, seed=3)
    before = torch.get_rng_state()
    one, same, other = (seeded_lenet5(replace(cell, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert cell.engine == "torch"
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert float(one.linear1.weight.detach().std()) == pytest.approx(0.05, rel=0.05)
    assert not one.linear1.bias.any()


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
        ("optimizer", "own_rms", RMSPROP.replace("min 0;", "any length;"),
         "cannot parse 'any length'"),
        ("optimizer", "own_rms", RMSPROP + "{", "cannot be parsed as YAML settings"),
        ("optimizer", "own_rms", RMSPROP + "a: &b [*b]\n", "must not contain aliases"),
        ("optimizer", "own_rms", RMSPROP + "#" * 100_000, "must have at most 100000 characters"),
        ("optimizer", "own_rms", RMSPROP + f"a: {'[' * 20}1{']' * 20}\n", "20 levels of nesting"),
        ("activation", "mish", "name: mish\n\tclass: Mish\n", "cannot be parsed as YAML settings"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: pixels\n",
         "input=pixels: must be one of logits, log_probabilities"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: logits\ntarget: labels\n",
         "target=labels: must be one of classes, one_hot"),
        ("loss", "margin", "name: margin\nclass: MultiMarginLoss\ninput: logits\nbeta: 1  # b\n",
         "beta: MultiMarginLoss has no such option; it takes p, margin"),
        ("loss", "margin",
         "name: margin\nclass: MultiMarginLoss\ninput: logits\np: 1  # power; one of 1 or 2\n",
         "p: cannot parse 'one of 1 or 2'"),
        ("schedule", "restarts", RESTARTS.replace("interval: step", "interval: hour"),
         "interval=hour: must be one of epoch, step"),
        ("schedule", "restarts", RESTARTS + "horizon: 5\n",
         "horizon=5: must be false, or the name"),
        ("schedule", "restarts", RESTARTS + "horizon: T_max\n",
         "horizon=T_max: CosineAnnealingWarmRestarts has no such argument; it takes T_0, T_mult"),
        ("schedule", "restarts", RESTARTS.replace("T_0: 8 ", "T_0: 8.5 "),
         "cannot be used: ValueError: Expected positive integer T_0"),
        ("schedule", "mine", "name: mine\nclass: CosineAnnealingLR\n",
         "class=CosineAnnealingLR: requires T_max; add it as an option"),
        ("schedule", "mine", "name: mine\nclass: ReduceLROnPlateau\n",
         "class=ReduceLROnPlateau: its step() requires metrics"),
        ("schedule", "mine", "name: mine\nclass: SGD\n",
         "must be a subclass of torch.optim.lr_scheduler.LRScheduler in torch.optim.lr_scheduler"),
        ("init", "truncated", TRUNCATED.replace("std", "sd"),
         "sd: trunc_normal_ has no such option; it takes mean, std"),
        ("init", "mine", "name: mine\nclass: calculate_gain\n",
         "class=calculate_gain: must be a function of torch.nn.init that ends with an underscore"),
        ("init", "mine", "name: mine\nclass: eye_\n",
         "class=eye_: cannot be used: ValueError: Only tensors with 2 dimensions"),
        ("pool", "mine", "name: mine\nclass: LPPool2d\n",
         "class=LPPool2d: requires norm_type; add it as an option"),
        ("pool", "mine", "name: mine\nclass: AdaptiveMaxPool2d\n",
         "class=AdaptiveMaxPool2d: must take the argument kernel_size"),
        ("pool", "mine", "name: mine\nclass: AvgPool2d\nstride: 1\n",
         "class=AvgPool2d: must halve the height and the width"),
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
