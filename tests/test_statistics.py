"""Intervals, seeds and ties: against worked examples, SciPy, statsmodels, and known truth."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_results import (
    IMAGES,
    answered,
    base,
    drawn,
    first,
    held_out,
    labels,
    product,
    scored,
    without,
)
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lenet_sweep.analysis import statistics, t_tests
from lenet_sweep.analysis.statistics import (
    EPSILON,
    Result,
    compare,
    compare_rows,
    compare_settings,
    group_by_setting,
    wilson,
)
from lenet_sweep.storage.snapshots import Snapshot

pytestmark = pytest.mark.usefixtures("freeze_garbage")


def numbers(cells, accuracies):
    """Results that have an accuracy and nothing else, as a test of means needs it."""
    return [Result(cell, "ok", float(a)) for cell, a in zip(cells, accuracies, strict=True)]


def test_starting_does_not_pay_for_the_statistics() -> None:
    """The modules load without SciPy and statsmodels, which take more than a second."""
    code = (
        "import lenet_sweep.analysis.conclusions, sys; "
        "assert not {'scipy', 'statsmodels'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_result_is_made_of_a_snapshot_and_the_labels() -> None:
    """Accuracy and right answers come from the predictions; labels of other images are refused."""
    truth = np.array([1, 2, 3, 4], np.uint8)
    snapshot = Snapshot({}, np.array([1, 2, 3, 9], np.uint8), np.zeros((0, 2), np.float32), ())
    result = Result.of(base(), snapshot, truth)
    assert result.accuracy == 75
    assert list(result.correct) == [True, True, True, False]
    with pytest.raises(ValueError, match=r"\(4,\) predictions, \(3,\) labels"):
        Result.of(base(), snapshot, truth[:3])
    cell = replace(base(), dataset=replace(base().dataset, holdout=1))
    assert Result.of(cell, snapshot, truth[:3]).accuracy == 100  # the last is a held-out image


# ---------------------------------------------------------------- intervals


def test_wilsons_interval_is_newcombes_example() -> None:
    """81 of 263, worked in Newcombe (1998), table I: 25.53 to 36.62 %."""
    interval = wilson(81, 263)
    assert (round(interval.low, 2), round(interval.high, 2)) == (25.53, 36.62)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_accuracy(counts: tuple[int, int]) -> None:
    """Any accuracy lies in its interval, the interval in 0 to 100 %, and SciPy has the same."""
    right, images = counts
    interval = wilson(right, images)
    assert 0 <= interval.low <= 100 * (right / images) <= interval.high <= 100
    expected = stats.binomtest(right, images).proportion_ci(0.95, "wilson")
    assert [interval.low, interval.high] == pytest.approx([100 * x for x in expected], abs=1e-9)


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99, 0.999])
def test_wilsons_interval_covers_the_truth_as_often_as_it_says(truth: float) -> None:
    """Of many test sets drawn, about 95 % have an interval that holds the true accuracy."""
    right = np.random.default_rng(1).binomial(IMAGES, truth, 4000)
    found = statistics._wilson(right, np.full(4000, IMAGES))
    assert 0.935 < np.mean([i.low <= 100 * truth <= i.high for i in found]) < 0.965


def test_intervals_stand_in_the_order_of_the_results() -> None:
    """A failed cell has no interval, and the others keep their own."""
    cells = product(lr=[0.1, 0.2, 0.3])
    found = statistics.intervals(
        [first(cells[0], 99), without(cells[1], "killed"), first(cells[2], 90)]
    )
    assert found == (wilson(9900, IMAGES), None, wilson(9000, IMAGES))
    assert statistics.intervals([without(cells[0], "killed")]) == (None,)


# ---------------------------------------------------------------- seeds


def test_settings_are_cells_that_differ_in_their_seed() -> None:
    """Two settings of three seeds: ranked by mean, with the sample standard deviation."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2])
    best, other = group_by_setting(numbers(cells, [98, 97, 99, 99, 99.5, 98.5]))
    assert (best.cell.lr, best.rank, best.n, best.mean, best.sd) == (0.01, 1, 3, 99, 0.5)
    assert (other.cell.lr, other.rank, other.n, other.mean, other.sd) == (0.1, 2, 3, 98, 1)
    assert [r.cell.seed for r in best.results] == [0, 1, 2]


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_statsmodels(counts: tuple[int, int]) -> None:
    """It is what `proportion_confint` gives."""
    interval = wilson(*counts)
    expected = proportion_confint(*counts, method="wilson")
    assert [interval.low, interval.high] == pytest.approx([100 * e for e in expected], abs=1e-9)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=8))
