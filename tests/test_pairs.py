"""Pairs: keys whose values are used together, on the command line, in Python and in commands."""

import csv
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import run_here
from forked_commands import run_forked

from lenet_sweep import sweep
from lenet_sweep.analysis.commands import command
from lenet_sweep.cli import commands
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.runner import preview
from lenet_sweep.training.engines.support import NATIVE


def cells_of(axes: dict) -> list[Cell]:
    return validate_cells(grid({"device": "cpu"} | axes), NATIVE)[0]


LR_BATCH = {"lr": [0.1, 0.05], "batch": [64, 128], "pair": ["lr", "batch"]}


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (LR_BATCH, [(0.1, 64), (0.05, 128)]),
        (LR_BATCH | {"pair": ("lr", "batch")}, [(0.1, 64), (0.05, 128)]),
        (LR_BATCH | {"pair": None}, [(0.1, 64), (0.1, 128), (0.05, 64), (0.05, 128)]),
        (LR_BATCH | {"seed": [0, 1]}, [(0.1, 64), (0.1, 64), (0.05, 128), (0.05, 128)]),
        ({"seed": [0, 1]} | LR_BATCH, [(0.1, 64), (0.05, 128), (0.1, 64), (0.05, 128)]),
        (LR_BATCH | {"batch": range(1, 3)}, [(0.1, 1), (0.05, 2)]),
    ],
)
def test_values_of_a_pair_are_used_together(axes, expected) -> None:
    """The first value of one key with the first value of the other, and so on."""
    assert [(cell.lr, cell.batch) for cell in cells_of(axes)] == expected


def test_several_pairs_are_combined() -> None:
    """Each pair is one axis of the grid, and a pair may have more than two keys."""
    cells = cells_of({
        "lr": [0.1, 0.01], "batch": [8, 16], "seed": [0, 1, 2], "epochs": [1, 2, 3],
        "init": ["torch", "orthogonal", "kaiming_normal"],
        "pair": [["lr", "batch"], ["seed", "init", "epochs"]],
    })  # fmt: skip
    found = [(c.lr, c.batch, c.seed, c.init.name, c.epochs) for c in cells]
    assert found == [
        (lr, batch, seed, init, seed + 1)
        for lr, batch in ((0.1, 8), (0.01, 16))
        for seed, init in enumerate(("torch", "orthogonal", "kaiming_normal"))
    ]


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        # The pair of optimizer and momentum has a value for each optimizer; adam ignores it.
        ({"optimizer": ["sgd", "adam", "sgd"], "optimizer.momentum": [0.9, 0, 0.5],
          "pair": ["optimizer", "optimizer.momentum"]},
         ["sgd momentum=0.9", "adam", "sgd momentum=0.5"]),
        # Both options are of sgd, so that adam has one cell.
        ({"optimizer": ["sgd", "adam"], "optimizer.momentum": [0.9, 0.5],
          "optimizer.weight_decay": [0, 0.1], "pair": ["optimizer.momentum",
          "optimizer.weight_decay"]},
         ["sgd momentum=0.9", "sgd momentum=0.5 weight_decay=0.1",
          "adam", "adam weight_decay=0.1"]),
        ({"optimizer": ["sgd", "adam"], "optimizer.momentum": [0.9, 0.5],
          "optimizer.dampening": [0, 0.1], "pair": ["optimizer.momentum", "optimizer.dampening"]},
         ["sgd momentum=0.9", "sgd momentum=0.5 dampening=0.1", "adam"]),
    ],
)  # fmt: skip
def test_options_in_a_pair_apply_to_the_choices_that_have_them(axes, expected) -> None:
    """A pair is an axis for the choices that have one of its options."""
    assert [str(cell.optimizer) for cell in cells_of(axes)] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": [64, 128, 256]},
         "must have the same number of values, at least 2, but lr has 2 and batch has 3"),
        ({"batch": 64}, "but lr has 2 and batch has 1"),
        ({"batch": [64], "lr": [0.1]}, "but lr has 1 and batch has 1"),
        ({"pair": ["lr", "bach"]}, "pair=[lr,bach]: there is no key bach; did you mean batch?"),
        ({"pair": ["lr", "optimizer.momentun"]}, "there is no key optimizer.momentun"),
        ({"pair": ["lr", "seed"]}, "pair=[lr,seed]: seed has 1 value here; list several"),
        ({"pair": ["lr", "optimizer.momentum"]}, "optimizer.momentum has 1 value here"),
        ({"pair": ["lr"]}, "with at least two keys each"),
        ({"pair": []}, "with at least two keys each"),
        ({"pair": "lr"}, "pair=lr: must be a list of keys, such as [lr,batch]"),
        ({"pair": [["lr", "batch"], "seed"]}, "must be a list of keys"),
        ({"pair": [1, 2]}, "must be a list of keys"),
        ({"pair": [["lr", "batch"], ["lr", "seed"]]}, "lr is named twice; name each key once"),
    ],
)  # fmt: skip
def test_an_impossible_pair_is_rejected(changes, message) -> None:
    """The message names the keys and their numbers of values."""
    with pytest.raises(UsageError) as error:
        cells_of(LR_BATCH | changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_size_of_a_grid_counts_a_pair_once() -> None:
    """A grid with pairs is not rejected for its number of combinations."""
    many = list(range(1, 401))
    paired = {"batch": many, "seed": many, "pair": ["batch", "seed"]}
    assert len(cells_of(paired)) == 400
    with pytest.raises(UsageError, match="the grid has 160,000 cells"):
        cells_of(paired | {"pair": None})


@pytest.mark.parametrize(
    ("words", "cells"),
    [
        (["lr=0.1,0.05", "batch=64,128", "pair=[lr,batch]"], 2),
        (["lr=0.1,0.05", "batch=64,128", "seed=0,1", "init=torch,orthogonal",
          "pair=[[lr,batch],[seed,init]]"], 4),
        (["grid/lr=report", "batch=range(1,5)", "pair=[batch,lr]"], 4),
        (["recipe=ce_sgd,nll_adam", "lr=0.1,0.01", "pair=[recipe,lr]"], 2),
        (["model=lenet5,lenet5_1998", "pool=avg,max", "pair=[model,pool]"], 2),
        (["optimizer=sgd,adam", "optimizer.momentum=0.9,0", "lr=0.1,0.01",
          "pair=[optimizer,optimizer.momentum,lr]"], 2),
        (["+study=report", "seed=0,1", "shuffle=false,true", "pair=[seed,shuffle]"], 66),
        (["++lr=0.1,0.05", "batch=64,128", "pair=[lr,batch]", "hydra/launcher=basic"], 2),
    ],
)  # fmt: skip
def test_pairs_on_the_command_line(tmp_path, monkeypatch, words, cells) -> None:
    """The dry run counts the cells, and says which keys are paired."""
    monkeypatch.chdir(tmp_path)
    result = run_here("-m", *words, "dry_run=true")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{cells} cells")
    assert "are paired: their values are used together" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "lr=0.1,0.05", "batch=64", "pair=[lr,batch]"], "but lr has 2 and batch has 1"),
        (["pair=[lr,batch]"], "a grid requires the flag -m"),
        (["-m", "lr=0.1,0.05", "batch=1,2", "pair=[lr,batch],[batch,lr]"], "pair cannot be swept"),
        (["-m", "lr=0.1,0.05", "batch=1,2", "zip=[lr,batch]"], "did you mean pair?"),
    ],
)
def test_a_wrong_pair_on_the_command_line(tmp_path, monkeypatch, words, message) -> None:
    """One line, and nothing is trained."""
    monkeypatch.chdir(tmp_path)
    result = run_here(*words, "dry_run=true")
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "axes",
    [
        LR_BATCH,
        LR_BATCH | {"seed": [0, 1], "init": ["torch", "orthogonal"],
                    "pair": [["lr", "batch"], ["seed", "init"]]},
        {"recipe": ["ce_sgd", "nll_adam"], "batch": [32, 64], "pair": ["recipe", "batch"]},
        {"recipe": ["ce_sgd", "nll_adam"], "lr": [0.1, 0.05], "batch": [32, 64],
         "pair": ["lr", "batch"]},
        {"loss": ["mse", "huber"], "optimizer": ["adam", "sgd"], "lr": [0.2, 0.3],
         "pair": ["loss", "optimizer"]},
        {"dropout": [0.5, 0.0, 0.1], "optimizer.weight_decay": [0.0, 0.1, 0.2],
         "patience": [None, 3, 2], "seed": [0, 1],
         "pair": ["dropout", "optimizer.weight_decay", "patience"]},
    ],
)  # fmt: skip
def test_a_printed_command_has_the_pairs_of_the_cells(tmp_path, monkeypatch, axes) -> None:
    """It plans the cells that the sweep had."""
    monkeypatch.chdir(tmp_path)
    cells = cells_of(axes)
    words = shlex.split(command(cells, {}))[3:]
    planned: list[Cell] = []

    def record(cells: list[Cell], *arguments: object) -> preview.Preview:
        planned.extend(cells)
        return preview.preview(cells, *arguments)

    monkeypatch.setattr(commands, "preview", record)
    result = run_here(*words, "device=cpu", "dry_run=true")
    assert result.status == 0, result.err
    assert {*planned} == {*cells}
    assert len(planned) == len(cells)


