"""The contract of every engine: one test suite for each engine and kind of cell."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from lenet_sweep.config import keys, registry, validation
from lenet_sweep.config.choice_options import ChoiceOption
from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import ENGINE_VERSIONS, Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.data.images import Images, pixel_statistics
from lenet_sweep.training import engines
from lenet_sweep.training.dropout import keep_masks
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.lenet5 import LeNet5, seeded_lenet5
from lenet_sweep.training.loop import epoch_order
from lenet_sweep.training.schedules import learning_rates

LOSSES, OPTIMIZERS = GROUPS["loss"].choices, GROUPS["optimizer"].choices
VARIANTS = {
    "sgd": {},
    "sgd momentum": {"optimizer.momentum": 0.9, "optimizer.weight_decay": 1e-3},
    "sgd nesterov": {"optimizer.momentum": 0.9, "optimizer.nesterov": True},
    "adam": {"optimizer": "adam", "lr": 0.001},
    "adam amsgrad": {"optimizer": "adam", "lr": 0.001, "optimizer.amsgrad": True},
    "adam decay": {"optimizer": "adam", "lr": 0.001, "optimizer.weight_decay": 1e-3},
}
# The other optimizers, with all the state that they can have.
OTHERS = {name: {"optimizer": name} for name in OPTIMIZERS if name not in ("sgd", "adam")}
OTHERS["rmsprop centered"] = {
    "optimizer": "rmsprop", "lr": 1e-3, "optimizer.momentum": 0.9, "optimizer.centered": True
}  # fmt: skip


# Variations of the network and of its training.
NETWORKS = [
    {"model": "lenet5_1998"},
    {"pool": "avg"},
    {"pool": "avg", "activation": "sigmoid", "normalize": "standard"},
    {"pool": "avg", "activation": "leaky_relu", "dropout": 0.5},
    {"width": 0.5},
    {"batch_norm": True},
    {"dropout": 0.5},
    {"normalize": "standard"},
    {"normalize": "standard", "activation": "elu", "dropout": 0.1},
    {"clip_norm": 0.1},
    {"dropout": 0.2, "batch_norm": True, "width": 1.5, "clip_norm": 1, "optimizer": "adam"},
]
INITS = [{"init": name} for name in GROUPS["init"].choices if name != "torch"]
# Other values than the default for each option of each loss.
LOSS_OPTIONS = [
    {"loss": "cross_entropy", "loss.label_smoothing": 0.1},
    {"loss": "multi_margin", "loss.p": 2, "loss.margin": 0.5},
    {"loss": "huber", "loss.delta": 0.2},
]


@pytest.fixture(params=ENGINE_VERSIONS)
def engine_name(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and support.unavailable_reason():
        pytest.skip(support.unavailable_reason())
    return request.param


def make_cell(engine: str, small_folder, **axes: object) -> Cell:
    root = str(small_folder())
    settings = {"dataset": "folder", "dataset.root": root, "device": "cpu", "engine": engine}
    try:
        (cell,), _ = validate_cells(grid(settings | axes), NATIVE)
    except UsageError as error:
        assert engine == "native"  # unsupported cells are tested with torch
        pytest.skip(str(error))
    return cell


def hand_written_loss(cell: Cell, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of each image, (B,), from its formula. logits: (B, 10)."""
    options = dict(cell.loss.options)
    log_p = logits.log_softmax(1)
    one_hot = torch.eye(10)[labels]
    error = (logits - one_hot).abs()
    right = logits.gather(1, labels[:, None])
    match cell.loss.name:
        case "cross_entropy":
            smoothing = options["label_smoothing"]
            return -(((1 - smoothing) * one_hot + smoothing / 10) * log_p).sum(1)
        case "nll":
            return -log_p.gather(1, labels[:, None])[:, 0]
        case "multi_margin":
            violations = (options["margin"] - right + logits).clamp(min=0) ** options["p"]
            return (violations * (1 - one_hot)).mean(1)
        case "mse":
            return (error**2).mean(1)
        case "huber" | "smooth_l1":
            limit = options.get("delta") or options["beta"]
            huber = torch.where(error < limit, error**2 / 2, limit * (error - limit / 2)).mean(1)
            return huber / limit if cell.loss.name == "smooth_l1" else huber
        case "binary_cross_entropy":
            sign = 2 * one_hot - 1
            return -nn.functional.logsigmoid(sign * logits).mean(1)
    raise AssertionError(f"a test needs the formula of {cell.loss.name}")


