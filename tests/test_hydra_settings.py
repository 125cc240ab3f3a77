"""Hydra's own settings take effect when typed, under our launcher and under Hydra's."""

from pathlib import Path

import pandas as pd
import pytest
from forked_commands import run_forked

CALLBACK = """
from hydra.experimental.callback import Callback

class Recorder(Callback):
    def __init__(self, name="recorder"):
        self.name = name
    def say(self, *words):  # in one write, since two jobs may print at the same time
        print(" ".join(map(str, [self.name, *words])) + "\\n", end="", flush=True)
    def on_multirun_start(self, config, **kwargs):
        self.say("multirun start")
    def on_multirun_end(self, config, **kwargs):
        self.say("multirun end")
    def on_job_start(self, config, **kwargs):
        self.say("job start", config.hydra.job.num, config.lr)
    def on_job_end(self, config, job_return, **kwargs):
        self.say("job end", config.hydra.job.num, job_return.return_value)
"""
LAUNCHERS = pytest.mark.parametrize(
    "launcher",
    ["lenet_local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("basic", "joblib"))],
)


@pytest.fixture
def run(tmp_path: Path, small_folder):
    """Run a command line on a small dataset and return its output."""
    small = [f"dataset.root={small_folder()}", "dataset=folder", "device=cpu", "epochs=1"]
    small += ["figures=none", "report=false", "workers=1"]

    def run_command(*arguments: str, status: int = 0) -> str:
        env = {"SCRATCH": "there", "PYTHONPATH": str(tmp_path)}
        result = run_forked(*arguments, *small, cwd=tmp_path, env=env)
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout

    return run_command


def rows(path: Path) -> int:
    return len(pd.read_csv(path / "results.csv"))


@LAUNCHERS
def test_sweep_folder_can_be_set(run, tmp_path: Path, launcher: str) -> None:
    """hydra.sweep.dir holds the table, and the folders of the jobs of Hydra's launchers."""
    words = ("-m", "lr=0.1,0.2", f"hydra/launcher={launcher}", "hydra.job.chdir=true")
    run(*words, "hydra.sweep.dir=my/${now:%Y}", "hydra.sweep.subdir=${hydra.job.num}")
    (folder,) = (tmp_path / "my").iterdir()
    assert rows(folder) == 2
    assert (folder / "1").is_dir() == (launcher != "lenet_local")
    assert not (tmp_path / "outputs" / "sweeps").exists()


def test_folder_of_single_cell_can_be_set(run, tmp_path: Path) -> None:
    """hydra.run.dir holds the table and Hydra's files; hydra.job.chdir changes to it."""
    run("hydra.run.dir=one", "hydra.output_subdir=.hydra", "hydra.job.chdir=true")
    assert rows(tmp_path / "one") == 1
    assert "lr: null" in (tmp_path / "one" / ".hydra" / "config.yaml").read_text()
    assert (tmp_path / "one" / "outputs" / "runs").is_dir()


def test_interpolations_are_resolved(run, tmp_path: Path) -> None:
    """${...} refers to environment variables, other keys and Hydra, in a cell and in a grid."""
    run("out='${oc.env:SCRATCH}/x'", "name=one-${seed}", "seed=3")
    assert rows(tmp_path / "there/x/sweeps/one-3") == 1
    run("-m", "out='${oc.env:SCRATCH}/x'", "name=grid", "seed=16,32", "batch=${seed}")
    table = pd.read_csv(tmp_path / "there/x/sweeps/grid/results.csv")
    assert sorted(zip(table["seed"], table["batch"], strict=True)) == [(16, 16), (32, 32)]
    output = run("-m", "person='${hydra:runtime.cwd}'", "seed=1", "dry_run=true", "name=x")
    assert "1 cell" in output


def test_keys_can_be_deleted_and_repeated(run) -> None:
    """If a key is repeated, as after a shell alias, the last value counts."""
    output = run("-m", "lr=0.5,0.6", "lr=0.1,0.2", "~grid/lr", "dry_run=true")
    assert "2 cells" in output
    assert "lr 0.1" in output


@LAUNCHERS
def test_callbacks_are_called(run, tmp_path: Path, launcher: str) -> None:
    """Callbacks run for the sweep and for each job, including a job that diverged."""
    (tmp_path / "recorder.py").write_text(CALLBACK)
    words = ("-m", "lr=0.1,1e30", f"hydra/launcher={launcher}")
    output = run(*words, "+hydra.callbacks.it._target_=recorder.Recorder", status=1)
    lines = {line for line in output.splitlines() if line.startswith("recorder")}
    assert {
        "recorder multirun start",
        "recorder job start 0 0.1",
        "recorder job start 1 1e+30",
    } <= lines
    assert {"recorder job end 1 nan", "recorder multirun end"} <= lines


@LAUNCHERS
def test_verbose_shows_hydra_logs(run, launcher: str) -> None:
    """hydra.verbose shows Hydra's logs; without it, nothing is logged."""
    words = ("-m", "lr=0.1", f"hydra/launcher={launcher}", "dry_run=true")
    assert "[HYDRA]" not in run(*words)
    assert "[HYDRA]" in run(*words, "hydra.verbose=true")
