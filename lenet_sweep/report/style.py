"""The style of all matplotlib figures, and functions to lay out titles and to save figures.

Figures are made without pyplot and without opening a window. Functions here change
`matplotlib.rcParams` and restore them; since rcParams are global to the process, only one thread
at a time draws or saves a figure.
"""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from PIL import Image

from lenet_sweep.core.text import one_line
from lenet_sweep.storage import atomic

DPI: Final = 150
QUIET: Final = "#666666"
FAINT: Final = "#BDBDBD"
STYLE: Final[dict[str, Any]] = {
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": DPI,
    "figure.titlesize": 12.5,
    "figure.titleweight": "bold",
    "font.size": 9.5,
    "grid.color": "#E4E4E4",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.hinting": "none",  # a quarter faster, with no visible difference at this resolution
    "text.parse_math": False,  # show a label such as "$HOME_a" as typed
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}
MARGIN: Final = 0.08  # inches


@dataclass(frozen=True)
class Layout:
    """The size of figures and of their texts.

    width: inches; None: each figure has its own. font, legend: sizes in points, of the labels of
    axes and of legends. scale: of lines and markers. dpi: of PNG files. titled: whether figures
    have a title and a note, which a paper has in its caption.
    """

    name: str
    width: float | None
    font: float
    legend: float
    scale: float
    dpi: int
    titled: bool

    @property
    def style(self) -> dict[str, Any]:
        """The settings for `styled`."""
        if self.titled:
            return STYLE
        return STYLE | {
            "axes.linewidth": 0.6,
            "axes.labelpad": 3,
            "figure.dpi": self.dpi,
            "font.size": self.font,
            "grid.linewidth": 0.6,
            "legend.fontsize": self.legend,
            "lines.linewidth": 1.8 * self.scale,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
        }


SCREEN: Final = Layout("screen", None, font=9.5, legend=9, scale=1, dpi=DPI, titled=True)
# The widths of IEEE's columns, 88.9 and 181.9 mm; those of other publishers are within 5%.
LAYOUTS: Final = {
    "screen": SCREEN,
    "single": Layout("single", 3.5, font=7.5, legend=7, scale=0.65, dpi=300, titled=False),
    "double": Layout("double", 7.16, font=8, legend=7.5, scale=0.75, dpi=300, titled=False),
}
# The last bytes of a complete file of each format.
ENDS: Final = {"png": b"IEND\xaeB`\x82", "pdf": b"%%EOF\n", "svg": b"</svg>\n"}

_RC_LOCK: Final = threading.RLock()  # held while rcParams are changed; sweeps may run in threads


@contextmanager
def styled(style: Mapping[str, Any] = STYLE) -> Iterator[None]:
    """Context manager that applies `style` on top of matplotlib's defaults.

    The user's matplotlibrc is ignored, so the same input gives the same picture everywhere.
    """
    with _RC_LOCK, matplotlib.style.context(dict(style), after_reset=True):
        yield


def render(figure: Figure, layout: Layout = SCREEN) -> NDArray[np.uint8]:
    """The pixels of `figure`, (height, width, 4) with channels RGBA; clears the figure."""
    canvas = FigureCanvasAgg(figure)
    try:
        with styled(layout.style):  # ticks are created while drawing
            canvas.draw()  # type: ignore[no-untyped-call] # matplotlib has no annotations here
            return np.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call] # as above
    finally:
        figure.clear()


def vector_graphics(figure: Figure, suffix: str, layout: Layout = SCREEN) -> bytes:
    """`figure` as a PDF or SVG file (`suffix`: pdf or svg), with texts as text; clears the figure.

    The same figure gives the same bytes with the same version of matplotlib.
    """
    content = io.BytesIO()
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}[suffix]
    fonts = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "lenet-sweep"}
    try:
        with styled(layout.style | fonts):
            figure.savefig(content, format=suffix, metadata=metadata)
    finally:
        figure.clear()
    return content.getvalue()


def save(pixels: NDArray[np.uint8], path: Path, dpi: int = DPI) -> Path:
    """Write the pixels of an opaque figure atomically as the PNG file `path`.

    The same pixels give the same bytes. Raises ValueError if `path` does not end in .png, and
    OSError if its folder is missing or cannot be written; an existing file is then unchanged.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path.name}: figures are saved as .png only; change the suffix to .png")
    content = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    # compress_level: half the time of level 6, 25% larger.
    picture.save(content, format="PNG", dpi=(dpi, dpi), compress_level=3)
    atomic.replace_file(path, content.getvalue())
    return path


def text_width(text: str, **font: Any) -> float:
    """The width of `text` in inches; `font`: properties such as size and weight."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(**font), False)
    return float(width) / 72


def wrap_text(text: str, inches: float, **font: Any) -> str:
    """`text` broken into lines of at most about `inches`."""
    text = one_line(text)
    characters = int(len(text) * inches / max(text_width(text, **font), 0.01))
    return textwrap.fill(text, max(characters - 2, 1), break_on_hyphens=False)


def wrap_legend(
    entries: Sequence[str], layout: Layout, width: float
) -> tuple[list[str], int, float]:
    """Legend entries in lines that fit a figure of `width` inches.

    Returns the entries, the number of columns, and the height of the legend in inches.
    """
    size, padding = layout.legend, 0.75 * layout.legend / 9  # inches beside the text of an entry
    wrapped = [wrap_text(entry, width - 2 * padding, size=size) for entry in entries]
    widest = max(text_width(line, size=size) for entry in wrapped for line in entry.split("\n"))
    columns = min(3, len(wrapped), int(width / (widest + padding)) or 1)
    lines = [entry.count("\n") + 1 for entry in wrapped]
    most = max(sum(column) for column in np.array_split(lines, columns))
    return wrapped, columns, 0.205 * size / 9 * float(most)


def titled_figure(
    width: float, height: float, title: str, note: str, layout: Layout = SCREEN
) -> tuple[Figure, float]:
    """A figure with a title, a note, and `height` inches of space below them.

    Without a title (`layout.titled`), only a margin is above the space. Returns the figure and the
    share of its total height that this space is.
    """
    if not layout.titled:
        figure = Figure((width, height + MARGIN))
        FigureCanvasAgg(figure)
        return figure, height / (height + MARGIN)
    title = wrap_text(title, width - 2 * MARGIN, size=12.5, weight="bold")
    above = 0.53 + 0.22 * (title.count("\n") + 1) + 0.2 * note.count("\n")
    figure = Figure((width, height + above))
    FigureCanvasAgg(figure)
    x, total = MARGIN / width, height + above
    figure.suptitle(title, x=x, y=1 - MARGIN / total, ha="left")
    figure.text(x, (height + 0.2) / total, note, color=QUIET, va="bottom", linespacing=1.35)
    return figure, height / total
