"""Work in a copy of the process: its result, its errors, and what happens when the copy dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_sweep.beside import beside
from lenet_sweep.errors import StoreError, UsageError

forks = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


@forks
def test_the_work_is_done_in_another_process_while_this_one_goes_on() -> None:
    """The result comes back, from a process that is not this one."""
    with beside(lambda: ("done", os.getpid())) as result:
        said, where = result()
    assert said == "done"
    assert where != os.getpid()


def test_one_core_does_the_work_where_it_is_asked_for() -> None:
    """Without a core for a copy, everything happens here, and once."""
    done = []
    with beside(lambda: done.append(os.getpid()), apart=False) as result:
        assert done == []
        result()
    assert done == [os.getpid()]


@forks
@pytest.mark.parametrize("kind", [StoreError, UsageError, ValueError])
def test_an_error_is_raised_where_the_result_is_asked_for(kind: type[Exception]) -> None:
    """What a full disk says reaches the user as it would without a copy."""

    def fails() -> None:
        raise kind("cannot write report.html: No space left on device")

    with beside(fails) as result, pytest.raises(kind, match="No space left on device"):
        result()


@forks
def test_work_of_a_copy_that_was_killed_is_done_here() -> None:
    """The kernel may end a process that takes memory: the page is written all the same."""
    here = os.getpid()

    def work() -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with beside(work) as result:
        assert result() == here


@forks
def test_an_error_beside_it_waits_for_the_work(tmp_path: Path) -> None:
    """Figures that fail do not cost the page, which is half written at that time."""
    read, write = os.pipe()

    def work() -> None:
        os.read(read, 1)
        (tmp_path / "page").write_text("whole")

    def fail() -> None:
        with beside(work):
            os.write(write, b"x")
            raise ValueError("figures")

    with pytest.raises(ValueError, match="figures"):
        fail()
    assert (tmp_path / "page").read_text() == "whole"


@forks
def test_ctrl_c_ends_both_at_once() -> None:
    """Who presses Ctrl-C waits for no page, and reads of one interrupt only."""
    script = """
import os, sys, time
from lenet_sweep.beside import beside

def work():
    print("copy", flush=True)
    time.sleep(600)

with beside(work) as result:
    result()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "copy\n"
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.count("KeyboardInterrupt") == 1, said


@forks
def test_a_signal_to_this_process_alone_ends_the_copy_too() -> None:
    """A scheduler that ends a sweep is not kept waiting by its figures."""
    script = """
import time
from lenet_sweep.beside import beside

with beside(lambda: time.sleep(600)):
    raise KeyboardInterrupt
"""
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.stderr.count("KeyboardInterrupt") == 1


@forks
def test_a_copy_does_not_outlive_this_process() -> None:
    """After SIGKILL of a sweep nothing of it draws on."""
    script = """
import time
from lenet_sweep.beside import beside

with beside(lambda: (print("copy", flush=True), time.sleep(600))):
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"copy\n"
        process.kill()
        process.communicate(timeout=60)  # the copy holds the pipe open while it lives


@forks
@pytest.mark.parametrize("error", [OSError, AssertionError])
def test_where_no_process_can_be_made_the_work_is_done_here(monkeypatch, error) -> None:
    """A limit on processes, or a process that may have no children, costs no page."""

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", refuse)
    with beside(os.getpid) as result:
        assert result() == os.getpid()
