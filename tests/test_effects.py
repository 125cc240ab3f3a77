"""Which settings matter: against tables worked by hand and statsmodels, and degenerate grids."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import base, constant, drawn, first, grid, product, without
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from lenet_sweep.analysis import factors
from lenet_sweep.analysis.axes import axes
from lenet_sweep.analysis.effects import effects
from lenet_sweep.analysis.statistics import Result

FEW = settings(max_examples=25)  # formulas take tenths of a second
pytestmark = pytest.mark.usefixtures("freeze_garbage")


def scored(cells, accuracies):
    return [Result(cell, "ok", float(a)) for cell, a in zip(cells, accuracies, strict=True)]


def kinds(found):
    return [caveat.kind for caveat in found.caveats]


def by_name(found):
    return {effect.name: effect for effect in found.effects}


def anova(results, formula):
    rows = [axes(r.cell) | {"accuracy": r.accuracy} for r in results]
    return anova_lm(ols(formula, pd.DataFrame(rows)).fit(), typ=2)


def test_a_table_worked_by_hand() -> None:
    """lr is worth 4 points, batch 2, and they add up: 80 % of the variance and 20 %."""
    found = effects(scored(product(lr=[0.1, 0.01], batch=[64, 32]), [96, 94, 92, 90]))
    lr, batch = found.effects
    assert (lr.name, lr.span, batch.name, batch.span) == ("lr", 4, "batch", 2)
    assert [lr.share, batch.share] == pytest.approx([0.8, 0.2])
    assert [(x.label, x.n, x.mean) for x in lr.levels] == [("0.01", 2, 91), ("0.1", 2, 95)]
    assert [(x.label, x.mean) for x in batch.levels] == [("32", 92), ("64", 94)]
    assert found.full
    assert [i.share for i in found.interactions] == pytest.approx([0])
    assert found.residual == pytest.approx(0)
    assert kinds(found) == ["no residual"]


def test_an_interaction_worked_by_hand() -> None:
    """Where each lr is best with a batch size of its own, all variance is their interaction."""
    found = effects(scored(product(lr=[0.1, 0.01], batch=[64, 32]), [96, 90, 90, 96]))
    assert [e.share for e in found.effects] == pytest.approx([0, 0])
    assert [(i.names, i.df) for i in found.interactions] == [(("lr", "batch"), 1)]
    assert found.interactions[0].share == pytest.approx(1)


@FEW
@given(st.integers(0, 2**32 - 1))
def test_a_full_grid_is_statsmodels_anova(seed: int) -> None:
    """Shares, degrees of freedom and p-values are those of its type II table with interactions."""
    random = np.random.default_rng(seed)
    cells = product(lr=[0.1, 0.01, 0.001], batch=[32, 64], seed=[0, 1, 2])
    results = scored(cells, random.normal(95, 1, len(cells)))
    found = effects(results)
    table = anova(results, "accuracy ~ C(lr) + C(batch) + C(seed) + C(lr):C(batch)")
    total = table["sum_sq"].sum()
    assert total == pytest.approx(np.var([r.accuracy for r in results]) * len(cells))
    for effect in found.effects:
        row = table.loc[f"C({effect.name})"]
        assert effect.share == pytest.approx(row["sum_sq"] / total, abs=1e-9)
        assert (effect.df, effect.p >= row["PR(>F)"] - 1e-12) == (row["df"], True)
    assert min(e.p for e in found.effects) == pytest.approx(
        min(1, 3 * min(table["PR(>F)"].dropna()[:3]))
    )
    ((pair,), row) = found.interactions, table.loc["C(lr):C(batch)"]
    assert (pair.share, pair.df) == (pytest.approx(row["sum_sq"] / total, abs=1e-9), row["df"])
    assert found.residual == pytest.approx(table.loc["Residual", "sum_sq"] / total)
    assert found.residual_df == table.loc["Residual", "df"]


@FEW
@given(st.integers(0, 2**32 - 1))
def test_a_grid_with_holes_is_statsmodels_anova(seed: int) -> None:
    """With combinations missing, shares are type II sums of squares out of the table's sum."""
    random = np.random.default_rng(seed)
    cells = product(lr=[0.1, 0.01, 0.001], batch=[32, 64, 128], activation=["relu", "tanh"])
    kept = [cells[i] for i in sorted(random.permutation(len(cells))[:14])]
    results = scored(kept, random.normal(95, 1, len(kept)))
    found = effects(results)
    table = anova(results, "accuracy ~ C(lr) + C(batch) + C(activation)")
    shares = table["sum_sq"] / table["sum_sq"].sum()
    assert [by_name(found)[n].share for n in ("lr", "batch", "activation")] == pytest.approx(
        list(shares)[:3], abs=1e-9
    )
    assert found.residual == pytest.approx(shares["Residual"])
    assert not found.full
    assert not found.interactions
    assert kinds(found) == ["missing"]
    assert (
        "4 of the 18 combinations of activation, lr and batch have no acc"
        in found.caveats[0].sentence
    )


