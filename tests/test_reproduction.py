"""Verdicts on the rows and claims of a study, one test per rule."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import (
    collapsed,
    failed,
    first_correct,
    grid,
    history,
    product,
    random_results,
    scored,
)
from screens import log_file, printed

from lenet_sweep.analysis import claim_checks, reproduction, reproduction_tables
from lenet_sweep.analysis.reproduction import (
    NOT,
    OPEN,
    REPRODUCED,
    UNMEASURED,
    prediction_margin,
    reproduce,
)
from lenet_sweep.analysis.statistics import Result, group_by_setting
from lenet_sweep.config.registry import make_choice
from lenet_sweep.config.studies import Claim, Study, StudyRow
from lenet_sweep.ui import tables

pytestmark = pytest.mark.usefixtures("freeze_garbage")
SEEDS = product(seed=[0, 1, 2])


def judged(results, reported, cell=None):
    """The verdict on a reported accuracy for the setting of the first result."""
    row = StudyRow(1, (cell or results[0].cell).setting, reported, "cpu", "")
    (verdict,) = reproduce(Study("T", "", (row,), ()), results).verdicts
    return verdict


def check(name, results, recipe="", keys=(), accuracy=None):
    """The verdict and the sentence of one claim."""
    claim = Claim("x", name, recipe, tuple(keys), accuracy)
    (checked,) = claim_checks.check_claims([claim], results)
    return checked.verdict, checked.sentence


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3), st.floats(0, 100))
def test_verdict_by_distance_from_the_mean(accuracies, reported) -> None:
    """A number within the margin is reproduced, unless the margin is too large to confirm it."""
    results = scored(SEEDS[: len(accuracies)], accuracies)
    margin = judged(results, reported).margin
    mean = np.mean(accuracies)
    inside = OPEN if margin > 5 else REPRODUCED
    outside = NOT if len(accuracies) > 1 else OPEN
    assert judged(results, float(mean)).verdict == inside
    near = abs(reported - mean) <= margin
    assert judged(results, reported).verdict == (inside if near else outside)


def test_the_margin_follows_its_formulas() -> None:
    """The larger of 1.96 sqrt(p(1-p)/N) for the images and t(n-1) sd for the seeds."""
    (one,) = group_by_setting([first_correct(SEEDS[0], 99)])
    assert prediction_margin(one) == pytest.approx(
        196 * np.sqrt(0.99 * 0.01 / 10_000) * np.sqrt(2), rel=1e-6
    )
    (agreeing,) = group_by_setting(scored(SEEDS, [99, 99, 99]))
    assert prediction_margin(agreeing) == pytest.approx(
        prediction_margin(one) / np.sqrt(2) * np.sqrt(4 / 3)
    )
    (scattered,) = group_by_setting(scored(SEEDS, [98, 99, 100]))
    assert prediction_margin(scattered) == pytest.approx(4.302653 * np.sqrt(4 / 3), rel=1e-6)


def test_coverage_of_the_margin() -> None:
    """About 95% of further runs from the same distribution are called reproduced."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        *seeds, further = 97 + 0.5 * random.standard_normal(4)
        inside += judged(scored(SEEDS, seeds), float(further)).verdict == REPRODUCED
    assert 0.92 <= inside / 400 <= 0.98


def test_a_mislabeled_row_is_explained() -> None:
    """Adam at 0.1 predicts one class; the reported number is what its default lr gives."""
    cells = grid(recipe="nll_adam", lr=[0.1, 0.001, 0.01], seed=[0, 1, 2])
    results = [collapsed(c, 1) if c.lr == 0.1 else first_correct(c, 99 if c.lr < 0.01 else 98.9)
               for c in cells]  # fmt: skip
    verdict = judged(results, 98.95)
    assert verdict.verdict == NOT
    assert verdict.far
    assert "%, all predicting one class for nearly all images" in verdict.note
    assert "lr 0.001, the default of adam, gives 99.00%, which is consistent" in verdict.note
    assert "is consistent with the reported 98.95%" in verdict.note
    assert "no measured setting that differs only in lr, batch" in judged(results, 60.0).note


def test_a_collapse_is_not_called_mislabeled() -> None:
    """If a run reached the reported accuracy before it collapsed, the note gives the epoch."""
    cells = product(lr=[0.1], batch=[64, 256], seed=[0, 1])
    epochs = history([1, 1, 2.3], [97, 98.9, 11.35])
    fallen = [replace(collapsed(c, 1), history=epochs) for c in cells[2:]]
    note = judged([*fallen, first_correct(cells[0], 99)], 99.0).note
    assert "one had reached 98.90% after epoch 2" in note
    assert "batch" not in note


