"""Validation of settings: defaults, equal values, grids, and messages for wrong input."""

import re
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_sweep.config import files, grids, keys, registry, suggestions, validation
from lenet_sweep.config.choice_options import ChoiceOption
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.data.catalog import OWN_DATASETS
from lenet_sweep.training.engines.support import NATIVE


def cells(**axes):
    return validation.validate_cells(grids.grid(axes), NATIVE)[0]


def test_defaults_are_those_of_the_report() -> None:
    """A cell without settings is the one that the report's script trains."""
    (cell,) = cells()
    assert (str(cell.loss), str(cell.optimizer), cell.activation) == (
        "cross_entropy",
        "sgd",
        "relu",
    )
    assert (cell.lr, cell.batch, cell.epochs, cell.seed) == (0.1, 64, 100, 0)
    assert (cell.shuffle, cell.data) == (False, "mnist")


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adam", 0.001)])
def test_lr_defaults_to_that_of_the_optimizer(optimizer: str, lr: float) -> None:
    """Without a learning rate, a cell uses its optimizer's default."""
    assert cells(optimizer=optimizer)[0].lr == lr


@given(st.sampled_from(["1e-1", "0.1", ".1", "0.10", 0.1, "1.0e-01", "+0.1"]))
def test_equal_numbers_are_one_cell(text: object) -> None:
    """lr=1e-1, lr=0.1 and lr=.1 are the same cell."""
    assert cells(lr=text) == cells(lr=0.1)


