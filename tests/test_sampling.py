"""Searches that sample settings: what they propose, and that it depends on results only."""

import csv
import math
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from forked_commands import run_forked

import lenet_sweep
from lenet_sweep import Observer, load_results, sweep
from lenet_sweep.config import sampled_settings, sweep_grammar, validation
from lenet_sweep.config.search_space import Interval, Values
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import CellFinished, EpochEnded
from lenet_sweep.core.plans import make_plan
from lenet_sweep.executors import local
from lenet_sweep.results.sweep import load_sweep
from lenet_sweep.search import Decision, RunResult, Stop, sampling
from lenet_sweep.search.sampling import Sampling, Trial, outcome
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.progress import SweepProgress

pytestmark = pytest.mark.usefixtures("train_here")
LR = "tag(log,interval(1e-3,1))"


def space(**settings):
    """The search space of keyword arguments; two underscores in a key stand for a dot."""
    settings = {key.replace("__", "."): value for key, value in settings.items()}

    def validate(raws, chosen):
        cells, options = validation.validate_cells(raws, NATIVE, other_choices=chosen)
        return cells, options.notes

    return sampled_settings.settings_space({"device": "cpu"} | settings, "tpe", validate)[0]


def simulate(search, in_space, accuracy, waves=None):
    """The trials of a search whose accuracies are a function of the point."""
    trials = []
    while (asked := search.ask(in_space, trials)) and waves != 0:
        trials += [Trial(params, accuracy(in_space.point(params))) for params in asked]
        waves = waves and waves - 1
    return trials


def near(point):
    """An accuracy that is best at a learning rate of 0.03, and with sgd."""
    distance = abs(math.log10(point["lr"] / 0.03))
    return 95 - 10 * distance - (point.get("optimizer") == "adam")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0,0.5)", Interval(0.0, 0.5)),
        ("tag(log, interval(1e-4, 1e-1))", Interval(1e-4, 0.1, log=True)),
        ("int(interval(1,8))", Interval(1, 8, whole=True)),
        ("tag(log,int(interval(16,256)))", Interval(16, 256, log=True, whole=True)),
        ("tag(int,interval(1,8))", Interval(1, 8, whole=True)),
        ("range(1,4)", Values((1, 2, 3), ordered=True)),
        ("range(0,0.3,0.1)", Values((0.0, 0.1, 0.2), ordered=True)),
        ("choice(32,64,128)", Values((32, 64, 128))),
    ],
)
def test_values_are_written_in_the_grammar_of_hydra(text, expected) -> None:
    """In Python, text such as "interval(0,1)" means the same as on the command line."""
    dimension = sweep_grammar.parse_values("dropout", text)
    assert dimension == expected
    assert [type(v) for v in dimension.probes()] == [type(v) for v in expected.probes()]


def test_samples_are_inside_the_space_and_easy_to_type() -> None:
    """Numbers are rounded, whole numbers are integers, and other values are those given."""
    in_space = space(
        lr=LR, dropout="interval(0.1,0.5)", batch="int(interval(16,256))",
        width="range(0.5,2.1,0.5)", activation=["relu", "tanh"],
    )  # fmt: skip
    points = [in_space.point(t.params) for t in simulate(Sampling("random"), in_space, near)]
    assert len(points) == 40
    assert {p["activation"] for p in points} == {"relu", "tanh"}
    assert {p["width"] for p in points} <= {0.5, 1.0, 1.5, 2.0}
    assert all(type(p["batch"]) is int and 16 <= p["batch"] <= 256 for p in points)
    assert all(1e-3 <= p["lr"] <= 1 and float(f"{p['lr']:.4g}") == p["lr"] for p in points)
    assert all(
        0.1 <= p["dropout"] <= 0.5 and round(p["dropout"], 4) == p["dropout"] for p in points
    )


