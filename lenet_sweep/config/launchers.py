"""What a job on a cluster may use: a launcher's settings, validated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_sweep.config.keys import finite, integer, reject, unknown_key
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

PREFIX = "hydra.launcher"
SLURM_KEYS = (
    "partition", "time", "cpus", "memory", "gpus", "runs_per_job", "account", "qos", "constraint",
    "sbatch",
)  # fmt: skip
RAY_KEYS = ("address", "cpus", "memory", "gpus", "runs_per_job", "resources")
GIVEN_ELSEWHERE = {  # options of sbatch that have a key of their own, or are the launcher's to set
    "array": "workers=N",
    "cpus-per-task": f"{PREFIX}.cpus=N",
    "mem": f"{PREFIX}.memory=GB",
    "time": f"{PREFIX}.time=MINUTES",
    "partition": f"{PREFIX}.partition=NAME",
    "account": f"{PREFIX}.account=NAME",
    "qos": f"{PREFIX}.qos=NAME",
    "constraint": f"{PREFIX}.constraint=TEXT",
    "gpus": f"{PREFIX}.gpus=N",
    "gpus-per-node": f"{PREFIX}.gpus=N",
    **dict.fromkeys(
        (
            "chdir", "error", "export", "job-name", "no-requeue", "nodes", "ntasks",
            "ntasks-per-node", "open-mode", "output", "parsable", "requeue", "signal", "test-only",
            "wait", "wrap",
        ),
        "",
    ),
}  # fmt: skip
RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")  # resources with a key of their own
MOST_GIGABYTES = 1e6


@dataclass(frozen=True)
class SlurmResources:
    """Of one Slurm job. `sbatch`: further options by name, without their dashes."""

    partition: str | None
    minutes: int
    cpus: int
    gigabytes: float
    gpus: int
    runs_per_job: int
    account: str | None
    qos: str | None
    constraint: str | None
    sbatch: Mapping[str, str | bool]

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds that a job may train on, best first."""
        return _devices(self.gpus)


@dataclass(frozen=True)
class RayResources:
    """Of one Ray task. `gpus` may be a fraction; `resources`: further ones by name."""

    address: str | None
    cpus: float
    gigabytes: float
    gpus: float
    runs_per_job: int
    resources: Mapping[str, float]

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds that a task may train on, best first."""
        return _devices(self.gpus)


def for_slurm(raw: Mapping[str, Any]) -> SlurmResources:
    """Validate conf/hydra/launcher/lenet_slurm.yaml. Raises UsageError, one line."""
    _check_keys(raw, SLURM_KEYS)
    gpus = raw["gpus"]
    if (number := finite(gpus)) is not None and not number.is_integer():
        reject(f"{PREFIX}.gpus", gpus, "whole GPUs, which is what Slurm gives; Ray takes fractions")
    return SlurmResources(
        partition=_name(raw, "partition"),
        minutes=_whole(raw, "time", 1, 525_600, "minutes that a job may take"),
        cpus=_whole(raw, "cpus", 1, 1024, "cores of a job"),
        gigabytes=_amount(raw, "memory", "GB of a job, above 0", least=0.001),
        gpus=_whole(raw, "gpus", 0, 64, "GPUs of a job"),
        runs_per_job=_whole(raw, "runs_per_job", 1, 100_000, "runs that a job trains"),
        account=_name(raw, "account"),
        qos=_name(raw, "qos"),
        constraint=_name(raw, "constraint"),
        sbatch=_sbatch(_mapping(raw, "sbatch", "options by name, as {nice: 100}")),
    )


def for_ray(raw: Mapping[str, Any]) -> RayResources:
    """Validate conf/hydra/launcher/lenet_ray.yaml. Raises UsageError, one line."""
    _check_keys(raw, RAY_KEYS)
    named = _mapping(raw, "resources", "numbers by name, as {big: 1}")
    for name in named:
        if name in RAYS_OWN or not isinstance(name, str) or not name.isidentifier():
            reject(
                f"{PREFIX}.resources",
                format_value(dict(named)),
                "names other than CPU, GPU and memory",
            )
    return RayResources(
        address=_name(raw, "address"),
        cpus=_amount(raw, "cpus", "cores of a task, 0 or more"),
        gigabytes=_amount(raw, "memory", "GB that a task reserves, 0 or more"),
        gpus=_amount(raw, "gpus", "GPUs of a task, 0 or more, or a fraction as 0.25"),
        runs_per_job=_whole(raw, "runs_per_job", 1, 100_000, "runs that a task trains"),
        resources={
            str(name): _amount(named, name, "a number, 0 or more", under="resources")
            for name in named
        },
    )


def _check_keys(raw: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse what +hydra.launcher.KEY=VALUE has added."""
    for key in raw:
        if key not in known:
            unknown_key(f"{PREFIX}.{key}", raw[key], [f"{PREFIX}.{name}" for name in known])


def _devices(gpus: float) -> tuple[str, ...]:
    return ("cuda", "cpu") if gpus else ("cpu",)


def _whole(raw: Mapping[str, Any], key: str, low: int, high: int, meaning: str) -> int:
    return integer(f"{PREFIX}.{key}", raw[key], low, high, meaning)


def _amount(
    raw: Mapping[str, Any], key: str, allowed: str, least: float = 0.0, under: str = ""
) -> float:
    number = finite(raw[key])
    name = ".".join(filter(None, (PREFIX, under, key)))
    if number is None or not least <= number <= MOST_GIGABYTES:
        reject(name, raw[key], allowed)
    if number > 1 and not number.is_integer() and key != "memory":  # as Ray has it
        reject(name, raw[key], "a fraction of one, or a whole number")
    return number


def _name(raw: Mapping[str, Any], key: str) -> str | None:
    value = raw[key]
    if value is None:
        return None
    return _text(f"{PREFIX}.{key}", value)


def _text(key: str, value: Any) -> str:
    """Printable text in one line: it becomes a line of a script that a shell reads."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        reject(key, value, "text or a number")
    if isinstance(value, float):  # in {...}: what was typed is lost
        reject(key, value, f"text; where it looks like a number, in quotes: '{value}'")
    if not str(value).isprintable() or not str(value) or len(str(value)) > 200:
        reject(key, value, "one line of up to 200 printable characters")
    return str(value)


def _mapping(raw: Mapping[str, Any], key: str, allowed: str) -> Mapping[str, Any]:
    value = {} if raw[key] is None else raw[key]
    if not isinstance(value, Mapping):
        reject(f"{PREFIX}.{key}", value, allowed)
    return value


def _sbatch(options: Mapping[str, Any]) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {}
    for name, value in options.items():
        key = f"{PREFIX}.sbatch.{format_value(name)}"
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UsageError(f"{key}: must be the name of an option of sbatch, as in nice")
        if name in GIVEN_ELSEWHERE:
            instead = GIVEN_ELSEWHERE[name]
            raise UsageError(
                f"{key}: " + (f"is given as {instead}" if instead else "is fixed here")
            )
        found[name] = True if value is True else _text(key, value)  # a flag, as {hold: true}
    return found
