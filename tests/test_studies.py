"""Studies: cells from their rows, error messages that name the row, and their reproduction."""

import re
from collections import Counter

import pandas as pd
import pytest
from forked_commands import run_forked

from lenet_sweep import sweep
from lenet_sweep.config import grids, studies, validation
from lenet_sweep.core.errors import UsageError
from lenet_sweep.report.__main__ import main
from lenet_sweep.training.engines.support import NATIVE

ROWS = [{"recipe": "ce_sgd", "batch": 64, "reported": 99.0}, {"recipe": "nll_adam", "batch": 32}]
CLAIM = {"says": "x", "check": "best_recipe", "recipe": "ce_sgd"}


def cells_of(study, **axes):
    """Cells and options of a study that is combined with other axes."""
    node = {studies.KEY: studies.load_study(study), studies.GIVEN: list(axes)}
    return validation.validate_cells([raw | node for raw in grids.grid(axes)], NATIVE)


def error_message(**changes):
    """The message for an invalid study."""
    with pytest.raises(UsageError) as error:
        cells_of({"title": "T", "rows": ROWS} | changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def lenet_sweep(*arguments, folder):
    """Run a command line in a folder. Returns the exit status and the output."""
    result = run_forked(*arguments, cwd=folder)
    return result.returncode, result.stdout + result.stderr


def test_the_study_has_every_row_of_the_report() -> None:
    """Its three tables have 34 rows: 33 cells, and 25 runs with 3,300 epochs in total."""
    cells, options = cells_of("report")
    study = options.study
    rows = [(r.cell.optimizer.name, r.cell.batch, r.cell.lr, r.cell.epochs, r.reported, r.device)
            for r in study.rows]  # fmt: skip
    assert len(rows) == 34
    assert len(set(cells)) == 33
    longest = {c.run_id: max(d.epochs for d in cells if d.run_id == c.run_id) for c in cells}
    assert (len(longest), sum(longest.values())) == (25, 3300)
    assert Counter(row[0] for row in rows) == {"sgd": 21, "adam": 13}
    assert rows[0] == ("sgd", 64, 0.1, 100, 99.22, "cpu")
    assert rows[-1] == ("adam", 256, 0.1, 100, 11.35, "mps")
    assert sum(row[4] for row in rows) == pytest.approx(3235.07)
    assert all(
        c.loss.name == ("cross_entropy" if c.optimizer.name == "sgd" else "nll") for c in cells
    )
    assert not any(c.shuffle for c in cells)
    assert len(study.claims) == 6


def test_other_keys_can_be_swept_over_a_study() -> None:
    """seed=0,1,2 trains every row three times; the rows of the study do not change."""
    cells, options = cells_of("report", seed=[0, 1, 2], activation="tanh")
    assert len(set(cells)) == 99
    assert {cell.activation for cell in cells} == {"tanh"}
    assert len(options.study.rows) == 34


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [*ROWS, {"batsh": 3}]}, "row 3 of the study 'T': batsh=3: there is no key"),
        ({"rows": [{"batch": 0}]}, "row 1 of the study 'T': batch=0: must be a whole number"),
        ({"rows": [*ROWS, ROWS[0]]}, "row 3 of the study 'T': the same settings as row 1"),
        ({"rows": [{"reported": 101}]}, "reported=101: must be an accuracy in percent"),
        ({"rows": [{"lr": "fast"}]}, "row 1 of the study 'T': lr=fast: must be a number above 0"),
        ({"rows": [{"workers": 2}]}, "workers=2: a row cannot set workers, which applies to"),
        ({"rows": [{"optimizer.beta": 2}]}, "the optimizer has no option beta"),
        ({"rows": [{"study": 2}]}, "a row cannot contain a study"),
        ({"rows": ["lr"]}, "row 1 of the study 'T': lr: must be settings"),
        ({"rows": []}, "study.rows=[]: must be a list of cells"),
        ({"rows": "all"}, "study.rows=all: must be a list of cells"),
        ({"title": None}, "study.title=null: must be one line of text"),
        ({"common": {"batch": 8}}, "batch is also set in common"),
        ({"rows": [{"recipe": "ce_sgd", "loss": "nll"}]}, "recipe cannot be combined with loss"),
        ({"rows": [{"batch": 8}, {"batch": 8.0}]}, "row 2 of the study 'T': the same settings as"),
        ({"rows": [{"batch": 10**5000}]}, "row 1 of the study 'T': batch=<int>: must be"),
        ({"title": ""}, "study.title=: must be one line of text"),
        ({"title": 10**5000}, "study.title=<int>: must be one line"),
        ({"claims": [{"says": [1], "check": [2]}]}, "check=[2]: must be one of"),
        ({"claims": [CLAIM | {"recipe": {"a": 1}}]}, "must be one of ce_sgd"),
        (
            {"claims": [CLAIM | {"check": "best_accuracy", "recipe": "ce_sgd", "accuracy": 1e6}]},
            "accuracy=1000000.0: must be an accuracy",
        ),
        ({"common": 3}, "study.common=3: must be the settings"),
        ({"row": []}, "did you mean study.rows?"),
        ({"claims": [{"says": "x", "check": "wisdom"}]}, "check=wisdom: must be one of larger_is"),
        ({"claims": [CLAIM | {"key": "lr"}]}, "best_recipe takes says, check, recipe"),
        ({"claims": [CLAIM | {"recipe": "sgd"}]}, "recipe=sgd: must be one of ce_sgd"),
        ({"claims": [{"says": "x", "check": "matters_little"}]}, "matters_little requires keys"),
        (
            {"claims": [{"says": "x", "check": "larger_is_better", "key": "seed"}]},
            "must be distinct keys from lr",
        ),
        ({"claims": [{"says": "x", "check": "best_accuracy"}]}, "accuracy=null: must be an acc"),
    ],
)
def test_an_invalid_study_is_rejected(changes, message) -> None:
    """The message is one line with the row, the key, its value, and what is allowed."""
    assert message in error_message(**changes)


