"""The optimizers that come with the package, compared with their classes in torch."""

import inspect

import made_results
import numpy as np
import pandas as pd
import pytest
import torch

from lenet_sweep.analysis.axes import varied
from lenet_sweep.analysis.commands import command
from lenet_sweep.config.choice_options import check_options
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS, default_lr, make_choice, option_default
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.results.columns import shared_options, varying
from lenet_sweep.results.csv_file import _choice_key
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE

OPTIMIZERS = GROUPS["optimizer"].choices
# Arguments that only select an implementation of the same computation.
IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
# Options that the files leave out; they say why.
LEFT_OUT = {"adafactor": {"eps"}, "asgd": {"t0"}}
UNSUITABLE = {"LBFGS", "SparseAdam", "Muon"}


# The other columns of a table that `varying` and `shared_options` read.
SAME = dict.fromkeys(("loss", "activation", "seed", "dataset", "engine"), "same")


def table_of(cells: list[Cell]) -> pd.DataFrame:
    """The settings of cells as columns of a table."""
    rows = [
        {"optimizer": cell.optimizer.name}
        | {f"optimizer.{option}": value for option, value in cell.optimizer.options}
        for cell in cells
    ]
    return pd.DataFrame([SAME | row for row in rows])


def torchs_defaults(name: str) -> dict[str, object]:
    """The arguments of an optimizer's class that change results, with their defaults."""
    cls = getattr(torch.optim, OPTIMIZERS[name].torch_class)
    parameters = inspect.signature(cls).parameters.values()
    without = {"params"} | IMPLEMENTATION | LEFT_OUT.get(name, set())
    return {p.name: p.default for p in parameters if p.name not in without}


def test_every_suitable_optimizer_of_torch_can_be_selected() -> None:
    """optimizer=NAME exists for all of torch.optim but three classes that cannot train LeNet5."""
    classes = {
        name
        for name in dir(torch.optim)
        if isinstance(cls := getattr(torch.optim, name), type)
        and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    }
    assert {choice.torch_class for choice in OPTIMIZERS.values()} == classes - UNSUITABLE
    assert [*OPTIMIZERS] == ["sgd", "adam", *sorted({*OPTIMIZERS} - {"sgd", "adam"})]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_and_defaults_are_torchs(name: str) -> None:
    """An optimizer without options trains as in torch, and every option has torch's name."""
    expected = torchs_defaults(name)
    lr = expected.pop("lr")
    optimizer = make_choice("optimizer", name)
    assert dict(optimizer.options) == expected
    assert default_lr(optimizer) == (0.1 if name == "sgd" else lr)  # as in the report


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name, choice in OPTIMIZERS.items()
        for option, spec in choice.options.items()
        if not isinstance(spec.default, bool) and (name, option) != ("rprop", "etas")
    ],
)
def test_limits_are_torchs(name: str, option: str) -> None:
    """A value is rejected before the training starts if, and only if, torch rejects it."""
    cls = getattr(torch.optim, OPTIMIZERS[name].torch_class)
    default = OPTIMIZERS[name].options[option].default
    for number in (-1.0, 0.0, 0.5, 1.0, 1.5):
        value = (number,) * len(default) if isinstance(default, tuple) else number
        accepted = []
        for check in (
            lambda given: cls([torch.zeros(1)], **given),
            lambda given: check_options("optimizer", OPTIMIZERS[name].options, given),
        ):
            try:
                check({option: value})
                accepted.append(True)
            except (ValueError, UsageError):
                accepted.append(False)
        assert accepted[0] == accepted[1], number


def test_factors_of_rprop_must_not_be_negative() -> None:
    """The limit of `etas` that a file can state is checked before the training starts."""
    with pytest.raises(UsageError, match="must be 2 numbers, each at least 0"):
        check_options("optimizer", OPTIMIZERS["rprop"].options, {"etas": (-0.5, 1.2)})


