"""The documentation is true: its commands, code, tables and test names are checked."""

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


def test_there_are_commands_to_check() -> None:
    """The pages have their examples where this test looks for them."""
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_understood(command: str, tmp_path: Path) -> None:
    """Every command on a page plans its cells, with the configuration files shown there."""
    for _, language, block in BLOCKS:
        if language == "yaml" and (name := re.search(r"^# (my-configs/\S+)$", block, re.MULTILINE)):
            (tmp_path / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name[1]).write_text(block)
    words = shlex.split(command)
    arguments = words[words.index("lenet_sweep") + 1 :]
    extra = [] if any(a.startswith("dry_run") for a in arguments) else ["dry_run=true"]
    done = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", *arguments, *extra],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ cells?( \(\d+ duplicates? merged\))?, ", done.stdout, re.MULTILINE)


def test_the_python_example_runs(tmp_path: Path, small_folder) -> None:
    """The lines for scripts and notebooks give the table that they promise."""
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
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_table_shown_is_the_one_in_the_repository() -> None:
    """No number of the first page's table was typed by hand."""
    made = (ROOT / "outputs" / "example" / "results.md").read_text()
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in PAGES["index.md"]


def test_every_key_is_explained() -> None:
    """The page on sweeping has each key with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? \|", PAGES["sweeping.md"], re.MULTILINE))
    for key, value in keys.defaults().items():
        default = value["name"] if isinstance(value, dict) else value
        assert rows[key] == (default if isinstance(default, str) else json.dumps(default)), key


def test_every_test_that_is_named_exists() -> None:
    """The pages name the tests that show what they promise."""
    named = {
        name for text in PAGES.values() for name in re.findall(r"\btest_\w+\.py(?:::\w+)?", text)
    }
    assert named
    for name in named:
        file, _, function = name.partition("::")
        assert f"def {function}" in (ROOT / "tests" / file).read_text(), name


def test_the_study_of_the_report_says_what_its_files_say() -> None:
    """Its table is the sweep's own, and every number with decimals is in one of its files."""
    text = PAGES["reproducing-a-report.md"]
    text = text[text.index("## Results for the report") :]
    kept = ROOT / "outputs" / "report-study"
    files = [(kept / name).read_text() for name in ("results.md", "time.json", "collapse.json")]
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 7
    for row in rows:
        assert row in files[0], row
    with (kept / "reproduction.csv").open(newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file))
    reproduced, missed = verdicts.pop("reproduced"), verdicts.pop("not reproduced")
    (undecided,) = verdicts.values()
    assert (
        f"**{reproduced} of {reproduced + missed + undecided} rows are reproduced, {missed} are "
        f"not, and {undecided} are inconclusive.**"
    ) in text
    known = set(re.findall(r"\d+\.\d+", "\n".join(files)))
    for number in re.findall(r"\d+\.\d+", text):
        assert number in known, number
    assert sum(path.stat().st_size for path in kept.iterdir()) < 6_000_000
