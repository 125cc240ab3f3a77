"""Executors, datasets and trackers of another package, with the examples in docs/."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lenet_sweep.config.trackers import register_tracker
from lenet_sweep.core.errors import UsageError
from lenet_sweep.executors.registry import register_executor

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [(DOCS / name).read_text() for name in ("extending.md", "trackers.md")]
MODULES = dict(
    match.group(1, 2)
    for page in PAGES
    for match in re.finditer(r"```python\n# (my_(?:plugin|tracker)\.py)\n(.*?)```", page, re.DOTALL)
)
TOMLS = [text for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
ENTRY_POINTS = "".join(
    f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
    for toml in TOMLS
    for group, entries in tomllib.loads(toml)["project"]["entry-points"].items()
)


@pytest.fixture
def run(tmp_path: Path):
    """A function that runs the command with the other package installed."""
    packages = tmp_path / "packages"
    info = packages / "my_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    for name, module in MODULES.items():
        (packages / name).write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lenet_sweep", *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(packages)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_an_executor_of_another_package_trains_the_runs(run, small_folder) -> None:
    """It is selected, listed by --help, and validated like the executors of this package."""
    small = ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none"]
    sweep = ["-m", "hydra/launcher=lenet_mine", "seed=0,1", "epochs=1", *small]
    result = run(*sweep, "hydra.launcher.queue=1.10", "report=false")
    assert result.returncode == 0, result.stderr
    assert "submitted to 1.10" in result.stdout  # text is kept as typed
    assert "2 of 2 cells" in result.stdout
    assert "lenet_mine   Runs train on my machines." in run("--help").stdout
    result = run(*sweep, "+hydra.launcher.que=long")
    assert result.returncode == 2
    assert "there is no key hydra.launcher.que; did you mean hydra.launcher.queue" in result.stderr


def test_an_executor_that_a_script_registers_is_found(tmp_path: Path) -> None:
    """It needs no entry point: --help lists it."""
    (tmp_path / "my_plugin.py").write_text(MODULES["my_plugin.py"])
    code = "import my_plugin, sys; from lenet_sweep.__main__ import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "lenet_mine   Runs train on my machines." in result.stdout


def test_a_dataset_of_another_package_can_be_chosen(run, mnist_root: Path) -> None:
    """Its files are found, verified, and trained on by the workers."""
    result = run(
        "-m", "dataset=mnist,digits", f"dataset.root={mnist_root}", "dataset.limit=600", "epochs=1",
        "device=cpu", "figures=none", "report=false",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "digits first 600" in result.stdout
    assert "digits" in run("dataset=digitz").stderr


def test_a_tracker_of_another_package_writes_the_sweep(run, small_folder, tmp_path: Path) -> None:
    """It is selected by its name, and writes a line per cell, as on the page about trackers."""
    small = ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none"]
    sweep = ["-m", "seed=0,1", "epochs=2", *small, "report=false", "name=it"]
    result = run(*sweep, "tracker=lines")
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "outputs" / "sweeps" / "it" / "lines.txt").read_text().splitlines()
    assert sorted(lines) == ["seed 0: ok, 2 epochs", "seed 1: ok, 2 epochs"]
    assert "did you mean tracker=lines" in run(*sweep, "tracker=line").stderr


def test_names_of_this_package_are_taken() -> None:
    """A script cannot replace an executor or a tracker of the package."""
    with pytest.raises(UsageError, match="local: lenet-sweep has a plugin of this name; choose"):
        register_executor("local", str)(lambda options: options)
    with pytest.raises(UsageError, match="mlflow: lenet-sweep has a plugin of this name; choose"):
        register_tracker("mlflow")(str)
