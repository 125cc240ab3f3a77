"""Notebooks as Markdown, so that their pages on the site are like the others.

The links between them and other pages are checked, they follow the theme in light and dark mode,
and nothing is loaded from another server.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any


def to_markdown(path: Path) -> str:
    """The cells of a notebook with their saved outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        parts += map(_output, cell.get("outputs", []))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    if "image/png" in data:
        width = output.get("metadata", {}).get("image/png", {}).get("width")
        size = f' width="{width}"' if width else ""
        picture = data["image/png"].replace("\n", "")
        alt = escape(data.get("text/plain", "Picture"))
        return f'<img alt="{alt}"{size} src="data:image/png;base64,{picture}">'
    if "<table" in data.get("text/html", ""):
        # The theme has styles only for tables without a class; pandas adds its own.
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        html = re.sub(r"<table[^>]*>", "<table>", html)
        return f'<div style="overflow-x: auto">\n{html}\n</div>'
    text = data.get("text/plain") or "".join(output.get("text", ""))
    return f"```text\n{text.rstrip()}\n```"
