"""
The look that all figures share, and the one way they are made, titled and saved.

No window is opened, pyplot is not used and `matplotlib.rcParams` are restored afterwards. They are
global to the process, so one thread at a time makes or saves figures; the others wait.
"""

import io
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

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
    "text.hinting": "none",  # a quarter faster, and no different at this resolution
    "text.parse_math": False,  # a label such as "$HOME_a" is shown as typed
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}
MARGIN: Final = 0.08  # inches


_RC_LOCK: Final = threading.RLock()  # held while rcParams are changed: sweeps may run in threads


@contextmanager
def styled(style: Mapping[str, Any] = STYLE) -> Iterator[None]:
    """
    The look of all figures, for a `with`: matplotlib's own defaults and `style`, whatever the
    user's matplotlibrc says, so that the same input draws the same picture everywhere.
    """
    with _RC_LOCK, matplotlib.style.context(dict(style), after_reset=True):
        yield


def save(figure: Figure, path: Path) -> Path:
    """
    Write `figure` as the PNG `path`, whole or not at all, and clear it: it cannot be used again.

    The same figure gives the same bytes. `ValueError` if `path` does not end in .png, `OSError` if
    its folder is missing or cannot be written; what stood at `path` then still stands.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path.name}: figures are written as .png")
    drawn = io.BytesIO()
    quick: dict[str, Any] = {"compress_level": 3}  # half the time of 6, a quarter larger
    try:
        with styled():  # ticks are made while drawing
            figure.savefig(
                drawn, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs=quick
            )
    finally:
        figure.clear()
    atomic.replace_file(path, drawn.getvalue())
    return path


def width_of(text: str, **font: Any) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(**font), False)
    return float(width) / 72


def wrapped(text: str, inches: float, **font: Any) -> str:
    text = one_line(text)
    fits = int(len(text) * inches / max(width_of(text, **font), 0.01))
    return textwrap.fill(text, max(fits - 2, 1), break_on_hyphens=False)


def titled(width: float, height: float, title: str, note: str) -> tuple[Figure, float]:
    """A figure with `height` inches below its title and note, and the part of it they are."""
    title = wrapped(title, width - 2 * MARGIN, size=12.5, weight="bold")
    above = 0.53 + 0.22 * (title.count("\n") + 1) + 0.2 * note.count("\n")
    figure = Figure((width, height + above))
    FigureCanvasAgg(figure)
    x, top = MARGIN / width, height + above
    figure.suptitle(title, x=x, y=1 - MARGIN / top, ha="left")
    figure.text(x, (height + 0.2) / top, note, color=QUIET, va="bottom", linespacing=1.35)
    return figure, height / top
