"""The notebooks of the documentation: they run, and their saved outputs are complete and clean."""

import importlib.util
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.name for path in PATHS]
# Absolute paths, and addresses of objects.
MACHINE = r"/(home|root|tmp|work|Users|usr|opt|var)/|[A-Z]:\\|<.* at 0x"
# Replaces `sweep` by one that trains on a small dataset.
SMALL = """
import lenet_sweep
from lenet_sweep import api

def small_sweep(**settings):
    folder = {{"dataset": "folder", "dataset.root": {root!r}}}
    return api.sweep(**settings, **folder, device="cpu", workers=2)

lenet_sweep.sweep = small_sweep
"""


def load(path: Path) -> ModuleType:
    """A module that is not part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load(FOLDER / "execute.py")


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_the_site_has_all_notebooks() -> None:
    """The navigation of the site lists every notebook."""
    assert len(PATHS) == 3
    navigation = (ROOT / "mkdocs.yml").read_text()
    for path in PATHS:
        assert f": notebooks/{path.stem}.md\n" in navigation


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_pages_have_the_saved_outputs(path: Path) -> None:
    """The page of a notebook has its code, tables in the style of the site, texts and pictures."""
    page = load(ROOT / "docs" / "notebook_pages.py").to_markdown(path)
    assert page.startswith("# ")
    for cell in code_cells(path):
        assert f"```python\n{cell.source}\n```" in page
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                assert data["image/png"].strip() in page
            elif "<table" in data.get("text/html", ""):
                last_cell = data["text/html"].rpartition("</td>")[0].rpartition(">")[2]
                assert f">{last_cell}</td>" in page
            else:
                assert data.get("text/plain", output.get("text", "")).strip() in page
    assert "<style" not in page
    assert 'class="dataframe"' not in page


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebook_runs(
    path: Path, script: ModuleType, tmp_path: Path, small_folder: Callable[..., Path]
) -> None:
    """Every cell runs on a small dataset, and shows as many outputs as the saved notebook."""
    notebook = script.execute(path, tmp_path, SMALL.format(root=str(small_folder())))
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, saved in zip(executed, code_cells(path), strict=True):
        kinds = [sorted(output.get("data", {"stream": ""})) for output in cell.outputs]
        saved_kinds = [sorted(output.get("data", {"stream": ""})) for output in saved.outputs]
        assert kinds == saved_kinds, cell.source


@pytest.mark.slow
def test_a_cell_that_raises_is_reported(script: ModuleType, tmp_path: Path) -> None:
    """The error has the source of the cell and the exception."""
    path = tmp_path / "broken.ipynb"
    cell = nbformat.v4.new_code_cell("raise ValueError('no images')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(Exception, match="no images"):
        script.execute(path, tmp_path)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_saved_outputs_are_complete_and_clean(path: Path) -> None:
    """All cells were executed in order, without errors, and nothing tells on which machine."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell.metadata == {}
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            texts = [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
            text = "".join([*texts, output.get("text", "")])
            assert not re.search(MACHINE, text)
            assert socket.gethostname() not in text
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebook_is_short(path: Path) -> None:
    """A notebook has at most 500 words of prose."""
    prose = " ".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert len(prose.split()) <= 500


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_links_exist(path: Path) -> None:
    """Every relative link points to a page of the documentation."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?://)([^)#]+)", cell.source):
                assert (FOLDER / target).exists(), target