def test_integer_may_be_written_as_float() -> None:
    """batch=1e2 means 100, and batch=1.5 is rejected."""
    assert cells(batch="1e2")[0].batch == 100
    with pytest.raises(UsageError, match="batch=1.5: must be a whole number"):
        cells(batch=1.5)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"lr": "abc"}, "lr=abc: must be a number above 0"),
        ({"lr": 0}, "lr=0: must be a number above 0"),
        ({"lr": float("nan")}, "lr=nan: must be a number above 0"),
        ({"lr": "inf"}, "lr=inf: must be a number above 0"),
        ({"lr": True}, "lr=true: must be a number above 0"),
        ({"batch": 0}, "batch=0: must be a whole number from 1 to 1000000"),
        ({"epochs": -1}, "epochs=-1: must be a whole number from 1 to 100000"),
        ({"seed": 2**32}, "seed=4294967296: must be a whole number from 0 to 4294967295"),
        ({"shuffle": "yes"}, "shuffle=yes: must be true or false"),
        ({"optimizer": "sgdd"}, "optimizer=sgdd: must be one of sgd, adam, adadelta,"),
        ({"recipe": "ce"}, "recipe=ce: must be one of ce_sgd, nll_adam"),
        ({"device": "tpu"}, "device=tpu: must be one of auto, cuda, mps, cpu"),
        ({"engine": "jax"}, "engine=jax: must be one of auto, native, torch"),
        ({"activation": "rellu"}, "did you mean activation=relu?"),
        ({"learning_rate": 1}, "learning_rate=1: there is no key learning_rate"),
        ({"batchs": 1}, "did you mean batch?"),
        ({"optimizer.beta": 1}, "optimizer.beta=1: the optimizer has no option beta"),
        ({"optimizer.nesterov": True}, "requires optimizer.momentum > 0"),
        (
            {"optimizer": "adam", "optimizer.betas": [[0.9, 1.0]]},
            "2 numbers, each at least 0 and less than 1",
        ),
        ({"optimizer": {"name": "adam", "momentum": 1}}, "has no option momentum"),
        (
            {"loss.label_smoothing": 1.5},
            "loss.label_smoothing=1.5: must be a number from 0 to 1",
        ),
        ({"loss.label_smoothing": -0.1}, "must be a number from 0 to 1"),
        ({"loss": "multi_margin", "loss.p": 1.5}, "loss.p=1.5: must be one of 1, 2"),
        ({"loss": "huber", "loss.delta": 0}, "loss.delta=0: must be a number greater than 0"),
        ({"loss": "nll", "loss.label_smoothing": 0.1}, "the loss has no option label_smoothing"),
        ({"loss.smoothing": 0.1}, "has no option smoothing; cross_entropy takes label_smoothing;"),
        (
            {"loss": {"name": "nll", "target": "one_hot"}},
            "loss.target=one_hot: only a file in loss/",
        ),
        ({"loss": {"name": "nll", "input": "logits"}}, "loss.input=logits: only a file"),
        ({"workers": 0}, "workers=0: must be auto, or a whole number"),
        ({"name": "../up"}, "name=../up: must be up to 100 letters"),
        ({"person": "a\nb"}, "person=a\N{REPLACEMENT CHARACTER}b: must be one line"),
        ({"person": True}, "person=true: must be one line"),
        ({"name": False}, "name=false: must be up to 100 letters"),
        ({"out": True}, "out=true: must be the path of a folder"),
        ({"person": "${oc.env:HOME}"}, "is resolved only on the command line"),
        ({"out": "${oc.env:HOME}"}, "is resolved only on the command line"),
        ({"figures": "some"}, "figures=some: must be one of best, all, none"),
        ({"figure_format": "eps"}, "figure_format=eps: must be one of png, pdf, svg"),
        ({"figure_width": 3.5}, "figure_width=3.5: must be one of screen, single, double"),
        ({"rows": "seeds"}, "rows=seeds: must be one of settings, cells"),
        ({"lr": []}, "give at least one value"),
        ({"timeout": "soon"}, "timeout=soon: must be a number of seconds above 0"),
        ({"recipe": "ce_sgd", "loss": "nll"}, "recipe cannot be combined with loss"),
        ({"workers": [1, 2]}, "workers cannot be swept"),
        ({"dataset": "folder"}, "dataset.root"),
        ({"dataset.limit": 60_001}, "dataset.limit=60001"),
        ({"dropout": 1}, "dropout=1: must be a number from 0 to 0.9"),
        ({"width": 0}, "width=0: must be a number from 0.1 to 10"),
        ({"pool": "mean"}, "pool=mean: must be one of max, avg"),
        ({"init": "xavier"}, "init=xavier: must be one of torch, xavier_uniform"),
        ({"normalize": "minmax"}, "normalize=minmax: must be one of none, standard"),
        ({"clip_norm": 0}, "clip_norm=0: must be a number above 0"),
        ({"model": "lenet"}, "did you mean model=lenet5?"),
        ({"batch_norm": True, "batch": 1}, "batch=1: batch_norm=true needs at least 2 images"),
        ({"batch_norm": "yes"}, "batch_norm=yes: must be true or false"),
        (
            {"augment": "shift", "augment.pixels": 1.5},
            "augment.pixels=1.5: must be a whole number from 0 to 27",
        ),
        ({"augment": "affine", "augment.scale": 1}, "augment.scale=1: must be a number from 0 to"),
        ({"augment": "elastic", "augment.sigma": 0}, "augment.sigma=0: must be a number from 0.1"),
    ],
)
def test_wrong_setting_is_rejected_in_one_line(axes: dict[str, object], message: str) -> None:
    """The message is one line that names the key, the value and what is allowed."""
    with pytest.raises(UsageError) as error:
        cells(**axes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("learning_rate", 1, "lr"), ("learning-rate", 1, "lr"), ("LR", 1, "lr"),
        ("batch_size", 1, "batch"), ("n_epochs", 1, "epochs"), ("num_epochs", 1, "epochs"),
        ("momentum", 1, "optimizer.momentum"), ("weight_decay", 1, "optimizer.weight_decay"),
        ("betas", 1, "optimizer.betas"), ("num_workers", 1, "workers"), ("n_jobs", 1, "workers"),
        ("output_dir", 1, "out"), ("user", 1, "person"),
        ("optimizer.momentun", 1, "optimizer.momentum"),
        ("optimizer.beta", 1, "optimizer.betas"), ("Optimizer", "sgd", "optimizer"),
        ("device", "gpu", "device=cuda"), ("device", "NVIDIA", "device=cuda"),
        ("optimizer", "SGD", "optimizer=sgd"), ("optimizer", "Adam", "optimizer=adam"),
        ("optimizer", "adm", "optimizer=adam"), ("optimizer", "RMSProp", "optimizer=rmsprop"),
        ("optimizer", "Adam_W", "optimizer=adamw"),
        ("loss", "CrossEntropyLoss", "loss=cross_entropy"), ("loss", "NLLLoss", "loss=nll"),
        ("loss", "MSELoss", "loss=mse"), ("loss", "hinge", "loss=multi_margin"),
        ("label_smoothing", 0.1, "loss.label_smoothing"),
        ("dataset", "FashionMNIST", "dataset=fashion_mnist"),
        ("dataset", "fashion-mnist", "dataset=fashion_mnist"),
        ("dataset", "MNIST", "dataset=mnist"),
        ("activation", "LeakyReLU", "activation=leaky_relu"),
        ("activation", "swish", "activation=silu"),
        ("augment", "rotation", "augment=affine"), ("augment", "translate", "augment=shift"),
        ("augment", "cutout", "augment=erase"), ("augmentation", "shift", "augment"),
        ("degrees", 10, "augment.degrees"),
    ],
)  # fmt: skip
def test_suggestion_is_what_was_meant(key: str, value: object, meant: str) -> None:
    """A name from another library, or in another case, leads to the name used here."""
    with pytest.raises(UsageError, match=re.escape(f"did you mean {meant}?")):
        cells(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel_size", 3), ("nonsense", 1),
        ("optimizer", "sparseadam"), ("optimizer", "lbfgs"), ("device", "tpu"),
        ("dataset", "emnist"),
    ],
)  # fmt: skip
def test_no_suggestion_for_similar_spelling(key: str, value: object) -> None:
    """The message for an unsupported name lists the valid ones, without a misleading guess."""
    with pytest.raises(UsageError, match="the keys are|must be one of") as error:
        cells(**{key: value})
    assert "did you mean" not in str(error.value)


