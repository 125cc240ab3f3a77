"""The keys whose values are text and are kept as typed: name=1.10 is not the number 1.1."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.executors.options import PREFIX
from lenet_sweep.executors.registry import EXECUTORS

# Keys of this package, apart from the options of executors.
TEXT_KEYS = frozenset({
    "name", "person", "out", "dataset.root",
    *(f"study.{key}" for key in ("title", "source", "claims.says")),
    *(f"study.{part}.reported_{what}" for part in ("rows", "common") for what in ("by", "on")),
    *(f"study.{part}.dataset.root" for part in ("rows", "common")),
})  # fmt: skip
# Options of Hydra's own launchers for submitit.
SUBMITIT_KEYS = frozenset(
    f"{PREFIX}.{key}"
    for key in (
        "account", "comment", "constraint", "exclude", "mail_type", "mail_user", "name", "nodelist",
        "partition", "qos", "reservation", "submitit_folder",
    )
)  # fmt: skip


def takes_text(key: str, *, flag: bool = False) -> bool:
    """Whether the values of a dotted key are text, also if the key is an axis of a grid.

    flag: the value is true or false. It is then not text inside a mapping of an executor, such as
    hydra.launcher.sbatch.
    """
    name = key.removeprefix("hydra.sweeper.params.")
    if name in TEXT_KEYS or name in SUBMITIT_KEYS or name in _executor_keys():
        return True
    if name.startswith("model."):  # an option of a user's model
        return isinstance(OPTION_DEFAULTS.get(name), str)
    mapping, _, _ = name.rpartition(".")
    return mapping in _executor_keys() and not flag


@cache
def _executor_keys() -> frozenset[str]:
    """The options that executors declare as text, those of other packages included."""
    return frozenset(
        f"{PREFIX}.{option.name}"
        for name in EXECUTORS.names()
        for option in fields(EXECUTORS.find(name).options)
        if option.metadata["text"]
    )
