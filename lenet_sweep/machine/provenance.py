"""The provenance of a result: versions, hardware, person, command, git revision."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lenet_sweep.machine import devices

PACKAGES = ("lenet-sweep", "torch", "numpy", "hydra-core")


def environment(person: str) -> dict[str, Any]:
    """The provenance recorded with every run and sweep, as JSON values. Does not import torch."""
    return {
        "person": person,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": devices.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def command() -> list[str]:
    """The command line that started this process, with the interpreter's folder left out."""
    arguments = sys.orig_argv
    return [Path(arguments[0]).name, *arguments[1:]] if arguments else []


def git_revision() -> str | None:
    """The commit of the package's checkout, with '+' if files differ; None if not a checkout."""
    folder = Path(__file__).parent
    try:
        _, revision, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments],  # noqa: S607 - use the user's git
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=5,
                check=True,
                env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            ).stdout.strip()
            for arguments in (
                ["ls-files", "--error-unmatch", __file__],  # fails in another repository
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "-uno"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if changes else "")


def processor() -> str:
    """The name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that is not installed
        return None
