"""A signal ends a sweep at any moment: its table is kept, and it prints the command to resume."""

import json
import os
import pty
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import suppress

import pandas as pd
import pytest
from processes import (
    Fault,
    FaultyDisk,
    Sweep,
    all_ended,
    assert_kept,
    assert_same,
    assert_whole,
    finished,
    linux,
    results,
    shim,
)

from lenet_sweep.runner import interrupts

pytestmark = [linux, pytest.mark.slow]
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
EPOCHS = "1,150"


def first_of_all(number: signal.Signals) -> pytest.MarkDecorator:
    """Parametrize with this signal and, in the long tests, with the other two."""
    others = [pytest.param(n, marks=pytest.mark.long) for n in ENDING if n != number]
    return pytest.mark.parametrize("number", [number, *others])


@pytest.fixture(scope="module")
def small(small_folder) -> tuple[str, ...]:
    return "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "workers=2"


@pytest.fixture
def training(small) -> tuple[str, ...]:
    """The arguments of a sweep that trains for several seconds."""
    return *small, "seed=0,1,2", f"epochs={EPOCHS}", "name=it"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("undisturbed")
    words = ("seed=0,1,2", f"epochs={EPOCHS}", "figures=none", "report=false")
    with Sweep(folder, *small, *words) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    return results(folder)


def resuming_command(output: str) -> list[str]:
    """The printed command that resumes the sweep, with this Python interpreter."""
    _, heading, rest = output.partition("To resume:\n")
    assert heading, output
    name, *words = shlex.split(rest.splitlines()[0])
    assert name.startswith("python")
    return [sys.executable, *words]


def end_by_signal(sweep: Sweep, number: signal.Signals) -> str:
    """Send this signal to the launcher, which ends all processes without a traceback. Returns the
    output.
    """
    members = sweep.members()
    os.kill(sweep.pid, number)
    status, output = sweep.ends()
    assert all_ended(members)
    assert sweep.members() == []
    assert status == 128 + number, output
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize("number", ENDING)
def test_while_training(tmp_path, training, undisturbed, number) -> None:
    """Workers save checkpoints and exit, the table is written, and the printed command resumes."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        assert len(sweep.workers()) == 2
        output = end_by_signal(sweep, number)
    assert f"Stopped by {number.name}" in output
    out = tmp_path / "outputs"
    table = results(tmp_path)
    assert 2 <= len(table) < 6
    assert set(table["status"]) == {"ok"}
    assert_whole(out, undisturbed)
    before = finished(out)
    done = subprocess.run(
        [*resuming_command(output), "figures=none", "report=false"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed after epoch" in done.stdout
    assert_kept(before, out)
    assert_same(results(tmp_path), undisturbed)


@first_of_all(signal.SIGTERM)
def test_with_a_worker_that_does_not_answer(tmp_path, training, number) -> None:
    """A suspended worker is killed after a short wait."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        os.kill(sweep.workers()[0], signal.SIGSTOP)
        output = end_by_signal(sweep, number)
    assert "To resume:" in output
    assert len(results(tmp_path)) >= 2


