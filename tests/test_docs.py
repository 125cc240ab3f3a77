"""The documentation: its commands, code, tables and test names are checked."""

import csv
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lenet_sweep.config import keys

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
BLOCKS = [
    (page, language, block)
    for page, text in PAGES.items()
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
COMMANDS = sorted({
    line.partition(" #")[0].removeprefix("$ ").strip()
    for page, language, block in BLOCKS
    for line in block.splitlines()
    if language in ("sh", "console") and "python -m lenet_sweep " in line
})  # fmt: skip


def test_the_pages_have_commands() -> None:
    """The tests below find the commands of the pages."""
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every command on a page plans its cells, given the configuration files shown there."""
    for _, language, block in BLOCKS:
        if language == "yaml" and (name := re.search(r"^# (my-configs/\S+)$", block, re.MULTILINE)):
            (tmp_path / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name[1]).write_text(block)
    words = shlex.split(command)
    arguments = words[words.index("lenet_sweep") + 1 :]
    dry_run = [] if any(word.startswith("dry_run") for word in arguments) else ["dry_run=true"]
    result = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", *arguments, *dry_run],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert re.search(r"^\d+ cells?( \(\d+ duplicates? merged\))?, ", result.stdout, re.MULTILINE)


def test_python_example_runs(tmp_path: Path, small_folder) -> None:
    """The Python example on the page about sweeping returns a table."""
    (code,) = (
        block
        for page, language, block in BLOCKS
        if (page, language) == ("sweeping.md", "python")
    )  # fmt: skip
    assert "epochs=1)" in code
    root = str(small_folder())
    data = f', epochs=1, dataset="folder", device="cpu", **{{"dataset.root": {root!r}}})'
    (tmp_path / "script.py").write_text(
        code.replace(", epochs=1)", data) + "assert len(table) == 4\n"
    )
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_table_matches_example() -> None:
    """The table on the start page is that of outputs/example."""
    table = (ROOT / "outputs" / "example" / "results.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in PAGES["index.md"]


def test_every_key_is_documented() -> None:
    """The page about sweeping lists every key with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? \|", PAGES["sweeping.md"], re.MULTILINE))
    for key, value in keys.defaults().items():
        default = value["name"] if isinstance(value, dict) else value
        assert rows[key] == (default if isinstance(default, str) else json.dumps(default)), key


def test_named_tests_exist() -> None:
    """Every test that a page names exists."""
    names = {
        name for text in PAGES.values() for name in re.findall(r"\btest_\w+\.py(?:::\w+)?", text)
    }
    assert names
    for name in names:
        file, _, function = name.partition("::")
        assert f"def {function}" in (ROOT / "tests" / file).read_text(), name


def test_study_results_match_files() -> None:
    """The rows, verdicts and decimal numbers on the page about the report are in its files."""
    text = PAGES["reproducing-a-report.md"]
    text = text[text.index("## Results for the report") :]
    folder = ROOT / "outputs" / "report-study"
    files = [(folder / name).read_text() for name in ("results.md", "time.json", "collapse.json")]
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    for row in rows:
        assert row in files[0], row
    with (folder / "reproduction.csv").open(newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file))
    reproduced, failed = verdicts.pop("reproduced"), verdicts.pop("not reproduced")
    (inconclusive,) = verdicts.values()
    assert len(rows) == failed + inconclusive
    assert (
        f"**{reproduced} of {reproduced + failed + inconclusive} rows are reproduced, {failed} are "
        f"not, and {inconclusive} are inconclusive.**"
    ) in text
    measured = set(re.findall(r"\d+\.\d+", "\n".join(files)))
    for number in re.findall(r"\d+\.\d+", text):
        assert number in measured, number
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