def test_the_sampler_learns_from_the_trials() -> None:
    """After the first wave, the TPE samples closer to the best learning rate than at random."""
    in_space = space(lr=LR, optimizer=["sgd", "adam"])
    values = {
        name: [t.value for t in simulate(Sampling(name, trials=48), in_space, near)]
        for name in ("tpe", "random")
    }
    assert values["tpe"][:8] == values["random"][:8]
    assert sum(values["tpe"][8:]) > sum(values["random"][8:]) + 2 * 40


def test_a_wave_depends_only_on_the_earlier_results() -> None:
    """Asked again, a wave is the same; more trials continue the search, another seed differs."""
    in_space = space(lr=LR, optimizer=["sgd", "adam"])
    search = Sampling("tpe", trials=24, wave=6)
    trials = simulate(search, in_space, near)
    for number in (0, 6, 12, 18):
        asked = search.ask(in_space, trials[:number])
        assert asked == [trial.params for trial in trials[number : number + 6]]
    longer = simulate(replace(search, trials=30), in_space, near)
    assert longer[:24] == trials
    assert search.ask(in_space, trials) == []
    assert replace(search, seed=1).ask(in_space, []) != search.ask(in_space, [])
    better = [replace(trial, value=99 - trial.value) for trial in trials[:12]]
    assert search.ask(in_space, better) != search.ask(in_space, trials[:12])


def test_an_option_is_sampled_only_for_the_choices_that_have_it() -> None:
    """Adam has no momentum, so its trials do not differ in it."""
    in_space = space(
        lr=LR, optimizer=["sgd", "adam"], optimizer__momentum="interval(0,0.9)"
    )  # fmt: skip
    params = [t.params for t in simulate(Sampling("tpe"), in_space, near)]
    points = [in_space.point(p) for p in params]
    assert {p["optimizer"] for p in points} == {"sgd", "adam"}
    for point in points:
        assert ("optimizer.momentum" in point) == (point["optimizer"] == "sgd")
        (cell,), _ = in_space.compose(point)
        assert dict(cell.optimizer.options).get("momentum") == point.get("optimizer.momentum")


def test_every_trial_has_all_seeds_and_epochs() -> None:
    """They are not sampled."""
    in_space = space(lr=LR, seed=[0, 1], epochs=[1, 2])
    assert list(in_space.dimensions) == ["lr"]
    cells, _ = in_space.compose({"lr": 0.1})
    assert {(c.seed, c.epochs) for c in cells} == {(0, 1), (0, 2), (1, 1), (1, 2)}


def test_the_value_of_a_trial_is_the_mean_over_its_seeds() -> None:
    """Of the last epoch; a failed run makes it the worst, and a stopped one is pruned."""
    runs = make_plan(
        space(lr=LR, seed=[0, 1], epochs=[3]).compose({"lr": 0.1})[0], lambda _: False
    ).runs
    results = {runs[0].id: RunResult([1, 2, 90]), runs[1].id: RunResult([3, 4, 80])}
    decision = Decision(dict.fromkeys(results, 3))
    assert outcome({}, runs, results, decision) == Trial({}, 85.0)
    stopped = Decision(decision.epochs, {run.id: Stop(2, "") for run in runs})
    assert outcome({}, runs, results, stopped) == Trial({}, 3.0, stopped=True, accuracies=[2, 3])
    short = make_plan(
        space(lr=LR, epochs=[3, 9], schedule="cosine").compose({"lr": 0.1})[0], lambda _: False
    ).runs
    curves = {run.id: RunResult([run.cell.epochs] * run.cell.epochs) for run in short}
    assert outcome({}, short, curves, Decision({})) == Trial({}, 9.0)
    results[runs[0].id] = RunResult([1, 2], failed=True)
    assert outcome({}, runs, results, decision) == Trial({}, 0.0)
    results[runs[0].id] = RunResult([1, 88], ended_early=True)
    assert outcome({}, runs, results, decision) == Trial({}, 84.0)