def plain_training(
    cell: Cell, images: Images, steps: int, lrs: Sequence[float] | None = None
) -> tuple[LeNet5, list[float]]:
    """A training loop as in a PyTorch tutorial, independent of the package's engines."""
    model = seeded_lenet5(cell)
    mean, std = pixel_statistics(images.train_images)
    optimizer = getattr(torch.optim, OPTIMIZERS[cell.optimizer.name].torch_class)(
        model.parameters(), lr=cell.lr, **dict(cell.optimizer.options)
    )
    losses = []
    for step in range(steps):
        part = slice(step * cell.batch, (step + 1) * cell.batch)
        pixels = torch.from_numpy(images.train_images[part]).float().unsqueeze(1) / 255
        if cell.normalize == "standard":
            pixels = (pixels - mean) / std
        labels = torch.from_numpy(images.train_labels[part]).long()
        if cell.dropout:
            keep = torch.from_numpy(keep_masks(cell, step, len(labels))).float()
            units = model.linear1.in_features
            model.dropout1.keep, model.dropout2.keep = keep[:, :units], keep[:, units:]
        loss = hand_written_loss(cell, model.logits(pixels), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        if cell.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), cell.clip_norm)
        if lrs is not None:
            optimizer.param_groups[0]["lr"] = lrs[step]
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def weights(state) -> dict[str, np.ndarray]:
    return {k: v for k, v in state.items() if k.startswith("weight.")}


