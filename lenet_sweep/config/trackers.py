"""The trackers by name: those of this package, and those that users and other packages add.

`tracker=NAME` selects one. Another package adds a tracker with an entry point in the group
"lenet_sweep.trackers": its name is NAME, its value the module that registers the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, TypeVar

from lenet_sweep.config import checks
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

GROUP = "lenet_sweep.trackers"
# The trackers of this package, and what each imports.
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "optuna": ("optuna",),
}
EXTRAS = {"optuna": "search"}  # the optional dependencies of others have the tracker's name
C = TypeVar("C", bound=type[Any])

_registered: dict[str, type[Any]] = {}


def register_tracker(name: str) -> Callable[[C], C]:
    """Decorate a subclass of `lenet_sweep.track.Tracker`, which has no required arguments."""

    def register(tracker: C) -> C:
        _registered[name] = tracker
        return tracker

    return register


@cache
def _modules() -> dict[str, str]:
    """The module that registers each tracker, by name."""
    added = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    return added | {name: f"lenet_sweep.track.{name}" for name in BUILT_IN}


def tracker_names() -> tuple[str, ...]:
    """The names of all trackers, those of this package first."""
    return (*BUILT_IN, *sorted((_modules().keys() | _registered.keys()) - set(BUILT_IN)))


def find_tracker(name: str) -> type[Any]:
    """The class of a tracker. Raises KeyError if its module does not register it."""
    if name not in _registered:
        import_module(_modules()[name])
    return _registered[name]


def parse_trackers(key: str, value: Any) -> tuple[str, ...]:
    """The names in a value of the key `tracker`: null, a name, or a list of names.

    Raises UsageError for an unknown name, for a name that is given twice, and for a tracker of this
    package whose libraries are not installed.
    """
    if value is None:
        return ()
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    names = [checks.choice(key, name, tracker_names()) for name in (value if is_list else [value])]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{key}=[{','.join(names)}]: {name} is named twice; name each tracker once"
            )
        missing = [module for module in BUILT_IN.get(name, ()) if find_spec(module) is None]
        if missing:
            raise UsageError(
                f"{key}={format_value(name)}: requires {missing[0]}, which is not installed; "
                f"run: pip install 'lenet-sweep[{EXTRAS.get(name, name)}]'"
            )
    return tuple(names)
