"""The README: its commands, links, code and numbers are checked against the repository."""

import csv
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_imports import ROOMS

from lenet_sweep.config.registry import OPTIMIZERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ALL_COMMANDS = [
    line.partition("#")[0].removeprefix("$ ").strip()
    for language, block in BLOCKS
    for line in block.splitlines()
    if language in ("sh", "console") and "python -m lenet_sweep" in line
]
REPORT_COMMANDS = [command for command in ALL_COMMANDS if "lenet_sweep.report" in command]
SWEEP_COMMANDS = [command for command in ALL_COMMANDS if command not in REPORT_COMMANDS]


def test_the_readme_has_commands() -> None:
    """The tests below find the commands of the README."""
    assert len(SWEEP_COMMANDS) >= 9
    assert REPORT_COMMANDS


def test_the_readme_is_short() -> None:
    """The README stays an overview: details belong in docs/."""
    assert len(README.splitlines()) <= 135


@pytest.mark.parametrize("command", sorted(set(SWEEP_COMMANDS)))
def test_sweep_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every sweep command in the README plans its cells."""
    words = shlex.split(command)
    arguments = words[words.index("lenet_sweep") + 1 :]
    dry_run = [] if any(word.startswith("dry_run") for word in arguments) else ["dry_run=true"]
    result = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", *arguments, *dry_run],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert re.match(r"\d+ cells?( \(\d+ duplicates? merged\))?, ", result.stdout)


@pytest.mark.parametrize("command", REPORT_COMMANDS)
def test_report_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every report command in the README fails only because its folders do not exist."""
    result = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stderr.startswith("error: no sweep in "), result.stderr


def test_table_matches_example() -> None:
    """The table in the README is that of outputs/example."""
    table = (ROOT / "outputs" / "example" / "results.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in README
    assert len(rows) == 8


def test_study_result_matches_files() -> None:
    """The number of reproduced rows is that of outputs/report-study."""
    with (ROOT / "outputs" / "report-study" / "reproduction.csv").open(newline="") as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file)]
    text = " ".join(README.split())
    assert f"{verdicts.count('reproduced')} of its {len(verdicts)} rows are reproduced" in text


def test_python_example_runs(tmp_path: Path, small_folder) -> None:
    """The Python example returns a table, also as a script without a main guard."""
    (code,) = (block for language, block in BLOCKS if language == "python")
    assert "epochs=1)" in code
    root = str(small_folder())
    data = f', epochs=1, dataset="folder", device="cpu", **{{"dataset.root": {root!r}}})'
    (tmp_path / "script.py").write_text(
        code.replace(", epochs=1)", data) + "assert len(table) == 4\nprint(table.columns[0])\n"
    )
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "rank"


def test_links_exist() -> None:
    """Every relative link in the README points to a file of the repository."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_room_is_listed_in_order() -> None:
    """'Architecture' lists each subpackage, lowest first."""
    listed = re.findall(r"^\| `(\w+)` \|", README[README.index("## Architecture") :], re.MULTILINE)
    assert listed == [name for name in ROOMS if name != "__main__"]


def test_optimizer_defaults_match_torch() -> None:
    """Every optimizer of the registry names a class of torch.optim and has its defaults."""
    import torch  # noqa: PLC0415 - slow to import, and no other test here needs it

    for spec in OPTIMIZERS.values():
        parameters = inspect.signature(getattr(torch.optim, spec.torch_class)).parameters
        for name, option in spec.options.items():
            assert parameters[name].default == option.default, name
