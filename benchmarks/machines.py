"""Describes the current machine, and tells whether two machines are comparable."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from lenet_sweep.machine import provenance
from lenet_sweep.training.engines.support import unavailable_reason


def here() -> dict[str, Any]:
    """The machine and the versions in use, as JSON values."""
    environment = provenance.environment("")
    for private in ("host", "person"):
        del environment[private]
    return environment | {
        "processor": f"{environment['processor']}{_generation()}",
        "machine": platform.machine(),
        "instructions": _instructions(),
    }


def name(environment: dict[str, Any]) -> str:
    """For example "2 cores of AMD EPYC, family 25 model 1 (avx2)"."""
    return "{cores} cores of {processor} ({instructions})".format_map(environment)


def comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether times from two environments may be listed side by side."""
    return all(one[k] == other[k] for k in ("processor", "instructions", "cores", "machine"))


def _generation() -> str:
    """For example ", family 25 model 17": some virtual machines report only the brand."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    fields = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    if not {"cpu family", "model"} <= fields.keys():  # not x86
        return ""
    return f", family {fields['cpu family']} model {fields['model']}"


def _instructions() -> str:
    """The best instruction set that the native engine can use here."""
    if unavailable_reason():
        return "torch only"
    from lenet_sweep.training.engines import _native  # noqa: PLC0415 - it may be missing

    return str(_native.instruction_sets()[0])
