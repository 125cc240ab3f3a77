"""The README: its commands, links, code and numbers are checked against the repository."""

import csv
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from examples import assert_planned, code_blocks, commands, run_python
from test_imports import SUBPACKAGES

from lenet_sweep.config.registry import GROUPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = code_blocks(README)
ALL_COMMANDS = commands(BLOCKS)
REPORT_COMMANDS = [command for command in ALL_COMMANDS if "lenet_sweep.report" in command]
SWEEP_COMMANDS = [command for command in ALL_COMMANDS if command not in REPORT_COMMANDS]


def test_the_readme_has_commands() -> None:
    """The tests below find the commands of the README."""
    assert len(SWEEP_COMMANDS) >= 9
    assert REPORT_COMMANDS


def test_the_readme_is_short() -> None:
    """The README stays an overview: details belong in docs/."""
    assert len(README.splitlines()) <= 135


@pytest.mark.parametrize("command", SWEEP_COMMANDS)
def test_sweep_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every sweep command in the README plans its cells."""
    assert_planned(command, tmp_path)


@pytest.mark.parametrize("command", REPORT_COMMANDS)
def test_report_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every report command in the README fails only because its folders do not exist."""
    result = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stderr.startswith("error: there is no sweep in "), result.stderr


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
    """The Python example returns a table."""
    (code,) = (block for language, block in BLOCKS if language == "python")
    assert run_python(code, tmp_path, small_folder()).splitlines()[-1] == "rank"


def test_links_exist() -> None:
    """Every relative link in the README points to a file of the repository."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_subpackage_is_listed_in_order() -> None:
    """'Architecture' lists each subpackage, lowest first."""
    section = README[README.index("## Architecture") :]
    rows = re.findall(r"^\| (`[\w`, ]+`) \|", section, re.MULTILINE)
    assert re.findall(r"\w+", " ".join(rows)) == [
        name for name in SUBPACKAGES if name != "__main__"
    ]


def test_optimizer_defaults_match_torch() -> None:
    """Every optimizer of the registry names a class of torch.optim and has its defaults."""
    import torch  # noqa: PLC0415 - slow to import, and no other test here needs it

    for spec in GROUPS["optimizer"].choices.values():
        parameters = inspect.signature(getattr(torch.optim, spec.torch_class)).parameters
        for name, option in spec.options.items():
            assert parameters[name].default == option.default, name