def test_a_default_is_that_of_the_optimizer() -> None:
    """A table names a weight decay of 0.01 for RMSprop, and not for AdamW, whose default it is."""
    assert option_default("optimizer.weight_decay", "adamw") == 0.01
    assert option_default("optimizer.weight_decay", "rmsprop") == 0
    for names, expected in (
        (["adamw", "adamw"], []),
        (["adamw", "rmsprop"], ["weight_decay=0.01"]),
        (["someones_own", "sgd"], ["weight_decay=0.01"]),
    ):
        settings = {"optimizer": names, "optimizer.weight_decay": [0.01, 0.01]}
        assert shared_options(pd.DataFrame(SAME | settings)) == expected


def test_defaults_that_differ_between_optimizers_are_not_swept() -> None:
    """Adam and AdamW differ in one setting, the optimizer, until the user sets the weight decay."""
    names = ["adadelta", "adam", "adamw"]
    cells = made_results.grid(engine="torch", optimizer=names)
    sweep = "python -m lenet_sweep -m optimizer=adadelta,adam,adamw"
    assert list(varied(cells)) == ["optimizer"]
    assert command(cells, {}) == f"{sweep} lr=0.1 epochs=10"
    assert varying(table_of(cells)) == ["optimizer"]
    cells = made_results.grid(engine="torch", optimizer=names, optimizer__weight_decay=[0, 0.01])
    assert list(varied(cells)) == ["optimizer", "optimizer.weight_decay"]
    assert command(cells, {}) == f"{sweep} optimizer.weight_decay=0,0.01 lr=0.1 epochs=10"
    assert varying(table_of(cells)) == ["optimizer", "optimizer.weight_decay"]
    cells = made_results.grid(engine="torch", optimizer=["adam", "adadelta"], optimizer__eps=1e-8)
    assert "optimizer.eps=1e-08" in command(cells, {})  # the default of Adam only


def test_rows_with_and_without_a_default_are_one_setting() -> None:
    """A table of someone else that leaves out AdamW's default weight decay has the same setting."""
    decay = "optimizer.weight_decay"
    without = _choice_key("optimizer", {"optimizer": "adamw"})
    assert _choice_key("optimizer", {"optimizer": "adamw", decay: "0.01"}) == without
    assert _choice_key("optimizer", {"optimizer": "adamw", decay: "0"}) != without


def test_the_message_lists_the_options_of_the_chosen_optimizer() -> None:
    """A wrong option gives one short line, which says which optimizers have the option."""
    with pytest.raises(UsageError) as error:
        validate_cells(grid({"optimizer": "adagrad", "optimizer.momentum": 0.9}), NATIVE)
    assert str(error.value) == (
        "optimizer.momentum=0.9: the optimizer has no option momentum; adagrad takes lr_decay, "
        "weight_decay, initial_accumulator_value, eps, maximize; sgd and rmsprop have it"
    )
    with pytest.raises(UsageError) as error:
        validate_cells(grid({"optimizer": "rmsprop", "optimizer.alfa": 0.9}), NATIVE)
    assert "adam takes" not in str(error.value)
    assert str(error.value).endswith("did you mean optimizer.alpha?")


def test_torch_trains_the_optimizers_without_native_support() -> None:
    """Seeds and learning rates do not repeat the note that torch trains an optimizer."""
    axes = {"optimizer": ["sgd", "nadam"], "seed": [0, 1], "lr": [0.1, 0.01], "device": "cpu"}
    cells, options = validate_cells(grid(axes), NATIVE)
    if support.unavailable_reason():
        pytest.skip(support.unavailable_reason())
    assert [cell.engine for cell in cells if cell.optimizer.name == "nadam"] == ["torch"] * 4
    (note,) = options.notes
    assert "the native engine does not support optimizer=nadam (only sgd, adam, adamw," in note


def test_asgds_average_is_not_tested() -> None:
    """`t0` is no option of ASGD, because it changes only the average, never the weights."""
    weights = []
    for t0 in (1, 1e6):
        parameter = torch.ones(4, requires_grad=True)
        optimizer = torch.optim.ASGD([parameter], t0=t0)
        for _ in range(5):
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        weights.append(parameter.detach().numpy())
    np.testing.assert_array_equal(*weights)
    assert "t0" not in OPTIMIZERS["asgd"].options