def test_progress_grows_with_the_waves() -> None:
    """Cells of later waves count, also those that the store has."""
    cells = [space(lr=LR).compose({"lr": lr})[0][0] for lr in (0.1, 0.2, 0.3)]
    first = make_plan(cells[:1], lambda _: False)
    progress = SweepProgress(first, 2, 0.0)
    progress.update(CellFinished(cells[0].run_id, cells[0].epochs), 1.0)
    progress.add(make_plan(cells, lambda cell: cell == cells[1]))
    # The plan of all cells still has the first run, which has ended.
    progress.update(CellFinished(cells[2].run_id, cells[2].epochs), 2.0)
    assert (progress.ended, progress.total) == (3, 3)


def sampled(folder, out, **more):
    settings = {
        "lr": LR, "optimizer": ["sgd", "adam"], "optimizer.momentum": "interval(0,0.9)",
        "search": "tpe", "search.trials": 9, "search.wave": 3, "epochs": 2, "batch": 32,
        "report": False, "figures": "none", "progress": False, "out": out, "name": "it",
        "dataset": "folder", "dataset.root": folder, "device": "cpu", "holdout": 100,
        "workers": 1,  # each wave starts its own
    }  # fmt: skip
    return sweep(**{key: v for key, v in (settings | more).items() if v is not None})


def outcomes(table):
    names = ["rank", "accuracy", "lr", "optimizer", "cell", "status", "epochs_trained"]
    return table[[n for n in names if n in table]].astype(str).values.tolist()


@pytest.fixture(scope="module")
def reference(tmp_path_factory, small_folder):
    """The table of a search with one worker."""
    return sampled(small_folder(), tmp_path_factory.mktemp("sampling"))


def test_sampled_values_are_not_reported_as_an_incomplete_grid(reference) -> None:
    """Each trial has its own learning rate, so both optimizers never share one."""
    statistics = lenet_sweep.analyse(reference.attrs["folder"])
    assert "together" not in {warning.kind for warning in statistics.warnings}


