"""Intervals, means over seeds and comparisons, checked against SciPy, statsmodels and examples."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_results import (
    IMAGES,
    base,
    failed,
    first_correct,
    labels,
    make_result,
    product,
    random_results,
    scored,
    with_holdout,
)
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lenet_sweep.analysis import significance, statistics, t_tests
from lenet_sweep.analysis.conclusions import analyse
from lenet_sweep.analysis.significance import compare_rows, compare_settings
from lenet_sweep.analysis.statistics import EPSILON, Result, group_by_setting, wilson
from lenet_sweep.storage.snapshots import Snapshot

pytestmark = pytest.mark.usefixtures("freeze_garbage")


def bare_results(cells, accuracies):
    """Results that have only an accuracy, which is all that tests of means need."""
    return [Result(cell, "ok", float(a)) for cell, a in zip(cells, accuracies, strict=True)]


def test_importing_the_statistics_does_not_import_scipy() -> None:
    """The modules load without SciPy and statsmodels, which take more than a second."""
    code = (
        "import lenet_sweep.analysis.conclusions, sys; "
        "assert not {'scipy', 'statsmodels'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_result_from_a_snapshot_and_labels() -> None:
    """Accuracy and `correct` come from the predictions; labels of other images are rejected."""
    truth = np.array([1, 2, 3, 4], np.uint8)
    snapshot = Snapshot({}, np.array([1, 2, 3, 9], np.uint8), np.zeros((0, 2), np.float32), ())
    result = Result.of(base(), snapshot, truth)
    assert result.accuracy == 75
    assert list(result.correct) == [True, True, True, False]
    with pytest.raises(ValueError, match=r"\(4,\) predictions, \(3,\) labels"):
        Result.of(base(), snapshot, truth[:3])
    cell = replace(base(), dataset=replace(base().dataset, holdout=1))
    assert Result.of(cell, snapshot, truth[:3]).accuracy == 100  # the last image is held out


# ---------------------------------------------------------------- intervals


def test_wilson_interval_of_newcombes_example() -> None:
    """81 of 263 gives 25.53 to 36.62% in Newcombe (1998), table I."""
    interval = wilson(81, 263)
    assert (round(interval.low, 2), round(interval.high, 2)) == (25.53, 36.62)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_accuracy(counts: tuple[int, int]) -> None:
    """The interval contains the accuracy, lies in 0 to 100%, and equals that of SciPy."""
    correct, images = counts
    interval = wilson(correct, images)
    assert 0 <= interval.low <= 100 * (correct / images) <= interval.high <= 100
    expected = stats.binomtest(correct, images).proportion_ci(0.95, "wilson")
    assert [interval.low, interval.high] == pytest.approx([100 * x for x in expected], abs=1e-9)


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99, 0.999])
def test_coverage_of_the_wilson_interval(truth: float) -> None:
    """About 95% of many random test sets have an interval that contains the true accuracy."""
    correct = np.random.default_rng(1).binomial(IMAGES, truth, 4000)
    intervals = statistics._wilson(correct, np.full(4000, IMAGES))
    assert 0.935 < np.mean([i.low <= 100 * truth <= i.high for i in intervals]) < 0.965


def test_intervals_are_in_the_order_of_the_results() -> None:
    """A failed cell has no interval; the others keep theirs."""
    cells = product(lr=[0.1, 0.2, 0.3])
    intervals = statistics.intervals(
        [first_correct(cells[0], 99), failed(cells[1], "killed"), first_correct(cells[2], 90)]
    )
    assert intervals == (wilson(9900, IMAGES), None, wilson(9000, IMAGES))
    assert statistics.intervals([failed(cells[0], "killed")]) == (None,)


# ---------------------------------------------------------------- seeds


def test_settings_group_cells_that_differ_in_seed() -> None:
    """Settings are ranked by their mean and have the sample standard deviation over seeds."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2])
    best, other = group_by_setting(bare_results(cells, [98, 97, 99, 99, 99.5, 98.5]))
    assert (best.cell.lr, best.rank, best.n, best.mean, best.sd) == (0.01, 1, 3, 99, 0.5)
    assert (other.cell.lr, other.rank, other.n, other.mean, other.sd) == (0.1, 2, 3, 98, 1)
    assert [r.cell.seed for r in best.results] == [0, 1, 2]


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_statsmodels(counts: tuple[int, int]) -> None:
    """The interval equals that of `proportion_confint`."""
    interval = wilson(*counts)
    expected = proportion_confint(*counts, method="wilson")
    assert [interval.low, interval.high] == pytest.approx([100 * e for e in expected], abs=1e-9)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=8))
