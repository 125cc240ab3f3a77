"""What other installed packages add to this one."""

from functools import cache
from importlib.metadata import EntryPoints, entry_points

# Reading one group takes as long as reading all: it opens a file of every installed package.
_all_entry_points = cache(entry_points)


def installed_entry_points(group: str) -> EntryPoints:
    """The entry points of a group, such as "lenet_sweep.executors"."""
    return _all_entry_points().select(group=group)
