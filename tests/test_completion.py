"""Shell completion in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
PROGRAM = Path(sys.executable).with_name("lenet-sweep")
pytestmark = pytest.mark.skipif(
    not (BASH and PROGRAM.exists()), reason="needs bash and the installed command lenet-sweep"
)

# Install completion as a user does, then call the function as bash does for each line.
SCRIPT = """
eval "$($1 -sc install=bash)"
rule=$(complete -p lenet-sweep) || exit 1
shift
for line in "$@"; do
    COMP_LINE=$line
    COMP_POINT=${#line}
    COMP_WORDS=($line)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    if [ "${line: -1}" = " " ]; then COMP_CWORD=$((COMP_CWORD + 1)); fi
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
done
"""


def completed(folder: Path, *lines: str, command: str = "lenet-sweep") -> list[list[str]]:
    """The candidates that bash shows for each of these lines."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [BASH, "--norc", "-c", SCRIPT, "bash", command, *lines],
        cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


CASES = {
    "lenet-sweep -m opt": ["optimizer.", "optimizer="],
    "lenet-sweep -m optimizer=adam": ["optimizer=adam", "optimizer=adamax", "optimizer=adamw"],
    "lenet-sweep -m optimizer=sgd,adamw": ["optimizer=sgd,adamw"],
    "lenet-sweep device=": ["device=auto", "device=cpu", "device=cuda", "device=mps"],
    "lenet-sweep shuffle=": ["shuffle=false", "shuffle=true"],
    "lenet-sweep optimizer=sgd optimizer.nest": ["optimizer.nesterov="],
    "lenet-sweep optimizer.nesterov=t": ["optimizer.nesterov=true"],
    "lenet-sweep optimizer.c": [],
    "lenet-sweep -m lr=0.1,0.2 grid/ba": ["grid/batch="],
    "lenet-sweep -m +study=re": ["+study=report"],
    "lenet-sweep nonsense=1 sched": ["schedule="],
    "lenet-sweep --models nowhere.py sched": ["schedule.", "schedule="],
}


@pytest.mark.slow
def test_bash_completes_keys_and_values(tmp_path) -> None:
    """Keys, groups, options, and values are completed, also after a comma or a mistake."""
    found = dict(zip(CASES, completed(tmp_path, *CASES), strict=True))
    assert found == CASES
    assert list(tmp_path.iterdir()) == []


def test_python_m_installs_completion_of_the_command(tmp_path) -> None:
    """`python -m lenet_sweep -sc install=bash` does not change the completion of python."""
    (keys,) = completed(tmp_path, "lenet-sweep epo", command=f"{sys.executable} -m lenet_sweep")
    assert keys == ["epochs="]