@example([287] * 3)
def test_the_interval_of_a_mean_is_students(counts: list[int]) -> None:
    """It holds the mean, lies in 0 to 100 %, and is statsmodels' where that is a number."""
    accuracies = [count / 100 for count in counts]
    (setting,) = group_by_setting(numbers(product(seed=range(len(counts))), accuracies))
    assert setting.interval is not None
    low, high = setting.interval.low, setting.interval.high
    assert 0 <= low <= setting.mean + 1e-9
    assert setting.mean - 1e-9 <= high <= 100
    if len(set(counts)) > 1:
        expected = DescrStatsW(accuracies).tconfint_mean()
        assert [low, high] == pytest.approx(np.clip(expected, 0, 100), abs=1e-6)
    else:
        assert low == high


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says() -> None:
    """Of many settings of five seeds, about 95 % have an interval that holds the true mean."""
    random, held, many = np.random.default_rng(2), 0, 1500
    cells = product(seed=range(5))
    for accuracies in random.normal(98, 0.2, (many, 5)):
        (setting,) = group_by_setting(numbers(cells, accuracies))
        held += setting.interval.low <= 98 <= setting.interval.high
    assert 0.935 < held / many < 0.965


def test_one_seed_has_a_mean_and_no_scatter() -> None:
    """With one seed nothing is said of the scatter; without any, the setting stands last."""
    cells = product(lr=[0.1, 0.2, 0.3])
    found = group_by_setting(
        [without(cells[0], "diverged"), first(cells[1], 98), first(cells[2], 98)]
    )
    assert [(s.rank, s.n, s.mean, s.sd, s.interval) for s in found] == [
        (1, 1, 98, None, None),
        (1, 1, 98, None, None),
        (3, 0, None, None, None),
    ]


# ---------------------------------------------------------------- rows against the best


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.integers(1, 400))
def test_mcnemar_is_statsmodels(seed: int, share: float, images: int) -> None:
    """For all rows at once p is what statsmodels' exact test and SciPy's binomial test give."""
    random = np.random.default_rng(seed)
    best, rows = random.random(images) < share, random.random((4, images)) < 0.7
    rows[0] = best
    for row, p in zip(rows, statistics.mcnemar(best, rows), strict=True):
        b, c = int((best & ~row).sum()), int((~best & row).sum())
        assert p == pytest.approx(mcnemar([[0, b], [c, 0]], exact=True).pvalue, rel=1e-12)
        if b + c:
            assert p == pytest.approx(stats.binomtest(b, b + c).pvalue)


def test_mcnemar_by_hand() -> None:
    """10 images that only the best has right against 2: p is 158/4096."""
    best, row = np.ones(40, bool), np.ones(40, bool)
    row[:10], best[10:12] = False, False
    (p,) = statistics.mcnemar(best, row[None])
    assert p == pytest.approx(158 / 4096)


def test_rows_within_chance_are_tied_with_the_best() -> None:
    """0.05 points that are all the best's own images cannot be told apart, 0.3 points can."""
    cells = product(lr=[0.1, 0.2, 0.3, 0.4])
    results = [*scored(cells[:3], [98.95, 99, 98.7]), without(cells[3], "killed")]
    found = compare(results)
    assert [c.test for c in found] == ["McNemar", "best", "McNemar", "none"]
    assert [c.outcome for c in found] == ["tied", "best", "worse", "not compared"]
    assert [c.difference for c in found] == pytest.approx([0.05, 0, 0.3, None])
    assert found[3].reason == "no accuracy: killed"
    assert [c.results[0].cell for c in found] == cells
    assert [c.results[0].cell for c in statistics.leaders(found)] == cells[:2]


def test_pairing_finds_what_intervals_hide() -> None:
    """Two rows whose intervals overlap differ all the same if one knows all that the other does."""
    results = scored(product(lr=[0.1, 0.2]), [98.9, 99.0])
    low, high = statistics.intervals(results)
    assert low.high > high.low
    assert compare(results)[0].outcome == "worse"