@example([287] * 3)
def test_interval_of_a_mean_equals_statsmodels(counts: list[int]) -> None:
    """It contains the mean, lies in 0 to 100%, and equals that of statsmodels if seeds vary."""
    accuracies = [count / 100 for count in counts]
    (setting,) = group_by_setting(bare_results(product(seed=range(len(counts))), accuracies))
    if len(set(counts)) == 1:
        assert (setting.sd, setting.interval) == (pytest.approx(0), None)
        return
    low, high = setting.interval.low, setting.interval.high
    assert 0 <= low <= setting.mean + 1e-9
    assert setting.mean - 1e-9 <= high <= 100
    expected = DescrStatsW(accuracies).tconfint_mean()
    assert [low, high] == pytest.approx(np.clip(expected, 0, 100), abs=1e-6)


def test_coverage_of_the_interval_of_a_mean() -> None:
    """About 95% of many settings with five seeds have an interval that contains the true mean."""
    random, covered, number = np.random.default_rng(2), 0, 1500
    cells = product(seed=range(5))
    for accuracies in random.normal(98, 0.2, (number, 5)):
        (setting,) = group_by_setting(bare_results(cells, accuracies))
        covered += setting.interval.low <= 98 <= setting.interval.high
    assert 0.935 < covered / number < 0.965


def test_one_seed_has_a_mean_but_no_interval() -> None:
    """One seed gives no standard deviation; a setting without an accuracy comes last."""
    cells = product(lr=[0.1, 0.2, 0.3])
    settings = group_by_setting(
        [failed(cells[0], "diverged"), first_correct(cells[1], 98), first_correct(cells[2], 98)]
    )
    assert [(s.rank, s.n, s.mean, s.sd, s.interval) for s in settings] == [
        (1, 1, 98, None, None),
        (1, 1, 98, None, None),
        (3, 0, None, None, None),
    ]


# ---------------------------------------------------------------- rows against the best


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.integers(1, 400))
def test_mcnemar_equals_statsmodels(seed: int, share: float, images: int) -> None:
    """p-values equal those of the exact test of statsmodels and the binomial test of SciPy."""
    random = np.random.default_rng(seed)
    best, rows = random.random(images) < share, random.random((4, images)) < 0.7
    rows[0] = best
    for row, p in zip(rows, significance.mcnemar(best, rows), strict=True):
        b, c = int((best & ~row).sum()), int((~best & row).sum())
        assert p == pytest.approx(mcnemar([[0, b], [c, 0]], exact=True).pvalue, rel=1e-12)
        if b + c:
            assert p == pytest.approx(stats.binomtest(b, b + c).pvalue)


def test_mcnemar_by_hand() -> None:
    """10 images that only the best classifies correctly against 2 give p = 158/4096."""
    best, row = np.ones(40, bool), np.ones(40, bool)
    row[:10], best[10:12] = False, False
    (p,) = significance.mcnemar(best, row[None])
    assert p == pytest.approx(158 / 4096)


def test_rows_are_tied_or_worse() -> None:
    """With nested results, a difference of 0.05 points is not significant; 0.3 points are."""
    cells = product(lr=[0.1, 0.2, 0.3, 0.4])
    results = [*scored(cells[:3], [98.95, 99, 98.7]), failed(cells[3], "killed")]
    compared = analyse(results).comparisons
    assert [c.test for c in compared] == ["McNemar", "best", "McNemar", "none"]
    assert [c.outcome for c in compared] == ["tied", "best", "worse", "not compared"]
    assert [c.difference for c in compared] == pytest.approx([0.05, 0, 0.3, None])
    assert compared[3].reason == "no accuracy (killed)"
    assert [c.results[0].cell for c in compared] == cells
    assert [c.results[0].cell for c in significance.leaders(compared)] == cells[:2]


def test_a_paired_test_finds_more_than_intervals() -> None:
    """Nested rows differ significantly even if their intervals overlap."""
    results = scored(product(lr=[0.1, 0.2]), [98.9, 99.0])
    low, high = statistics.intervals(results)
    assert low.high > high.low
    assert analyse(results).comparisons[0].outcome == "worse"


