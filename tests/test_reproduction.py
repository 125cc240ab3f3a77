"""Verdicts on reported accuracies, and findings on conclusions: each rule by its numbers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import constant, drawn, first, grid, history, product, scored, without

from lenet_sweep.analysis import claim_checks, reproduction
from lenet_sweep.analysis.reproduction import NOT, OPEN, REPRODUCED, UNMEASURED, reproduce, spread
from lenet_sweep.analysis.statistics import group_by_setting
from lenet_sweep.config.studies import Claim, Study, StudyRow

pytestmark = pytest.mark.usefixtures("freeze_garbage")
SEEDS = product(seed=[0, 1, 2])


def judged(results, reported, cell=None):
    """The verdict on one reported accuracy for the first result's setting."""
    row = StudyRow(1, (cell or results[0].cell).setting, reported, "cpu", "")
    (verdict,) = reproduce(Study("T", "", (row,), ()), results).verdicts
    return verdict


def found(check, results, recipe="", keys=(), accuracy=None):
    (finding,) = claim_checks.check_claims(
        [Claim("x", check, recipe, tuple(keys), accuracy)], results
    )
    return finding.verdict, finding.sentence


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3), st.floats(0, 100))
def test_the_mean_is_always_reproduced_and_nearness_decides(accuracies, reported) -> None:
    """Whoever reports the mean has reproduced it, unless seeds scatter too much to tell."""
    results = scored(SEEDS[: len(accuracies)], accuracies)
    width = judged(results, reported).spread
    mean = np.mean(accuracies)
    inside = OPEN if width > 5 else REPRODUCED
    outside = NOT if len(accuracies) > 1 else OPEN
    assert judged(results, float(mean)).verdict == inside
    near = abs(reported - mean) <= width
    assert judged(results, reported).verdict == (inside if near else outside)


def test_the_interval_has_the_textbook_widths() -> None:
    """Of the images 1.96 sqrt(p(1-p)/N), of the seeds t(n-1) sd, whichever is more."""
    (one,) = group_by_setting([first(SEEDS[0], 99)])
    assert spread(one) == pytest.approx(196 * np.sqrt(0.99 * 0.01 / 10_000) * np.sqrt(2), rel=1e-6)
    (agreeing,) = group_by_setting(scored(SEEDS, [99, 99, 99]))
    assert spread(agreeing) == pytest.approx(spread(one) / np.sqrt(2) * np.sqrt(4 / 3))
    (scattered,) = group_by_setting(scored(SEEDS, [98, 99, 100]))
    assert spread(scattered) == pytest.approx(4.302653 * np.sqrt(4 / 3), rel=1e-6)


def test_it_holds_what_it_promises() -> None:
    """Of further trainings that scatter as the seeds do, about 95 % are called reproduced."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        *seeds, further = 97 + 0.5 * random.standard_normal(4)
        inside += judged(scored(SEEDS, seeds), float(further)).verdict == REPRODUCED
    assert 0.92 <= inside / 400 <= 0.98


def test_a_label_that_cannot_be_right_is_explained() -> None:
    """Adam at 0.1 answers one digit; what was reported for it is what its default rate gives."""
    cells = grid(recipe="nll_adam", lr=[0.1, 0.001, 0.01], seed=[0, 1, 2])
    results = [constant(c, 1) if c.lr == 0.1 else first(c, 99 if c.lr < 0.01 else 98.9)
               for c in cells]  # fmt: skip
    verdict = judged(results, 98.95)
    assert verdict.verdict == NOT
    assert verdict.far
    assert "3 answering one digit" in verdict.note
    assert "98.95 is what lr 0.001, adam's default gives (99.00 %)" in verdict.note
    assert "no setting measured here explains 60" in judged(results, 60.0).note


def test_a_run_that_fell_is_told_from_a_wrong_label() -> None:
    """Where the run itself had what was reported, no other setting has to explain it."""
    cells = product(lr=[0.1], batch=[64, 256], seed=[0, 1])
    course = history([1, 1, 2.3], [97, 98.9, 11.35])
    fallen = [replace(constant(c, 1), history=course) for c in cells[2:]]
    note = judged([*fallen, first(cells[0], 99)], 99.0).note
    assert "after epoch 2 one had 98.90 %, and lost it again" in note
    assert "batch" not in note


def test_what_kept_its_accuracy_did_not_lose_it() -> None:
    """A row that is far too low is no run that fell; the setting that collapses explains it."""
    cells = product(lr=[0.1], batch=[64, 256], seed=[0, 1])
    course = history([1, 1, 1], [97, 98, 99])
    results = [first(c, 99, course) if c.batch == 64 else constant(c, 1) for c in cells]
    reported = results[-1].accuracy
    note = judged(results, reported).note
    assert "lost it" not in note
    assert f"{reported:g} is what batch 256 gives" in note


def test_of_one_seed_nothing_is_refuted() -> None:
    """How much another seed would differ is not known: outside the images' interval is open."""
    assert judged([first(SEEDS[0], 99)], 50.0).verdict == OPEN
    assert judged([first(SEEDS[0], 99)], 99.1).verdict == REPRODUCED
    done = reproduce(
        Study("T", "", (StudyRow(1, SEEDS[0], 50.0, "", ""),), ()), [first(SEEDS[0], 99)]
    )
    assert "add seed=0,1,2" in done.caption