def test_every_key_is_an_option_of_the_sweep_or_describes_a_cell() -> None:
    """The keys of the whole sweep are fields of SweepOptions; the others are fields of a cell."""
    added = {"data_root", "notes", "unused", "study"}  # not keys of conf/config.yaml
    assert {field.name for field in fields(SweepOptions)} - added == {*keys.SWEEP_KEYS}
    derived = {"classes", "horizon", "model_source"}
    of_cells = {field.name for field in fields(Cell)} - derived | {"holdout"}
    assert {*keys.defaults()} == {*keys.SWEEP_KEYS} | of_cells


def test_an_existing_choice_is_suggested_in_spite_of_the_lists() -> None:
    """A choice or key that someone adds wins over the lists of names of other libraries."""
    for key, names in suggestions.VALUES.items():
        for name in names:
            assert suggestions.for_value(key, name.upper(), ["other", name]) == name
    for name in suggestions.KEYS:
        assert suggestions.for_key(name.upper(), ["other", name]) == name


def test_every_suggestion_exists() -> None:
    """Every name that is suggested is a valid key or value."""
    valid = {*keys.known_keys(keys.defaults()), *registry.OPTION_DEFAULTS}
    assert {key for key in suggestions.KEYS.values() if key} <= valid
    for key, names in suggestions.VALUES.items():
        for words in filter(None, names.values()):
            value, *more = words.split()
            pairs = dict(word.split("=") for word in more)
            others = {k: v == "true" or v for k, v in pairs.items()}
            if key not in ("device", "engine") and value not in OWN_DATASETS:
                assert cells(**{key: value} | others)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_missing_device_is_rejected(device: str, monkeypatch) -> None:
    """A device that the machine lacks is rejected instead of training on the CPU."""
    monkeypatch.setattr("lenet_sweep.machine.devices.available_devices", lambda: ("cpu",))
    with pytest.raises(
        UsageError,
        match=f"device={device}: not available on this machine; must be one of auto, cpu",
    ):
        cells(device=device)