def test_holm_correction_over_all_rows() -> None:
    """A difference that is significant alone (p = 0.0117) is not among ten such rows."""
    cells = product(lr=[0.1 * k for k in range(1, 12)])
    correct = np.ones((11, 1000), bool)
    correct[1:, 10:20] = False
    correct[0, :1] = False  # 10 images against 1
    alone = analyse(
        [make_result(cells[0], correct[0]), make_result(cells[1], correct[1])]
    ).comparisons
    together = analyse(
        [make_result(c, row) for c, row in zip(cells, correct, strict=True)]
    ).comparisons
    assert (alone[1].p, alone[1].adjusted) == pytest.approx((24 / 2048,) * 2)
    assert alone[1].outcome == "worse"
    assert together[1].p == alone[1].p
    assert together[1].adjusted == pytest.approx(10 * 24 / 2048)
    assert {c.outcome for c in together[1:]} == {"tied"}


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0, 0.1))
def test_adjusted_p_values_equal_statsmodels(seed: int, rows: int, spread: float) -> None:
    """Adjusted p-values equal those of statsmodels; they keep the order and never decrease."""
    cells = product(lr=[0.1 * (k + 1) for k in range(rows)])
    results = random_results(cells, lambda cell: 0.9 - spread * cell.lr / rows, seed, images=500)
    tested = [c for c in compare_rows(results) if c.p is not None]
    raw, adjusted = np.array([c.p for c in tested]), np.array([c.adjusted for c in tested])
    assert len(tested) == rows - 1
    assert np.array_equal(adjusted, multipletests(raw, method="holm")[1])
    assert (adjusted >= raw).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
    assert [c.outcome == "tied" for c in tested] == list(adjusted >= 0.05)


@given(st.integers(0, 2**32 - 1))
def test_ties_do_not_depend_on_image_order_or_class_names(seed: int) -> None:
    """Shuffling the test set and permuting its classes does not change any comparison."""
    random = np.random.default_rng(seed)
    results = random_results(
        product(lr=[0.1, 0.2, 0.3], batch=[32, 64]), lambda _: 0.95, seed, images=400
    )
    order, renamed = random.permutation(400), random.permutation(10).astype(np.uint8)
    changed = []
    for r in results:
        snapshot = Snapshot({}, renamed[r.predictions][order], np.zeros((0, 2), np.float32), ())
        changed.append(Result.of(r.cell, snapshot, renamed[labels(400)][order]))
    for before, after in zip(
        analyse(results).comparisons, analyse(changed).comparisons, strict=True
    ):
        assert replace(before, results=()).__dict__ == replace(after, results=()).__dict__


def test_rows_with_other_test_images_are_not_compared() -> None:
    """A sweep over two datasets has one best row per dataset, and no tests between datasets."""
    other = replace(base(), dataset=replace(base().dataset, name="kmnist", digest="another"))
    cells = [base(), replace(base(), lr=0.5), other, replace(other, lr=0.5)]
    compared = analyse([*scored(cells[:2], [99, 98]), *scored(cells[2:], [93, 95])]).comparisons
    assert [c.test for c in compared] == ["best", "McNemar", "McNemar", "best"]
    assert [c.difference for c in compared] == pytest.approx([0, 1, 2, 0])


def test_false_positive_rate_of_mcnemar() -> None:
    """At most 5% of many pairs of equally good rows are called different."""
    random = np.random.default_rng(3)
    pairs = random.random((2000, 2, 1000)) < 0.95
    p = [significance.mcnemar(best, row[None])[0] for best, row in pairs]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.06  # an exact test is conservative


# ---------------------------------------------------------------- settings against the best


def test_settings_with_common_seeds_use_a_paired_t_test() -> None:
    """The p-value equals that of the paired t test in SciPy over the common seeds."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2, 3])
    a, b = [99.0, 99.1, 98.9, 99.2], [98.8, 98.95, 98.6, 99.0]
    compared = analyse(bare_results(cells, a + b)).comparisons
    assert [c.test for c in compared] == ["best", "paired t"]
    assert compared[1].p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert compared[1].outcome == "worse"
    assert [len(c.results) for c in compared] == [4, 4]


def test_settings_with_different_seeds_use_welch() -> None:
    """Without common seeds, the test is Welch's, which does not need pairs."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2]), *product(lr=[0.01], seed=[5, 6, 7])]
    a, b = [99.0, 99.1, 98.9], [98.8, 98.95, 98.6]
    compared = analyse(bare_results(cells, a + b)).comparisons
    assert [c.test for c in compared] == ["best", "Welch"]
    assert compared[1].p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert compared[1].outcome == "tied"


