"""The files in the folder `templates`: the template of the page, its style and its scripts."""

from functools import cache
from importlib.resources import files


@cache
def asset(name: str) -> str:
    """The text of a file in the templates folder."""
    return (files("lenet_sweep.report") / "templates" / name).read_text(encoding="utf-8")
