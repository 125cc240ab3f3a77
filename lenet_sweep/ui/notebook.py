"""An output of a Jupyter notebook that is redrawn in place."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

REDRAW_EVERY = 0.5  # seconds; a notebook keeps up with this rate, even over a network
MAX_LINES = 30  # lines that stay; the table has every failure
HTML = '<pre style="line-height: 1.3; overflow-x: auto; white-space: pre">{code}</pre>'


class NotebookDisplay:
    """One output of a cell: the printed lines and, from `start` to `stop`, a frame below them.

    A saved notebook has the last MAX_LINES lines, without the frame. In a notebook, rich's Live
    needs ipywidgets, and each line that rich prints is an output of its own. This class needs only
    IPython.
    """

    def __init__(self, frame: Callable[[], Text]) -> None:
        self._frame = frame
        self._lines: deque[Text] = deque(maxlen=MAX_LINES)
        self._printed = 0
        self._status: Text | None = None
        self._drawn = Text()
        self._handle: DisplayHandle | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def print(self, line: Text) -> None:
        """Add a line. While the frame is redrawn, it appears with the next frame."""
        with self._lock:
            self._lines.append(line)
            self._printed += 1
        if not self._thread:
            self._draw()

    def show_status(self, line: Text) -> None:
        """Show a line in place of the previous status, until `stop` is called."""
        with self._lock:
            self._status = line
        if not self._thread:
            self._draw()

    def start(self) -> None:
        """Redraw the frame until `stop` is called."""
        self._thread = threading.Thread(target=self._redraw, name="notebook", daemon=True)
        self._draw()
        self._thread.start()

    def stop(self) -> None:
        """Remove the frame and the status."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
        self._thread = self._status = None
        self._draw()

    def _redraw(self) -> None:
        while not self._stopped.wait(REDRAW_EVERY):
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - installed only with notebooks

        with self._lock:
            text = self._text()
            if text == self._drawn:
                return
            self._drawn = text
            content = as_mime(text)
            if self._handle is None:
                self._handle = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call] # IPython
            else:
                self._handle.update(content, raw=True)  # type: ignore[no-untyped-call] # IPython

    def _text(self) -> Text:
        lines = list(self._lines)
        if omitted := self._printed - len(lines):
            text = "line is" if omitted == 1 else "lines are"
            lines.insert(0, Text(f"{omitted} earlier {text} not shown", Style(dim=True)))
        if self._status:
            lines.append(self._status)
        if self._thread:
            lines.append(self._frame())
        return Text("\n").join(lines)


def as_mime(text: Text) -> dict[str, str]:
    """The text as HTML with its styles, and as plain text for programs that show no HTML."""
    width = max(1, *(line.cell_len for line in text.split()))
    console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
    console.print(text, soft_wrap=True)
    html = console.export_html(inline_styles=True, code_format=HTML)
    return {"text/html": html, "text/plain": text.plain}