def test_without_the_images_nothing_is_made_up() -> None:
    """Where the test images are not at hand, one accuracy has no interval: it cannot be told."""
    bare = [replace(first(c, 99), correct=None, predictions=None) for c in SEEDS]
    assert judged(bare[:1], 99.1).spread is None
    assert judged(bare[:1], 99.1).verdict == OPEN
    assert judged(bare, 99.1).verdict == OPEN  # seeds that do not scatter prove nothing
    two = [replace(r, cell=replace(r.cell, lr=lr)) for r, lr in zip(bare, (0.1, 0.2), strict=False)]
    assert found("larger_is_better", two, keys=["lr"])[0] == "cannot be told"


def test_a_row_may_fix_its_seed() -> None:
    """Then that one training is what it is held against, seed 0 included."""
    results = scored(SEEDS, [70, 80, 90])
    for result in results:
        row = StudyRow(1, result.cell, result.accuracy, "", "", seeded=True)
        (verdict,) = reproduce(Study("T", "", (row,), ()), results).verdicts
        assert verdict.mean == result.accuracy
        assert verdict.verdict == REPRODUCED


def test_a_near_miss_is_not_explained_away() -> None:
    """Only rows that are far off are called out: some other setting always lies nearer."""
    cells = product(lr=[0.1, 0.2], seed=[0, 1, 2])
    verdict = judged(seeded(cells, lambda c: 98 if c.lr == 0.1 else 98.9), 98.9)
    assert (verdict.verdict, verdict.far, verdict.note) == (NOT, False, "")


def test_what_was_not_measured_is_said_so() -> None:
    """A failed row and one without a report count for neither side."""
    assert judged([without(SEEDS[0], "diverged")], 99.0).verdict == UNMEASURED
    assert judged([first(SEEDS[0], 99)], None).verdict == reproduction.UNREPORTED
    remote_devices = replace(SEEDS[0], batch=7)
    assert judged([first(SEEDS[0], 99)], 99.0, cell=remote_devices).verdict == UNMEASURED


def test_the_headline_counts_every_row() -> None:
    """Rows without an accuracy are counted apart."""
    cells = product(lr=[0.1, 0.2, 0.3])
    twice = product(lr=[0.1, 0.2], seed=[0, 1])
    results = [*scored(twice, [99] * 4), without(cells[2], "oom")]
    rows = tuple(StudyRow(n, c, r, "", "") for n, (c, r) in
                 enumerate(zip(cells, [99.0, 50.0, 99.0], strict=True), 1))  # fmt: skip
    done = reproduce(Study("T", "", rows, ()), results)
    assert done.headline == "1 of 3 rows is reproduced, 1 is not, and 1 has no accuracy here."
    assert list(reproduction.reproduction_table([done])["verdict"]) == [REPRODUCED, NOT, UNMEASURED]


def seeded(cells, accuracy):
    """Every cell with a little scatter between its seeds."""
    return [first(c, accuracy(c) + 0.02 * (c.seed - 1)) for c in cells]


def test_larger_is_better() -> None:
    """Each pair of neighbours counts once; one that says otherwise makes it hold in part."""
    cells = product(lr=[0.001, 0.01, 0.1], seed=[0, 1, 2])
    rising = {0.001: 95, 0.01: 97, 0.1: 99}
    verdict, sentence = found(
        "larger_is_better", seeded(cells, lambda c: rising[c.lr]), keys=["lr"]
    )
    assert verdict == "holds"
    assert "Of 2 pairs" in sentence
    peak = {0.001: 95, 0.01: 99, 0.1: 97}
    assert found("larger_is_better", seeded(cells, lambda c: peak[c.lr]), keys=["lr"])[0] == (
        "does not hold"
    )
    assert found("larger_is_better", seeded(cells, lambda _: 98), keys=["lr"])[0] == (
        "cannot be told"
    )