def test_cells_that_are_no_grid_get_the_command_of_all_combinations() -> None:
    """Pairs cannot describe them."""
    cells = [c for c in cells_of(LR_BATCH | {"pair": None}) if (c.lr, c.batch) != (0.1, 64)]
    assert "pair=" not in command(cells, {})
    assert "pair=" not in command(cells_of(LR_BATCH), {"lr": [0.1, 0.05, 0.01]})


@pytest.mark.parametrize("launcher", ["lenet_local", "basic"])
def test_a_sweep_with_pairs_is_trained(tmp_path, small_folder: Callable, launcher: str) -> None:
    """Also by Hydra's own launcher, which gets each cell as a job."""
    done = run_forked(
        "-m", "lr=0.1,0.05", "batch=50,100", "pair=[lr,batch]", "epochs=1", "dataset=folder",
        "device=cpu", "name=it", f"dataset.root={small_folder()}", "figures=none", "report=false",
        "workers=1", f"hydra/launcher={launcher}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Path(tmp_path / "outputs" / "sweeps" / "it" / "results.csv").open() as file:
        rows = [(row["lr"], row["batch"], row["status"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [("0.05", "100", "ok"), ("0.1", "50", "ok")]


@pytest.mark.usefixtures("train_here")
def test_pairs_in_python(tmp_path, small_folder: Callable) -> None:
    """The keyword is the same as on the command line."""
    table = sweep(
        lr=[0.1, 0.05], batch=[50, 100], pair=["lr", "batch"], epochs=1, dataset="folder",
        device="cpu", out=tmp_path, figures="none", report=False, progress=False,
        **{"dataset.root": str(small_folder())},
    )  # fmt: skip
    assert sorted(zip(table["lr"], table["batch"], strict=True)) == [(0.05, 100), (0.1, 50)]