@pytest.mark.parametrize(
    ("settings", "device", "has_note"),
    [
        ({}, "cpu", True),  # the native engine supports the cell
        ({"activation": "gelu"}, "cuda", False),
        ({"engine": "torch"}, "cuda", False),
        ({"device": "cuda"}, "cuda", False),
        ({"device": "cpu"}, "cpu", False),
    ],
)
@pytest.mark.skipif(NATIVE.unavailable_reason() is not None, reason="there is no native engine")
def test_auto_prefers_the_native_engine_to_a_gpu(
    settings: dict[str, str], device: str, has_note: bool, monkeypatch
) -> None:
    """On a machine with a GPU, device=auto is the CPU where the native engine trains the cell."""
    monkeypatch.setattr("lenet_sweep.machine.devices.accelerator_likely", lambda: True)
    monkeypatch.setattr("lenet_sweep.machine.devices.available_devices", lambda: ("cuda", "cpu"))
    (cell,), options = validation.validate_cells(grids.grid(settings), NATIVE)
    assert cell.device == device
    assert any("device=cuda" in note for note in options.notes) == has_note


def test_grid_is_product_of_lists() -> None:
    """A grid has every combination once; the last key varies fastest."""
    grid = cells(lr=[0.1, 0.01], batch=[32, 64, 128])
    assert [(c.lr, c.batch) for c in grid] == [
        (lr, batch) for lr in (0.1, 0.01) for batch in (32, 64, 128)
    ]


@pytest.mark.parametrize("values", [(0.1, 0.2), np.array([0.1, 0.2])])
def test_any_sequence_is_swept(values: object) -> None:
    """A tuple or an array of values is swept like a list; a pair of betas is one value."""
    assert [c.lr for c in cells(lr=values)] == [0.1, 0.2]
    assert [c.seed for c in cells(seed=range(3))] == [0, 1, 2]
    (cell,) = cells(**{"optimizer": "adam", "optimizer.betas": (0.5, 0.9)})
    assert dict(cell.optimizer.options)["betas"] == (0.5, 0.9)


def test_options_of_optimizers_can_be_swept() -> None:
    """A dotted key can be swept like any other, in any order of the arguments."""
    grid = cells(**{"optimizer.amsgrad": [False, True], "optimizer": "adam"})
    assert [str(c.optimizer) for c in grid] == ["adam", "adam amsgrad=true"]


@pytest.mark.parametrize(
    "chosen", [{"optimizer": ["sgd", "adam"]}, {"recipe": ["ce_sgd", "nll_adam"]}]
)
def test_option_applies_to_optimizers_that_have_it(chosen: dict[str, object]) -> None:
    """An optimizer that lacks a swept option gives one cell, and one line says so."""
    grid, options = validation.validate_cells(
        grids.grid(chosen | {"optimizer.momentum": [0, 0.9]}), NATIVE
    )
    assert [str(cell.optimizer) for cell in grid] == ["sgd", "sgd momentum=0.9", "adam"]
    assert options.unused == ("optimizer.momentum applies to sgd only; adam runs without it",)


def test_option_applies_to_losses_that_have_it() -> None:
    """A loss that lacks a swept option gives one cell, and one line says so."""
    axes = {"loss": ["cross_entropy", "nll"], "loss.label_smoothing": [0, 0.1]}
    grid, options = validation.validate_cells(grids.grid(axes), NATIVE)
    assert [str(cell.loss) for cell in grid] == [
        "cross_entropy", "cross_entropy label_smoothing=0.1", "nll"
    ]  # fmt: skip
    assert options.unused == (
        "loss.label_smoothing applies to cross_entropy only; nll runs without it",
    )
    grid = cells(recipe=["ce_sgd", "nll_adam"], **{"loss.label_smoothing": [0, 0.1]})
    assert [f"{cell.loss} {cell.optimizer.name}" for cell in grid] == [
        "cross_entropy sgd", "cross_entropy label_smoothing=0.1 sgd", "nll adam"
    ]  # fmt: skip
    (without_recipe,) = cells(**{"loss.label_smoothing": 0.1})
    assert grid[1].id == without_recipe.id