def test_a_low_report_is_explained_by_another_setting() -> None:
    """A row reported far too low did not collapse here; the setting that collapses explains it."""
    cells = product(lr=[0.1], batch=[64, 256], seed=[0, 1])
    epochs = history([1, 1, 1], [97, 98, 99])
    results = [first_correct(c, 99, epochs) if c.batch == 64 else collapsed(c, 1) for c in cells]
    reported = results[-1].accuracy
    note = judged(results, reported).note
    assert "had reached" not in note
    assert f"batch 256 gives {reported:.2f}%, which is consistent with the reported" in note


def test_one_seed_confirms_but_does_not_refute() -> None:
    """With one seed, a number outside the margin of the test images is inconclusive."""
    assert judged([first_correct(SEEDS[0], 99)], 50.0).verdict == OPEN
    assert judged([first_correct(SEEDS[0], 99)], 99.1).verdict == REPRODUCED
    done = reproduce(
        Study("T", "", (StudyRow(1, SEEDS[0], 50.0, "", ""),), ()), [first_correct(SEEDS[0], 99)]
    )
    assert "add seed=0,1,2" in done.caption


def test_one_accuracy_without_test_images_is_inconclusive() -> None:
    """Without test images, one accuracy or equal seeds have no margin, so nothing is decided."""
    bare = [replace(first_correct(c, 99), correct=None, predictions=None) for c in SEEDS]
    assert judged(bare[:1], 99.1).margin is None
    assert judged(bare[:1], 99.1).verdict == OPEN
    assert judged(bare, 99.1).verdict == OPEN  # equal seeds prove nothing
    two = [replace(r, cell=replace(r.cell, lr=lr)) for r, lr in zip(bare, (0.1, 0.2), strict=False)]
    assert check("larger_is_better", two, keys=["lr"])[0] == "inconclusive"


def test_a_row_may_set_its_seed() -> None:
    """A row that sets `seed`, including 0, is compared with that training only."""
    results = scored(SEEDS, [70, 80, 90])
    for result in results:
        row = StudyRow(1, result.cell, result.accuracy, "", "", seeded=True)
        (verdict,) = reproduce(Study("T", "", (row,), ()), results).verdicts
        assert verdict.mean == result.accuracy
        assert verdict.verdict == REPRODUCED


def test_a_near_miss_has_no_note() -> None:
    """Only rows that are far off get a note, because some other setting is always closer."""
    cells = product(lr=[0.1, 0.2], seed=[0, 1, 2])
    verdict = judged(seeded(cells, lambda c: 98 if c.lr == 0.1 else 98.9), 98.9)
    assert (verdict.verdict, verdict.far, verdict.note) == (NOT, False, "")


def test_rows_that_were_not_measured_or_not_reported() -> None:
    """Failed rows, rows without a reported number and rows that did not run have no verdict."""
    assert judged([failed(SEEDS[0], "diverged")], 99.0).verdict == UNMEASURED
    assert judged([first_correct(SEEDS[0], 99)], None).verdict == reproduction.UNREPORTED
    other = replace(SEEDS[0], batch=7)
    assert judged([first_correct(SEEDS[0], 99)], 99.0, cell=other).verdict == UNMEASURED


def test_the_headline_counts_all_rows() -> None:
    """Rows without an accuracy are counted separately."""
    cells = product(lr=[0.1, 0.2, 0.3])
    twice = product(lr=[0.1, 0.2], seed=[0, 1])
    results = [*scored(twice, [99] * 4), failed(cells[2], "oom")]
    rows = tuple(StudyRow(n, c, r, "", "") for n, (c, r) in
                 enumerate(zip(cells, [99.0, 50.0, 99.0], strict=True), 1))  # fmt: skip
    done = reproduce(Study("T", "", rows, ()), results)
    assert done.headline == "1 of 3 rows is reproduced, 1 is not, and 1 has no accuracy here."
    assert list(reproduction_tables.reproduction_table([done])["verdict"]) == [
        REPRODUCED,
        NOT,
        UNMEASURED,
    ]


