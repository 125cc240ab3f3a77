"""Sweeps in a Jupyter notebook: a real kernel runs the cells, with and without a frontend."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import nbformat
import pandas as pd
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat import NotebookNode
from processes import PATIENCE

CELL = """
from lenet_sweep import sweep
table = sweep(lr=[1e-1, 1e-2], epochs={epochs}, dataset="folder", device="cpu", workers=1,
              out={out!r}, name="here", figures="none", **{{"dataset.root": {root!r}}})
"""


@pytest.fixture
def kernel() -> Iterator[Callable[..., list[dict]]]:
    """A function that runs a cell and returns the kernel's messages.

    Its argument `listener` is called with each message.
    """
    manager, client = start_new_kernel()
    assert isinstance(client, BlockingKernelClient)

    def run(code: str, listener: Callable[[dict], None] = lambda _: None) -> list[dict]:
        request = client.execute(code)
        messages = []
        while True:
            try:
                reply = client.get_iopub_msg(timeout=PATIENCE)
            except queue.Empty:
                pytest.fail(f"the kernel has sent no message for {PATIENCE} s")
            if reply["parent_header"].get("msg_id") != request:
                continue
            message = {"kind": reply["msg_type"], **reply["content"], "manager": manager}
            messages.append(message)
            listener(message)
            if message["kind"] == "status" and message["execution_state"] == "idle":
                return messages

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def kinds(messages: list[dict]) -> list[str]:
    return [message["kind"] for message in messages]


def test_progress_is_redrawn_in_place(
    kernel: Callable[..., list[dict]], small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """One output of the cell shows bars and leading rows, and at the end what was done."""
    cell = CELL.format(epochs=120, out=str(tmp_path), root=str(small_folder()))
    messages = kernel(cell)
    assert "error" not in kinds(messages)
    updates = [m for m in messages if m["kind"] == "update_display_data"]
    (first,) = [m for m in messages if m["kind"] in ("display_data", "stream")]
    assert {m["transient"]["display_id"] for m in updates} == {first["transient"]["display_id"]}
    assert any("/2 cells" in m["data"]["text/plain"] for m in updates)
    assert any("━" in m["data"]["text/html"] for m in updates)
    assert re.fullmatch(r"2 of 2 cells done in [\d:]+", updates[-1]["data"]["text/plain"])
    assert len(pd.read_csv(tmp_path / "sweeps" / "here" / "results.csv")) == 2


def test_interrupting_the_kernel_keeps_the_table(
    kernel: Callable[..., list[dict]], small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The cell ends with one line that names the table, and the kernel stays usable."""
    interrupted = []

    def interrupt(message: dict) -> None:
        if message["kind"] == "update_display_data" and not interrupted:
            message["manager"].interrupt_kernel()
            interrupted.append(message)

    messages = kernel(
        CELL.format(epochs=100_000, out=str(tmp_path), root=str(small_folder())), interrupt
    )
    (error,) = [m for m in messages if m["kind"] == "error"]
    assert "Interrupt" in error["ename"]
    (line,) = error["traceback"]
    table = tmp_path / "sweeps" / "here" / "results.csv"
    assert line == (
        f"Interrupted by SIGINT: the table so far is in {table}; the same call resumes the sweep"
    )
    updates = [m for m in messages if m["kind"] == "update_display_data"]
    assert "0 of 2 cells done" in updates[-1]["data"]["text/plain"]
    assert "━" not in updates[-1]["data"]["text/plain"]
    assert table.exists()
    assert "error" not in kinds(kernel("table = 1"))


def execute(*cells: str) -> list[list[NotebookNode]]:
    """The outputs of cells as a notebook without a frontend saves them."""
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_saved_notebook_has_the_final_state(
    small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Without a frontend, too, the progress is one output; the table and its statistics follow."""
    cell = CELL.format(epochs=3, out=str(tmp_path), root=str(small_folder()))
    shown, analyzed, loaded, dry = execute(
        f"{cell}table",
        "import lenet_sweep\nlenet_sweep.analyse(table.attrs['folder'])",
        "lenet_sweep.load_results(table.attrs['folder'])",
        cell.replace("workers=1", "workers=1, dry_run=True, batch=[32, 64]") + "table",
    )
    assert [output.output_type for output in shown] == ["display_data", "execute_result"]
    progress, table = (output.data for output in shown)
    assert re.fullmatch(r"2 of 2 cells done in [\d:]+", progress["text/plain"])
    assert "best 1" in table["text/html"]
    assert "rank" in table["text/plain"]
    assert [output.output_type for output in analyzed] == ["execute_result"]
    assert "Statistics of each row" in analyzed[0].data["text/html"]
    assert analyzed[0].data["text/plain"].startswith("Statistics of 2 rows")
    assert loaded[0].data["text/html"] == table["text/html"]
    assert [output.output_type for output in dry] == ["display_data", "execute_result"]
    assert "2 runs to train" in dry[0].data["text/plain"]
    assert "best 1" not in dry[1].data["text/html"]


def test_many_failures_are_one_output(small_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The output has the last failures, and says how many are not shown."""
    cell = CELL.format(epochs=1, out=str(tmp_path), root=str(small_folder()))
    ((progress,),) = execute(cell.replace("[1e-1, 1e-2]", "[n * 1e30 for n in range(1, 41)]"))
    lines = progress.data["text/plain"].splitlines()
    assert lines[0] == "11 earlier lines are not shown"
    assert len(lines) == 31
    assert all("diverged" in line for line in lines[1:-1])
    assert lines[-1].endswith(", 40 failed")


def test_the_progress_of_figures_is_not_saved(tmp_path: Path) -> None:
    """While figures are drawn, one line says which; the saved notebook does not have it."""
    code = """
        from rich.console import Console
        from lenet_sweep.ui.live_view import LiveView
        view = LiveView(Console())
        view.on_message("no figures of test images: no room")
        view.on_message("figures: drawing cell 1 of 2")
    """
    (drawing,), (done,) = (
        execute(dedent(code)), execute(dedent(code) + "view.on_end()")
    )  # fmt: skip
    assert drawing[0].data["text/plain"].splitlines()[1:] == ["figures: drawing cell 1 of 2"]
    assert done[0].data["text/plain"] == "no figures of test images: no room"