def test_holm_is_applied_over_all_rows() -> None:
    """A difference that would pass alone (p 0.0117) does not among ten such rows."""
    cells = product(lr=[0.1 * k for k in range(1, 12)])
    right = np.ones((11, 1000), bool)
    right[1:, 10:20] = False
    right[0, :1] = False  # 10 images against 1
    alone = compare([answered(cells[0], right[0]), answered(cells[1], right[1])])
    together = compare([answered(c, r) for c, r in zip(cells, right, strict=True)])
    assert (alone[1].p, alone[1].adjusted) == pytest.approx((24 / 2048,) * 2)
    assert alone[1].outcome == "worse"
    assert together[1].p == alone[1].p
    assert together[1].adjusted == pytest.approx(10 * 24 / 2048)
    assert {c.outcome for c in together[1:]} == {"tied"}


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0, 0.1))
def test_adjusted_p_values_keep_their_order(seed: int, rows: int, spread: float) -> None:
    """Adjusted values are Holm's of statsmodels, at least the raw ones and in the same order."""
    cells = product(lr=[0.1 * (k + 1) for k in range(rows)])
    results = drawn(cells, lambda cell: 0.9 - spread * cell.lr / rows, seed, images=500)
    found = [c for c in compare_rows(results) if c.p is not None]
    raw, adjusted = np.array([c.p for c in found]), np.array([c.adjusted for c in found])
    assert len(found) == rows - 1
    assert np.array_equal(adjusted, multipletests(raw, method="holm")[1])
    assert (adjusted >= raw).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
    assert [c.outcome == "tied" for c in found] == list(adjusted >= 0.05)


@given(st.integers(0, 2**32 - 1))
def test_ties_do_not_depend_on_the_order_or_names_of_images(seed: int) -> None:
    """Shuffling the test set and renaming its classes changes no comparison."""
    random = np.random.default_rng(seed)
    results = drawn(product(lr=[0.1, 0.2, 0.3], batch=[32, 64]), lambda _: 0.95, seed, images=400)
    order, renamed = random.permutation(400), random.permutation(10).astype(np.uint8)
    changed = []
    for r in results:
        snapshot = Snapshot({}, renamed[r.predictions][order], np.zeros((0, 2), np.float32), ())
        changed.append(Result.of(r.cell, snapshot, renamed[labels(400)][order]))
    for before, after in zip(compare(results), compare(changed), strict=True):
        assert replace(before, results=()).__dict__ == replace(after, results=()).__dict__


def test_other_test_images_are_never_compared() -> None:
    """A sweep over two datasets has a best row for each, and no test between them."""
    other = replace(base(), dataset=replace(base().dataset, name="kmnist", digest="another"))
    cells = [base(), replace(base(), lr=0.5), other, replace(other, lr=0.5)]
    found = compare([*scored(cells[:2], [99, 98]), *scored(cells[2:], [93, 95])])
    assert [c.test for c in found] == ["best", "McNemar", "McNemar", "best"]
    assert [c.difference for c in found] == pytest.approx([0, 1, 2, 0])


def test_false_differences_are_as_rare_as_promised() -> None:
    """Of many pairs of rows that are equally good, at most 5 % are called different."""
    random = np.random.default_rng(3)
    pairs = random.random((2000, 2, 1000)) < 0.95
    p = [statistics.mcnemar(best, row[None])[0] for best, row in pairs]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.06  # an exact test keeps below its level


# ---------------------------------------------------------------- settings against the best


def test_with_several_seeds_the_seed_is_the_unit() -> None:
    """Settings are compared by a paired t test over common seeds, as SciPy computes it."""
    cells = product(lr=[0.1, 0.01], seed=[0, 1, 2, 3])
    a, b = [99.0, 99.1, 98.9, 99.2], [98.8, 98.95, 98.6, 99.0]
    found = compare(numbers(cells, a + b))
    assert [c.test for c in found] == ["best", "paired t"]
    assert found[1].p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found[1].outcome == "worse"
    assert [len(c.results) for c in found] == [4, 4]


