"""Studies: their rows become cells, what is wrong is said by row, and they end in verdicts."""

import re
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from lenet_sweep import sweep
from lenet_sweep.config import grids, studies, validation
from lenet_sweep.core.errors import UsageError
from lenet_sweep.training.engines.support import NATIVE

ROWS = [{"recipe": "ce_sgd", "batch": 64, "reported": 99.0}, {"recipe": "nll_adam", "batch": 32}]
WORST = {"says": "x", "check": "best_recipe", "recipe": "ce_sgd"}


def cells_of(study, **axes):
    """Cells and options of a study, with other settings as axes over it."""
    node = {studies.KEY: studies.load_study(study), studies.GIVEN: list(axes)}
    return validation.validate_cells([raw | node for raw in grids.grid(axes)], NATIVE)


def refused(**changes):
    with pytest.raises(UsageError) as error:
        cells_of({"title": "T", "rows": ROWS} | changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def command(*arguments, folder):
    """A command in this folder: status, and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_report_is_there_row_by_row() -> None:
    """34 rows of its three tables, 33 cells in 25 runs of 3,300 epochs, with what it reported."""
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
    assert all(c.loss == ("cross_entropy" if c.optimizer.name == "sgd" else "nll") for c in cells)
    assert not any(c.shuffle for c in cells)
    assert len(study.claims) == 6


def test_other_settings_are_axes_over_it() -> None:
    """seed=0,1,2 trains every row three times; the rows of the study stay the same."""
    cells, options = cells_of("report", seed=[0, 1, 2], activation="tanh")
    assert len(set(cells)) == 99
    assert {cell.activation for cell in cells} == {"tanh"}
    assert len(options.study.rows) == 34


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows": [*ROWS, {"batsh": 3}]}, "row 3 of the study 'T': batsh=3: there is no key"),
        ({"rows": [{"batch": 0}]}, "row 1 of the study 'T': batch=0: must be a whole number"),
        ({"rows": [*ROWS, ROWS[0]]}, "row 3 of the study 'T': the same settings as row 1"),
        ({"rows": [{"reported": 101}]}, "reported=101: must be an accuracy in percent"),
        ({"rows": [{"lr": "fast"}]}, "row 1 of the study 'T': lr=fast: must be a number above 0"),
        ({"rows": [{"workers": 2}]}, "workers is one for the whole sweep"),
        ({"rows": [{"optimizer.beta": 2}]}, "the optimizer has no option beta"),
        ({"rows": [{"study": 2}]}, "a row is a cell, and has no study"),
        ({"rows": ["lr"]}, "row 1 of the study 'T': lr: must be settings"),
        ({"rows": []}, "study.rows=[]: must be a list of cells"),
        ({"rows": "all"}, "study.rows=all: must be a list of cells"),
        ({"title": None}, "study.title=null: must be one line of text"),
        ({"common": {"batch": 8}}, "batch stands in common: too"),
        ({"rows": [{"recipe": "ce_sgd", "loss": "nll"}]}, "recipe and loss are given together"),
        ({"rows": [{"batch": 8}, {"batch": 8.0}]}, "row 2 of the study 'T': the same settings as"),
        ({"rows": [{"batch": 10**5000}]}, "row 1 of the study 'T': batch=<int>: must be"),
        ({"title": ""}, "study.title=: must be one line of text"),
        ({"title": 10**5000}, "study.title=<int>: must be one line"),
        ({"claims": [{"says": [1], "check": [2]}]}, "check=[2]: must be one of"),
        ({"claims": [WORST | {"recipe": {"a": 1}}]}, "must be one of ce_sgd"),
        (
            {"claims": [WORST | {"check": "best_accuracy", "recipe": "ce_sgd", "accuracy": 1e6}]},
            "accuracy=1000000.0: must be an accuracy",
        ),
        ({"common": 3}, "study.common=3: must be the settings"),
        ({"row": []}, "did you mean study.rows?"),
        ({"claims": [{"says": "x", "check": "wisdom"}]}, "check=wisdom: must be one of larger_is"),
        ({"claims": [WORST | {"key": "lr"}]}, "best_recipe takes says, check, recipe"),
        ({"claims": [WORST | {"recipe": "sgd"}]}, "recipe=sgd: must be one of ce_sgd"),
        ({"claims": [{"says": "x", "check": "matters_little"}]}, "matters_little needs keys"),
        ({"claims": [{"says": "x", "check": "larger_is_better", "key": "seed"}]}, "must be of lr"),
        ({"claims": [{"says": "x", "check": "best_accuracy"}]}, "accuracy=null: must be an acc"),
    ],
)
def test_what_is_wrong_is_named(changes, says) -> None:
    """One line with the row, the key, its value and what is allowed."""
    assert says in refused(**changes)


def test_who_reported_tells_rows_apart() -> None:
    """Two people may report the same cell: two rows, one training."""
    rows = [{"batch": 64, "reported": 99, "reported_by": name} for name in ("Ana", "Ben")]
    cells, options = cells_of({"title": "T", "rows": rows})
    assert len(set(cells)) == 1
    assert [row.person for row in options.study.rows] == ["Ana", "Ben"]


@pytest.mark.parametrize("key", ["batch", "recipe", "optimizer", "dataset.limit"])
def test_what_rows_give_is_not_typed_beside_them(key) -> None:
    """Neither would win in silence."""
    value = {"batch": 128, "recipe": "ce_sgd", "optimizer": "adam", "dataset.limit": 9}[key]
    rows = [{"recipe": "ce_sgd", "batch": 64, "dataset": "mnist"}]
    with pytest.raises(UsageError, match="row 1 .* leave it out of the command"):
        cells_of({"title": "T", "rows": rows}, **{key: value})


def test_an_option_is_an_axis_over_the_rows_that_have_it() -> None:
    """Typed beside a study or common to its rows, an option applies where the optimizer has it."""
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


def test_an_option_of_a_row_must_fit_its_optimizer() -> None:
    """What a row itself says is not ignored, and what it says is not typed beside it."""
    row = {"recipe": "nll_adam", "optimizer.momentum": 0.9}
    assert "row 2 of the study 'T': optimizer.momentum=0.9: the optimizer has no" in refused(
        rows=[{"recipe": "ce_sgd"}, row]
    )
    with pytest.raises(UsageError, match="the rows of the study give optimizer.momentum; leave"):
        cells_of({"title": "T", "rows": [{"optimizer.momentum": 0}]}, **{"optimizer.momentum": 0.9})


def test_what_was_reported_may_be_common_too() -> None:
    """Who reported all rows is written once."""
    common = {"reported_by": "Ana", "reported_on": "mps"}
    _, options = cells_of({"title": "T", "common": common, "rows": ROWS})
    assert {(row.person, row.device) for row in options.study.rows} == {("Ana", "mps")}


def test_a_changed_study_replaces_itself() -> None:
    """After a correction in its file a sweep has the new rows alone; axes of one version add up."""
    before, after = ({"title": "T", "rows": [{"batch": 64, "reported": n}]} for n in (1.0, 2.0))
    old, new, tanh = (cells_of(node, **axes)[1].study for node, axes in
                      ((before, {}), (after, {}), (after, {"activation": "tanh"})))  # fmt: skip
    (left,) = studies.replace_study([old], new)
    assert [row.reported for row in left.rows] == [2.0]
    (both,) = studies.replace_study([left], tanh)
    assert [row.cell.activation for row in both.rows] == ["relu", "tanh"]
    assert len(studies.merge_studies([old, new])) == 2


def test_a_study_of_many_cells_is_asked_about() -> None:
    """As any other grid: more than max_cells are refused, with the fix."""
    with pytest.raises(UsageError, match="more than 3 cells, which is all that max_cells=3 allows"):
        cells_of("report", max_cells=3)


def test_it_comes_back_from_json() -> None:
    """What sweep.json holds is the study that was asked for."""
    study = cells_of("report")[1].study
    assert studies.Study.from_json(study.to_json()) == study


@pytest.fixture
def mine(tmp_path, small_folder):
    """A study of one's own in a folder, and the words of a command that trains it."""
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
def test_a_study_of_ones_own(tmp_path, mine, launcher) -> None:
    """From a folder of YAML to verdicts on the terminal, in files on the page; then free."""
    asked = ("lenet_sweep", *mine, f"hydra/launcher={launcher}")
    status, output = command(*asked, folder=tmp_path)
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
    status, output = command(*asked, folder=tmp_path)
    assert status == 0, output
    assert " started" not in output
    status, output = command(
        "lenet_sweep.report", str(folder), "--out", "elsewhere", folder=tmp_path
    )
    assert status == 0, output
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "elsewhere/reproduction.csv"), table)


@pytest.mark.slow
def test_it_needs_the_flag_for_several(tmp_path, mine) -> None:
    """Without -m one cell is trained: a study is refused in one line."""
    words = [word for word in mine if word not in ("-m", "seed=0,1")]
    status, output = command("lenet_sweep", *words, folder=tmp_path)
    assert (status, output) == (2, "error: +study=...: the rows of a study need the flag -m\n")


def test_from_python(tmp_path, small_folder) -> None:
    """sweep(study={...}) takes the same form, with seeds as an axis."""
    rows = [{"batch": 32, "reported": 50.0}, {"batch": 64}]
    table = sweep(
        study={"title": "T", "rows": rows}, seed=[0, 1], epochs=1, out=str(tmp_path),
        dataset="folder", device="cpu", progress=False, figures="none",
        **{"dataset.root": str(small_folder())},
    )  # fmt: skip
    assert len(table) == 4
    assert (pd.read_csv(f"{table.attrs['folder']}/reproduction.csv")["row"] == [1, 2]).all()
