"""The network and its variations: layers, initialization, dropout masks, and the input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS, cell_from_json
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import LENET5, Cell
from lenet_sweep.data.images import Images, pixel_statistics
from lenet_sweep.training import engines
from lenet_sweep.training.dropout import keep_masks
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.initial_weights import INITIALIZERS, initial_weights, initialize
from lenet_sweep.training.lenet5 import LeNet5, seeded_lenet5

SHAPES = [(6, 1, 5, 5), (120, 16, 5, 5), (84, 120), (10, 84)]


def cell_of(**settings: object) -> Cell:
    (cell,), _ = validate_cells(grid({"device": "cpu"} | settings), NATIVE)
    return cell


def hand_written(model: LeNet5, activation: nn.Module, pool: nn.Module) -> nn.Sequential:
    """The layers of a network in their order, without dropout."""
    norms = (model.norm1, model.norm2, model.norm3, model.norm4)
    return nn.Sequential(
        model.conv1, norms[0], activation, pool, model.conv2, norms[1], activation, pool,
        model.conv3, norms[2], activation, nn.Flatten(), model.linear1, norms[3], activation,
        model.linear2,
    )  # fmt: skip


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_are_in_the_documented_order(pool: str, batch_norm: bool) -> None:
    """Convolution or linear layer, batch normalization, activation, pooling."""
    torch.manual_seed(0)
    model = LeNet5("tanh", pool, batch_norm=batch_norm)
    pools = {"max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2)}
    images = torch.rand(4, 1, 28, 28)
    expected = hand_written(model, nn.Tanh(), pools[pool])(images)
    torch.testing.assert_close(model.logits(images), expected)
    kinds = [type(layer) for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(kinds) == 3 * batch_norm


@pytest.mark.parametrize(
    ("width", "layers"), [(0.5, [3, 8, 60, 42]), (2, [12, 32, 240, 168]), (0.1, [1, 2, 12, 8])]
)
def test_width_multiplies_the_channels_of_hidden_layers(width: float, layers: list[int]) -> None:
    """The input and the classes stay; every layer between them is wider or narrower."""
    model = seeded_lenet5(cell_of(width=width))
    outputs = [model.conv1, model.conv2, model.conv3]
    assert [layer.out_channels for layer in outputs] + [model.linear1.out_features] == layers
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_a_model_has_its_own_activation_and_pooling() -> None:
    """The model decides both, unless a key does."""
    assert (cell_of().activation, cell_of().pool.name) == ("relu", "max")
    old = cell_of(model="lenet5_1998")
    assert (old.activation, old.pool.name) == ("tanh", "avg")
    mixed = cell_of(model="lenet5_1998", activation="relu")
    assert (mixed.activation, mixed.pool.name) == ("relu", "avg")
    assert cell_of(activation=None) == cell_of()


def test_defaults_are_those_of_stored_cells() -> None:
    """A cell stored before these settings existed is the default cell of today."""
    cell = cell_of()
    stored = cell.to_json()
    added = {"model", "pool", "init", "width", "dropout", "batch_norm", "normalize", "schedule"}
    assert not added & stored.keys()
    assert cell_from_json(stored) == cell
    assert cell.model == LENET5


@pytest.mark.parametrize("init", INITIALIZERS)
def test_weights_have_the_variance_of_the_formula(init: str) -> None:
    """The mean square is that of torch.nn.init's function of this name."""
    for shape, weights in zip(SHAPES, initialize(init, 3, SHAPES), strict=True):
        torch.manual_seed(0)
        expected = getattr(nn.init, f"{init}_")(torch.empty(shape))
        spread = 4 * math.sqrt(2 / weights.size)  # four standard errors of a variance
        np.testing.assert_allclose(np.mean(weights**2), torch.mean(expected**2), rtol=spread)
        if "uniform" in init:
            np.testing.assert_allclose(np.abs(weights).max(), expected.abs().max(), rtol=0.1)


def test_orthogonal_weights_are_orthogonal() -> None:
    """Rows are orthonormal if there are fewer rows than columns, otherwise columns are."""
    for weights in initialize("orthogonal", 0, [*SHAPES, (30, 7)]):
        matrix = weights.reshape(len(weights), -1).astype(np.float64)
        smaller = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(smaller, np.eye(len(smaller)), atol=1e-6)


@pytest.mark.parametrize("init", GROUPS["init"].choices)
def test_the_network_and_the_native_engine_start_with_the_same_weights(init: str) -> None:
    """Both engines read the same initial weights; other seeds give others."""
    weights = initial_weights(5, init)
    state = seeded_lenet5(cell_of(init=init, seed=5)).state_dict()
    assert weights.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(weights[name], value.numpy())
    other = initial_weights(6, init)
    assert not np.array_equal(weights["conv2.weight"], other["conv2.weight"])


@given(
    step=st.integers(0, 10**9),
    batch=st.integers(1, 100),
    probability=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_depend_on_the_seed_and_the_step_only(
    step: int, batch: int, probability: float, seed: int
) -> None:
    """A step of a resumed run drops the same units; the next step drops others."""
    cell = cell_of(dropout=probability, seed=seed, batch=batch)
    mask = keep_masks(cell, step, batch)
    assert mask.shape == (batch, 204)
    assert set(np.unique(mask)) <= {0, 1}
    np.testing.assert_array_equal(mask, keep_masks(cell, step, batch))
    assert not np.array_equal(mask, keep_masks(cell, step + 1, batch))


def test_the_probability_is_that_of_dropping_a_unit() -> None:
    """Over many steps, the fraction of dropped units is `dropout`."""
    cell = cell_of(dropout=0.3)
    masks = np.concatenate([keep_masks(cell, step, 64) for step in range(100)])
    assert abs(1 - masks.mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / masks.size)


def test_kept_units_are_scaled_and_evaluation_drops_nothing() -> None:
    """As in torch.nn.Dropout, so that the mean of a unit stays the same."""
    dropout = LeNet5(dropout=0.75).dropout1
    dropout.keep = torch.tensor([[1.0, 0.0]])
    units = torch.tensor([[2.0, 3.0]])
    torch.testing.assert_close(dropout(units), torch.tensor([[8.0, 0.0]]))
    dropout.eval()
    torch.testing.assert_close(dropout(units), units)


def test_normalized_pixels_have_mean_0_and_deviation_1(images: Images) -> None:
    """normalize=standard uses the mean and the standard deviation of the training images."""
    mean, std = pixel_statistics(images.train_images)
    pixels = images.train_images / 255
    assert mean == pytest.approx(pixels.mean())
    assert std == pytest.approx(pixels.std())
    engine = engines.build_engine(cell_of(normalize="standard", engine="torch"), images)
    inputs = engine._to_input(engine.train_images)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-4)


def test_constant_pixels_are_not_divided_by_zero() -> None:
    """A dataset of equal images has no deviation; only the mean is subtracted."""
    assert pixel_statistics(np.full((2, 28, 28), 255, np.uint8)) == (1.0, 1.0)


def test_a_lone_image_in_the_last_batch_is_explained(images: Images) -> None:
    """Batch normalization cannot normalize one image."""
    cell = cell_of(batch_norm=True, batch=599)
    with pytest.raises(ValueError, match="use another batch size"):
        engines.build_engine(cell, images)
