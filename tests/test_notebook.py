"""Sweeps in a Jupyter notebook, with a real kernel that runs the cells."""

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
    """One output of the cell shows bars and leading rows, is updated, and is empty at the end."""
    cell = CELL.format(epochs=300, out=str(tmp_path), root=str(small_folder()))
    messages = kernel(cell)
    assert "error" not in kinds(messages)
    updates = [m for m in messages if m["kind"] == "update_display_data"]
    (first,) = [m for m in messages if m["kind"] == "display_data" and m["transient"]]
    assert {m["transient"]["display_id"] for m in updates} == {first["transient"]["display_id"]}
    assert any("/2 cells" in m["data"]["text/plain"] for m in updates)
    assert any("━" in m["data"]["text/html"] for m in updates)
    assert updates[-1]["data"]["text/plain"] == ""
    assert any("2 of 2 cells done" in str(m.get("data")) for m in messages)
    assert len(pd.read_csv(tmp_path / "sweeps" / "here" / "results.csv")) == 2


def test_interrupting_the_kernel_keeps_the_table(
    kernel: Callable[..., list[dict]], small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The cell ends with a KeyboardInterrupt that names the table, and the kernel stays usable."""
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