def test_truth_is_found_in_noise() -> None:
    """Of a simulated sweep in which lr alone matters, lr is found to matter and nothing else."""
    cells = grid(lr=[0.1, 0.01, 0.001], batch=[32, 64], seed=[0, 1, 2])
    found = by_name(effects(drawn(cells, lambda cell: 0.95 if cell.lr > 0.05 else 0.93)))
    assert found["lr"].share > 0.8
    assert found["lr"].p < 1e-4
    assert found["lr"].span == pytest.approx(2, abs=0.5)
    assert found["batch"].p > 0.05
    assert found["seed"].p > 0.05


# ---------------------------------------------------------------- settings that are one factor

SWEPT = {
    "loss": ["cross_entropy", "nll"],
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
def test_shares_are_parts_of_a_whole(results: list[Result]) -> None:
    """Whatever cells are there, shares are not negative and add up to 100 %, or are not given."""
    found = effects(results)
    shares = [e.share for e in found.effects] + [i.share for i in found.interactions]
    if found.residual is None:
        assert all(share is None for share in shares)
        assert {"equal", "too few"} & set(kinds(found))
    else:
        assert all(0 <= share <= 1 for share in [*shares, found.residual])
        assert sum(shares) + found.residual == pytest.approx(1)
        assert found.residual_df >= 0
    assert [c.sentence for c in found.caveats if "nan" in c.sentence] == []


@given(SUBSETS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(results: list[Result], random) -> None:
    """The same rows in another order give exactly the same effects."""
    shuffled = list(results)
    random.shuffle(shuffled)
    assert effects(shuffled) == effects(results)


@given(SUBSETS)
def test_settings_that_change_together_are_never_reported_apart(results: list[Result]) -> None:
    """Every swept setting is in one factor, with all that it cannot be separated from."""
    found = effects(results)
    rows = [axes(r.cell) for r in results]
    swept = [name for name in SWEPT if len({row[name] for row in rows}) > 1]
    home = {name: effect.settings for effect in found.effects for name in effect.settings}
    assert sorted(n for e in found.effects for n in e.settings) == sorted(swept)
    for a, b in itertools.combinations(swept, 2):
        if not factors.crossed([row[a] for row in rows], [row[b] for row in rows]):
            assert home[a] == home[b]
    if found.effects:  # what is left can be estimated: as many columns as their rank
        columns = [
            [tuple(row[n] for n in effect.settings) for row in rows] for effect in found.effects
        ]
        design = factors.design(columns, len(rows))
        assert np.linalg.matrix_rank(design) == design.shape[1]


def test_recipes_are_one_factor() -> None:
    """The report's comparison has loss+optimizer, and lr and batch apart from it."""
    cells = grid(recipe=["ce_sgd", "nll_adam"], lr=[0.1, 0.001], batch=[32, 64])
    found = effects(scored(cells, range(90, 98)))
    assert sorted(by_name(found)) == ["batch", "loss+optimizer", "lr"]
    assert [x.label for x in by_name(found)["loss+optimizer"].levels] == [
        "cross_entropy, sgd",
        "nll, adam",
    ]
    assert kinds(found) == ["together"]
    assert "loss and optimizer change together" in found.caveats[0].sentence


def test_learning_rates_of_an_optimizer_alone_belong_to_it() -> None:
    """If each optimizer ran with learning rates of its own, neither is given an effect alone."""
    sgd, adam = grid(optimizer="sgd", lr=[0.1, 0.01]), grid(optimizer="adam", lr=[1e-3, 1e-4])
    found = effects(scored([*sgd, *adam], [99, 98, 97, 96]))
    assert [e.name for e in found.effects] == ["optimizer+lr"]


def test_three_settings_of_which_two_fix_the_third_are_one_factor() -> None:
    """Three cells, each with two of three settings changed, cannot separate any of them."""
    values = [(0.1, 32, "relu"), (0.1, 64, "tanh"), (0.2, 32, "tanh")]
    cells = [replace(base(), lr=lr, batch=b, activation=a) for lr, b, a in values]
    assert all(
        factors.crossed([row[i] for row in values], [row[j] for row in values])
        for i, j in itertools.combinations(range(3), 2)
    )
    assert [e.name for e in effects(scored(cells, [90, 91, 95])).effects] == ["activation+lr+batch"]


def test_options_are_part_of_the_optimizer_where_not_all_have_them() -> None:
    """SGD with two momenta against Adam is one factor of three levels, and lr another."""
    cells = [
        *grid(optimizer="sgd", optimizer__momentum=[0, 0.9], lr=[0.1, 0.01]),
        *grid(optimizer="adam", lr=[0.1, 0.01]),
    ]
    found = effects(scored(cells, [90, 91, 92, 93, 94, 95]))
    assert sorted(by_name(found)) == ["lr", "optimizer+optimizer.momentum"]
    levels = by_name(found)["optimizer+optimizer.momentum"].levels
    assert [x.label for x in levels] == ["adam", "sgd, momentum 0", "sgd, momentum 0.9"]
    assert "optimizer.momentum is an option that not every" in found.caveats[0].sentence


def test_an_option_is_a_setting_like_others() -> None:
    """Momentum swept with one optimizer is a factor of its own."""
    cells = grid(optimizer="sgd", optimizer__momentum=[0, 0.9], lr=[0.1, 0.01])
    assert sorted(by_name(effects(scored(cells, [90, 91, 92, 93])))) == ["lr", "optimizer.momentum"]


def test_the_engine_that_follows_a_setting_is_no_factor() -> None:
    """engine=auto takes torch for GELU: that is an effect of the activation, not of the engine."""
    cells = [replace(base(), activation="relu"), replace(base(), activation="gelu", engine="torch")]
    assert [e.name for e in effects(scored(cells, [90, 91])).effects] == ["activation"]
    swept = [replace(base(), engine="native"), replace(base(), engine="torch")]
    assert [e.name for e in effects(scored(swept, [90, 91])).effects] == ["engine"]


# ---------------------------------------------------------------- grids that say little


def test_no_cell_and_one_cell_have_no_effects() -> None:
    """Nothing is computed of nothing, and the caveat says so."""
    for results in ([], [first(base(), 99)], [without(base(), "killed")]):
        found = effects(results)
        assert (found.effects, found.residual, kinds(found)) == ((), None, ["too few"])


def test_equal_accuracies_have_no_shares() -> None:
    """Where every cell has the same accuracy there is no variance to share out."""
    found = effects(scored(product(lr=[0.1, 0.2], batch=[32, 64]), [97.3] * 4))
    assert [(e.share, e.span, e.p) for e in found.effects] == [(None, 0, None)] * 2
    assert found.caveats[0].sentence == "All 4 cells have the same accuracy, 97.30 %."


def test_one_axis_with_one_cell_a_level_explains_all_and_says_why() -> None:
    """A share of 100 % that could not have been anything else is called that."""
    found = effects(scored(product(lr=[0.1, 0.2, 0.3]), [90, 95, 97]))
    assert [e.share for e in found.effects] == pytest.approx([1])
    assert (found.residual_df, kinds(found)) == (0, ["no residual"])
    assert "whatever the accuracies are" in found.caveats[0].sentence


def test_a_level_without_any_accuracy_is_shown_without_a_mean() -> None:
    """A learning rate with which everything diverged stands among the levels, with no mean."""
    cells = product(lr=[0.1, 0.2, 10.0], batch=[32, 64])
    results = [*scored(cells[:4], [90, 91, 92, 93]), *(without(c, "diverged") for c in cells[4:])]
    found = effects(results)
    assert [(x.label, x.n) for x in by_name(found)["lr"].levels] == [
        ("0.1", 2),
        ("0.2", 2),
        ("10", 0),
    ]
    assert by_name(found)["lr"].levels[2].mean is None
    assert found.caveats[0].sentence.startswith("2 of 6 cells failed")
    only = effects([results[0], results[4]])
    assert [(e.name, e.share) for e in only.effects] == [("lr", None)]


def test_cells_that_learned_nothing_dominate_and_are_named() -> None:
    """One collapsed cell of six makes up nearly all variance, which is said only if it is there."""
    cells = product(lr=[0.1, 0.2, 0.3], batch=[32, 64])
    results = [first(cell, 98 + i / 10) for i, cell in enumerate(cells)]
    assert "dominated" not in kinds(effects(results))
    found = effects([*results[:5], constant(cells[5], 1)])
    (caveat,) = [c for c in found.caveats if c.kind == "dominated"]
    assert caveat.sentence.startswith("One cell has not learned the task")
    assert "makes up 100 % of the variance" in caveat.sentence


def test_collapsed_cells_that_do_not_dominate_are_no_caveat() -> None:
    """If every cell is far from the others anyway, a low one does not explain the variance."""
    cells = product(lr=[0.1, 0.2, 0.3, 0.4, 0.5])
    assert "dominated" not in kinds(effects(scored(cells, [49, 51, 70, 90, 99])))