def test_trials_are_rows(reference) -> None:
    """Each trial is a row of results.csv; an option that an optimizer lacks is empty."""
    folder = reference.attrs["folder"]
    with (Path(folder) / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert (row["optimizer.momentum"] == "") == (row["optimizer"] == "adam")
    assert outcomes(load_results(folder)) == outcomes(reference)


class EpochCounter(Observer):
    """Counts the epochs that are trained, and the cells that are added."""

    def __init__(self) -> None:
        self.epochs = 0
        self.cells: list[int] = []
        self.messages: list[str] = []

    def on_start(self, plan, workers) -> None:
        self.cells.append(len(plan.cells))

    def on_plan(self, plan) -> None:
        self.cells.append(len(plan.cells))

    def on_event(self, event) -> None:
        self.epochs += isinstance(event, EpochEnded)

    def on_message(self, text) -> None:
        self.messages.append(text)


def test_neither_workers_nor_the_order_of_results_change_the_trials(
    reference, tmp_path, small_folder, monkeypatch
) -> None:
    """Two workers that train each wave in another order propose the same settings."""

    def shuffled(runs, context):
        return local.execute(random.Random(1).sample(list(runs), len(runs)), context)

    monkeypatch.setattr(local, "LOCAL", replace(local.LOCAL, execute=shuffled))
    counter = EpochCounter()
    table = sampled(small_folder(), tmp_path, workers=2, observers=[counter])
    assert outcomes(table) == outcomes(reference)
    assert counter.cells == [3, 6, 9]


KILLED = """
import os, signal, sys
from lenet_sweep import Observer
from lenet_sweep.core.events import CellFinished
sys.path.insert(0, {tests!r})
from test_sampling import sampled

class Killer(Observer):
    wave = 0
    def on_message(self, text):
        self.wave += text.startswith("search: wave ")
    def on_event(self, event):
        if self.wave == 2 and isinstance(event, CellFinished):
            os.kill(os.getpid(), signal.SIGKILL)

sampled({folder!r}, {out!r}, observers=[Killer()])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="requires SIGKILL")
def test_a_killed_search_continues_with_the_same_trials(reference, tmp_path, small_folder) -> None:
    """Killed in its second wave, and continued in another process with another hash seed."""
    code = KILLED.format(
        tests=str(Path(__file__).parent), folder=str(small_folder()), out=str(tmp_path)
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    counter = EpochCounter()
    assert outcomes(sampled(small_folder(), tmp_path, observers=[counter])) == outcomes(reference)
    assert counter.cells == [6, 9]
    assert 6 <= counter.epochs <= 10  # the third wave, and what the second one still lacked
    again = EpochCounter()
    assert outcomes(sampled(small_folder(), tmp_path, observers=[again])) == outcomes(reference)
    assert (again.epochs, again.cells) == (0, [9])


def test_more_trials_continue_in_the_same_folder(tmp_path, small_folder) -> None:
    """Also if the first command had fewer trials than a wave; another space has its own folder."""
    settings = {"name": None, "epochs": 1, "optimizer": "sgd", "optimizer.momentum": None}
    for trials in (2, 4):
        table = sampled(small_folder(), tmp_path, **settings, **{"search.trials": trials})
        assert len(table) == trials
    sampled(small_folder(), tmp_path, **settings, lr=[0.1, 0.01])
    assert len([*(tmp_path / "sweeps").iterdir()]) == 2


def test_equal_trials_are_trained_once(tmp_path, small_folder) -> None:
    """A small space is soon exhausted; its settings are proposed again and reused."""
    counter = EpochCounter()
    settings = {"lr": [0.1, 0.01], "optimizer": None, "optimizer.momentum": None, "epochs": 1}
    table = sampled(small_folder(), tmp_path, observers=[counter], **settings)
    assert len(table) == counter.epochs <= 2
    assert f"search: {9 - len(table)} of 9 trials repeat earlier ones" in counter.messages


def test_settings_of_a_wave_compete_by_halving(tmp_path, small_folder, capsys) -> None:
    """The stopped ones are rows without a rank; the search continues after an interruption."""
    settings = {"search.halving": True, "search.trials": 3, "epochs": 9}
    table = sampled(small_folder(), tmp_path, **settings)
    assert table["status"].tolist() == ["ok"] + ["stopped"] * 2
    counter = EpochCounter()
    again = sampled(small_folder(), tmp_path, observers=[counter], **settings)
    assert outcomes(again) == outcomes(table)
    assert counter.epochs == 0
    sampled(small_folder(), tmp_path, dry_run=True, progress=True, **settings)
    text = capsys.readouterr().out
    assert "all 3 trials have ended:\n3 cells, 1 in the store\n" in text
    assert "\n  lr 0" not in text  # no run that would be trained


def test_budgets_end_a_search_between_waves(tmp_path, small_folder) -> None:
    """search.epochs counts all epochs; search.minutes counts the time of one launch."""
    counter = EpochCounter()
    table = sampled(small_folder(), tmp_path, observers=[counter], **{"search.epochs": 7})
    assert (len(table), counter.epochs) == (3, 6)
    message = "search: ended after 3 of 9 trials, because the next wave could exceed search.epochs"
    assert any(text.startswith(message) for text in counter.messages)
    late = EpochCounter()
    settings = {"search.minutes": 1e-9, "name": "late", "observers": [late]}
    assert len(sampled(small_folder(), tmp_path / "late", **settings)) == 3
    assert len(sampled(small_folder(), tmp_path / "late", **settings)) == 6
    assert late.epochs == 12


@pytest.mark.parametrize("budget", [{"search.epochs": 7}, {"search.minutes": 1e-9}])
def test_stored_results_beyond_the_budget_are_not_rows(tmp_path, small_folder, budget) -> None:
    """Only the cells of the sweep are in its table, also if the store has part of the next wave."""
    full = load_sweep(Path(sampled(small_folder(), tmp_path).attrs["folder"]))
    for number in (3, 6):  # of the second and the third wave
        shutil.rmtree(tmp_path / "runs" / full.manifest.cells[number].run_id)
    table = sampled(small_folder(), tmp_path, name="short", **budget)
    assert len(table) < len(full.table)
    short = load_sweep(Path(table.attrs["folder"]))
    assert {cell.id for cell in short.manifest.cells} == set(short.table["cell"])


def test_settings_that_exclude_each_other_count_as_failed(tmp_path, small_folder) -> None:
    """They are reported, have no row, and do not end the search."""
    counter = EpochCounter()
    table = sampled(
        small_folder(), tmp_path, optimizer="sgd", epochs=1, observers=[counter], lr=0.1,
        **{"optimizer.momentum": [0, 0.9], "optimizer.nesterov": [True, False]},
    )  # fmt: skip
    assert not ((table["optimizer.nesterov"] == True) & (table["optimizer.momentum"] == 0)).any()  # noqa: E712
    assert any("is invalid and counts as 0%: optimizer.nesterov" in m for m in counter.messages)


def test_notes_on_sampled_settings_are_given_once(tmp_path, small_folder, capsys) -> None:
    """PyTorch trains a loss that the native engine does not support."""
    counter = EpochCounter()
    settings = {"loss": ["huber", "mse"], "optimizer": None, "optimizer.momentum": None}
    sampled(small_folder(), tmp_path, dry_run=True, progress=True, **settings)
    text = " ".join(capsys.readouterr().out.split())
    sampled(small_folder(), tmp_path, observers=[counter], **settings)
    notes = [message for message in counter.messages if "using torch" in message]
    assert len(set(notes)) == len(notes) > 0
    assert any(note in text for note in notes)


def test_dry_run_shows_the_space_and_the_first_wave(tmp_path, small_folder, capsys) -> None:
    """Nothing is trained or written."""
    sampled(small_folder(), tmp_path / "out", dry_run=True, progress=True, seed=[0, 1])
    text = capsys.readouterr().out
    assert (
        "search=tpe: 9 trials in 3 waves of 3; each trial has 2 runs of 2 epochs (at most 36 "
        "epochs in all). Settings are sampled from:"
    ) in " ".join(text.split())
    assert re.search(r"^  lr +0.001 to 1 \(log\)$", text, re.MULTILINE)
    assert re.search(r"^  optimizer +sgd, adam$", text, re.MULTILINE)
    assert "the first wave:\n6 cells, 0 in the store" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            {"search.trials": 2, "search.minutes": 1.5},
            ["2 trials in 1 wave; ", "4 epochs in all). No wave starts after 1.5 min. Settings"],
        ),
        (
            {"search.trials": 4, "search.epochs": 7},
            ["4 trials in 2 waves of up to 3; ", "(at most 7 epochs in all). Settings"],
        ),
    ],
)
def test_dry_run_shows_the_limits(tmp_path, small_folder, capsys, limits, expected) -> None:
    """A single wave has no size, and the last of several may be smaller."""
    sampled(small_folder(), tmp_path, dry_run=True, progress=True, **limits)
    text = " ".join(capsys.readouterr().out.split())
    assert all(fragment in text for fragment in expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": "interval(0.1)"}, "lr=interval(0.1): cannot be parsed"),
        ({"lr": "interval(1,0.1)"}, "an interval requires two finite numbers, the smaller"),
        ({"lr": "tag(log,interval(0,1))"}, "a logarithm requires numbers above 0"),
        ({"lr": "tag(lin,interval(0.1,1))"}, "there is no tag lin; the tags are log and int"),
        ({"lr": "tag(log,choice(0.1,1))"}, "a tag requires an interval"),
        ({"lr": "range(0.001,1,1e-9)"}, "must have 1 to 10000 values"),
        ({"lr": "interval(-1,1)"}, "lr=-1.0: must be a number above 0"),
        ({"batch": "interval(8,64)"}, "batch=interval(8,64): batch must be a whole number; use"),
        ({"epochs": "interval(1,9)"}, "epochs=interval(1,9): epochs cannot be sampled"),
        ({"workers": [1, 2]}, "workers cannot be swept"),
        ({"search.seed": [1, 2]}, "search.seed cannot be swept"),
        ({"holdout": [50, 100]}, "search=tpe cannot sample holdout"),
        ({"optimizer": "adam"}, "the optimizer has no option momentum"),
        ({"optimizer": ["sgd", "adm"]}, "optimizer=adm: must be one of"),
        ({"lr": 0.1, "optimizer": "sgd", "optimizer.momentum": 0}, "no key has several values"),
        ({"search.epochs": 5}, "search.epochs=5: the first wave of 3 trials needs 6 epochs; raise"),
        ({"reuse": False}, "reuse=false: must be true with a search"),
        ({"pair": ["lr", "batch"], "batch": [8, 16]}, "search=tpe samples each key on its own"),
        ({"study": "report"}, "search=tpe: every row of a study is trained to the end"),
        ({"search": "grid", "search.trials": None, "search.wave": None},
         "lr=tag(log,interval(1e-3,1)): an interval requires search=tpe or search=random; other"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_named(tmp_path, small_folder, settings, message) -> None:
    """The message names the key, the value and what is allowed; nothing is written."""
    with pytest.raises(UsageError, match=re.escape(message)):
        sampled(small_folder(), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("found", [None, "2.10.1", "4.8.0"])
def test_missing_optuna_is_named(tmp_path, small_folder, monkeypatch, found) -> None:
    """Without Optuna, or with an old one, the message names the command that installs it."""

    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(sampling, "version", version)
    installed = f", but {found} is installed" if found else ""
    message = f"search=tpe: requires Optuna 4.9 or later{installed}; run: pip install 'lenet-sweep["
    with pytest.raises(UsageError, match=re.escape(message)):
        sampled(small_folder(), tmp_path)


def command(*arguments, folder, cwd):
    words = ["dataset=folder", f"dataset.root={folder}", "device=cpu", "figures=none"]
    return run_forked("-m", *arguments, *words, cwd=cwd, env={"COLUMNS": "160"})


def test_command_line_samples_overrides(tmp_path, small_folder) -> None:
    """Intervals and lists are sampled, the other values are fixed, and there is one table."""
    done = command(
        "search=tpe", "search.trials=4", "search.wave=2", "lr=tag(log,interval(1e-3,1))",
        "batch=shuffle(32,64)", "recipe=ce_sgd,nll_adam", "optimizer.momentum=0.5", "seed=0,1",
        "epochs=1", "name=it", folder=small_folder(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("optimizer.momentum applies to sgd only; adam runs without it") == 1
    table = load_results(tmp_path / "outputs" / "sweeps" / "it")
    assert len(table) == 8
    assert set(table["batch"]) <= {32, 64}
    assert set(table.loc[table["optimizer"] == "sgd", "optimizer.momentum"]) == {0.5}
    assert (table.groupby("lr")["seed"].nunique() == 2).all()
    assert (tmp_path / "outputs/sweeps/it/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search=tpe", "lr=interval(0.1,1)", "hydra/launcher=basic"], "search=tpe: requires the"),
        (["search=halving", "lr=interval(0.1,1)"],
         "lr=interval(0.1,1): an interval requires search=tpe or search=random; otherwise"),
        (["search=random", "batch=interval(8,64)"], "use int(interval(8,64))"),
        (["search=tpe", "lr=interval(0.1,1)", "epochs=interval(1,2)"], "epochs cannot be sampled"),
    ],
)  # fmt: skip
def test_wrong_command_lines_are_named(tmp_path, small_folder, words, message) -> None:
    """In one line, with status 2."""
    done = command(*words, folder=small_folder(), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_cell_cannot_be_sampled(tmp_path) -> None:
    """A search that samples requires the flag -m."""
    done = run_forked("search=tpe", cwd=tmp_path)
    assert (done.returncode, "requires the flag -m" in done.stderr) == (2, True)