@pytest.mark.parametrize(
    ("loss", "variant"),
    [*((loss, "sgd") for loss in LOSSES), *product(["cross_entropy"], [*VARIANTS][1:])],
)
def test_training_agrees_with_a_plain_loop(
    engine_name: str, small_folder, images: Images, loss: str, variant: str
) -> None:
    """Weights after 12 steps, the last one smaller, are those of a hand-written loop."""
    cell = make_cell(engine_name, small_folder, batch=52, loss=loss, **VARIANTS[variant])
    engine = engines.build_engine(cell, images)
    losses = engine.train(np.arange(len(images.train_labels)))
    assert len(losses) == 12  # 600 images: 11 batches of 52 and one of 28
    model, expected = plain_training(cell, images, 12)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(
            engine.state()[f"weight.{name}"], value.numpy(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", OTHERS)
def test_every_optimizer_trains_as_in_torch(
    engine_name: str, small_folder, images: Images, name: str
) -> None:
    """Each optimizer is the one with this name in torch, with the options that were given."""
    cell = make_cell(engine_name, small_folder, batch=52, **OTHERS[name])
    engine = engines.build_engine(cell, images)
    losses = engine.train(np.arange(3 * 52))
    model, expected = plain_training(cell, images, 3)
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    np.testing.assert_allclose(
        engine.state()["weight.linear2.bias"], model.linear2.bias.detach(), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("settings", [*LOSS_OPTIONS, *NETWORKS, *INITS], ids=str)
def test_options_are_trained_as_in_a_plain_loop(
    engine_name: str, small_folder, images: Images, settings: dict
) -> None:
    """Losses of batches and the weights are those of a plain loop with these options.

    With about one seed in ten, rounding changes the winner of a ReLU or a pooling window. From then
    on, two correct programs differ, so this tries up to three seeds.
    """
    distances = []
    for seed in range(3):
        cell = make_cell(engine_name, small_folder, batch=52, seed=seed, **settings)
        engine = engines.build_engine(cell, images)
        losses = engine.train(np.arange(600))
        model, expected = plain_training(cell, images, 12)
        np.testing.assert_allclose(losses, expected, rtol=1e-3)
        state = engine.state()
        distances.append(
            {
                name: np.abs(state[f"weight.{name}"] - value.numpy()).max()
                for name, value in model.state_dict().items()
                if not np.allclose(state[f"weight.{name}"], value.numpy(), rtol=1e-4, atol=1e-6)
            }
        )
        if not distances[-1]:
            return
    pytest.fail(f"no seed agrees: {distances}")


def test_every_option_of_a_loss_is_tested() -> None:
    """A loss whose options were never trained with other values is not released."""
    changed = {key for settings in LOSS_OPTIONS for key in settings if "." in key}
    assert changed == {f"loss.{option}" for spec in LOSSES.values() for option in spec.options}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_step_has_its_learning_rate(
    engine_name: str, small_folder, images: Images, optimizer: str
) -> None:
    """Steps take the learning rates they are given, also in a second call."""
    cell = make_cell(engine_name, small_folder, optimizer=optimizer)
    lrs = np.geomspace(0.001, 0.0001, 6)
    engine = engines.build_engine(cell, images)
    losses = [engine.train(np.arange(256), lrs[:4]), engine.train(np.arange(256, 384), lrs[4:])]
    model, expected = plain_training(cell, images, 6, lrs)
    np.testing.assert_allclose(np.concatenate(losses), expected, rtol=1e-4)
    np.testing.assert_allclose(
        engine.state()["weight.conv1.weight"],
        model.state_dict()["conv1.weight"].numpy(),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("activation", GROUPS["activation"].choices)
def test_every_activation_trains_as_in_torch(
    engine_name: str, small_folder, images: Images, activation: str
) -> None:
    """Each activation is the one with this name in torch."""
    cell = make_cell(engine_name, small_folder, activation=activation)
    engine = engines.build_engine(cell, images)
    losses = engine.train(np.arange(128))
    model, expected = plain_training(cell, images, 2)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(
        engine.state()["weight.conv1.weight"],
        model.state_dict()["conv1.weight"].numpy(),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_a_seed_gives_the_same_initial_weights_in_each_engine(
    engine_name, small_folder, images
) -> None:
    """Initial weights are torch's own for the seed, and differ between seeds."""
    cell = make_cell(engine_name, small_folder, seed=7)
    state = engines.build_engine(cell, images).state()
    torch.manual_seed(7)
    for name, value in LeNet5().state_dict().items():
        np.testing.assert_array_equal(state[f"weight.{name}"], value.numpy())
    other = engines.build_engine(replace(cell, seed=8), images).state()
    assert not np.array_equal(state["weight.conv1.weight"], other["weight.conv1.weight"])


def test_building_an_engine_keeps_torchs_random_state(engine_name, small_folder, images) -> None:
    """Training does not change the random numbers of a notebook."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    engines.build_engine(make_cell(engine_name, small_folder), images)
    assert torch.equal(torch.rand(3), expected)


def test_an_epoch_can_be_trained_in_pieces(engine_name, small_folder, images) -> None:
    """Training in pieces of whole batches gives the same weights, bit for bit."""
    cell = make_cell(engine_name, small_folder, batch=32)
    at_once, pieces = engines.build_engine(cell, images), engines.build_engine(cell, images)
    order = np.random.default_rng(0).permutation(600)
    losses = at_once.train(order)
    parts = [pieces.train(order[a:b]) for a, b in ((0, 32), (32, 320), (320, 600))]
    np.testing.assert_array_equal(losses, np.concatenate(parts))
    for name, value in at_once.state().items():
        np.testing.assert_array_equal(value, pieces.state()[name])


@pytest.mark.parametrize(
    ("engine_name", "settings", "batch"),
    [
        ("torch", VARIANTS["adam"], 48),  # one thread, whatever the number
        *product(["native"], [VARIANTS["sgd"], VARIANTS["adam"]], [9, 16, 48, 300]),
        *product(
            ["native"],
            [OTHERS["rmsprop centered"], OTHERS["adagrad"], *NETWORKS[:4], *NETWORKS[6:10]],
            [48],
        ),
        ("native", {"pool": "avg", "dropout": 0.5, "normalize": "standard"}, 300),
    ],
    ids=str,
    indirect=["engine_name"],
)
def test_threads_do_not_change_results(
    engine_name, small_folder, images, settings: dict, batch: int
) -> None:
    """The weights, losses and predictions are the same bits with other numbers of threads."""
    cell = make_cell(engine_name, small_folder, batch=batch, **settings)
    order = np.random.default_rng(0).permutation(600)[:330]
    results = []
    for threads in ([1, 1, 1], [2, 2, 2], [3, 8, 1]):
        engine = engines.build_engine(cell, images)
        engine.threads = 8
        assert engine.threads == (8 if engine_name == "native" else 1)
        arrays = []
        for number in threads:
            engine.threads = number
            evaluation = engine.evaluate()
            arrays += [engine.train(order), evaluation.predictions, evaluation.losses]
        results.append([*arrays, *engine.state().values()])
    for other in results[1:]:
        for value, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    "settings",
    [*VARIANTS.values(), *OTHERS.values(), *NETWORKS],  # losses and initializations have no state
    ids=str,
)
def test_a_restored_engine_resumes_bit_for_bit(
    engine_name, small_folder, images, settings: dict
) -> None:
    """Weights after a restart are exactly those without one."""
    cell = make_cell(engine_name, small_folder, **settings)
    order = np.arange(300)
    uninterrupted = engines.build_engine(cell, images)
    uninterrupted.train(order)
    saved = uninterrupted.state()
    expected_losses = uninterrupted.train(order)
    resumed = engines.build_engine(cell, images)
    resumed.restore(saved)
    np.testing.assert_array_equal(resumed.train(order), expected_losses)
    for name, value in uninterrupted.state().items():
        np.testing.assert_array_equal(value, resumed.state()[name])


def test_an_engine_describes_how_it_computes(engine_name, small_folder, images) -> None:
    """The metadata of a run names the instruction set that was used."""
    detail = engines.build_engine(make_cell(engine_name, small_folder), images).detail
    assert re.search(r"avx512|avx2|baseline|AVX|DEFAULT|NO AVX", detail), detail


def test_augmented_images_replace_the_training_images(engine_name, small_folder, images) -> None:
    """An engine trains on the images it is given, with the labels of the order."""
    cell = make_cell(engine_name, small_folder, batch=52)
    order = np.random.default_rng(0).permutation(600)[:300]
    changed = images.train_images[order][:, ::-1].copy()
    engine = engines.build_engine(cell, images)
    losses = engine.train(order, images=changed)
    labels = images.train_labels[order]
    other = replace(images, train_images=changed, train_labels=labels)
    expected = engines.build_engine(cell, other)
    np.testing.assert_array_equal(losses, expected.train(np.arange(300)))
    for name, value in expected.state().items():
        np.testing.assert_array_equal(value, engine.state()[name])


def test_a_saved_state_is_a_copy(engine_name, small_folder, images) -> None:
    """Further training does not change a state that was saved before."""
    engine = engines.build_engine(make_cell(engine_name, small_folder), images)
    before = engine.state()
    kept = before["weight.conv1.weight"].copy()
    engine.train(np.arange(64))
    np.testing.assert_array_equal(before["weight.conv1.weight"], kept)


@pytest.mark.parametrize(
    "settings", [*({"loss": name} for name in LOSSES), *LOSS_OPTIONS, *NETWORKS], ids=str
)
def test_evaluation_agrees_with_the_plain_network(
    engine_name, small_folder, images, settings: dict
) -> None:
    """Each test image gets the class with the highest score, and the loss that is trained.

    Evaluation drops no unit and has its own statistics for batch normalization.
    """
    cell = make_cell(engine_name, small_folder, **settings)
    engine = engines.build_engine(cell, images)
    engine.train(np.arange(600))
    result = engine.evaluate()
    model = seeded_lenet5(cell).eval()
    model.load_state_dict(
        {k.removeprefix("weight."): torch.from_numpy(v) for k, v in weights(engine.state()).items()}
    )
    mean, std = pixel_statistics(images.train_images)
    pixels = torch.from_numpy(images.test_images).float().unsqueeze(1) / 255
    with torch.no_grad():
        logits = model.logits((pixels - mean) / std if cell.normalize == "standard" else pixels)
    labels = torch.from_numpy(images.test_labels).long()
    np.testing.assert_array_equal(result.predictions, logits.argmax(1).numpy())
    assert result.predictions.dtype == np.uint8
    np.testing.assert_allclose(
        result.losses, hand_written_loss(cell, logits, labels), rtol=1e-4, atol=1e-6
    )


def test_evaluation_does_not_change_training(engine_name, small_folder, images) -> None:
    """Evaluating after each epoch does not change the weights."""
    cell = make_cell(engine_name, small_folder, **VARIANTS["adam"])
    tested, plain = engines.build_engine(cell, images), engines.build_engine(cell, images)
    for engine in (tested, plain):
        engine.train(np.arange(300))
        if engine is tested:
            engine.evaluate()
        engine.train(np.arange(300, 600))
    for name, value in plain.state().items():
        np.testing.assert_array_equal(value, tested.state()[name])


def test_a_batch_of_one_and_one_larger_than_the_data(engine_name, small_folder, images) -> None:
    """Any batch size works, from single images to more than all of them."""
    single = engines.build_engine(make_cell(engine_name, small_folder, batch=1), images)
    assert len(single.train(np.arange(5))) == 5
    large = engines.build_engine(make_cell(engine_name, small_folder, batch=1000), images)
    assert len(large.train(np.arange(600))) == 1


def test_a_non_finite_loss_is_returned(engine_name, small_folder, images) -> None:
    """A diverging run returns its losses and does not raise."""
    engine = engines.build_engine(make_cell(engine_name, small_folder, lr=1e30), images)
    assert not np.isfinite(engine.train(np.arange(600))).all()


def test_both_losses_train_the_same_network(engine_name, small_folder, images) -> None:
    """Cross entropy and negative log-likelihood give the same weights, bit for bit."""
    states = []
    for loss in ("cross_entropy", "nll"):
        engine = engines.build_engine(make_cell(engine_name, small_folder, loss=loss), images)
        engine.train(np.arange(600))
        states.append(engine.state())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])


TINY = float(np.finfo(np.float32).tiny)  # the smallest normal float


@pytest.mark.parametrize(
    ("variant", "activation"),
    [
        *product(["sgd"], NATIVE.settings["activation"]),
        *product([*VARIANTS, *OTHERS][1:], ["relu"]),
    ],
)
def test_training_leaves_no_subnormal_numbers(
    engine_name, small_folder, images, variant: str, activation: str
) -> None:
    """Weights and moments that shrink become zero, because subnormal floats are six times as
    slow.

    Dead units and weight decay get there only after many epochs, so here all values start at the
    smallest normal float.
    """
    axes = (VARIANTS | OTHERS)[variant]
    cell = make_cell(engine_name, small_folder, activation=activation, **axes)
    engine = engines.build_engine(cell, images)
    engine.train(np.arange(64))
    limit = np.nextafter(np.float32(TINY), np.float32(1))
    engine.restore(
        {k: v if k.endswith(".step") else np.full_like(v, limit) for k, v in engine.state().items()}
    )
    engine.train(np.arange(600))
    assert np.isfinite(engine.evaluate().losses).all()
    for name, value in engine.state().items():
        assert not ((value != 0) & (np.abs(value) < TINY)).any(), name


def flushes_subnormals() -> bool:
    """Whether this thread flushes subnormal numbers to zero."""
    return float(np.finfo(np.float64).tiny) * 0.5 == 0


@pytest.mark.parametrize("flush", [False, True])
def test_the_callers_flush_setting_is_restored(
    engine_name, small_folder, images, flush: bool
) -> None:
    """Whether the caller flushes subnormals is unchanged, even after a call that raises."""
    engine = engines.build_engine(make_cell(engine_name, small_folder), images)
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor cannot flush subnormals")
    try:
        engine.train(np.arange(64))
        assert flushes_subnormals() == flush
        engine.evaluate()
        assert flushes_subnormals() == flush
        with pytest.raises((ValueError, IndexError)):
            engine.train(np.array([600]))
        assert flushes_subnormals() == flush
    finally:
        torch.set_flush_denormal(False)


def test_lenet5_has_the_reports_size() -> None:
    """LeNet5 has 61,706 parameters and returns log-probabilities of 10 classes."""
    model = LeNet5()
    assert sum(p.numel() for p in model.parameters()) == 61_706
    out = model(torch.rand(3, 1, 28, 28))
    assert out.shape == (3, 10)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(3))


def test_shuffling_depends_only_on_seed_and_epoch(small_folder) -> None:
    """A resumed run uses the same order of images as an uninterrupted one."""
    cell = make_cell("torch", small_folder, shuffle=True, seed=3)
    assert np.array_equal(epoch_order(cell, 5, 100), epoch_order(cell, 5, 100))
    assert sorted(epoch_order(cell, 5, 100)) == list(range(100))
    assert not np.array_equal(epoch_order(cell, 5, 100), epoch_order(cell, 6, 100))
    assert not np.array_equal(epoch_order(cell, 5, 100), epoch_order(replace(cell, seed=4), 5, 100))
    in_order = make_cell("torch", small_folder)
    assert np.array_equal(epoch_order(in_order, 5, 100), np.arange(100))


@dataclass(frozen=True)
class CellWithNewField(Cell):
    """A cell with a field that the package does not have yet."""

    kernel_size: float = 5.0


# A file that is added to each group, the settings that use it, and the key that the note names.
ADDED = {
    "optimizer": (
        "name: my_rmsprop\nclass: RMSprop\ndefault_lr: 0.001\neps: 0.01  # in the divisor; min 0\n",
        {"optimizer": {"name": "my_rmsprop"}},
        "optimizer=my_rmsprop",
    ),
    "loss": (
        "name: smooth_l1\nclass: SmoothL1Loss\ninput: logits\ntarget: one_hot\nbeta: 0.5  # b\n",
        {"loss": {"name": "smooth_l1"}},
        "loss=smooth_l1",
    ),
    "activation": (
        "name: softplus\nclass: Softplus\n",
        {"activation": {"name": "softplus"}},
        "activation=softplus",
    ),
}


def add_option(monkeypatch) -> tuple[dict, str]:
    """Give Adam an option that the native engine does not know."""
    foreach = ChoiceOption(default=False, help="use the foreach implementation")
    options = {**OPTIMIZERS["adam"].options, "foreach": foreach}
    monkeypatch.setitem(OPTIMIZERS, "adam", replace(OPTIMIZERS["adam"], options=options))
    return {"optimizer": {"name": "adam"}}, "optimizer.foreach=false"


@pytest.mark.parametrize("kind", [*ADDED, "optimizer option"])
def test_torch_trains_what_is_added(
    small_folder, images: Images, monkeypatch, tmp_path, own_registry, kind: str
) -> None:
    """A new optimizer, option, loss, or activation trains as torch defines it, with one note."""
    if kind == "optimizer option":
        settings, key = add_option(monkeypatch)
    else:
        content, settings, key = ADDED[kind]
        path = tmp_path / kind / f"{settings[kind]['name']}.yaml"
        path.parent.mkdir()
        path.write_text(content)
        registry.add_folder(tmp_path)
    folder = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
    raws = grid(folder | {"batch": 52, "seed": [0, 1]})
    (cell, _), options = validate_cells((raw | settings for raw in raws), NATIVE)
    engine = engines.build_engine(cell, images)
    losses = engine.train(np.arange(len(images.train_labels)))
    model, expected = plain_training(cell, images, 12)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(
            engine.state()[f"weight.{name}"], value.numpy(), rtol=1e-4, atol=1e-6
        )
    assert cell.engine == "torch"
    if not support.unavailable_reason():
        assert len(options.notes) == 1
        assert f"native engine does not support {key}" in options.notes[0]


def test_torch_trains_a_cell_with_a_field_that_the_native_engine_does_not_know(
    small_folder, monkeypatch
) -> None:
    """A field added to Cell goes to torch, whatever its value, until the native engine supports
    it.
    """
    monkeypatch.setattr(validation, "Cell", CellWithNewField)
    assert make_cell("auto", small_folder).engine == "torch"
    with pytest.raises(
        UsageError, match="kernel_size=5" if not support.unavailable_reason() else "native"
    ):
        validate_cells(grid({"device": "cpu", "engine": "native"}), NATIVE)


def test_an_engine_is_not_built_for_a_cell_that_it_does_not_support(
    small_folder, images: Images
) -> None:
    """A cell that selects the wrong engine fails instead of being trained wrongly."""
    cell = replace(make_cell("torch", small_folder, activation="gelu"), engine="native")
    with pytest.raises(ValueError, match="native engine"):
        engines.build_engine(cell, images)


NUMBERS = (0.0, 1e-8, 1e-4, 0.01, 0.1, 0.5, 0.9, 1.0, 2.0)


@st.composite
def native_settings(draw: st.DrawFn) -> dict[str, object]:
    """Random settings from the allow-list of the native engine, with random options."""
    settings: dict[str, object] = {
        "batch": draw(st.sampled_from([1, 7, 16, 64])),
        "seed": draw(st.integers(0, 3)),
        "clip_norm": draw(st.sampled_from([None, 0.01, 1])),
        "dropout": draw(st.sampled_from([0, 0.3])),
        "epochs": 2,
    }
    for key, allowed in NATIVE.settings.items():
        if isinstance(allowed, tuple) and key in keys.defaults() and key != "device":
            settings[key] = draw(st.sampled_from(allowed))
    settings["init"] = draw(st.sampled_from(list(GROUPS["init"].choices)))
    groups = {**NATIVE.choices, "schedule": GROUPS["schedule"].choices}
    for group, choices in groups.items():
        name = settings[group] = draw(st.sampled_from(sorted(choices)))
        options = registry.GROUPS[group].choices[name].options
        for option, spec in options.items():
            candidates = [spec.default, False, True] if isinstance(spec.default, bool) else NUMBERS
            if not isinstance(spec.default, tuple) and draw(st.booleans()):
                settings[f"{group}.{option}"] = draw(st.sampled_from(candidates))
    # At larger rates, rounding errors grow too quickly to compare the weights.
    settings["lr"] = 0.02 if settings["optimizer"] == "sgd" else 1e-4
    return settings


@pytest.mark.skipif(bool(support.unavailable_reason()), reason="there is no native engine")
@hypothesis.settings(max_examples=60, deadline=None)
@given(native_settings())
def test_random_combinations_agree_between_engines(
    images: Images, small_folder, settings: dict[str, object]
) -> None:
    """After four steps, nearly all weights differ by less than 2% of what they move."""
    base = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
    try:
        (cell,), _ = validate_cells(grid(base | settings), NATIVE)
    except UsageError:  # a random value is not allowed
        assume(False)
    assume(cell.engine == "native")
    lrs = learning_rates(cell, 0, 4, math.ceil(600 / cell.batch))
    states, losses = [], []
    for name in ("native", "torch"):
        engine = engines.build_engine(replace(cell, engine=name), images)
        before = weights(engine.state())
        losses.append(engine.train(np.arange(4 * cell.batch), lrs))
        states.append(weights(engine.state()))
    assume(np.isfinite(losses[1]).all() and max(losses[1]) < 1e3)  # it did not diverge
    np.testing.assert_allclose(*losses, rtol=2e-3, atol=1e-5)
    native, torchs, initial = (
        np.concatenate([np.ravel(state[name]) for name in before]) for state in (*states, before)
    )
    moved = np.sqrt(np.mean((torchs - initial) ** 2))
    # The first step of Adam and its relatives has the sign of each gradient, also if the gradient
    # is a rounding error.
    assert np.quantile(np.abs(native - torchs), 0.95) <= 0.02 * moved + 1e-7
