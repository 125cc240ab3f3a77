"""`python -m lenet_sweep.clean` lists the store, and deletes only what is not needed."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_sweeps import launched, settings, store_all
from processes import Sweep, linux, results

import lenet_sweep
from lenet_sweep.clean import removal
from lenet_sweep.clean.__main__ import main
from lenet_sweep.clean.inventory import take_inventory
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.runner import run


class Made:
    """A store with the sweeps "one" (lr 0.1, 0.2) and "two" (lr 0.2, 0.3)."""

    def __init__(self, out: Path, root: Path) -> None:
        self.out, self.root = out, root
        self.cells = {}
        for name, rates in (("one", [0.1, 0.2]), ("two", [0.2, 0.3])):
            cells, options = settings(root, out, lr=rates, name=name)
            store_all(cells, out, root, lambda n: range(n + 3))
            launched(cells, options)
            self.cells |= {cell.lr: cell for cell in cells}

    def runs(self) -> set[float]:
        """The learning rates of the runs in the store."""
        ids = {path.name for path in (self.out / "runs").iterdir()}
        return {rate for rate, cell in self.cells.items() if cell.run_id in ids}

    def run_path(self, rate: float) -> Path:
        return self.out / "runs" / self.cells[rate].run_id

    def clean(self, *arguments: str) -> int:
        return main([str(self.out), *arguments])


@pytest.fixture
def made(tmp_path, small_folder) -> Made:
    return Made(tmp_path / "out", small_folder())


def held(code: str, path: Path) -> subprocess.Popen:
    """A process that has executed this code on a path, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('held', flush=True); sys.stdin.read()", path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


HOLD_RUN = """
import sys; from pathlib import Path; from lenet_sweep.storage.store import RunFolder
lock = RunFolder(Path(sys.argv[1])).claim(timeout=5)
"""
HOLD_SWEEP = """
import sys; from pathlib import Path; from lenet_sweep.storage.launches import mark_running
mark = mark_running(Path(sys.argv[1])); mark.__enter__()
"""


def test_the_listing_shows_what_can_be_deleted(made, capsys) -> None:
    """Without options, numbers are printed and nothing is deleted."""
    shutil.rmtree(made.out / "sweeps" / "one")
    (made.run_path(0.2) / "run.json.damaged").write_bytes(b"x")
    (made.run_path(0.3) / "checkpoint.safetensors").write_bytes(bytes(9000))
    old, new = (made.out / "sweeps" / "two" / f".x.{n}.tmp" for n in "01")
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert made.clean() == 0
    text = capsys.readouterr().out
    lines = {line.strip().rsplit("  ", 1)[-1]: line.split() for line in text.splitlines()}
    assert text.splitlines()[1].split()[:2] == ["runs", "3"]
    assert lines["--unused"][5] == "1"
    assert lines["--checkpoints"][1:4] == ["1", "12.3", "kB"]
    assert lines["--damaged"][2] == "1"
    assert lines["--temporary"][2] == "1"
    assert lines["--sweep two"][:3] == ["two", "2", "runs"]
    assert made.cells[0.1].run_id in text
    assert "lr 0.1" in text
    assert made.runs() == {0.1, 0.2, 0.3}


def test_a_sweep_and_its_own_runs_are_deleted(made, capsys) -> None:
    """Runs that another sweep needs stay, and that sweep keeps its whole table."""
    before = lenet_sweep.load_results(made.out / "sweeps" / "two")
    assert made.clean("--sweep", "one", "--unused", "--dry-run") == 0
    assert made.runs() == {0.1, 0.2, 0.3}
    assert made.clean("--sweep", "one", "--unused", "--yes") == 0
    assert made.runs() == {0.2, 0.3}
    assert [path.name for path in (made.out / "sweeps").iterdir()] == ["two"]
    after = lenet_sweep.load_results(made.out / "sweeps" / "two")
    pd.testing.assert_frame_equal(after, before)
    assert "Deleted 1 run (" in capsys.readouterr().out