ACCURACIES = st.lists(st.integers(0, 10_000).map(lambda right: right / 100), min_size=2, max_size=9)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy warns if seeds hardly vary
@given(ACCURACIES, ACCURACIES)
def test_t_tests_equal_scipy(a: list[float], b: list[float]) -> None:
    """For any accuracies, p-values equal those of the paired and Welch tests in SciPy."""
    common = np.array([*zip(a, b, strict=False)]).T
    if np.ptp(common[0] - common[1]) > EPSILON:
        assert t_tests.paired_p(*common) == pytest.approx(
            stats.ttest_rel(*common).pvalue, rel=1e-6, abs=0
        )
    if np.ptp(a) + np.ptp(b) > EPSILON:
        expected = stats.ttest_ind(a, b, equal_var=False).pvalue
        assert t_tests.welch_p(a, b) == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("seeds", "accuracy", "reason"),
    [
        ([0], 98.0, "the setting has only one seed, and the t test needs 3"),
        ([0], 99.9, "the best has only one seed"),
        ([0, 1], 20.0, "the setting has only 2 seeds, and the t test needs 3"),
    ],
)
def test_a_comparison_with_few_seeds_is_inconclusive(
    seeds: list[int], accuracy: float, reason: str
) -> None:
    """With one or two seeds on either side, the outcome is inconclusive and has a reason."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2]), *product(lr=[0.01], seed=seeds)]
    compared = analyse(
        bare_results(cells, [99.0, 99.1, 98.9, accuracy, accuracy][: len(cells)])
    ).comparisons
    (other,) = [c for c in compared if c.test != "best"]
    assert (other.outcome, other.p) == ("inconclusive", None)
    assert other.reason.startswith(reason)


def test_a_constant_difference_is_inconclusive() -> None:
    """The same difference for each seed is inconclusive; no difference at all is a tie."""
    cells = product(lr=[0.3, 0.2, 0.1], seed=[0, 1, 2])
    best, worse = [99.02, 99.12, 99.06], [98.52, 98.62, 98.56]
    compared = analyse(bare_results(cells, [*best, *best, *worse])).comparisons
    assert [c.outcome for c in compared] == ["best", "tied", "inconclusive"]
    assert "the same for every seed" in compared[2].reason


def test_seeds_that_vary_too_much_are_inconclusive() -> None:
    """Means of 98 and 25% are not tied just because three seeds vary a lot; close ones are."""
    cells = product(lr=[0.3, 0.2, 0.1, 0.05], seed=[0, 1, 2])
    rows = [98.0, 98.4, 98.1, 98.2, 97.9, 98.3, 10.0, 60.0, 6.0, 97.0, 98.3, 96.5]
    compared = analyse(scored(cells, rows)).comparisons
    assert [c.outcome for c in compared] == ["best", "tied", "inconclusive", "inconclusive"]
    assert compared[2].adjusted > 0.05
    assert compared[2].reason.startswith("the test images show a difference")


def test_failed_seeds_are_excluded() -> None:
    """A seed that failed in one setting is not paired; if all failed, there is no comparison."""
    cells = product(lr=[0.3, 0.2, 0.1], seed=[0, 1, 2, 3])
    a, b = [99.0, 99.1, 98.9, 99.3], [98.8, 98.95, 98.85]
    results = [*bare_results(cells[:7], a + b), *(failed(c, "diverged") for c in cells[7:])]
    compared = compare_settings(group_by_setting(results))
    assert compared[1].p == pytest.approx(stats.ttest_rel(a[:3], b).pvalue)
    assert (compared[2].outcome, compared[2].reason) == ("not compared", "no accuracy (diverged)")


def test_seeds_in_reversed_order_are_inconclusive() -> None:
    """A setting that is worse on average but better on all common seeds is not called worse."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2, 3, 4]), *product(lr=[0.01], seed=[0, 1, 2])]
    best, other = [97.0, 97.1, 97.2, 99.9, 99.9], [97.5, 97.61, 97.7]
    compared = analyse(bare_results(cells, best + other)).comparisons
    assert [c.outcome for c in compared] == ["best", "inconclusive"]
    assert "reversed" in compared[1].reason


def test_rows_can_be_better_than_a_best_chosen_by_holdout() -> None:
    """If held-out images choose the best, another row may be better on the test images."""
    results = with_holdout(scored(product(lr=[0.3, 0.2, 0.1]), [98, 99, 97.95]), [90, 80, 80])
    assert [c.outcome for c in analyse(results).comparisons] == ["best", "better", "tied"]