def test_a_narrow_terminal_shows_the_verdicts() -> None:
    """On 80 columns, many settings share a column, so that the verdicts remain visible."""
    varied = {
        "loss": [make_choice("loss", "mse")], "optimizer": [make_choice("optimizer", "adamw")],
        "batch_norm": [True], "schedule": [make_choice("schedule", "cosine")],
        "activation": ["leaky_relu"],
    }  # fmt: skip
    cells = [*product(lr=[0.1]), *product(**varied)]
    rows = tuple(StudyRow(n, cell, 99.0, "", "") for n, cell in enumerate(cells, 1))
    console = log_file()
    done = reproduce(Study("T", "", rows, ()), scored(cells, [99, 50]))
    tables.print_reproduction(console, done)
    lines = printed(console).splitlines()
    assert max(map(len, lines)) <= 80
    heading = next(line for line in lines if line.startswith("row"))
    assert heading.split()[1] == "settings"
    assert heading.split()[-2:] == ["measured", "reproduced"]
    assert any("batch_norm" in line for line in lines)


def seeded(cells, accuracy):
    """A result for each cell, with a little variation between seeds."""
    return [first_correct(c, accuracy(c) + 0.02 * (c.seed - 1)) for c in cells]


def test_larger_is_better() -> None:
    """Each pair of neighbors counts once; as many against as for do not hold."""
    cells = product(lr=[0.001, 0.01, 0.1], seed=[0, 1, 2])
    rising = {0.001: 95, 0.01: 97, 0.1: 99}
    verdict, sentence = check(
        "larger_is_better", seeded(cells, lambda c: rising[c.lr]), keys=["lr"]
    )
    assert verdict == "holds"
    assert "Of 2 pairs" in sentence
    peak = {0.001: 95, 0.01: 99, 0.1: 97}
    assert check("larger_is_better", seeded(cells, lambda c: peak[c.lr]), keys=["lr"])[0] == (
        "does not hold"
    )
    assert check("larger_is_better", seeded(cells, lambda _: 98), keys=["lr"])[0] == (
        "inconclusive"
    )


def test_matters_little() -> None:
    """Little is a median of up to 0.2 points without larger significant steps, for each key."""
    cells = product(batch=[32, 64], epochs=[5, 10], seed=[0, 1, 2])
    both = ["batch", "epochs"]
    assert check("matters_little", seeded(cells, lambda c: 98 + c.batch / 400), keys=both)[0] == (
        "holds"
    )
    assert check("matters_little", seeded(cells, lambda c: 95 + c.batch / 32), keys=both)[0] == (
        "holds in part"
    )
    cells = product(batch=[16, 32, 64, 128], seed=[0, 1, 2])
    with_a_jump = seeded(cells, lambda c: 98 if c.batch < 128 else 57)
    verdict, sentence = check("matters_little", with_a_jump, keys=["batch"])
    assert verdict == "holds in part"
    assert "a median of 0.00 points and by at most 41.00 points (3 pairs, of which 1" in sentence
    flat = seeded(product(batch=[32, 64], seed=[0, 1, 2]), lambda _: 98)
    verdict, sentence = check("matters_little", flat, keys=both)
    assert verdict == "holds in part"
    assert "no two settings differ only in epochs" in sentence


def test_smaller_is_better_with_larger() -> None:
    """The effect of the batch size changes its sign with the learning rate, or not."""
    cells = product(lr=[0.0001, 0.1], batch=[32, 64, 128], seed=[0, 1, 2])
    reversing = seeded(cells, lambda c: 97 + (-1 if c.lr > 0.01 else 1) * c.batch / 128)
    verdict, sentence = check("smaller_is_better_with_larger", reversing, keys=["batch", "lr"])
    assert verdict == "holds"
    assert "better in 2 of 2 pairs" in sentence
    half = [r for r in reversing if r.cell.lr > 0.01 or r.cell.batch == 32]
    assert check("smaller_is_better_with_larger", half, keys=["batch", "lr"])[0] == "holds in part"
    straight = seeded(cells, lambda c: 97 + c.batch / 128)
    assert (
        check("smaller_is_better_with_larger", straight, keys=["batch", "lr"])[0] == "does not hold"
    )


