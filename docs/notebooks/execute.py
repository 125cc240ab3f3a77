"""Execute the notebooks in this folder and save their outputs: python docs/notebooks/execute.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
# Instead of the version of the kernel.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path, folder: Path, setup: str = "") -> NotebookNode:
    """Run the cells of a notebook in `folder`, and return it with their outputs.

    setup: code that runs before the first cell. Raises CellExecutionError if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    notebook.cells = [nbformat.v4.new_code_cell(setup), *cells] if setup else cells
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=os.environ | {"LOGNAME": "maintainer"})
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/jpeg", None)  # Pillow gives pictures in two formats
    notebook.cells = cells
    notebook.metadata = METADATA
    return notebook


def main() -> None:
    """Execute the notebooks, each in an empty folder."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), path)


if __name__ == "__main__":
    main()
