"""The virtual environments of peers that need more than this tool does, each made once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
READY = "packages.json"
# In reverse, so that of two versions the one in front on the path remains.
LISTED = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({d.name: d.version for d in reversed(list(m.distributions()))}))"
)


class UnavailableError(Exception):
    """An environment cannot be made; the message is one line."""


def cache_folder() -> Path:
    """Where environments and the caches of what is measured live between calls."""
    named = os.environ.get("LENET_SWEEP_BENCHMARKS")
    return Path(named) if named else Path("~/.cache/lenet-sweep-benchmarks").expanduser()


def python_of(name: str | None, *, beside_torch: bool) -> Path:
    """The interpreter with the packages of requirements/<name>.txt; None: the current one.

    `beside_torch` lets the environment see the current one's packages behind its own, by the one
    line of a .pth file: the torch of the peers is then ours, to the byte.
    Raises UnavailableError if it cannot be made.
    """
    if name is None:
        return Path(sys.executable)
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    beside = sysconfig.get_path("purelib") if beside_torch else ""
    digest = hashlib.sha256(f"{wanted}\n{sys.version}\n{beside}".encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if (folder / READY).exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making the environment of {name} in {folder}", flush=True)
    _run(sys.executable, "-m", "venv", str(folder))
    if beside:
        own = _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        (Path(own) / "beside.pth").write_text(beside + "\n")
    _run(str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS / f"{name}.txt"))
    (folder / READY).write_text(_run(str(python), "-I", "-c", LISTED) + "\n")
    return python


def packages(python: Path) -> dict[str, str]:
    """Names and versions of what an interpreter can import."""
    found: dict[str, str] = json.loads(_run(str(python), "-I", "-c", LISTED))
    return found


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [str(error)]
        told = [line for line in lines if "error" in line.lower()] or lines
        raise UnavailableError(f"not installed: {told[0].strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"not installed: {error}") from error
    return done.stdout.strip()