def test_the_best_recipe_and_accuracy() -> None:
    """The best settings are compared over seeds, the claimed accuracy with its margin."""
    cells = grid(recipe=["ce_sgd", "nll_adam"], seed=[0, 1, 2])
    ahead = seeded(cells, lambda c: 99 if c.optimizer.name == "sgd" else 98)
    assert check("best_recipe", ahead, recipe="ce_sgd")[0] == "holds"
    assert check("best_recipe", ahead, recipe="nll_adam")[0] == "does not hold"
    level = seeded(cells, lambda _: 99)
    assert check("best_recipe", level, recipe="ce_sgd")[0] == "inconclusive"
    assert check("best_accuracy", ahead, accuracy=99.1)[0] == "holds"
    verdict, sentence = check("best_accuracy", ahead, accuracy=99.9)
    assert verdict == "does not hold"
    assert "The highest accuracy of 6 cells is 99.02%" in sentence


def test_a_check_of_another_version_is_inconclusive() -> None:
    """A sweep.json may have claims whose check this version does not know."""
    verdict, sentence = check("is_prettier", scored(SEEDS, [99, 99, 98]))
    assert (verdict, "no check 'is_prettier'" in sentence) == ("inconclusive", True)


def test_equal_seeds_are_inconclusive() -> None:
    """One more correct image in each of two or three equal seeds is no significant difference."""
    for number in (2, 3):
        cells = product(lr=[0.1, 0.2], seed=range(number))
        close = scored(cells, [99.0 if c.lr == 0.1 else 99.01 for c in cells])
        assert check("larger_is_better", close, keys=["lr"])[0] == "inconclusive"


def test_single_seeds_are_compared_by_test_images() -> None:
    """With one seed, the sampling error of the test images decides."""
    cells = product(lr=[0.1, 0.2])
    close = random_results(cells, lambda _: 0.98)
    assert check("larger_is_better", close, keys=["lr"])[0] == "inconclusive"
    assert check("larger_is_better", scored(cells, [97, 98]), keys=["lr"])[0] == "holds"


def test_learns_faster() -> None:
    """Epochs to 98% at the default lr, by batch size; snapshots of one run count once."""
    cells = [c for c in grid(recipe=["ce_sgd", "nll_adam"], batch=[32, 64], lr=[0.1, 0.001])
             if (c.lr == 0.1) == (c.optimizer.name == "sgd")]  # fmt: skip
    slow, fast = history([1, 1, 1], [90, 97, 98.5]), history([1, 1, 1], [97, 98, 99])
    results = [first_correct(c, 99, fast if c.optimizer.name == "adam" else slow) for c in cells]
    results += [first_correct(replace(c, epochs=1), 90, history([1], [90])) for c in cells]
    verdict, sentence = check("learns_faster", results, recipe="nll_adam")
    assert verdict == "holds"
    assert "2.0 versus 3.0 (batch 32)" in sentence
    assert check("learns_faster", results, recipe="ce_sgd")[0] == "does not hold"
    never = [replace(r, history=slow[:2]) if r.history == fast and r.cell.batch == 32 else r
             for r in results]  # fmt: skip
    verdict, sentence = check("learns_faster", never, recipe="nll_adam")
    assert verdict == "does not hold"
    assert "never versus 3.0 (batch 32)" in sentence


def test_one_seed_or_unknown_margins_do_not_refute_the_best_accuracy() -> None:
    """As for rows, one seed can only confirm, and a margin needs seeds or test images."""
    one = random_results(product(lr=[0.1]), lambda _: 0.99)
    assert check("best_accuracy", one, accuracy=one[0].accuracy)[0] == "holds"
    verdict, sentence = check("best_accuracy", one, accuracy=95.0)
    assert verdict == "inconclusive"
    assert "One seed is too few" in sentence
    verdict, sentence = check(
        "best_accuracy", [Result(product(lr=[0.1])[0], "ok", 99.0)], accuracy=99.0
    )
    assert verdict == "inconclusive"
    assert "no margin is known" in sentence
    wide = seeded(grid(seed=[0, 1, 2]), lambda c: 80 + 9 * c.seed)
    verdict, sentence = check("best_accuracy", wide, accuracy=wide[1].accuracy)
    assert (verdict, "would confirm almost anything" in sentence) == ("inconclusive", True)


def test_a_schedule_over_all_epochs_is_no_other_difference() -> None:
    """Cells with cosine schedules that differ in epochs are neighbors, as without a schedule."""
    cells = grid(schedule="cosine", epochs=[5, 10], seed=[0, 1, 2])
    longer = seeded(cells, lambda c: 98 if c.epochs == 5 else 99)
    assert check("larger_is_better", longer, keys=["epochs"])[0] == "holds"