def test_files_are_deleted_by_kind(made) -> None:
    """Checkpoints, damaged and temporary files are deleted only if they are named."""
    checkpoint = made.run_path(0.1) / "checkpoint.safetensors"
    damaged = made.out / "sweeps" / "one" / "sweep.json.damaged"
    temporary = made.out / "sweeps" / "one" / ".x.0.tmp"
    paths = {"--checkpoints": checkpoint, "--damaged": damaged, "--temporary": temporary}
    for path in paths.values():
        path.touch()
        os.utime(path, (0, 0))
    while paths:
        option, path = paths.popitem()
        assert made.clean(option, "--yes") == 0
        assert not path.exists()
        assert all(other.exists() for other in paths.values())
    assert made.runs() == {0.1, 0.2, 0.3}


def test_without_a_confirmation_nothing_is_deleted(made, capsys, monkeypatch) -> None:
    """Without a terminal, --yes is required; on a terminal, only "y" or "yes" confirms."""
    shutil.rmtree(made.out / "sweeps" / "one")
    monkeypatch.setattr("sys.stdin", None)
    assert made.clean("--unused") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--yes" in error

    class Terminal:
        isatty = staticmethod(lambda: True)

    monkeypatch.setattr("sys.stdin", Terminal)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for answer, left in (("", {0.1, 0.2, 0.3}), ("no", {0.1, 0.2, 0.3}), ("y", {0.2, 0.3})):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert made.clean("--unused") == 0
        assert made.runs() == left


@pytest.mark.parametrize("kind", ["--unused", "--checkpoints"])
def test_a_locked_run_is_kept(made, capsys, kind) -> None:
    """A run that another process is training is not touched."""
    shutil.rmtree(made.out / "sweeps" / "one")
    checkpoint = made.run_path(0.1) / "checkpoint.safetensors"
    checkpoint.touch()
    with held(HOLD_RUN, made.run_path(0.1)) as holder:
        assert made.clean(kind, "--yes") == 0
        assert "in use" in capsys.readouterr().out
        assert checkpoint.exists()
        holder.kill()
    assert made.clean(kind, "--yes") == 0
    assert not checkpoint.exists()


def test_a_running_sweep_is_kept(made, capsys) -> None:
    """A sweep is not deleted while a launch runs in its folder, but after that launch is killed."""
    with held(HOLD_SWEEP, made.out / "sweeps" / "one") as holder:
        assert made.clean("--sweep", "one", "--yes") == 1
        assert "--sweep one: is running" in capsys.readouterr().err
        assert not removal.remove_sweep(made.out / "sweeps" / "one")  # if it starts after the check
        assert (made.out / "sweeps" / "one" / "sweep.json").exists()
        holder.kill()
    assert made.clean("--sweep", "one", "--yes") == 0
    assert not (made.out / "sweeps" / "one").exists()


def test_a_run_that_a_new_sweep_needs_is_renamed_back(made, monkeypatch) -> None:
    """A sweep that starts while one of its runs is being deleted keeps the run."""
    stash = made.out.parent / "stash"
    (made.out / "sweeps" / "one").rename(stash)
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if not (made.out / "sweeps" / "one").exists():
            shutil.copytree(stash, made.out / "sweeps" / "one")
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert made.clean("--unused", "--yes") == 0
    assert made.runs() == {0.1, 0.2, 0.3}
    assert len(lenet_sweep.load_results(made.out / "sweeps" / "one")) == 2


def test_a_new_sweep_notices_that_its_run_was_deleted(made, monkeypatch) -> None:
    """A run that is deleted after the planning of a sweep is planned again."""
    shutil.rmtree(made.out / "sweeps" / "one")
    original = run.provenance.environment

    def environment(person: str) -> dict:  # called after the planning, before sweep.json is written
        assert made.clean("--unused", "--yes") == 0
        return original(person)

    monkeypatch.setattr(run.provenance, "environment", environment)
    cells, options = settings(made.root, made.out, lr=[0.1, 0.2], name="new")
    trained = []
    executor = replace(LOCAL, execute=lambda runs, _: trained.extend(runs) or iter(()))
    run.run_sweep(cells, options, (), executor)
    assert [r.cell.lr for r in trained] == [0.1]


def test_runs_of_sweeps_elsewhere_are_kept(made, tmp_path, capsys) -> None:
    """A sweep in another folder needs its runs; if it is gone, --unused is rejected."""
    cells, options = settings(made.root, made.out, lr=[0.4])
    store_all(cells, made.out, made.root, lambda _: range(9))
    made.cells[0.4] = cells[0]
    run.run_sweep(cells, options, (), LOCAL, folder=tmp_path / "elsewhere")
    assert made.clean("--unused", "--yes") == 0
    assert made.runs() == {0.1, 0.2, 0.3, 0.4}
    shutil.rmtree(tmp_path / "elsewhere")
    (record,) = (made.out / "elsewhere").iterdir()
    assert made.clean("--unused", "--yes") == 1
    error = capsys.readouterr().err
    assert str(record) in error
    assert made.clean() == 0
    record.unlink()
    assert made.clean("--unused", "--yes") == 0
    assert made.runs() == {0.1, 0.2, 0.3}


