"""Runs the commands and the Python code in the README and the documentation."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from forked_commands import run_forked

PLAN = re.compile(r"^\d+ cells?( \(\d+ duplicates? merged\))?, ", re.MULTILINE)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The language and the content of each code block of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(blocks: Iterable[tuple[str, str]]) -> list[str]:
    """The commands that start lenet-sweep, without comments; each once."""
    return sorted({
        line.partition(" #")[0].removeprefix("$ ").strip()
        for language, block in blocks
        for line in block.splitlines()
        if language in ("sh", "console") and "python -m lenet_sweep" in line
    })  # fmt: skip


def assert_planned(command: str, folder: Path) -> None:
    """Run a command in a folder as a dry run, which must plan its cells."""
    words = shlex.split(command)
    arguments = words[words.index("lenet_sweep") + 1 :]
    dry_run = [] if any(word.startswith("dry_run") for word in arguments) else ["dry_run=true"]
    result = run_forked(*arguments, *dry_run, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert PLAN.search(result.stdout)


def run_python(code: str, folder: Path, images: Path) -> str:
    """Run an example with four cells on a small dataset, as a script without a main guard.

    Returns what it printed.
    """
    assert "epochs=1)" in code
    data = f', epochs=1, dataset="folder", device="cpu", **{{"dataset.root": {str(images)!r}}})'
    script = code.replace(", epochs=1)", data) + "assert len(table) == 4\n"
    (folder / "script.py").write_text(script + "print(table.columns[0])\n")
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
