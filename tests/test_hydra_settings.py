"""Hydra's own settings, typed: each takes effect, under our launcher and under Hydra's."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

CALLBACK = """
from hydra.experimental.callback import Callback

class Told(Callback):
    def __init__(self, name="told"):
        self.name = name
    def on_multirun_start(self, config, **kwargs):
        print(self.name, "multirun start")
    def on_multirun_end(self, config, **kwargs):
        print(self.name, "multirun end")
    def on_job_start(self, config, **kwargs):
        print(self.name, "job start", config.hydra.job.num, config.lr)
    def on_job_end(self, config, job_return, **kwargs):
        print(self.name, "job end", config.hydra.job.num, job_return.return_value)
"""
LAUNCHERS = pytest.mark.parametrize("launcher", ["lenet_local", "basic", "joblib"])


@pytest.fixture
def typed(tmp_path: Path, small_folder):
    """Type it after a small sweep; its output."""
    small = [f"dataset.root={small_folder()}", "dataset=folder", "device=cpu", "epochs=1"]
    small += ["figures=none", "report=false"]

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lenet_sweep", *arguments, *small],
            cwd=tmp_path, env=os.environ | {"SCRATCH": "there", "PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def rows(path: Path) -> int:
    return len(pd.read_csv(path / "results.csv"))


@LAUNCHERS
def test_the_folder_of_a_sweep_is_chosen_as_in_any_hydra_application(
    typed, tmp_path: Path, launcher: str
) -> None:
    """hydra.sweep.dir is where the table is, and the jobs of Hydra's launchers are below it."""
    words = ("-m", "lr=0.1,0.2", f"hydra/launcher={launcher}", "hydra.job.chdir=true")
    typed(*words, "hydra.sweep.dir=my/${now:%Y}", "hydra.sweep.subdir=${hydra.job.num}")
    (folder,) = (tmp_path / "my").iterdir()
    assert rows(folder) == 2
    assert (folder / "1").is_dir() == (launcher != "lenet_local")
    assert not (tmp_path / "outputs" / "sweeps").exists()


def test_the_folder_of_a_single_cell_is_chosen_too(typed, tmp_path: Path) -> None:
    """hydra.run.dir has the table and what Hydra writes; hydra.job.chdir makes it current."""
    typed("hydra.run.dir=one", "hydra.output_subdir=.hydra", "hydra.job.chdir=true")
    assert rows(tmp_path / "one") == 1
    assert "lr: null" in (tmp_path / "one" / ".hydra" / "config.yaml").read_text()
    assert (tmp_path / "one" / "outputs" / "runs").is_dir()


def test_what_is_typed_is_filled_in(typed, tmp_path: Path) -> None:
    """Environment variables, other settings and Hydra's own, for one cell and in a grid."""
    typed("out='${oc.env:SCRATCH}/x'", "name=one-${seed}", "seed=3")
    assert rows(tmp_path / "there/x/sweeps/one-3") == 1
    typed("-m", "out='${oc.env:SCRATCH}/x'", "name=grid", "seed=16,32", "batch=${seed}")
    table = pd.read_csv(tmp_path / "there/x/sweeps/grid/results.csv")
    assert sorted(zip(table["seed"], table["batch"], strict=True)) == [(16, 16), (32, 32)]
    said = typed("-m", "person='${hydra:runtime.cwd}'", "seed=1", "dry_run=true", "name=x")
    assert "1 cell" in said


def test_defaults_are_deleted_and_repeated_as_in_hydra(typed) -> None:
    """An alias with settings can be given others behind it: the last one counts."""
    said = typed("-m", "lr=0.5,0.6", "lr=0.1,0.2", "~grid/lr", "dry_run=true")
    assert "2 cells" in said
    assert "lr 0.1" in said


@LAUNCHERS
def test_callbacks_are_called(typed, tmp_path: Path, launcher: str) -> None:
    """For the sweep and for each job, also where a cell has diverged."""
    (tmp_path / "told.py").write_text(CALLBACK)
    words = ("-m", "lr=0.1,1e30", f"hydra/launcher={launcher}")
    said = typed(*words, "+hydra.callbacks.it._target_=told.Told", status=1)
    lines = {line for line in said.splitlines() if line.startswith("told")}
    assert {"told multirun start", "told job start 0 0.1", "told job start 1 1e+30"} <= lines
    assert {"told job end 1 nan", "told multirun end"} <= lines


@LAUNCHERS
def test_hydra_logs_when_it_is_asked_to(typed, launcher: str) -> None:
    """hydra.verbose shows what Hydra does; without it nothing is logged."""
    words = ("-m", "lr=0.1", f"hydra/launcher={launcher}", "dry_run=true")
    assert "[HYDRA]" not in typed(*words)
    assert "[HYDRA]" in typed(*words, "hydra.verbose=true")