def test_a_damaged_record_of_a_sweep_elsewhere_is_written_again(made, tmp_path) -> None:
    """Until the sweep is run again, no run is deleted as unused."""
    cells, options = settings(made.root, made.out, lr=[0.1])
    for rejected in (False, True):
        run.run_sweep(cells, options, (), LOCAL, folder=tmp_path / "elsewhere")
        (record,) = (made.out / "elsewhere").iterdir()
        assert made.clean("--unused", "--dry-run") == 0
        if not rejected:
            record.write_text("{")
            assert made.clean() == 0
            assert made.clean("--unused", "--yes") == 1


@pytest.mark.parametrize("place", ["hidden", "linked store"])
def test_runs_of_sweeps_that_are_not_listed_are_kept(made, tmp_path, place) -> None:
    """A sweep whose folder starts with a dot, and one of another folder with the same runs."""
    out, folder = made.out, made.out / "sweeps" / ".hidden"
    if place == "linked store":
        out, folder = tmp_path / "mine", None
        out.mkdir()
        (out / "runs").symlink_to(made.out / "runs")
    shutil.rmtree(made.out / "sweeps" / "one")
    cells, options = settings(made.root, out, lr=[0.1], name="mine")
    run.run_sweep(cells, options, (), LOCAL, folder=folder)
    assert made.clean("--unused", "--yes") == 0
    assert made.runs() == {0.1, 0.2, 0.3}


@pytest.mark.parametrize("name", ["sweeps", "sweeps/one"])
def test_sweeps_on_a_disk_that_is_not_mounted_keep_their_runs(made, tmp_path, capsys, name) -> None:
    """A link that leads nowhere protects all runs."""
    path = made.out / name
    path.rename(tmp_path / "disk")
    path.symlink_to(tmp_path / "elsewhere")
    assert made.clean("--unused", "--yes") in (1, 2)
    assert str(path) in capsys.readouterr().err
    assert made.runs() == {0.1, 0.2, 0.3}


def test_checkpoints_of_deleted_runs_are_not_deleted_again(made, capsys) -> None:
    """A deleted run leaves no folder."""
    shutil.rmtree(made.out / "sweeps" / "one")
    for rate in (0.1, 0.2):
        (made.run_path(rate) / "checkpoint.safetensors").touch()
    assert made.clean("--unused", "--checkpoints", "--yes") == 0
    assert made.runs() == {0.2, 0.3}
    assert "Deleted 1 checkpoint (" in capsys.readouterr().out


def test_unreadable_sweeps_protect_all_runs(made, capsys) -> None:
    """If a sweep.json is damaged, no run is deleted as unused."""
    (made.out / "sweeps" / "one" / "sweep.json").write_text("{")
    assert made.clean("--unused", "--yes") == 1
    assert "sweep.json is damaged" in capsys.readouterr().err
    assert made.runs() == {0.1, 0.2, 0.3}


def test_runs_of_results_csv_and_of_jobs_are_needed(made) -> None:
    """Rows of an earlier version, and queued jobs of a cluster, keep their runs."""
    ids = [f"{n:016x}" for n in range(3)]
    for name in ids:
        (made.out / "runs" / name).mkdir()
    with (made.out / "sweeps" / "one" / "results.csv").open("a") as file:
        file.write(f"x,{ids[0]}-e5\n")
    (made.out / "jobs").mkdir()
    (made.out / "jobs" / f"{ids[1]}.json").write_text("{}")
    assert [r.path.name for r in take_inventory(made.out).unused_runs()] == [ids[2]]