def test_limits_of_a_pair_of_numbers_hold_for_each() -> None:
    """A pair outside its limits is rejected, and the message says what each number must be."""
    for limits, allowed in (
        ({"one_of": (1.0, 2.0)}, "2 numbers, each one of 1, 2"),
        ({"min": 0.5, "max": 2.0}, "2 numbers, each from 0.5 to 2"),
        ({"max": 2.0}, "2 numbers, each at most 2"),
        ({"above": 0.0, "below": 3.0}, "2 numbers, each greater than 0 and less than 3"),
    ):
        option = ChoiceOption(default=(1.0, 2.0), help="a pair", **limits)
        assert option.check("loss.pair", [2, 1]) == (2.0, 1.0)
        with pytest.raises(UsageError, match=f"must be {allowed}$"):
            option.check("loss.pair", [1, 3] if "above" in limits else [1, 3.5])


def test_options_of_two_optimizers_are_two_grids() -> None:
    """Each optimizer is combined with its own options and with those that both have."""
    axes = {
        "optimizer": ["sgd", "adam"], "optimizer.momentum": [0, 0.9], "optimizer.nesterov": False,
        "optimizer.eps": [1e-8, 1e-7, 1e-6], "optimizer.weight_decay": [0, 1e-4],
    }  # fmt: skip
    grid, options = validation.validate_cells(grids.grid(axes | {"max_cells": 10}), NATIVE)
    assert len(set(grid)) == len(grid) == 2 * 2 + 3 * 2
    assert set(options.unused) == {
        "optimizer.momentum and optimizer.nesterov apply to sgd only; adam runs without them",
        "optimizer.eps applies to adam only; sgd runs without it",
    }


@pytest.mark.parametrize("optimizer", ["adam", ["adam"], [{"name": "adam"}]])
def test_option_without_optimizer_is_rejected(optimizer: object) -> None:
    """An option that no optimizer of the grid has is rejected instead of ignored."""
    with pytest.raises(UsageError, match="optimizer.momentum=0: the optimizer has no option"):
        cells(**{"optimizer": optimizer, "optimizer.momentum": [0, 0.9]})
    with pytest.raises(UsageError, match="has no option momentum"):
        cells(optimizer=["sgd", {"name": "adam", "momentum": 0.9}])


def test_recipe_selects_loss_and_optimizer() -> None:
    """The recipes are the two pairs of loss and optimizer in the report."""
    grid = cells(recipe=["ce_sgd", "nll_adam"])
    assert [(str(c.loss), str(c.optimizer), c.lr) for c in grid] == [
        ("cross_entropy", "sgd", 0.1),
        ("nll", "adam", 0.001),
    ]


def test_every_key_has_a_comment() -> None:
    """Each key in conf/config.yaml has a comment, which --help prints."""
    text = (files.config_folder() / "config.yaml").read_text()
    for key in keys.defaults():
        if key not in registry.GROUPS:
            assert re.search(rf"^{key}: \S+ +# \w", text, re.MULTILINE), key


@given(
    st.sampled_from([*keys.known_keys(keys.defaults())]),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
        st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none()),
    ),
)  # fmt: skip
def test_any_value_is_accepted_or_rejected_in_one_line(key: str, value: object) -> None:
    """Any value of a key gives either a cell or a message of one line."""
    message = ""
    try:
        cells(**{key: [value]})
    except UsageError as error:
        message = str(error)
    assert "\n" not in message
