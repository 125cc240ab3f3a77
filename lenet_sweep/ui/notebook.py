"""An output of a Jupyter notebook that is redrawn in place."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

REDRAW_EVERY = 0.5  # seconds; a notebook keeps up with this rate, even over a network
HTML = '<pre style="line-height: 1.3; overflow-x: auto">{code}</pre>'


class NotebookDisplay:
    """Shows the text that `frame` returns in one output of the cell, from `start` to `stop`.

    In a notebook, rich's Live needs ipywidgets. This class needs only IPython.
    """

    def __init__(self, frame: Callable[[], Text]) -> None:
        self._frame = frame
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="notebook", daemon=True)

    def start(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - installed only with notebooks

        first = as_mime(self._frame())
        self._handle = display(first, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._thread.start()

    def stop(self) -> None:
        """Clear the output."""
        self._stopped.set()
        self._thread.join()
        self._handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def _redraw(self) -> None:
        while not self._stopped.wait(REDRAW_EVERY):
            self._handle.update(as_mime(self._frame()), raw=True)


def as_mime(text: Text) -> dict[str, str]:
    """The text as HTML with its styles, and as plain text for programs that show no HTML."""
    width = max(1, *(line.cell_len for line in text.split()))
    console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
    console.print(text, soft_wrap=True)
    html = console.export_html(inline_styles=True, code_format=HTML)
    return {"text/html": html, "text/plain": text.plain}
