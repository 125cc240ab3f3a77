"""The options of the launchers for clusters: one dataclass each.

A dataclass is the only place that names an option, its default, its help, and the values that it
takes. conf/hydra/launcher has each as a file for Hydra, which `to_yaml` generates:

    python -m lenet_sweep.config.launchers
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from lenet_sweep.config.checks import finite, integer, reject, unknown_key
from lenet_sweep.config.registry import config_folder
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

PREFIX = "hydra.launcher"
SBATCH_KEYS = {  # options of sbatch that have a key of their own, or that the launcher sets
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
RAY_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")  # these have keys of their own
MAX_GIGABYTES = 1e6
Check = Callable[[str, Any], Any]  # (key, typed value) -> value; raises UsageError
T = TypeVar("T")


def option(default: Any, text: str, check: Check) -> Any:
    """A field of an options dataclass: its default, its help, and the check of its value."""
    return field(default=default, metadata={"help": text, "check": check})


# ---------------------------------------------------------------- checks


def _text(key: str, value: Any) -> str:
    """Printable text in one line: it becomes a line of a script that a shell reads."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        reject(key, value, "text or a number")
    if isinstance(value, float):  # in {...} Hydra has read it already: what was typed is lost
        reject(key, value, f"text; if it looks like a number, in quotes: '{value}'")
    if not str(value).isprintable() or not str(value) or len(str(value)) > 200:
        reject(key, value, "one line of up to 200 printable characters")
    return str(value)


def _optional_text(key: str, value: Any) -> str | None:
    return None if value is None else _text(key, value)


def _whole(low: int, high: int, meaning: str) -> Check:
    return lambda key, value: integer(key, value, low, high, meaning)


def _whole_gpus(key: str, value: Any) -> int:
    if (number := finite(value)) is not None and not number.is_integer():
        reject(key, value, "whole GPUs: Slurm does not give fractions, Ray does")
    return integer(key, value, 0, 64, "GPUs of a job")


def _gigabytes(allowed: str, least: float = 0.0) -> Check:
    def check(key: str, value: Any) -> float:
        number = finite(value)
        if number is None or not least <= number <= MAX_GIGABYTES:
            reject(key, value, allowed)
        return number

    return check


def _amount(allowed: str) -> Check:
    """A number of CPUs, GPUs, or other resources, as Ray counts them."""

    def check(key: str, value: Any) -> float:
        number = finite(value)
        if number is None or not 0 <= number <= MAX_GIGABYTES:
            reject(key, value, allowed)
        if number > 1 and not number.is_integer():
            reject(key, value, "a fraction of one, or a whole number")
        return number

    return check