def test_ctrl_c_again_and_again(tmp_path, training) -> None:
    """A second Ctrl-C skips the table, and prints no traceback."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        members = sweep.members()
        for pid in sweep.workers():  # a regular exit would wait for these
            os.kill(pid, signal.SIGSTOP)
        while sweep.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(sweep.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                sweep.wait(0.2)  # as fast as a person can press
        status, output = sweep.ends()
        assert all_ended(members)
        assert sweep.members() == []
    assert status in {130, -signal.SIGINT}, output  # 130 in any shell
    assert "Traceback" not in output
    assert "To resume:" not in output


AGAIN = [
    (signal.SIGHUP, signal.SIGHUP),  # a closed terminal: one from the kernel, one from the shell
    (signal.SIGINT, signal.SIGHUP),
    pytest.param(signal.SIGTERM, signal.SIGTERM, marks=pytest.mark.long),
    pytest.param(signal.SIGHUP, signal.SIGTERM, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("first", "then"), AGAIN)
def test_only_ctrl_c_skips_the_table(tmp_path, small, undisturbed, first, then) -> None:
    """Any number of other signals leaves the table, the checkpoints and the command to resume."""
    # No run ends before the signals, however slow the machine is.
    with Sweep(tmp_path, *small, "seed=0,1,2", "epochs=1,100000", "name=it") as sweep:
        sweep.until("[2/6]")
        os.kill(sweep.pid, first)
        while sweep.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(sweep.pid, then)
            with suppress(subprocess.TimeoutExpired):
                sweep.wait(0.02)
        status, output = sweep.ends()
    assert status in {128 + first, 128 + then}, output  # both can be pending at the same time
    assert "Traceback" not in output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert (folder / "results.md").exists()
    assert len(results(tmp_path)) >= 2
    assert_whole(tmp_path / "outputs", undisturbed)
    resuming_command(output)
    launch = json.loads((folder / "sweep.json").read_text())["launches"][-1]
    assert launch["command"] in output
    # Checkpoints of runs in training are written only after a signal.
    assert list(tmp_path.glob("outputs/runs/*/checkpoint.safetensors"))


@first_of_all(signal.SIGINT)
def test_while_figures_are_drawn(tmp_path, small, number) -> None:
    """The tables are kept, and the printed command draws the remaining figures."""
    with Sweep(tmp_path, *small, "seed=range(12)", "epochs=1", "figures=all") as sweep:
        sweep.until("cross_entropy + sgd")
        os.kill(sweep.pid, number)
        status, output = sweep.ends()
    assert status == 128 + number, output
    assert "Traceback" not in output
    assert "12 of 12 cells done. To resume:" in output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert (folder / "results.md").exists()
    assert len(list((folder / "figures").glob("*_cost.png"))) < 12 or not folder.exists()
    done = subprocess.run(
        resuming_command(output), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((folder / "figures").glob("*_cost.png"))) == 12


def test_ctrl_c_in_a_script(tmp_path, small_folder) -> None:
    """sweep() raises KeyboardInterrupt after its table is written, and names the file."""
    script = """
import sys
from pathlib import Path
import lenet_sweep

try:
    lenet_sweep.sweep(dataset="folder", **{"dataset.root": sys.argv[1]}, device="cpu", workers=1,
                      seed=[0, 1], epochs=[1, 500], name="it", figures="none")
except KeyboardInterrupt as interrupt:
    assert Path("outputs/sweeps/it/results.md").exists()
    print("interrupted:", interrupt)
else:
    print("a table was returned")
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, small_folder()],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        while "[1/4]" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "interrupted: SIGINT: the table so far is in outputs/sweeps/it/results.csv" in output
    assert len(results(tmp_path)) < 4


def test_ctrl_c_in_a_callback_prints_no_traceback(capfd) -> None:
    """Python drops an exception that is raised there, but the sweep still knows of the signal."""
    anything = threading.Event()
    reference = weakref.ref(anything, lambda _: signal.raise_signal(signal.SIGINT))
    with interrupts.handle_signals() as received:
        del anything
    assert reference() is None
    assert received.received == [signal.SIGINT]
    assert received.stop.is_set()
    assert capfd.readouterr().err == ""


# The last module that is imported before Ctrl-C. Before the first of them, only Python has started.
# The last of them is imported in a thread while the workers start.
IMPORTED = ["omegaconf", "lenet_sweep.config.keys", "hydra.main", "rich.console", "pandas.core.api"]


@pytest.mark.parametrize("module", IMPORTED)
def test_ctrl_c_during_imports(tmp_path, training, module) -> None:
    """Ctrl-C before the training, after any import, prints no traceback."""
    with Sweep(tmp_path, *training, python=("-X", "importtime")) as sweep:
        sweep.until(f" {module}\n")
        os.kill(sweep.pid, signal.SIGINT)
        status, output = sweep.ends()
        assert sweep.members() == []
    assert status in {130, -signal.SIGINT}, output
    lines = [line for line in output.splitlines() if not line.startswith("import time:")]
    assert "Traceback" not in "\n".join(lines), lines


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> FaultyDisk:
    folder = tmp_path_factory.mktemp("signals")
    disk = FaultyDisk(folder / "disk", shim(folder))
    yield disk
    disk.close()