def test_matters_little() -> None:
    """Little is 0.2 points in the median, and each setting is judged on its own."""
    cells = product(batch=[32, 64], epochs=[5, 10], seed=[0, 1, 2])
    both = ["batch", "epochs"]
    assert found("matters_little", seeded(cells, lambda c: 98 + c.batch / 400), keys=both)[0] == (
        "holds"
    )
    assert found("matters_little", seeded(cells, lambda c: 95 + c.batch / 32), keys=both)[0] == (
        "holds in part"
    )
    flat = seeded(product(batch=[32, 64], seed=[0, 1, 2]), lambda _: 98)
    verdict, sentence = found("matters_little", flat, keys=both)
    assert verdict == "holds in part"
    assert "no two settings differ in epochs alone" in sentence


def test_small_batches_with_large_rates() -> None:
    """The sign of the batch size's effect turns with the learning rate, or it does not."""
    cells = product(lr=[0.0001, 0.1], batch=[32, 64, 128], seed=[0, 1, 2])
    turning = seeded(cells, lambda c: 97 + (-1 if c.lr > 0.01 else 1) * c.batch / 128)
    verdict, sentence = found("wants_small_with_large", turning, keys=["batch", "lr"])
    assert verdict == "holds"
    assert "better in 2 of 2 pairs" in sentence
    half = [r for r in turning if r.cell.lr > 0.01 or r.cell.batch == 32]
    assert found("wants_small_with_large", half, keys=["batch", "lr"])[0] == "holds in part"
    straight = seeded(cells, lambda c: 97 + c.batch / 128)
    assert found("wants_small_with_large", straight, keys=["batch", "lr"])[0] == "does not hold"


def test_the_best_recipe_and_accuracy() -> None:
    """The best setting of each side, told apart by their seeds; the number by its interval."""
    cells = grid(recipe=["ce_sgd", "nll_adam"], seed=[0, 1, 2])
    ahead = seeded(cells, lambda c: 99 if c.optimizer.name == "sgd" else 98)
    assert found("best_recipe", ahead, recipe="ce_sgd")[0] == "holds"
    assert found("best_recipe", ahead, recipe="nll_adam")[0] == "does not hold"
    level = seeded(cells, lambda _: 99)
    assert found("best_recipe", level, recipe="ce_sgd")[0] == "cannot be told"
    assert found("best_accuracy", ahead, accuracy=99.1)[0] == "holds"
    verdict, sentence = found("best_accuracy", ahead, accuracy=99.9)
    assert verdict == "does not hold"
    assert "the highest of 6 trainings is 99.02 %" in sentence


def test_seeds_that_do_not_scatter_prove_nothing() -> None:
    """One image more in each of two seeds, or in seeds that all agree, tells nothing apart."""
    for number in (2, 3):
        cells = product(lr=[0.1, 0.2], seed=range(number))
        close = scored(cells, [99.0 if c.lr == 0.1 else 99.01 for c in cells])
        assert found("larger_is_better", close, keys=["lr"])[0] == "cannot be told"


def test_single_seeds_are_told_apart_by_their_images() -> None:
    """Without a second seed the sampling of the test images decides."""
    cells = product(lr=[0.1, 0.2])
    close = drawn(cells, lambda _: 0.98)
    assert found("larger_is_better", close, keys=["lr"])[0] == "cannot be told"
    assert found("larger_is_better", scored(cells, [97, 98]), keys=["lr"])[0] == "holds"


def test_who_learns_faster() -> None:
    """Epochs until 98 % at the default rates, by batch size; read-outs of a run count once."""
    cells = [c for c in grid(recipe=["ce_sgd", "nll_adam"], batch=[32, 64], lr=[0.1, 0.001])
             if (c.lr == 0.1) == (c.optimizer.name == "sgd")]  # fmt: skip
    slow, fast = history([1, 1, 1], [90, 97, 98.5]), history([1, 1, 1], [97, 98, 99])
    results = [first(c, 99, fast if c.optimizer.name == "adam" else slow) for c in cells]
    results += [first(replace(c, epochs=1), 90, history([1], [90])) for c in cells]
    verdict, sentence = found("learns_faster", results, recipe="nll_adam")
    assert verdict == "holds"
    assert "2.0 against 3.0 (batch 32)" in sentence
    assert found("learns_faster", results, recipe="ce_sgd")[0] == "does not hold"
    never = [replace(r, history=slow[:2]) if r.history == fast and r.cell.batch == 32 else r
             for r in results]  # fmt: skip
    verdict, sentence = found("learns_faster", never, recipe="nll_adam")
    assert verdict == "does not hold"
    assert "never against 3.0 (batch 32)" in sentence