def test_rows_may_differ_only_in_the_person() -> None:
    """Two people may report the same cell, which is trained once."""
    rows = [{"batch": 64, "reported": 99, "reported_by": name} for name in ("Ana", "Ben")]
    cells, options = cells_of({"title": "T", "rows": rows})
    assert len(set(cells)) == 1
    assert [row.person for row in options.study.rows] == ["Ana", "Ben"]


@pytest.mark.parametrize("key", ["batch", "recipe", "optimizer", "dataset.limit"])
def test_keys_that_rows_set_are_rejected(key) -> None:
    """A key that the rows set cannot also be given: neither silently overrides the other."""
    value = {"batch": 128, "recipe": "ce_sgd", "optimizer": "adam", "dataset.limit": 9}[key]
    rows = [{"recipe": "ce_sgd", "batch": 64, "dataset": "mnist"}]
    with pytest.raises(UsageError, match=f"row 1 .* remove {key} from the command"):
        cells_of({"title": "T", "rows": rows}, **{key: value})


def test_an_option_applies_to_the_rows_whose_optimizer_has_it() -> None:
    """This holds for options that are given with a study, and for options in `common`."""
    rows = [{"recipe": "ce_sgd", "optimizer.weight_decay": 0.1}, {"recipe": "nll_adam"}]
    cells, options = cells_of({"title": "T", "rows": rows}, **{"optimizer.momentum": [0, 0.9]})
    assert sorted({str(cell.optimizer) for cell in cells}) == [
        "adam", "sgd momentum=0.9 weight_decay=0.1", "sgd weight_decay=0.1",
    ]  # fmt: skip
    assert len(options.study.rows) == 3
    common = {
        "common": {"optimizer.momentum": 0.9},
        "rows": [{"recipe": r["recipe"]} for r in rows],
    }
    cells, options = cells_of({"title": "T"} | common)
    assert [str(cell.optimizer) for cell in cells] == ["sgd momentum=0.9", "adam"]
    assert options.unused == ("optimizer.momentum applies to sgd only; adam runs without it",)


def test_an_option_of_a_loss_can_be_set_by_a_row_or_swept_over_the_rows() -> None:
    """Label smoothing works in a study as the options of optimizers do."""
    rows = [{"recipe": "ce_sgd", "loss.label_smoothing": 0.1}, {"recipe": "nll_adam"}]
    cells, _ = cells_of({"title": "T", "rows": rows})
    assert [str(cell.loss) for cell in cells] == ["cross_entropy label_smoothing=0.1", "nll"]
    rows = [{"recipe": "ce_sgd"}, {"recipe": "nll_adam"}]
    cells, options = cells_of({"title": "T", "rows": rows}, **{"loss.label_smoothing": [0, 0.2]})
    assert {str(cell.loss) for cell in cells} == {
        "cross_entropy", "cross_entropy label_smoothing=0.2", "nll"
    }  # fmt: skip
    assert options.unused == (
        "loss.label_smoothing applies to cross_entropy only; nll runs without it",
    )


def test_an_option_of_a_row_must_fit_its_optimizer() -> None:
    """An option of a row is never ignored, and it cannot also be given with the study."""
    row = {"recipe": "nll_adam", "optimizer.momentum": 0.9}
    assert "row 2 of the study 'T': optimizer.momentum=0.9: the optimizer has no" in error_message(
        rows=[{"recipe": "ce_sgd"}, row]
    )
    with pytest.raises(UsageError, match="optimizer.momentum is set by the rows of the study"):
        cells_of({"title": "T", "rows": [{"optimizer.momentum": 0}]}, **{"optimizer.momentum": 0.9})


