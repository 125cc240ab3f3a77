"""Sweeps in a Jupyter notebook: a real kernel runs the cells, and its messages are read."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from processes import PATIENCE

CELL = """
from lenet_sweep import sweep
table = sweep(lr=[1e-1, 1e-2], epochs={epochs}, dataset="folder", device="cpu", workers=1,
              out={out!r}, name="here", **{{"dataset.root": {root!r}}})
"""


@pytest.fixture
def kernel() -> Iterator[Callable[..., list[dict]]]:
    """A function that runs a cell and returns the kernel's messages; it is called with each."""
    manager, client = start_new_kernel()
    assert isinstance(client, BlockingKernelClient)

    def run(code: str, hear: Callable[[dict], None] = lambda _: None) -> list[dict]:
        asked = client.execute(code)
        found = []
        while True:
            try:
                message = client.get_iopub_msg(timeout=PATIENCE)
            except queue.Empty:
                pytest.fail("the kernel is silent")
            if message["parent_header"].get("msg_id") != asked:
                continue
            found.append({"kind": message["msg_type"], **message["content"], "manager": manager})
            hear(found[-1])
            if found[-1]["kind"] == "status" and found[-1]["execution_state"] == "idle":
                return found

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def kinds(messages: list[dict]) -> list[str]:
    return [message["kind"] for message in messages]


def test_progress_is_redrawn_in_place(
    kernel: Callable[..., list[dict]], small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """One output shows bars and leading rows and is updated; at the end it is empty."""
    cell = CELL.format(epochs=300, out=str(tmp_path), root=str(small_folder()))
    messages = kernel(cell)
    assert "error" not in kinds(messages)
    shown = [m for m in messages if m["kind"] == "update_display_data"]
    (first,) = [m for m in messages if m["kind"] == "display_data" and m["transient"]]
    assert {m["transient"]["display_id"] for m in shown} == {first["transient"]["display_id"]}
    assert any("/2 cells" in m["data"]["text/plain"] for m in shown)
    assert any("━" in m["data"]["text/html"] for m in shown)
    assert shown[-1]["data"]["text/plain"] == ""
    assert any("2 of 2 cells done" in str(m.get("data")) for m in messages)
    assert len(pd.read_csv(tmp_path / "sweeps" / "here" / "results.csv")) == 2


def test_interrupting_the_kernel_keeps_the_table(
    kernel: Callable[..., list[dict]], small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The cell ends with a KeyboardInterrupt that says where the table is; the kernel lives on."""

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
    assert str(tmp_path / "sweeps" / "here") in error["evalue"]
    assert (tmp_path / "sweeps" / "here" / "results.csv").exists()
    assert "error" not in kinds(kernel("table = 1"))
