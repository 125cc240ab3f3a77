"""The options of the executors, which Hydra calls launchers: one dataclass each.

The dataclass defines the name, default, help, and check of each option. The files that Hydra reads,
in conf/hydra/launcher, are generated from it:

    python -m lenet_sweep.config.launchers
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from lenet_sweep.config.checks import finite, integer, reject
from lenet_sweep.config.files import config_folder
from lenet_sweep.config.keys import unknown_key
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

PREFIX = "hydra.launcher"
SBATCH_KEYS = {  # options of sbatch that have a separate key, or ("") that the launcher sets
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
RAY_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")  # not custom resources
MAX_AMOUNT = 1e6
Check = Callable[[str, Any], Any]  # (key, typed value) -> value; raises UsageError
T = TypeVar("T")


def option(default: Any, text: str, check: Check) -> Any:
    """A field of a dataclass of options, with its default, its help, and the check of its value."""
    return field(default=default, metadata={"help": text, "check": check})


# ---------------------------------------------------------------- checks


def _text(key: str, value: Any) -> str:
    """One line of printable text, since it becomes a line of a shell script."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        reject(key, value, "text or a number")
    if isinstance(value, float):  # Hydra parsed it inside {...}, so 1.10 became 1.1
        reject(key, value, f"text; put text that looks like a number in quotes: '{value}'")
    if not str(value).isprintable() or not str(value) or len(str(value)) > 200:
        reject(key, value, "one line of up to 200 printable characters")
    return str(value)


def _optional_text(key: str, value: Any) -> str | None:
    return None if value is None else _text(key, value)


def _integer(low: int, high: int, meaning: str) -> Check:
    return lambda key, value: integer(key, value, low, high, meaning)


def _whole_gpus(key: str, value: Any) -> int:
    if (number := finite(value)) is not None and not number.is_integer():
        reject(key, value, "a whole number of GPUs; only Ray can assign fractions")
    return integer(key, value, 0, 64, "GPUs per job")


def _gigabytes(allowed: str, least: float = 0.0) -> Check:
    def check(key: str, value: Any) -> float:
        number = finite(value)
        if number is None or not least <= number <= MAX_AMOUNT:
            reject(key, value, allowed)
        return number

    return check


def _amount(allowed: str) -> Check:
    """A number of CPUs, GPUs, or custom resources of Ray: a fraction below 1 or a whole number."""

    def check(key: str, value: Any) -> float:
        number = finite(value)
        if number is None or not 0 <= number <= MAX_AMOUNT:
            reject(key, value, allowed)
        if number > 1 and not number.is_integer():
            reject(key, value, "a whole number, or a fraction below 1")
        return number

    return check


def _mapping(key: str, value: Any, allowed: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reject(key, value, allowed)
    return value


def _sbatch(key: str, value: Any) -> dict[str, str | bool]:
    """Other options of sbatch by name, without the leading dashes."""
    options: dict[str, str | bool] = {}
    for name, given in _mapping(key, value, "options by name, such as {nice: 100}").items():
        dotted = f"{key}.{format_value(name)}"
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UsageError(f"{dotted}: must be the name of an option of sbatch, such as nice")
        if name in SBATCH_KEYS:
            separate_key = SBATCH_KEYS[name]
            fix = (
                f"use {separate_key} instead" if separate_key else "set by the launcher; remove it"
            )
            raise UsageError(f"{dotted}={format_value(given)}: {fix}")
        options[name] = True if given is True else _text(dotted, given)  # {hold: true} is a flag
    return options


def _resources(key: str, value: Any) -> dict[str, float]:
    """Custom resources of Ray by name."""
    resources = _mapping(key, value, "numbers by name, such as {big: 1}")
    for name in resources:
        if name in RAY_RESOURCES or not isinstance(name, str) or not name.isidentifier():
            reject(
                key, format_value(dict(resources)), "numbers by name, such as {big: 1}; CPU, GPU, "
                "and memory are set with cpus, gpus, and memory",
            )  # fmt: skip
    check = _amount("a number from 0 to 1000000")
    return {str(name): check(f"{key}.{name}", number) for name, number in resources.items()}


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
        _integer(1, 525_600, "minutes per job"),
    )  # fmt: skip
    cpus: int = option(
        1, "CPU cores per job; a run on the CPU uses one", _integer(1, 1024, "cores per job")
    )
    memory: float = option(
        2,
        "memory per job in GB",
        _gigabytes("a number of GB per job, from 0.001 to 1000000", least=0.001),
    )
    gpus: int = option(0, "whole GPUs per job; with one or more, device=auto is cuda", _whole_gpus)
    runs_per_job: int = option(
        1, "runs that a job trains one after the other; use more if runs are short",
        _integer(1, 100_000, "runs per job"),
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

    `workers` limits the tasks that run at the same time (auto: as many as fit into the cluster).
    """

    address: str | None = option(
        None, "auto or host:port of a cluster; null: RAY_ADDRESS, or else Ray on this machine",
        _optional_text,
    )  # fmt: skip
    cpus: float = option(
        1, "CPU cores per task (can be a fraction); a run on the CPU uses one",
        _amount("a number of cores per task, from 0 to 1000000"),
    )  # fmt: skip
    memory: float = option(
        0,
        "memory that a task reserves, in GB; 0: none",
        _gigabytes("a number of GB per task, from 0 to 1000000"),
    )
    gpus: float = option(
        0, "GPUs per task (can be a fraction, such as 0.25); above 0, device=auto is cuda",
        _amount("a number of GPUs per task, from 0 to 1000000"),
    )  # fmt: skip
    runs_per_job: int = option(
        1, "runs that a task trains one after the other; use more if runs are short",
        _integer(1, 100_000, "runs per task"),
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
    """The options given as hydra.launcher.KEY=VALUE, as an instance of the dataclass `options`.

    Raises UsageError, one line, for the first key that does not exist or value that is not allowed.
    """
    by_name = {f.name: f for f in fields(options)}  # type: ignore[arg-type] # T is any dataclass
    for key, value in raw.items():
        if not by_name:
            raise UsageError(
                f"{PREFIX}.{key}={format_value(value)}: this launcher has no options; remove it"
            )
        if key not in by_name:
            unknown_key(f"{PREFIX}.{key}", value, [f"{PREFIX}.{name}" for name in by_name])
    return options(
        **{
            name: option.metadata["check"](f"{PREFIX}.{name}", raw.get(name, option.default))
            for name, option in by_name.items()
        }
    )


def to_node(name: str, options: type[Any]) -> dict[str, Any]:
    """The node that Hydra composes for hydra/launcher=lenet_NAME."""
    defaults = {option.name: option.default for option in fields(options)}
    return {"_target_": TARGET, "executor": name, **defaults}


def describe(options: type[Any]) -> list[str]:
    """One line per option, such as 'time: 60   # time limit of a job in minutes'."""
    lines = []
    for option in fields(options):
        setting = f"{option.name}: {'null' if option.default is None else option.default}"
        lines.append(f"{setting:<19} # {option.metadata['help']}")
    return lines


def to_yaml(name: str) -> str:
    """The content of conf/hydra/launcher/lenet_NAME.yaml."""
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