def _mapping(key: str, value: Any, allowed: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reject(key, value, allowed)
    return value


def _sbatch(key: str, value: Any) -> dict[str, str | bool]:
    """Further options of sbatch by name, without their dashes."""
    options: dict[str, str | bool] = {}
    for name, given in _mapping(key, value, "options by name, as {nice: 100}").items():
        own = f"{key}.{format_value(name)}"
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UsageError(f"{own}: must be the name of an option of sbatch, as in nice")
        if name in SBATCH_KEYS:
            instead = SBATCH_KEYS[name]
            why = f"is given as {instead}" if instead else "is set by the launcher"
            raise UsageError(f"{own}: {why}")
        options[name] = True if given is True else _text(own, given)  # a flag, as {hold: true}
    return options


def _resources(key: str, value: Any) -> dict[str, float]:
    """Further resources of Ray by name."""
    named = _mapping(key, value, "numbers by name, as {big: 1}")
    for name in named:
        if name in RAY_RESOURCES or not isinstance(name, str) or not name.isidentifier():
            reject(key, format_value(dict(named)), "names other than CPU, GPU and memory")
    check = _amount("a number, 0 or more")
    return {str(name): check(f"{key}.{name}", number) for name, number in named.items()}


# ---------------------------------------------------------------- options


@dataclass(frozen=True)
class SlurmOptions:
    """Each run is a Slurm job; `out` must be on a disk that all nodes share.

    `workers` limits the jobs that run at the same time (auto: as many as Slurm starts).
    """

    partition: str | None = option(
        None, "partition of the jobs; null: the cluster's default", _optional_text
    )
    time: int = option(
        60, "time limit of a job in minutes; a job that reaches it requeues itself and resumes",
        _whole(1, 525_600, "minutes that a job may take"),
    )  # fmt: skip
    cpus: int = option(
        1, "CPU cores per job; a run on the CPU uses one", _whole(1, 1024, "cores of a job")
    )
    memory: float = option(
        2, "memory per job in GB", _gigabytes("GB of a job, above 0", least=0.001)
    )
    gpus: int = option(0, "whole GPUs per job; with one or more, device=auto is cuda", _whole_gpus)
    runs_per_job: int = option(
        1, "runs that a job trains one after the other; use more if runs are short",
        _whole(1, 100_000, "runs that a job trains"),
    )  # fmt: skip
    account: str | None = option(
        None, "account to charge, if the cluster requires one", _optional_text
    )
    qos: str | None = option(None, "quality of service", _optional_text)
    constraint: str | None = option(None, "features that the nodes must have", _optional_text)
    sbatch: Mapping[str, str | bool] | None = option(
        None, "other options of sbatch by name, such as {nice: 100}", _sbatch
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds of devices that a job may train on, best first."""
        return ("cuda", "cpu") if self.gpus else ("cpu",)


@dataclass(frozen=True)
class RayOptions:
    """Each run is a Ray task; `out` must be on a disk that all nodes share.

    `workers` limits the tasks that run at the same time (auto: as many as Ray has room for).
    """

    address: str | None = option(
        None, "auto or host:port of a cluster; null: RAY_ADDRESS, or else Ray on this machine",
        _optional_text,
    )  # fmt: skip
    cpus: float = option(
        1, "CPU cores per task, possibly a fraction; a run on the CPU uses one",
        _amount("cores of a task, 0 or more"),
    )  # fmt: skip
    memory: float = option(
        0,
        "memory that a task reserves, in GB; 0: none",
        _gigabytes("GB that a task reserves, 0 or more"),
    )
    gpus: float = option(
        0, "GPUs per task, possibly a fraction such as 0.25; above 0, device=auto is cuda",
        _amount("GPUs of a task, 0 or more, or a fraction as 0.25"),
    )  # fmt: skip
    runs_per_job: int = option(
        1, "runs that a task trains one after the other; use more if runs are short",
        _whole(1, 100_000, "runs that a task trains"),
    )  # fmt: skip
    resources: Mapping[str, float] | None = option(
        None, "other resources per task by name, such as {big: 1}", _resources
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds of devices that a task may train on, best first."""
        return ("cuda", "cpu") if self.gpus else ("cpu",)


@dataclass(frozen=True)
class LocalOptions:
    """Runs train in worker processes on this machine, the default."""


OPTIONS: Mapping[str, type[SlurmOptions | RayOptions]] = {"slurm": SlurmOptions, "ray": RayOptions}
TARGET = "hydra_plugins._lenet_sweep.LenetLauncher"


def parse(options: type[T], raw: Mapping[str, Any]) -> T:
    """The options that were typed as hydra.launcher.KEY=VALUE.

    Raises UsageError, one line, for the first key that does not exist or value that is not allowed.
    """
    known = {f.name: f for f in fields(options)}  # type: ignore[arg-type] # of a dataclass
    for key, value in raw.items():
        if not known:
            reject(f"{PREFIX}.{key}", value, "left out: this launcher has no options")
        if key not in known:
            unknown_key(f"{PREFIX}.{key}", value, [f"{PREFIX}.{name}" for name in known])
    return options(
        **{
            name: option.metadata["check"](f"{PREFIX}.{name}", raw.get(name, option.default))
            for name, option in known.items()
        }
    )


def to_node(name: str, options: type[Any]) -> dict[str, Any]:
    """What Hydra composes for hydra/launcher=lenet_NAME."""
    defaults = {option.name: option.default for option in fields(options)}
    return {"_target_": TARGET, "executor": name, **defaults}


def describe(options: type[Any]) -> list[str]:
    """A line for each option: 'time: 60   # time limit of a job in minutes'."""
    lines = []
    for option in fields(options):
        setting = f"{option.name}: {'null' if option.default is None else option.default}"
        lines.append(f"{setting:<19} # {option.metadata['help']}")
    return lines


def to_yaml(name: str) -> str:
    """The file of a launcher in conf/hydra/launcher."""
    options = OPTIONS[name]
    first, _, second, *_ = (line.strip() for line in (options.__doc__ or "").splitlines())
    lines = [f"# hydra/launcher=lenet_{name}: {first[0].lower()}{first[1:]}", f"# {second}"]
    lines += [f"_target_: {TARGET}", f"executor: {name}", *describe(options)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for launcher in OPTIONS:
        (config_folder() / "hydra" / "launcher" / f"lenet_{launcher}.yaml").write_text(
            to_yaml(launcher)
        )
