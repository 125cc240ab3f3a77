"""The machine that measures: what is written beside its numbers, and whether two are alike."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from lenet_sweep.machine import provenance
from lenet_sweep.training.engines.support import missing


def here() -> dict[str, Any]:
    """The machine and the versions it measures with, as plain JSON values."""
    environment = provenance.environment("")
    for private in ("host", "person"):
        del environment[private]
    return environment | {
        "processor": f"{environment['processor']}{_generation()}",
        "machine": platform.machine(),
        "instructions": _instructions(),
    }


def name(environment: dict[str, Any]) -> str:
    """Such as "2 cores of AMD EPYC, family 25 model 1 (avx2)"."""
    return "{cores} cores of {processor} ({instructions})".format_map(environment)


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two environments are alike enough for their seconds to stand side by side."""
    return all(one[k] == other[k] for k in ("processor", "instructions", "cores", "machine"))


def _generation() -> str:
    """Such as ", family 25 model 17": of some virtual machines the name is the make alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    known = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    if not {"cpu family", "model"} <= known.keys():  # not x86
        return ""
    return f", family {known['cpu family']} model {known['model']}"


def _instructions() -> str:
    """The best that the native engine has for this processor."""
    if missing():
        return "torch alone"
    from lenet_sweep.training.engines import _native  # noqa: PLC0415 - it may be missing

    return str(_native.instruction_sets()[0])
