"""Virtual environments for the peers that need additional packages; each is created once."""

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
# Reversed, so that the first version on the path wins.
LIST_PACKAGES = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({d.name: d.version for d in reversed(list(m.distributions()))}))"
)


class UnavailableError(Exception):
    """An environment cannot be created; the message is one line."""


def cache_folder() -> Path:
    """The folder that keeps environments and caches between calls."""
    folder = os.environ.get("LENET_SWEEP_BENCHMARKS")
    return Path(folder) if folder else Path("~/.cache/lenet-sweep-benchmarks").expanduser()


def python_of(name: str | None, *, shares_torch: bool) -> Path:
    """The interpreter with the packages of requirements/<name>.txt; None: the current one.

    With `shares_torch`, the environment can also import the packages of the current environment,
    by way of a .pth file, so that peers and lenet-sweep use the same torch.
    Raises UnavailableError if the environment cannot be created.
    """
    if name is None:
        return Path(sys.executable)
    requirements = (REQUIREMENTS / f"{name}.txt").read_text()
    shared = sysconfig.get_path("purelib") if shares_torch else ""
    digest = hashlib.sha256(f"{requirements}\n{sys.version}\n{shared}".encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if (folder / READY).exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Creating the environment of {name} in {folder}", flush=True)
    _run(sys.executable, "-m", "venv", str(folder))
    if shared:
        own = _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        (Path(own) / "shared.pth").write_text(shared + "\n")
    _run(str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS / f"{name}.txt"))
    (folder / READY).write_text(_run(str(python), "-I", "-c", LIST_PACKAGES) + "\n")
    return python


def packages(python: Path) -> dict[str, str]:
    """Names and versions of the packages that an interpreter can import."""
    installed: dict[str, str] = json.loads(_run(str(python), "-I", "-c", LIST_PACKAGES))
    return installed


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [str(error)]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise UnavailableError(f"not installed: {errors[0].strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"not installed: {error}") from error
    return done.stdout.strip()
