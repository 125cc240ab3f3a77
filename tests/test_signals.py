"""Asked to end, at any moment: it leaves soon and alone, keeps its table, and says how to go on."""

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
from contextlib import suppress

import pandas as pd
import pytest
from processes import (
    Fault,
    Faulty,
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

pytestmark = [linux, pytest.mark.slow]
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
EPOCHS = "1,150"


@pytest.fixture(scope="module")
def small(small_folder) -> tuple[str, ...]:
    return "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "workers=2"


@pytest.fixture
def training(small) -> tuple[str, ...]:
    """A sweep that is in training for seconds."""
    return *small, "seed=0,1,2", f"epochs={EPOCHS}", "name=it"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Sweep(folder, *small, "seed=0,1,2", f"epochs={EPOCHS}", "figures=none") as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    return results(folder)


def goes_on(output: str) -> list[str]:
    """The command that is printed after "To resume:", to be started here."""
    _, found, rest = output.partition("To resume:\n")
    assert found, output
    name, *words = shlex.split(rest.splitlines()[0])
    assert name.startswith("python")
    return [sys.executable, *words]


@pytest.mark.parametrize("number", ENDING)
def test_while_training(tmp_path, training, undisturbed, number) -> None:
    """Workers checkpoint and leave, what is done is a table, and the printed command goes on."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        members = sweep.members()
        assert len(sweep.workers()) == 2
        os.kill(sweep.pid, number)
        status, output = sweep.ends()
        assert all_ended(members)
        assert sweep.members() == []
    assert status == 128 + number, output
    assert "Traceback" not in output
    assert f"Stopped by {number.name}" in output
    out = tmp_path / "outputs"
    cut = results(tmp_path)
    assert 2 <= len(cut) < 6
    assert set(cut["status"]) == {"ok"}
    assert_whole(out, undisturbed)
    before = finished(out)
    done = subprocess.run(
        [*goes_on(output), "figures=none"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after epoch" in done.stdout
    assert_kept(before, out)
    assert_same(results(tmp_path), undisturbed)


@pytest.mark.parametrize("number", ENDING)
def test_with_a_worker_that_does_not_answer(tmp_path, training, number) -> None:
    """A worker that is suspended is not waited for longer than a moment, and does not stay."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        members = sweep.members()
        os.kill(sweep.workers()[0], signal.SIGSTOP)
        os.kill(sweep.pid, number)
        status, output = sweep.ends()
        assert all_ended(members)
        assert sweep.members() == []
    assert status == 128 + number, output
    assert "Traceback" not in output
    assert "To resume:" in output
    assert len(results(tmp_path)) >= 2


def test_ctrl_c_again_and_again(tmp_path, training) -> None:
    """Who presses Ctrl-C once more does not wait for the table, and sees no traceback."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        members = sweep.members()
        for pid in sweep.workers():  # the orderly end would have to wait for these
            os.kill(pid, signal.SIGSTOP)
        while sweep.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(sweep.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                sweep.wait(0.2)  # nobody presses faster
        status, output = sweep.ends()
        assert all_ended(members)
        assert sweep.members() == []
    assert status in {130, -signal.SIGINT}, output  # 130 in any shell
    assert "Traceback" not in output
    assert "To resume:" not in output


AGAIN = [
    (signal.SIGHUP, signal.SIGHUP),  # a closed terminal: from the kernel and from the shell
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGHUP, signal.SIGTERM),
    (signal.SIGINT, signal.SIGHUP),
]


@pytest.mark.parametrize(("first", "then"), AGAIN)
def test_only_ctrl_c_hurries(tmp_path, training, undisturbed, first, then) -> None:
    """Other signals than Ctrl-C, however often they come, leave table, checkpoints and command."""
    with Sweep(tmp_path, *training) as sweep:
        sweep.until("[2/6]")
        os.kill(sweep.pid, first)
        while sweep.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(sweep.pid, then)
            with suppress(subprocess.TimeoutExpired):
                sweep.wait(0.02)
        status, output = sweep.ends()
    assert status in {128 + first, 128 + then}, output  # both may be there before one is heard
    assert "Traceback" not in output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert (folder / "results.md").exists()
    assert len(results(tmp_path)) >= 2
    assert_whole(tmp_path / "outputs", undisturbed)
    goes_on(output)
    launch = json.loads((folder / "sweep.json").read_text())["launches"][-1]
    assert launch["command"] in output
    # What was in training was checkpointed when the signal came, and not before.
    assert list(tmp_path.glob("outputs/runs/*/checkpoint.safetensors"))


@pytest.mark.parametrize("number", ENDING)
def test_while_figures_are_drawn(tmp_path, small, number) -> None:
    """The tables are there already: they stay, and the command that draws the rest is printed."""
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
        goes_on(output), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((folder / "figures").glob("*_cost.png"))) == 12


def test_ctrl_c_in_a_script(tmp_path, small_folder) -> None:
    """sweep() raises KeyboardInterrupt once its table is written, and says where that is."""
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
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "interrupted: SIGINT: the table so far is in outputs/sweeps/it/results.csv" in said
    assert len(results(tmp_path)) < 4


# Each is the last of what has been imported when the key is pressed. Before the first of them there
# is nothing but Python itself.
# The last one is imported in a thread, while the workers start.
LOADED = ["omegaconf", "lenet_sweep.config.keys", "hydra.main", "rich.console", "pandas.core.api"]


@pytest.mark.parametrize("module", LOADED)
def test_ctrl_c_while_it_starts(tmp_path, training, module) -> None:
    """Ctrl-C before anything is trained leaves without a traceback, at any import."""
    with Sweep(tmp_path, *training, python=("-X", "importtime")) as sweep:
        sweep.until(f" {module}\n")
        os.kill(sweep.pid, signal.SIGINT)
        status, output = sweep.ends()
        assert sweep.members() == []
    assert status in {130, -signal.SIGINT}, output
    said = "".join(s for s in output.splitlines(True) if not s.startswith("import time:"))
    assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Faulty:
    folder = tmp_path_factory.mktemp("signals")
    disk = Faulty(folder / "disk", shim(folder))
    yield disk
    disk.close()


@pytest.mark.parametrize("number", ENDING)
def test_at_moments_of_a_whole_sweep(disk, small, number) -> None:
    """From the first folder it makes to the last figure it draws: it ends, and can go on."""
    arguments = (*small, "seed=0,1", "epochs=2", "name=it")
    shutil.rmtree(disk.out, ignore_errors=True)
    whole = disk.run(Fault(signal=number), *arguments)
    assert whole.status == 0, whole.output
    table = results(disk.folder)
    moments = random.Random(int(number)).sample(range(1, whole.calls), 8)
    for k in sorted({1, *moments}):
        shutil.rmtree(disk.out)
        done = disk.run(Fault(first=k, signal=number, launcher=True), *arguments)
        where = f"at call {k} ({done.what}): {done.output}"
        # Not hit: the table was written less often this time, and the sweep is at its end.
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
def test_at_each_moment_of_a_whole_sweep(disk, small, number) -> None:
    """The same at every call on a file."""
    arguments = (*small, "seed=0,1", "epochs=2", "name=it")
    shutil.rmtree(disk.out, ignore_errors=True)
    whole = disk.run(Fault(signal=number), *arguments)
    for k in range(1, whole.calls + 1):
        shutil.rmtree(disk.out, ignore_errors=True)  # the first calls come before it is made
        done = disk.run(Fault(first=k, signal=number, launcher=True), *arguments)
        where = f"at call {k} ({done.what}): {done.output}"
        # Not hit: the table was written less often this time, and the sweep is at its end.
        assert done.status in ({128 + number, -number} if done.hits else {0}), where
        assert "Traceback" not in done.output, where


def test_a_hangup_is_not_heard_under_nohup(tmp_path, training) -> None:
    """A sweep started with nohup goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does, and children inherit
    try:
        sweep = Sweep(tmp_path, *training)
    finally:
        signal.signal(signal.SIGHUP, before)
    with sweep:
        sweep.until("[2/6]")
        os.kill(sweep.pid, signal.SIGHUP)
        status, output = sweep.ends()
    assert status == 0, output


def test_a_terminal_that_is_closed_ends_it_in_good_order(tmp_path, training) -> None:
    """When the window is closed, what was trained is kept and the table is written all the same."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "lenet_sweep", *training])  # noqa: S606
    shown = b""
    while not re.search(rb"[2-5]/6 cells", shown):  # of two cells at once, one line is drawn
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert (folder / "results.md").exists()
    assert len(pd.read_csv(folder / "results.csv")) >= 2


def test_a_terminal_that_is_gone_ends_nothing_under_nohup(tmp_path, small) -> None:
    """The display cannot be written any more; the sweep goes on and all its files are there."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir(tmp_path)
        arguments = (*small, "seed=0,1,2", "epochs=30")
        os.execv(sys.executable, [sys.executable, "-m", "lenet_sweep", *arguments])  # noqa: S606
    shown = b""
    while b"/3 cells" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert {"results.md", "report.html"} <= {path.name for path in folder.iterdir()}
    assert list(pd.read_csv(folder / "results.csv")["status"]) == ["ok"] * 3


def test_a_finished_dry_run_tells_of_damage_and_touches_nothing(tmp_path, small) -> None:
    """dry_run=true names a damaged read-out, and leaves it for the sweep that makes it anew."""
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
    assert f"{path.name} was damaged: it is set aside" in output
