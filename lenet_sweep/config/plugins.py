"""Plugins by name: those of this package, and those that scripts and other packages add."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from typing import Generic, TypeVar

from lenet_sweep.core.errors import UsageError
from lenet_sweep.machine.installed import installed_entry_points

P = TypeVar("P")


class Plugins(Generic[P]):
    """The plugins of one kind, by name. The module of a plugin registers it when it is imported.

    group: the entry points of other packages; the name of one is that of the plugin, and its value
    the module. package: has a module of its name for each plugin in `built_in`; entry points with
    these names are ignored.
    """

    def __init__(self, group: str, package: str, built_in: Iterable[str]) -> None:
        self._group = group
        self._built_in = {name: f"{package}.{name}" for name in built_in}
        self._registered: dict[str, P] = {}

    def register(self, name: str, plugin: P, module: str) -> None:
        """Add a plugin, or replace the one of this name. module: the one that defines it.

        Raises UsageError for the name of a plugin of this package.
        """
        if self._built_in.get(name, module) != module:
            raise UsageError(
                f"{name}: lenet-sweep has a plugin of this name; choose another name in {module}"
            )
        self._registered[name] = plugin

    def names(self) -> tuple[str, ...]:
        """The names of all plugins, those of this package first."""
        added = (self._modules.keys() | self._registered.keys()) - self._built_in.keys()
        return (*self._built_in, *sorted(added))

    def find(self, name: str) -> P:
        """The plugin of a name. Raises KeyError if its module does not register it."""
        if name not in self._registered:
            import_module(self._modules[name])
        return self._registered[name]

    @cached_property
    def _modules(self) -> dict[str, str]:
        """The module that registers each plugin, by name."""
        added = {entry.name: entry.value for entry in installed_entry_points(self._group)}
        return added | self._built_in