def test_reported_by_may_be_common() -> None:
    """The person who reported all rows can be given once, in `common`."""
    common = {"reported_by": "Ana", "reported_on": "mps"}
    _, options = cells_of({"title": "T", "common": common, "rows": ROWS})
    assert {(row.person, row.device) for row in options.study.rows} == {("Ana", "mps")}


def test_a_changed_study_replaces_its_old_version() -> None:
    """A corrected file replaces the rows; sweeps of the same version add rows."""
    before, after = ({"title": "T", "rows": [{"batch": 64, "reported": n}]} for n in (1.0, 2.0))
    old, new, tanh = (cells_of(node, **axes)[1].study for node, axes in
                      ((before, {}), (after, {}), (after, {"activation": "tanh"})))  # fmt: skip
    (replaced,) = studies.replace_study([old], new)
    assert [row.reported for row in replaced.rows] == [2.0]
    (merged,) = studies.replace_study([replaced], tanh)
    assert [row.cell.activation for row in merged.rows] == ["relu", "tanh"]
    assert len(studies.merge_studies([old, new])) == 2


def test_a_study_of_too_many_cells_is_rejected() -> None:
    """The limit max_cells applies to a study as it does to a grid."""
    with pytest.raises(UsageError, match="the study has more than max_cells=3 cells; give fewer"):
        cells_of("report", max_cells=3)


def test_json_round_trip() -> None:
    """A study that is written to sweep.json and read again is equal."""
    study = cells_of("report")[1].study
    assert studies.Study.from_json(study.to_json()) == study


@pytest.fixture
def own_study(tmp_path, small_folder):
    """Arguments that train a study from a --config-dir, which is written to tmp_path."""
    (tmp_path / "own" / "study").mkdir(parents=True)
    (tmp_path / "own" / "study" / "mine.yaml").write_text(
        "title: My rows\n"
        "common: {epochs: 2}\n"
        "rows:\n"
        "  - {recipe: ce_sgd, batch: 32, lr: 0.1, reported: 99.9}\n"
        "  - {recipe: nll_adam, batch: 32, lr: 1e-3, reported: 0}\n"
        "claims:\n"
        "  - {says: CE is best, check: best_recipe, recipe: ce_sgd}\n"
    )
    data = ("dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none")
    return "--config-dir", "own", "-m", "+study=mine", "seed=0,1", "name=it", *data


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lenet_local", "basic"])
def test_a_study_from_a_config_dir(tmp_path, own_study, launcher) -> None:
    """Its verdicts are on the terminal, in files, and on the page; a second run trains nothing."""
    arguments = (*own_study, f"hydra/launcher={launcher}")
    status, output = lenet_sweep(*arguments, folder=tmp_path)
    assert status == 0, output
    assert "Reproduction of 'My rows'" in output
    assert re.search(r"of 2 rows (is|are) reproduced", output)
    folder = tmp_path / "outputs" / "sweeps" / "it"
    table = pd.read_csv(folder / "reproduction.csv")
    assert list(table["reported"]) == [99.9, 0.0]
    assert list(table["seeds"]) == [2, 2]
    measured = pd.read_csv(folder / "results.csv").query("batch == 32 and optimizer == 'adam'")
    assert table["mean"][1] == pytest.approx(measured["accuracy"].mean())
    assert "Reproduction of 'My rows'" in (folder / "results.md").read_text()
    page = (folder / "report.html").read_text()
    assert "CE is best" in page
    assert 'id="study"' in page
    status, output = lenet_sweep(*arguments, folder=tmp_path)
    assert status == 0, output
    assert " started" not in output
    assert main([str(folder), "--out", str(tmp_path / "elsewhere")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "elsewhere/reproduction.csv"), table)


@pytest.mark.slow
def test_a_study_requires_the_flag_m(tmp_path, own_study) -> None:
    """Without -m, only one cell can be trained, so a study is rejected in one line."""
    arguments = [word for word in own_study if word not in ("-m", "seed=0,1")]
    status, output = lenet_sweep(*arguments, folder=tmp_path)
    assert (status, output) == (2, "error: +study=mine: a study requires the flag -m; add it\n")


@pytest.mark.usefixtures("train_here")
def test_from_python(tmp_path, small_folder) -> None:
    """sweep(study={...}) takes the content of a study file, and other keys can be swept over it."""
    rows = [{"batch": 32, "reported": 50.0}, {"batch": 64}]
    table = sweep(
        study={"title": "T", "rows": rows}, seed=[0, 1], epochs=1, out=str(tmp_path),
        dataset="folder", device="cpu", progress=False, figures="none",
        **{"dataset.root": str(small_folder())},
    )  # fmt: skip
    assert len(table) == 4
    assert (pd.read_csv(f"{table.attrs['folder']}/reproduction.csv")["row"] == [1, 2]).all()