@first_of_all(signal.SIGHUP)
def test_at_random_file_operations(disk, small, number) -> None:
    """A signal at any file operation of a sweep ends it, and the same command resumes it."""
    arguments = (*small, "seed=0,1", "epochs=2", "name=it")
    shutil.rmtree(disk.out, ignore_errors=True)
    undisturbed = disk.run(Fault(signal=number), *arguments)
    assert undisturbed.status == 0, undisturbed.output
    table = results(disk.folder)
    calls = random.Random(int(number)).sample(range(1, undisturbed.calls), 3)
    for k in sorted({1, *calls}):
        shutil.rmtree(disk.out)
        done = disk.run(Fault(first=k, signal=number, launcher=True), *arguments)
        where = f"at call {k} ({done.what}): {done.output}"
        # Without a hit, the table was written less often this time, and the sweep has finished.
        assert done.status in ({128 + number, -number} if done.hits else {0}), where
        assert "Traceback" not in done.output, where
        assert_whole(disk.out, table)
        before = finished(disk.out)
        again = disk.run(Fault(), *arguments)
        assert again.status == 0, again.output
        assert_kept(before, disk.out)
        assert_same(results(disk.folder), table)


@pytest.mark.long
@pytest.mark.parametrize("number", ENDING)
def test_at_every_file_operation(disk, small, number) -> None:
    """A signal at any file operation ends a sweep without a traceback."""
    arguments = (*small, "seed=0,1", "epochs=2", "name=it")
    shutil.rmtree(disk.out, ignore_errors=True)
    undisturbed = disk.run(Fault(signal=number), *arguments)
    for k in range(1, undisturbed.calls + 1):
        shutil.rmtree(disk.out, ignore_errors=True)  # does not exist if the signal came early
        done = disk.run(Fault(first=k, signal=number, launcher=True), *arguments)
        where = f"at call {k} ({done.what}): {done.output}"
        # Without a hit, the table was written less often this time, and the sweep has finished.
        assert done.status in ({128 + number, -number} if done.hits else {0}), where
        assert "Traceback" not in done.output, where


def test_nohup_ignores_a_closed_terminal(tmp_path, training) -> None:
    """A sweep started with nohup continues when its terminal is closed."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; children inherit it
    try:
        sweep = Sweep(tmp_path, *training, "figures=none", "report=false")
    finally:
        signal.signal(signal.SIGHUP, previous)
    with sweep:
        sweep.until("[2/6]")
        os.kill(sweep.pid, signal.SIGHUP)
        status, output = sweep.ends()
    assert status == 0, output


def test_a_closed_terminal_ends_a_sweep_with_its_table(tmp_path, training) -> None:
    """Closing the terminal keeps the results and writes the table."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "lenet_sweep", *training])  # noqa: S606 - our own arguments
    screen = b""
    while not re.search(rb"[2-5]/6 cells", screen):  # two cells that end together are drawn once
        screen += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert (folder / "results.md").exists()
    assert len(pd.read_csv(folder / "results.csv")) >= 2


def test_nohup_continues_without_a_terminal(tmp_path, small) -> None:
    """A sweep whose display can no longer be written continues and writes all its files."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir(tmp_path)
        arguments = (*small, "seed=0,1,2", "epochs=30")
        os.execv(sys.executable, [sys.executable, "-m", "lenet_sweep", *arguments])  # noqa: S606 - our own arguments
    screen = b""
    while b"/3 cells" not in screen:
        screen += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert {"results.md", "report.html"} <= {path.name for path in folder.iterdir()}
    assert list(pd.read_csv(folder / "results.csv")["status"]) == ["ok"] * 3


def test_a_dry_run_reports_damage_and_changes_nothing(tmp_path, small) -> None:
    """dry_run=true names a damaged snapshot and leaves it in place; the next sweep rebuilds it."""
    arguments = (*small, "seed=0", "epochs=1", "figures=none", "report=false")
    with Sweep(tmp_path, *arguments) as sweep:
        assert sweep.ends()[0] == 0
    (path,) = (tmp_path / "outputs").glob("runs/*/epoch-00001.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with Sweep(tmp_path, *arguments, "dry_run=true") as sweep:
        status, output = sweep.ends()
    assert status == 0
    assert f"{path.name} is damaged" in output
    assert path.exists()
    with Sweep(tmp_path, *arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0
    assert f"{path.name} was damaged: it has been renamed" in output
