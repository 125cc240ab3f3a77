"""The style of the page's charts, and their conversion to inline SVGs in the page's colors.

Figures are drawn in the placeholder colors below. In the SVG they become CSS variables, so the same
chart fits the light page, the dark page, and paper.
"""

from __future__ import annotations

import html
import io
import re
from contextlib import AbstractContextManager
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.marks import ID_PREFIX, Marks, to_json
from lenet_sweep.report.style import STYLE, styled

PADDING: Final = 0.06  # inches around texts: the page's font may be wider than matplotlib's
ACCURACY_LABEL: Final = "Accuracy (%), log error scale"
INK: Final = "#010203"
QUIET: Final = "#010204"
LINE: Final = "#010205"
FAINT: Final = "#010206"
PAPER: Final = "#010207"
# The last of COLORS is black, which would be invisible on the dark page.
SERIES: Final = (*COLORS[:-1], INK)
_VARIABLES: Final = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
} | {color.lower(): f"var(--series-{n})" for n, color in enumerate(COLORS[:-1])}
_PAGE_STYLE: Final[dict[str, Any]] = STYLE | {
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
    "svg.fonttype": "none",  # keep text as text, which can be searched and selected
    "text.color": INK,
    "xtick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.color": QUIET,
    "ytick.labelcolor": QUIET,
}


def page_style(**settings: Any) -> AbstractContextManager[None]:
    """Context manager that applies the style of the page's charts, plus `settings` (rcParams)."""
    return styled(_PAGE_STYLE | settings)


def page_figure(width: float, height: float, left: float = 0.72) -> tuple[Figure, Axes]:
    """A figure with one chart. width, height, left (margin): inches.

    Labels get a fixed margin: matplotlib's layout engines take longer than drawing the chart.
    """
    figure = Figure((width, height))
    bottom, right, top = 0.52, 0.14, 0.12
    box = (
        left / width, bottom / height, (width - left - right) / width,
        (height - bottom - top) / height,
    )  # fmt: skip
    return figure, figure.add_axes(box)


def to_svg(figure: Figure, name: str, title: str, marks: Marks | None = None) -> str:
    """Convert `figure` to an <svg> element, large enough for all of its texts, and clear it.

    name: prefix of the element's ids, unique on the page; letters, digits, and hyphens. title: a
    description for screen readers. marks: the values at its points and lines, if any.
    """
    content = io.BytesIO()
    metadata = ""
    FigureCanvasSVG(figure)
    try:
        with page_style(**{"svg.hashsalt": name}):
            box = Bbox.union([figure.bbox_inches, figure.get_tightbbox().padded(PADDING)])
            figure.savefig(
                content, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=box
            )
            if marks is not None:
                values = html.escape(to_json(marks, figure, box), quote=False)
                metadata = f"<metadata>{values}</metadata>"
    finally:
        figure.clear()
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # matplotlib's style sheet would apply to the whole page; style.css has these rules for .chart.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(rf' id="{ID_PREFIX}(\d+)"', r' data-mark="\1"', text)
    # Ids such as "patch_1" are in every figure: keep only those that are referenced, with a prefix.
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", text))
    text = re.sub(
        r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text
    )
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    text = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", _font, text)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    opening = (
        f'<svg class="chart" role="img" aria-labelledby="{name}-title" '
        f'viewBox="0 0 {width} {height}" style="--width:{float(width):.0f}px" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{html.escape(title)}</title>{metadata}'
    )
    return opening + text[text.index(">") + 1 :].strip()


def _font(match: re.Match[str]) -> str:
    """Size and weight of a font; the family is the page's."""
    weight = f";font-weight:{match[1]}" if match[1] else ""
    return f"font-size:{match[2]}px{weight}"
