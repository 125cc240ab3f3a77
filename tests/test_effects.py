"""Effects of hyperparameters, checked by hand and against statsmodels; degenerate grids."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import base, collapsed, failed, first_correct, grid, product, random_results

from lenet_sweep.analysis import factors
from lenet_sweep.analysis.axes import axes
from lenet_sweep.analysis.conclusions import analyse
from lenet_sweep.analysis.effects import effects
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.config.registry import make_choice

FEW = settings(max_examples=25)  # statsmodels takes tenths of a second per formula
pytestmark = pytest.mark.usefixtures("freeze_garbage")


def scored(cells, accuracies):
    return [Result(cell, "ok", float(a)) for cell, a in zip(cells, accuracies, strict=True)]


def kinds(computed):
    return [caveat.kind for caveat in computed.caveats]


def by_name(computed):
    return {effect.name: effect for effect in computed.effects}


def anova(results, formula):
    from statsmodels.formula.api import ols  # noqa: PLC0415 - slow to import
    from statsmodels.stats.anova import anova_lm  # noqa: PLC0415

    rows = [axes(r.cell) | {"accuracy": r.accuracy} for r in results]
    return anova_lm(ols(formula, pd.DataFrame(rows)).fit(), typ=2)


def test_main_effects_computed_by_hand() -> None:
    """With additive effects of 4 and 2 points, lr has 80% of the variance and batch 20%."""
    computed = effects(scored(product(lr=[0.1, 0.01], batch=[64, 32]), [96, 94, 92, 90]))
    lr, batch = computed.effects
    assert (lr.name, lr.span, batch.name, batch.span) == ("lr", 4, "batch", 2)
    assert [lr.share, batch.share] == pytest.approx([0.8, 0.2])
    assert [(x.label, x.n, x.mean) for x in lr.levels] == [("0.01", 2, 91), ("0.1", 2, 95)]
    assert [(x.label, x.mean) for x in batch.levels] == [("32", 92), ("64", 94)]
    assert computed.full
    assert [i.share for i in computed.interactions] == pytest.approx([0])
    assert computed.residual == pytest.approx(0)
    assert kinds(computed) == ["no residual"]


def test_an_interaction_computed_by_hand() -> None:
    """If each lr is best with a different batch size, all variance is their interaction."""
    computed = effects(scored(product(lr=[0.1, 0.01], batch=[64, 32]), [96, 90, 90, 96]))
    assert [e.share for e in computed.effects] == pytest.approx([0, 0])
    assert [(i.names, i.df) for i in computed.interactions] == [(("lr", "batch"), 1)]
    assert computed.interactions[0].share == pytest.approx(1)


@FEW
@given(st.integers(0, 2**32 - 1))
def test_a_full_grid_equals_statsmodels_anova(seed: int) -> None:
    """Shares, degrees of freedom and p-values equal a type II ANOVA table with interactions."""
    random = np.random.default_rng(seed)
    cells = product(lr=[0.1, 0.01, 0.001], batch=[32, 64], seed=[0, 1, 2])
    results = scored(cells, random.normal(95, 1, len(cells)))
    computed = effects(results)
    table = anova(results, "accuracy ~ C(lr) + C(batch) + C(seed) + C(lr):C(batch)")
    total = table["sum_sq"].sum()
    assert total == pytest.approx(np.var([r.accuracy for r in results]) * len(cells))
    for effect in computed.effects:
        row = table.loc[f"C({effect.name})"]
        assert effect.share == pytest.approx(row["sum_sq"] / total, abs=1e-9)
        assert (effect.df, effect.p >= row["PR(>F)"] - 1e-12) == (row["df"], True)
    assert min(e.p for e in computed.effects) == pytest.approx(
        min(1, 3 * min(table["PR(>F)"].dropna()[:3]))
    )
    ((pair,), row) = computed.interactions, table.loc["C(lr):C(batch)"]
    assert (pair.share, pair.df) == (pytest.approx(row["sum_sq"] / total, abs=1e-9), row["df"])
    assert computed.residual == pytest.approx(table.loc["Residual", "sum_sq"] / total)
    assert computed.residual_df == table.loc["Residual", "df"]


@FEW
@given(st.integers(0, 2**32 - 1))
def test_an_incomplete_grid_equals_statsmodels_anova(seed: int) -> None:
    """With combinations missing, shares are type II sums of squares divided by their total."""
    random = np.random.default_rng(seed)
    cells = product(lr=[0.1, 0.01, 0.001], batch=[32, 64, 128], activation=["relu", "tanh"])
    kept = [cells[i] for i in sorted(random.permutation(len(cells))[:14])]
    results = scored(kept, random.normal(95, 1, len(kept)))
    computed = effects(results)
    table = anova(results, "accuracy ~ C(lr) + C(batch) + C(activation)")
    shares = table["sum_sq"] / table["sum_sq"].sum()
    assert [by_name(computed)[n].share for n in ("lr", "batch", "activation")] == pytest.approx(
        list(shares)[:3], abs=1e-9
    )
    assert computed.residual == pytest.approx(shares["Residual"])
    assert not computed.full
    assert not computed.interactions
    assert kinds(computed) == ["missing"]
    assert (
        "4 of the 18 combinations of activation, lr and batch are missing"
        in computed.caveats[0].sentence
    )


def test_effects_of_a_simulated_sweep() -> None:
    """If only lr affects the accuracy, only lr has a small p-value."""
    cells = grid(lr=[0.1, 0.01, 0.001], batch=[32, 64], seed=[0, 1, 2])
    computed = by_name(
        effects(random_results(cells, lambda cell: 0.95 if cell.lr > 0.05 else 0.93))
    )
    assert computed["lr"].share > 0.8
    assert computed["lr"].p < 1e-4
    assert computed["lr"].span == pytest.approx(2, abs=0.5)
    assert computed["batch"].p > 0.05
    assert computed["seed"].p > 0.05


# ---------------------------------------------------------------- factors

SWEPT = {
    "loss": [make_choice("loss", "cross_entropy"), make_choice("loss", "nll")],
    "activation": ["relu", "tanh", "elu"],
    "lr": [0.1, 0.01],
    "batch": [32, 64],
    "seed": [0, 1],
}
CELLS = product(**SWEPT)
SUBSETS = st.lists(
    st.tuples(st.sampled_from(CELLS), st.integers(0, 20)),
    min_size=1,
    max_size=14,
    unique_by=lambda pair: pair[0],
).map(lambda pairs: scored([cell for cell, _ in pairs], [50 + 2.5 * k for _, k in pairs]))


@given(SUBSETS)
def test_shares_add_up(results: list[Result]) -> None:
    """For any subset of a grid, shares are at least 0 and add up to 100%, or there are none."""
    computed = effects(results)
    shares = [e.share for e in computed.effects] + [i.share for i in computed.interactions]
    if computed.residual is None:
        assert all(share is None for share in shares)
        assert {"equal", "too few"} & set(kinds(computed))
    else:
        assert all(0 <= share <= 1 for share in [*shares, computed.residual])
        assert sum(shares) + computed.residual == pytest.approx(1)
        assert computed.residual_df >= 0
    assert [c.sentence for c in computed.caveats if "nan" in c.sentence] == []


@given(SUBSETS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(results: list[Result], random) -> None:
    """The same rows in another order give exactly the same effects."""
    shuffled = list(results)
    random.shuffle(shuffled)
    assert effects(shuffled) == effects(results)


@given(SUBSETS)
def test_confounded_hyperparameters_are_one_factor(results: list[Result]) -> None:
    """Each swept hyperparameter is in one factor, with all that cannot be separated from it.

    Seeds that cannot be separated from the others are in no factor.
    """
    computed = effects(results)
    rows = [axes(r.cell) for r in results]
    swept = [name for name in SWEPT if len({row[name] for row in rows}) > 1]
    factor_of = {name: effect.settings for effect in computed.effects for name in effect.settings}
    if "seed" in swept and "seed" not in factor_of:
        swept.remove("seed")
        columns = [[row[name] for row in rows] for name in ("seed", *swept)]
        assert np.linalg.matrix_rank(factors.design(columns, len(rows))) < 1 + sum(
            len(set(levels)) - 1 for levels in columns
        )
    assert sorted(n for e in computed.effects for n in e.settings) == sorted(swept)
    for a, b in itertools.combinations(swept, 2):
        if not factors.crossed([row[a] for row in rows], [row[b] for row in rows]):
            assert factor_of[a] == factor_of[b]
    if computed.effects:  # the design has full rank, so the factors can be estimated
        columns = [
            [tuple(row[n] for n in effect.settings) for row in rows] for effect in computed.effects
        ]
        design = factors.design(columns, len(rows))
        assert np.linalg.matrix_rank(design) == design.shape[1]


def test_recipes_are_one_factor() -> None:
    """A sweep over recipes has the factor loss+optimizer, separate from lr and batch."""
    cells = grid(recipe=["ce_sgd", "nll_adam"], lr=[0.1, 0.001], batch=[32, 64])
    computed = effects(scored(cells, range(90, 98)))
    assert sorted(by_name(computed)) == ["batch", "loss+optimizer", "lr"]
    assert [x.label for x in by_name(computed)["loss+optimizer"].levels] == [
        "cross_entropy, sgd",
        "nll, adam",
    ]
    assert kinds(computed) == ["together"]
    assert "loss and optimizer change together" in computed.caveats[0].sentence


def test_optimizers_with_their_own_learning_rates_are_one_factor() -> None:
    """If each optimizer ran with different learning rates, the two are not separated."""
    sgd, adam = grid(optimizer="sgd", lr=[0.1, 0.01]), grid(optimizer="adam", lr=[1e-3, 1e-4])
    computed = effects(scored([*sgd, *adam], [99, 98, 97, 96]))
    assert [e.name for e in computed.effects] == ["optimizer+lr"]


def test_three_linearly_dependent_hyperparameters_are_one_factor() -> None:
    """Three cells, each with two of three hyperparameters changed, cannot separate them."""
    values = [(0.1, 32, "relu"), (0.1, 64, "tanh"), (0.2, 32, "tanh")]
    cells = [replace(base(), lr=lr, batch=b, activation=a) for lr, b, a in values]
    assert all(
        factors.crossed([row[i] for row in values], [row[j] for row in values])
        for i, j in itertools.combinations(range(3), 2)
    )
    assert [e.name for e in effects(scored(cells, [90, 91, 95])).effects] == ["activation+lr+batch"]


def test_an_option_of_one_optimizer_belongs_to_the_optimizer() -> None:
    """SGD with two momenta and Adam are one factor with three levels; lr is another factor."""
    cells = [
        *grid(optimizer="sgd", optimizer__momentum=[0, 0.9], lr=[0.1, 0.01]),
        *grid(optimizer="adam", lr=[0.1, 0.01]),
    ]
    computed = effects(scored(cells, [90, 91, 92, 93, 94, 95]))
    assert sorted(by_name(computed)) == ["lr", "optimizer+optimizer.momentum"]
    levels = by_name(computed)["optimizer+optimizer.momentum"].levels
    assert [x.label for x in levels] == ["adam", "sgd, momentum 0", "sgd, momentum 0.9"]
    assert "optimizer.momentum is an option that not every" in computed.caveats[0].sentence


def test_an_option_of_one_loss_belongs_to_the_loss() -> None:
    """Cross entropy with two smoothings and NLL are one factor with three levels."""
    cells = [
        *grid(loss="cross_entropy", loss__label_smoothing=[0, 0.1], lr=[0.1, 0.01]),
        *grid(loss="nll", lr=[0.1, 0.01]),
    ]
    cells = [replace(cell, engine="torch") for cell in cells]
    computed = effects(scored(cells, [90, 91, 92, 93, 94, 95]))
    assert sorted(by_name(computed)) == ["loss+loss.label_smoothing", "lr"]
    levels = by_name(computed)["loss+loss.label_smoothing"].levels
    assert [x.label for x in levels] == [
        "cross_entropy, label_smoothing 0", "cross_entropy, label_smoothing 0.1", "nll"
    ]  # fmt: skip
    assert (
        "loss.label_smoothing is an option that not every loss has" in computed.caveats[0].sentence
    )


def test_an_option_of_a_single_optimizer_is_a_factor() -> None:
    """Momentum swept with one optimizer is a separate factor."""
    cells = grid(optimizer="sgd", optimizer__momentum=[0, 0.9], lr=[0.1, 0.01])
    assert sorted(by_name(effects(scored(cells, [90, 91, 92, 93])))) == ["lr", "optimizer.momentum"]


def test_an_engine_that_follows_the_activation_is_not_a_factor() -> None:
    """engine=auto picks torch for GELU, which is an effect of the activation."""
    cells = [replace(base(), activation="relu"), replace(base(), activation="gelu", engine="torch")]
    assert [e.name for e in effects(scored(cells, [90, 91])).effects] == ["activation"]
    swept = [replace(base(), engine="native"), replace(base(), engine="torch")]
    assert [e.name for e in effects(scored(swept, [90, 91])).effects] == ["engine"]


# ---------------------------------------------------------------- degenerate grids


def test_fewer_than_two_cells_have_no_effects() -> None:
    """With no or one accuracy there are no effects, and a caveat says so."""
    for results in ([], [first_correct(base(), 99)], [failed(base(), "killed")]):
        computed = effects(results)
        assert (computed.effects, computed.residual, kinds(computed)) == ((), None, ["too few"])


def test_equal_accuracies_have_no_shares() -> None:
    """If all cells have the same accuracy, there is no variance."""
    computed = effects(scored(product(lr=[0.1, 0.2], batch=[32, 64]), [97.3] * 4))
    assert [(e.share, e.span, e.p) for e in computed.effects] == [(None, 0, None)] * 2
    assert computed.caveats[0].sentence == "All 4 cells have the same accuracy, 97.30%."


def test_one_cell_per_value_explains_everything_with_a_caveat() -> None:
    """If the share can only be 100%, a caveat says so."""
    computed = effects(scored(product(lr=[0.1, 0.2, 0.3]), [90, 95, 97]))
    assert [e.share for e in computed.effects] == pytest.approx([1])
    assert (computed.residual_df, kinds(computed)) == (0, ["no residual"])
    assert "whatever the accuracies are" in computed.caveats[0].sentence


def test_a_level_without_an_accuracy_has_no_mean() -> None:
    """A learning rate with which all cells diverged is listed without a mean."""
    cells = product(lr=[0.1, 0.2, 10.0], batch=[32, 64])
    results = [*scored(cells[:4], [90, 91, 92, 93]), *(failed(c, "diverged") for c in cells[4:])]
    computed = effects(results)
    assert [(x.label, x.n) for x in by_name(computed)["lr"].levels] == [
        ("0.1", 2),
        ("0.2", 2),
        ("10", 0),
    ]
    assert by_name(computed)["lr"].levels[2].mean is None
    assert computed.caveats[0].sentence.startswith("2 of 6 cells have no accuracy")
    only = effects([results[0], results[4]])
    assert [(e.name, e.share) for e in only.effects] == [("lr", None)]


def test_cells_that_did_not_learn_dominate_the_variance() -> None:
    """One collapsed cell of six accounts for nearly all variance, and a caveat says so."""
    cells = product(lr=[0.1, 0.2, 0.3], batch=[32, 64])
    results = [first_correct(cell, 98 + i / 10) for i, cell in enumerate(cells)]
    assert "dominated" not in kinds(effects(results))
    computed = effects([*results[:5], collapsed(cells[5], 1)])
    (caveat,) = [c for c in computed.caveats if c.kind == "dominated"]
    assert caveat.sentence.startswith("One cell did not learn the task")
    assert "accounts for 100% of the variance" in caveat.sentence


def test_no_caveat_if_cells_that_did_not_learn_do_not_dominate() -> None:
    """If accuracies are far apart anyway, one low cell does not account for the variance."""
    cells = product(lr=[0.1, 0.2, 0.3, 0.4, 0.5])
    assert "dominated" not in kinds(effects(scored(cells, [49, 51, 70, 90, 99])))


def test_different_seeds_for_each_value_are_no_hyperparameter() -> None:
    """In merged sweeps with different seeds, a difference is not attributed to the seeds."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2]), *product(lr=[0.01], seed=[3, 4, 5])]
    statistics = analyse(scored(cells, [98, 98.1, 98.2, 95, 95.1, 95.2]))
    (effect,) = statistics.effects.effects
    assert effect.settings == ("lr",)
    assert statistics.effects.full
    assert not statistics.effects.caveats
    assert any(s.startswith("Only lr and the seed varied") for s in statistics.conclusions)
    assert not [w for w in statistics.warnings if w.kind == "together"]
    assert "seed 0" not in statistics.conclusions[0]
    assert statistics.conclusions[0].startswith("Best: lr 0.1, 98.10% on average over 3 seeds")
    close = analyse(scored(cells, [98, 98.1, 98.2, 98.1, 98, 98.15]))
    assert any("No hyperparameter is shown to matter" in s for s in close.conclusions)


def test_the_largest_share_may_be_due_to_chance() -> None:
    """What is said to matter most has a significant F test, also if another share is larger."""
    cells = product(lr=[n / 10 for n in range(1, 9)], batch=[32, 64])[:-1]
    noise = np.random.default_rng(10).normal(0, 0.4, len(cells))
    results = scored(cells, [95.5 - (c.batch == 64) / 2 for c in cells] + noise)
    (sentence,) = [s for s in analyse(results).conclusions if "most" in s]
    assert sentence.startswith("batch matters most: it explains 43%")
    assert sentence.endswith(
        "The larger share of lr (46%) may be due to chance (adjusted p = 0.071)."
    )
