"""Hydra's Optuna sweeper, in an environment of its own: unlike search=tpe, it requires optuna<3."""

import os
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from lenet_sweep import load_results

pytestmark = pytest.mark.slow  # installs packages

OPTUNA = (
    "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=4",
    "hydra.sweeper.sampler.seed=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the plugin, and otherwise the packages of this one."""
    folder = tmp_path_factory.mktemp("optuna_sweeper")
    venv.create(folder, symlinks=os.name == "posix")
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / Path(sys.executable).name
    # The other packages, such as Hydra, are those of this environment.
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "hydra-optuna-sweeper>=1.3", "optuna<3", "cmaes"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"hydra-optuna-sweeper cannot be installed: {done.stderr.strip()}")
    paths = [*dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages()])]
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (Path(own) / "outer.pth").write_text("\n".join(lines))  # behind the own packages
    return python


@pytest.fixture
def small(small_folder) -> list[str]:
    """Arguments with which a cell trains in a second, on a small generated dataset."""
    return ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
            "epochs=1"]  # fmt: skip


@pytest.fixture
def lenet_sweep(python, tmp_path: Path):
    """Run a command line in an empty folder and check its exit status."""

    def run(*arguments: str, status: int = 0):
        done = subprocess.run(
            [python, "-m", "lenet_sweep", "-m", *arguments], cwd=tmp_path, capture_output=True,
            text=True, check=False, env=os.environ | {"COLUMNS": "160"},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def results(tmp_path):
    """Read the table of the sweep with this name."""
    return lambda name: load_results(tmp_path / "outputs" / "sweeps" / name)


def test_option_in_search_over_optimizers(lenet_sweep, small, results) -> None:
    """Optuna may combine an option with an optimizer that lacks it if another one has it."""
    words = (*OPTUNA, "optimizer.momentum=0,0.5,0.9", *small, "name=searched")
    batch = "hydra.sweeper.n_jobs=4"  # all trials at once
    done = lenet_sweep(*words, "optimizer=sgd,adam", batch, "report=false")
    assert done.stdout.count("optimizer.momentum applies to sgd only; adam runs without it") == 1
    frame = results("searched")
    assert set(frame["status"]) == {"ok"}
    assert set(frame["optimizer"]) == {"sgd", "adam"}
    done = lenet_sweep(*words, "optimizer=adam", status=2)
    assert "the optimizer has no option momentum" in done.stderr


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([], id="local"),
        pytest.param(["hydra/launcher=basic"], id="basic"),
        pytest.param(["hydra/launcher=joblib"], id="joblib"),
    ],
)
def test_optuna_search_gives_one_table(lenet_sweep, small, tmp_path, results, launcher) -> None:
    """All batches that Hydra's Optuna sweeper launches form one sweep."""
    words = (*OPTUNA, "lr=tag(log,interval(0.01,0.3))", "batch=32,64", *small, *launcher)
    done = lenet_sweep(*words, "name=searched", "report=false")
    frame = results("searched")
    assert len(frame) == 4
    assert set(frame["status"]) == {"ok"}
    assert done.stdout.count("Written to outputs/sweeps/searched/") == 1
    assert [path.name for path in (tmp_path / "outputs" / "sweeps").iterdir()] == ["searched"]
    best = (tmp_path / "outputs" / "sweeps" / "searched" / "optimization_results.yaml").read_text()
    assert f"best_value: {frame['accuracy'].max():g}" in best


@pytest.mark.parametrize(
    "launcher",
    [pytest.param([], id="local"), pytest.param(["hydra/launcher=basic"], id="basic")],
)
def test_search_continues_past_diverged_cell(
    lenet_sweep, small, tmp_path, results, launcher
) -> None:
    """A cell without an accuracy counts as 0 in the search only, and the exit status is 1."""
    arguments = ("lr=choice(1e30,0.1)", "batch=32,64", *small, "name=it", *launcher)
    done = lenet_sweep(*OPTUNA, *arguments, status=1)
    frame = results("it")
    assert {"ok", "diverged"} == set(frame["status"])
    assert frame.loc[frame["status"] == "diverged", "accuracy"].isna().all()
    assert "Traceback" not in done.stderr
    assert (tmp_path / "outputs/sweeps/it/report.html").exists()
    best = (tmp_path / "outputs/sweeps/it/optimization_results.yaml").read_text()
    assert f"best_value: {frame['accuracy'].max():g}" in best


def test_minimizing_search_is_rejected(lenet_sweep, small) -> None:
    """Optuna minimizes by default, but a cell returns its accuracy."""
    done = lenet_sweep("hydra/sweeper=optuna", "lr=interval(0.01,0.3)", *small, status=2)
    assert "add hydra.sweeper.direction=maximize" in done.stderr


def test_own_search_needs_a_later_optuna(lenet_sweep, small) -> None:
    """Beside the plugin, search=tpe says which Optuna it requires."""
    done = lenet_sweep("search=tpe", "lr=interval(0.01,0.3)", *small, status=2)
    assert "search=tpe: requires Optuna 4.9 or later, but 2." in done.stderr