@pytest.mark.parametrize("place", ["run", "sweep", "runs", "inside"])
def test_symbolic_links_are_not_followed(made, tmp_path, capsys, place) -> None:
    """What a symbolic link points to is never deleted."""
    shutil.rmtree(made.out / "sweeps" / "one")
    target = {
        "run": made.run_path(0.1), "runs": made.out / "runs", "sweep": made.out / "sweeps" / "two",
        "inside": made.run_path(0.1) / "more",
    }[place]  # fmt: skip
    target.mkdir(exist_ok=True)
    (target / "run.json.damaged").touch()
    outside = target.rename(tmp_path / "outside")
    target.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    options = ["--unused", "--checkpoints", "--damaged", "--temporary", "--yes"]
    assert made.clean(*options) == 0
    assert made.clean(*options, "--sweep", "two") == (2 if place == "sweep" else 0)
    assert sorted(outside.rglob("*")) == before
    if place != "inside":
        assert made.clean() == 0
        assert f"not followed:\n  {target}" in capsys.readouterr().out


KILL = """
import os, signal, sys
from lenet_sweep.clean.__main__ import main
calls = 0
def kill(event, _):
    global calls
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
sys.exit(main([sys.argv[2], "--sweep", "one", "--unused", "--yes"]))
"""


@pytest.mark.slow
def test_a_killed_deletion_leaves_a_usable_store(made) -> None:
    """After a kill at any deletion or renaming, sweeps are whole, and a later call completes it."""
    before = lenet_sweep.load_results(made.out / "sweeps" / "two")
    copy = shutil.copytree(made.out, made.out.parent / "copy")
    for call in range(1, 50):
        code = subprocess.run(
            [sys.executable, "-c", KILL, str(call), made.out], check=False
        ).returncode
        pd.testing.assert_frame_equal(lenet_sweep.load_results(made.out / "sweeps" / "two"), before)
        one = made.out / "sweeps" / "one"
        assert not one.exists() or len(lenet_sweep.load_results(one)) == 2
        assert made.clean("--temporary", "--unused", "--yes") == 0
        if not one.exists():
            assert made.runs() == {0.2, 0.3}
        assert not list(made.out.rglob(".*.removed"))
        if code == 0:
            break
        shutil.rmtree(made.out)
        shutil.copytree(copy, made.out)
    assert call > 5


def test_a_failing_disk_is_reported_in_one_line(made, capsys, monkeypatch) -> None:
    """If files cannot be deleted, the run is out of the store, and a later call deletes them."""
    shutil.rmtree(made.out / "sweeps" / "one")

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        assert made.clean("--unused", "--yes") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Input/output error" in error
    assert made.runs() == {0.2, 0.3}
    assert made.clean("--temporary", "--yes") == 0
    assert not list((made.out / "runs").glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "three"], "there is no such folder in"),
        (["--sweep", ".."], "there is no such folder in"),
        (["--nonsense"], "usage: python -m lenet_sweep.clean"),
    ],
)
def test_mistakes_are_rejected_in_one_line(made, capsys, arguments, message) -> None:
    """A wrong option or name exits with status 2 and deletes nothing."""
    assert made.clean(*arguments, "--yes") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert main([str(made.root)]) == 2  # a folder that is not a store


@linux
@pytest.mark.slow
def test_deleting_while_sweeps_run_costs_no_row(tmp_path, small_folder) -> None:
    """Sweeps that start and run during deletions end with complete tables and all of their runs."""
    out = tmp_path / "outputs"
    common = ("-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu",
              "figures=none", "epochs=1,15", "workers=1")  # fmt: skip
    deletions = 0
    for seeds in ("0,1,2", "1,2,3"):
        names = [f"a{seeds[0]}", f"b{seeds[0]}"]
        sweeps = [Sweep(tmp_path, *common, f"seed={seeds}", f"name={name}") for name in names]
        while any(sweep.poll() is None for sweep in sweeps):
            if out.exists() and any((out / n).exists() for n in ("runs", "sweeps")):
                assert main([str(out), "--unused", "--checkpoints", "--yes"]) == 0
                deletions += 1
        for sweep, name in zip(sweeps, names, strict=True):
            status, output = sweep.ends()
            assert status == 0, output
            assert len(results(tmp_path, name)) == 6
            assert len(lenet_sweep.load_results(out / "sweeps" / name)) == 6
        for name in names:  # so that the next sweeps meet unused runs
            assert main([str(out), "--sweep", name, "--yes"]) == 0
    assert deletions > 2
    assert len(list((out / "runs").iterdir())) >= 3
    assert main([str(out), "--unused", "--yes"]) == 0
    assert list((out / "runs").iterdir()) == []
