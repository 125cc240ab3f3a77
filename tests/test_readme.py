"""The README is true: its commands are taken as they stand and run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_sweep.config.registry import OPTIMIZERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].removeprefix("$ ").strip()
    for language, block in BLOCKS
    for line in block.splitlines()
    if language in ("sh", "console") and "python -m lenet_sweep" in line
]
PAGES = [command for command in COMMANDS if "lenet_sweep.report" in command]
COMMANDS = [command for command in COMMANDS if command not in PAGES]


def test_there_are_commands_to_check() -> None:
    """The README still has its examples where this test looks for them."""
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_each_command_is_understood(command: str, tmp_path: Path) -> None:
    """Whatever stands in the README can be typed: it plans its cells instead of failing."""
    words = shlex.split(command)
    arguments = words[words.index("lenet_sweep") + 1 :]
    extra = [] if any(a.startswith("dry_run") for a in arguments) else ["dry_run=true"]
    done = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", *arguments, *extra],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d+ cells?( \(\d+ duplicates? merged\))?, ", done.stdout)


def test_the_commands_that_make_pages_are_understood(tmp_path: Path) -> None:
    """They name folders that are not here, and that is all that is wrong with them."""
    assert PAGES
    for command in PAGES:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr.startswith("error: no sweep in "), done.stderr


def test_the_table_shown_is_the_one_in_the_repository() -> None:
    """No number of the README's table was typed by hand."""
    made = (ROOT / "outputs" / "example" / "results.md").read_text()
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in README
    assert len(rows) == 8


def test_the_python_example_runs(tmp_path: Path, small_folder) -> None:
    """The lines for scripts and notebooks give the table they promise."""
    (code,) = (block for language, block in BLOCKS if language == "python")
    assert "epochs=1)" in code
    root = str(small_folder())
    data = f', epochs=1, dataset="folder", device="cpu", **{{"dataset.root": {root!r}}})'
    # A script without a guard for its main module, as a student writes it.
    (tmp_path / "script.py").write_text(
        code.replace(", epochs=1)", data) + "assert len(table) == 4\nprint(table.columns[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "rank"


def test_links_lead_somewhere() -> None:
    """No link of the README points at a file that is not there."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_list_of_modules_is_complete() -> None:
    """A reader finds every module of the package in 'How it is built'."""
    listed = README[README.index("## How it is built") :]
    known_parts = {"idx", "known", "download"}  # of datasets
    plumbing = {"__init__", "__main__", "errors", "events", "provenance"}
    for path in (ROOT / "lenet_sweep").iterdir():
        name = path.stem
        if path.suffix == ".py" and name not in known_parts | plumbing:
            assert f"`{name}`" in listed, name


def test_every_optimizer_of_the_registry_is_torchs() -> None:
    """One entry in the registry is all it takes: its class and options exist in torch."""
    import inspect  # noqa: PLC0415

    import torch  # noqa: PLC0415

    for spec in OPTIMIZERS.values():
        parameters = inspect.signature(getattr(torch.optim, spec.torch_class)).parameters
        for name, option in spec.options.items():
            assert parameters[name].default == option.default, name
