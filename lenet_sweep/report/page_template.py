"""The compiled template of the page.

Compiling takes 0.2 s, so a sweep imports this module while its runs train.
"""

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template, select_autoescape

from lenet_sweep.core.text import one_line
from lenet_sweep.report.assets import asset


def _compile() -> Template:
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["one_line"] = lambda value: one_line(str(value))
    environment.filters["lines"] = _escape_lines
    return environment.get_template("page.html.jinja")


def _escape_lines(text: str) -> str:
    """Text of several lines, with control and text-direction characters escaped."""
    return "\n".join(_escape_line(line) for line in text.splitlines())


def _escape_line(line: str) -> str:
    """A line with its spaces and tabs, and with other unprintable characters escaped."""
    return "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line
    )


TEMPLATE = _compile()