def test_settings_with_other_seeds_are_compared_by_welch() -> None:
    """Without common seeds the test is Welch's, which does not pair."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2]), *product(lr=[0.01], seed=[5, 6, 7])]
    a, b = [99.0, 99.1, 98.9], [98.8, 98.95, 98.6]
    found = compare(numbers(cells, a + b))
    assert [c.test for c in found] == ["best", "Welch"]
    assert found[1].p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert found[1].outcome == "tied"


ACCURACIES = st.lists(st.integers(0, 10_000).map(lambda right: right / 100), min_size=2, max_size=9)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, of seeds that do not scatter
@given(ACCURACIES, ACCURACIES)
def test_the_t_tests_are_scipys(a: list[float], b: list[float]) -> None:
    """Of any accuracies in percent, p is what SciPy's own paired and Welch's tests give."""
    common = np.array([*zip(a, b, strict=False)]).T
    if np.ptp(common[0] - common[1]) > EPSILON:
        assert t_tests.paired_p(*common) == pytest.approx(
            stats.ttest_rel(*common).pvalue, rel=1e-6, abs=0
        )
    if np.ptp(a) + np.ptp(b) > EPSILON:
        expected = stats.ttest_ind(a, b, equal_var=False).pvalue
        assert t_tests.welch_p(a, b) == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("seeds", "lone", "reason"),
    [
        ([0], 98.0, "it has only one seed, and the test needs 3"),
        ([0], 99.9, "the best has only one seed"),
        ([0, 1], 20.0, "it has only 2 seeds, and the test needs 3"),
    ],
)
def test_a_comparison_with_few_seeds_is_inconclusive(
    seeds: list[int], lone: float, reason: str
) -> None:
    """If one side has one or two seeds, no tie is claimed, and the reason is given."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2]), *product(lr=[0.01], seed=seeds)]
    found = compare(numbers(cells, [99.0, 99.1, 98.9, lone, lone][: len(cells)]))
    (unknown,) = [c for c in found if c.test != "best"]
    assert (unknown.outcome, unknown.p) == ("inconclusive", None)
    assert unknown.reason.startswith(reason)


def test_seeds_that_do_not_scatter_are_no_proof() -> None:
    """The same difference for each of three seeds is not called certain; no difference is a tie."""
    cells = product(lr=[0.3, 0.2, 0.1], seed=[0, 1, 2])
    best, worse = [99.02, 99.12, 99.06], [98.52, 98.62, 98.56]
    found = compare(numbers(cells, [*best, *best, *worse]))
    assert [c.outcome for c in found] == ["best", "tied", "inconclusive"]
    assert "do not vary" in found[2].reason


def test_seeds_that_scatter_are_no_tie_if_the_images_tell() -> None:
    """At 98 and 25 % three seeds of wild scatter are not called tied, and near ones are."""
    cells = product(lr=[0.3, 0.2, 0.1, 0.05], seed=[0, 1, 2])
    rows = [98.0, 98.4, 98.1, 98.2, 97.9, 98.3, 10.0, 60.0, 6.0, 97.0, 98.3, 96.5]
    found = compare(scored(cells, rows))
    assert [c.outcome for c in found] == ["best", "tied", "inconclusive", "inconclusive"]
    assert found[2].adjusted > 0.05
    assert found[2].reason.startswith("its seeds vary too much")


def test_failed_seeds_are_left_out_of_the_test() -> None:
    """A seed that failed in one setting is not paired; a setting without any is not compared."""
    cells = product(lr=[0.3, 0.2, 0.1], seed=[0, 1, 2, 3])
    a, b = [99.0, 99.1, 98.9, 99.3], [98.8, 98.95, 98.85]
    results = [*numbers(cells[:7], a + b), *(without(c, "diverged") for c in cells[7:])]
    found = compare_settings(group_by_setting(results))
    assert found[1].p == pytest.approx(stats.ttest_rel(a[:3], b).pvalue)
    assert (found[2].outcome, found[2].reason) == ("not compared", "no accuracy: diverged")


def test_seeds_in_reversed_order_are_inconclusive() -> None:
    """A setting that is worse on average but better on every common seed is not called worse."""
    cells = [*product(lr=[0.1], seed=[0, 1, 2, 3, 4]), *product(lr=[0.01], seed=[0, 1, 2])]
    best, other = [97.0, 97.1, 97.2, 99.9, 99.9], [97.5, 97.61, 97.7]
    found = compare(numbers(cells, best + other))
    assert [c.outcome for c in found] == ["best", "inconclusive"]
    assert "reversed" in found[1].reason


def test_rows_above_a_best_that_held_out_images_chose_are_better() -> None:
    """A row may beat the best, which held-out images chose, on the test images."""
    results = held_out(scored(product(lr=[0.3, 0.2, 0.1]), [98, 99, 97.95]), [90, 80, 80])
    assert [c.outcome for c in compare(results)] == ["best", "better", "tied"]
