"""A matplotlib figure as an SVG that stands inside the page and takes the page's colours.

Figures are drawn in the stand-in colours below; in the page these are CSS variables, so that one
drawing is right in light, in dark and on paper.
"""

from __future__ import annotations

import html
import io
import re
from contextlib import AbstractContextManager
from typing import Any, Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.style import STYLE, styled

ROOM: Final = 0.06  # inches around texts, for fonts that are wider than matplotlib's
INK: Final = "#010203"
QUIET: Final = "#010204"
LINE: Final = "#010205"
FAINT: Final = "#010206"
PAPER: Final = "#010207"
# The last of the shared colours is black, which is the ink of the page.
SERIES: Final = (*COLORS[:-1], INK)
_VARIABLES: Final = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
} | {colour.lower(): f"var(--series-{n})" for n, colour in enumerate(COLORS[:-1])}
_LOOK: Final[dict[str, Any]] = STYLE | {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "axes.labelcolor": QUIET,
    "axes.titlecolor": INK,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "font.size": 11,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "path.simplify": True,
    "svg.fonttype": "none",  # text stays text: it can be read, found and selected
    "text.color": INK,
    "xtick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.color": QUIET,
    "ytick.labelcolor": QUIET,
}


def page_style(**settings: Any) -> AbstractContextManager[None]:
    """The look of the page's figures, for a `with` around whatever makes one."""
    return styled(_LOOK | settings)


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an <svg> element, cleared afterwards; wider where its texts need that.

    name: of letters, for ids that no other figure of the page has. title: what is to be seen, for
    who does not see it.
    """
    content = io.BytesIO()
    FigureCanvasSVG(figure)
    try:
        with page_style(**{"svg.hashsalt": name}):
            whole = Bbox.union([figure.bbox_inches, figure.get_tightbbox().padded(ROOM)])
            figure.savefig(
                content, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=whole
            )
    finally:
        figure.clear()
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # matplotlib's style sheet would be the whole page's: style.css has it for charts alone.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Every figure has a "patch_1": only what is referred to keeps an id, under the figure's name.
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", text))
    text = re.sub(
        r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text
    )
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", _font, text)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    opening = (
        f'<svg class="chart" role="img" aria-labelledby="{name}-title" '
        f'viewBox="0 0 {width} {height}" style="--width:{float(width):.0f}px" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
    )
    return opening + text[text.index(">") + 1 :].strip()


def _font(found: re.Match[str]) -> str:
    """The page's font, in the size and weight of the figure."""
    weight = f";font-weight:{found[1]}" if found[1] else ""
    return f"font-size:{found[2]}px{weight}"
