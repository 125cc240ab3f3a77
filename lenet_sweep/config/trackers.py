"""The trackers by name: those of this package, and those that scripts and other packages add.

`tracker=NAME` selects one. Another package adds a tracker with an entry point in the group
"lenet_sweep.trackers": its name is NAME, its value the module that registers the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

from lenet_sweep.config import checks
from lenet_sweep.config.plugins import Plugins
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

# The trackers of this package, and what each imports.
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "optuna": ("optuna",),
}
EXTRAS = {"optuna": "search"}  # the optional dependencies of others have the tracker's name
TRACKERS = Plugins[type[Any]]("lenet_sweep.trackers", "lenet_sweep.track", BUILT_IN)
C = TypeVar("C", bound=type[Any])


def register_tracker(name: str) -> Callable[[C], C]:
    """Decorate a subclass of `lenet_sweep.track.Tracker`, which has no required arguments.

    Raises UsageError for the name of a tracker of this package.
    """

    def register(tracker: C) -> C:
        TRACKERS.register(name, tracker, tracker.__module__)
        return tracker

    return register


def parse_trackers(key: str, value: Any) -> tuple[str, ...]:
    """The names in a value of the key `tracker`: null, a name, or a list of names.

    Raises UsageError for an unknown name, for a name that is given twice, and for a tracker of this
    package whose libraries are not installed.
    """
    if value is None:
        return ()
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    names = [checks.choice(key, name, TRACKERS.names()) for name in (value if is_list else [value])]
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
