"""The command line in real processes: output, files and exit status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from clusters import FAILURES
from forked_commands import run_forked
from processes import DETERMINISTIC, TIMEOUT

from lenet_sweep import sweep

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture
def small(small_folder) -> list[str]:
    """Arguments with which a cell trains in a second, on a small generated dataset."""
    return ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
            "epochs=1"]  # fmt: skip


def with_figures(small: list[str]) -> list[str]:
    return [word for word in small if word != "figures=none"]


@pytest.fixture
def lenet_sweep(tmp_path: Path):
    """Run a command line in an empty folder and check its exit status."""

    def run(
        *arguments: str, status: int = 0, env: dict[str, str] | None = None,
        worker_env: dict[str, str] | None = None,
    ):  # fmt: skip
        columns = {"COLUMNS": "160"}
        if env:  # which may change how Python starts
            done = subprocess.run(
                [sys.executable, "-m", "lenet_sweep", *arguments],
                cwd=tmp_path, env=os.environ | columns | env,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        else:
            done = run_forked(*arguments, cwd=tmp_path, env=columns | (worker_env or {}))
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def sweeps(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outputs" / "sweeps").iterdir())


def table(tmp_path: Path) -> pd.DataFrame:
    (folder,) = sweeps(tmp_path)
    return pd.read_csv(folder / "results.csv", keep_default_na=False, na_values={"accuracy": [""]})


def snapshot_times(tmp_path: Path) -> dict[Path, int]:
    """The modification time of every snapshot in the store."""
    return {p: p.stat().st_mtime_ns for p in (tmp_path / "outputs" / "runs").rglob("epoch-*")}


def test_grid_gives_ranked_table(lenet_sweep, small, tmp_path) -> None:
    """A grid trains every combination and writes a ranked results.csv."""
    words = ["-m", "lr=1e-1,1e-2", "batch=32,64,128", "optimizer=adam"]
    done = lenet_sweep(*words, *with_figures(small))
    frame = table(tmp_path)
    assert len(frame) == 6
    assert set(frame["status"]) == {"ok"}
    assert list(frame["accuracy"]) == sorted(frame["accuracy"], reverse=True)
    assert {(lr, b) for lr, b in zip(frame["lr"], frame["batch"], strict=True)} == {
        (lr, b) for lr in (0.1, 0.01) for b in (32, 64, 128)
    }
    (folder,) = sweeps(tmp_path)
    for name in ("results.csv", "results.md", "results.tex", "sweep.json"):
        assert (folder / name).stat().st_size > 0
        assert name in done.stdout
    assert f"{frame['accuracy'][0]:.2f}" in done.stdout
    assert (folder / "figures" / "all-cells.png").exists()
    # Only for the best cell: drawing all would take longer than training.
    assert len(list((folder / "figures").glob("*_cost.png"))) == 1
    assert len(list((folder / "figures").glob("*_correct.png"))) == 1


def test_finished_sweep_is_not_trained_again(lenet_sweep, small, tmp_path) -> None:
    """The same command again trains nothing, does not import torch, and gives the same table."""
    small = with_figures(small)
    lenet_sweep("-m", "lr=0.1,0.01", *small)
    before, frame = snapshot_times(tmp_path), table(tmp_path)
    blocked = tmp_path / "no_torch"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is not for a finished sweep')")
    lenet_sweep("-m", "lr=0.1,0.01", *small, env={"PYTHONPATH": str(blocked)})
    assert snapshot_times(tmp_path) == before
    pd.testing.assert_frame_equal(table(tmp_path), frame)


def test_more_epochs_resume_from_snapshot(lenet_sweep, small, tmp_path) -> None:
    """epochs=1,3 after epochs=1 keeps the snapshots at 1 and adds those at 3."""
    words = ["-m", "lr=0.1,0.01", *small[:-1], "workers=1", "report=false"]
    lenet_sweep(*words, "epochs=1")
    before = snapshot_times(tmp_path)
    done = lenet_sweep(*words, "epochs=1,3")
    after = snapshot_times(tmp_path)
    assert {path: after[path] for path in before} == before
    assert sorted(path.name for path in after) == (
        ["epoch-00001.safetensors"] * 2 + ["epoch-00003.safetensors"] * 2
    )
    assert done.stdout.count("resumed after epoch 1") == 2


def test_equal_values_are_merged(lenet_sweep, small, tmp_path) -> None:
    """lr=1e-1,0.1,.1 is trained once, and the output says that cells were merged."""
    done = lenet_sweep("-m", "lr=1e-1,0.1,.1", *small, "report=false")
    assert len(table(tmp_path)) == 1
    assert "2 duplicate cells merged" in done.stdout


def test_missing_plugin_is_named_with_its_package(lenet_sweep, tmp_path) -> None:
    """A launcher or sweeper that is not installed gets the package to install."""
    hide = "import pkgutil; listed = pkgutil.iter_modules; pkgutil.iter_modules = lambda *a: ("
    hide += "m for m in listed(*a) if not m.name.startswith('hydra_plugins.hydra_'))"
    (tmp_path / "sitecustomize.py").write_text(hide)
    for override, package in [
        ("hydra/launcher=joblib", "hydra-joblib-launcher"),
        ("hydra/launcher=submitit_slurm", "hydra-submitit-launcher"),
        ("hydra/sweeper=optuna", "hydra-optuna-sweeper 'optuna<3'"),
    ]:
        done = lenet_sweep("-m", override, status=2, env={"PYTHONPATH": str(tmp_path)})
        message = f"error: {override}: the plugin is not installed; run: pip install {package}\n"
        assert done.stderr == message


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["workers=2"], id="local"),
        pytest.param(["hydra/launcher=basic"], id="basic", marks=pytest.mark.slow),
        pytest.param(
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            id="joblib", marks=pytest.mark.slow,
        ),
        pytest.param(
            ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
            id="submitit", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_every_way_to_fail_costs_one_cell(lenet_sweep, small, tmp_path, launcher) -> None:
    """Each way to fail gives one row under any launcher, and the other cells finish.

    The same command without the faults then trains the failed cells, except the diverged one.
    """
    fails = FAILURES | {
        0.09: ("timed-out", f"no progress for {TIMEOUT} s"),
        1e30: ("diverged", "the loss "),
    }
    arguments = ["-m", "lr=0.1,0.03,0.04,0.05,0.06,0.07,0.08,0.09,1e30,0.01", *small]
    arguments += ["figures=none", "name=it", f"timeout={TIMEOUT}", *launcher]
    done = lenet_sweep(*arguments, status=1, env={"PYTHONPATH": str(FAULTS)})
    assert "RuntimeError: made to raise" in done.stdout
    frame = table(tmp_path).set_index("lr")
    assert list(frame.loc[[0.1, 0.01], "status"]) == ["ok", "ok"]
    assert list(frame["rank"][2:]) == [""] * len(fails)
    for lr, (status, reason) in fails.items():
        assert frame.loc[lr, "status"] == status
        assert frame.loc[lr, "error"].startswith(reason)
        run = tmp_path / "outputs/runs" / frame.loc[lr, "cell"].partition("-e")[0]
        trace = json.loads((run / "failure.json").read_text())["traceback"]
        assert lr not in (0.03, 0.05, 0.06, 0.08) or "sitecustomize.py" in trace
    before = snapshot_times(tmp_path)
    lenet_sweep(*arguments, status=1)
    frame = table(tmp_path).set_index("lr")
    assert {lr for lr in frame.index if frame.loc[lr, "status"] != "ok"} == {1e30}
    after = snapshot_times(tmp_path)
    assert len(after) == 9
    assert {path: after[path] for path in before} == before


def test_failed_cell_is_retried(lenet_sweep, small, tmp_path) -> None:
    """retries=1 trains a cell whose process was killed again, after the others, and says so."""
    env = {"PYTHONPATH": str(FAULTS), "FAILED_ONCE": str(tmp_path / "once")}
    words = ["-m", "lr=0.11,0.2,0.3", *small, "workers=1", "retries=1", "report=false"]
    done = lenet_sweep(*words, worker_env=env)
    assert list(table(tmp_path)["status"]) == ["ok"] * 3
    assert done.stdout.count("it will be retried after the other runs (retry 1)") == 1
    assert "SIGKILL" in done.stdout
    finished = re.findall(r"\[\d/3\] .* lr (\S+)", done.stdout)
    assert finished == ["0.2", "0.3", "0.11"]
    assert not list(tmp_path.glob("outputs/runs/*/failure.json"))


def test_a_failed_retraining_does_not_print_the_earlier_run(lenet_sweep, small) -> None:
    """With reuse=false, the output of a single cell is that of its new run."""
    words = ["lr=0.03", *small, "figures=none", "report=false"]
    assert "Accuracy on test dataset" in lenet_sweep(*words).stdout
    done = lenet_sweep(*words, "reuse=false", status=1, env={"PYTHONPATH": str(FAULTS)})
    assert "RuntimeError: made to raise" in done.stdout + done.stderr
    assert "Accuracy on test dataset" not in done.stdout


def test_a_failure_without_the_store_has_its_exit_status(lenet_sweep, small, tmp_path) -> None:
    """The row of the earlier sweep is kept, and the status says that its cell failed now."""
    words = ["-m", "lr=0.03", *small, "figures=none", "report=false", "name=it"]
    lenet_sweep(*words)
    shutil.rmtree(tmp_path / "outputs/runs")
    lenet_sweep(*words, status=1, env={"PYTHONPATH": str(FAULTS)})
    assert list(table(tmp_path)["status"]) == ["ok"]


INTERRUPTS = """
from hydra.experimental.callback import Callback

class Interrupts(Callback):
    def on_job_start(self, **_):
        raise KeyboardInterrupt
"""


def test_ctrl_c_before_the_first_job_of_hydra(lenet_sweep, small, tmp_path) -> None:
    """The status is that of Ctrl-C, and no error hides it."""
    (tmp_path / "interrupts.py").write_text(INTERRUPTS)
    callback = "+hydra.callbacks.it={_target_: interrupts.Interrupts}"
    done = lenet_sweep(
        "-m", "lr=0.1,0.01", "hydra/launcher=basic", callback, *small, status=130,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "error: " not in done.stderr


def test_diverged_cell_is_not_retried(lenet_sweep, small, tmp_path) -> None:
    """A cell whose loss became non-finite is the last row, and is not trained again."""
    words = ["-m", "lr=0.1,1e30", *small, "workers=1", "report=false"]
    lenet_sweep(*words, status=1)
    frame = table(tmp_path)
    assert list(frame["status"]) == ["ok", "diverged"]
    (run,) = {p.parent for p in (tmp_path / "outputs" / "runs").rglob("failure.json")}
    time_before = (run / "failure.json").stat().st_mtime_ns
    lenet_sweep(*words, status=1)
    assert (run / "failure.json").stat().st_mtime_ns == time_before


@pytest.mark.slow
def test_all_launchers_give_the_same_table(lenet_sweep, small, tmp_path) -> None:
    """Hydra's launchers and any number of workers give the same numbers."""
    frames = []
    for extra in (["workers=1"], ["workers=2"], ["hydra/launcher=basic"],
                  ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
                  ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]):  # fmt: skip
        out = f"out={len(frames)}"
        words = ("lr=0.1,0.01", "seed=0,1", *small, "report=false", *extra)
        lenet_sweep("-m", *words, out, "name=it")
        frames.append(pd.read_csv(tmp_path / out[4:] / "sweeps" / "it" / "results.csv"))
        assert (tmp_path / out[4:] / "sweeps" / "it" / "results.md").exists()
    for frame in frames:
        assert len(frame) == 4
        pd.testing.assert_frame_equal(frame[DETERMINISTIC], frames[0][DETERMINISTIC])


@pytest.mark.parametrize(
    "launcher",
    ["lenet_local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("basic", "joblib"))],
)
def test_option_applies_to_optimizers_that_have_it(lenet_sweep, small, tmp_path, launcher) -> None:
    """Momentum with sgd and adam gives three cells under any launcher, and one line says so."""
    (tmp_path / "conf" / "optimizer").mkdir(parents=True)  # an entry that the user adds to a group
    (tmp_path / "conf" / "optimizer" / "fast.yaml").write_text("name: sgd\nweight_decay: 1e-4\n")
    words = ["--config-dir", "conf", "optimizer=fast,adam", "optimizer.betas=[0.5,0.9]",
             "optimizer.momentum=0,0.9", f"hydra/launcher={launcher}", "workers=1"]  # fmt: skip
    done = lenet_sweep("-m", *words, "report=false", *small)
    assert done.stdout.count("optimizer.momentum applies to sgd only; adam runs without it") == 1
    (folder,) = sweeps(tmp_path)
    frame = pd.read_csv(folder / "results.csv").sort_values(["optimizer", "optimizer.momentum"])
    assert list(frame["optimizer"]) == ["adam", "sgd", "sgd"]
    assert list(frame["optimizer.momentum"].fillna(-1)) == [-1, 0, 0.9]
    assert set(frame["status"]) == {"ok"}
    assert "equal" not in done.stdout
    assert re.search(r" momentum .*\n.*\n.* 0(\.9)? ", done.stdout)


def test_option_belongs_to_what_was_chosen(lenet_sweep, small) -> None:
    """The default loss may lack it, and a recipe may choose the loss or the optimizer."""
    words = ["recipe=ce_sgd,nll_adam", "optimizer.momentum=0,0.9", "dry_run=true"]
    assert "3 cells" in lenet_sweep("-m", *words, *small).stdout
    words = ["loss=multi_margin,mse", "loss.p=2", "dry_run=true"]
    assert "2 cells" in lenet_sweep("-m", *words, *small).stdout
    words = ["recipe=ce_sgd", "loss.label_smoothing=0.1", "dry_run=true"]
    assert "1 cell, " in lenet_sweep(*words, *small).stdout


def test_two_recipes_give_two_tables(lenet_sweep, small) -> None:
    """A sweep over two recipes prints a table for each."""
    done = lenet_sweep("-m", "recipe=ce_sgd,nll_adam", *small, "figures=none")
    assert "cross_entropy + sgd" in done.stdout
    assert "nll + adam" in done.stdout


def test_named_lists_are_swept(lenet_sweep) -> None:
    """grid/lr=report sweeps the report's learning rates; values on the command line win."""
    done = lenet_sweep("-m", "grid/lr=report", "grid/batch=report", "dry_run=true")
    assert "20 cells" in done.stdout
    done = lenet_sweep("-m", "grid/lr=report", "lr=0.5", "dry_run=true")
    assert "1 cell," in done.stdout


def test_dry_run_writes_nothing(lenet_sweep, tmp_path) -> None:
    """dry_run=true prints what would be trained and writes no file."""
    done = lenet_sweep("-m", "lr=0.1,0.01,.1", "epochs=100,200", "dry_run=true")
    assert "4 cells (2 duplicates merged), 0 in the store" in done.stdout
    assert "2 runs to train, at most 400 epochs" in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_dry_run_works_everywhere(lenet_sweep, small, tmp_path, monkeypatch, capsys) -> None:
    """dry_run=true also works for one cell, with Hydra's own launchers and from Python."""
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["-m", "hydra/launcher=basic"]):
        assert "to train" in lenet_sweep(*arguments, *small, "dry_run=true").stdout
    assert len(sweep(lr=[0.1, 0.2], dry_run=True)) == 0
    assert "2 runs to train" in capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()


def test_named_sweep_grows(lenet_sweep, small, tmp_path) -> None:
    """A second launch with the same name adds rows and keeps the failed ones."""
    words = [*small, "name=mine", "workers=1"]
    lenet_sweep("-m", "lr=0.03,0.2", *words, status=1, worker_env={"PYTHONPATH": str(FAULTS)})
    lenet_sweep("-m", "lr=0.3", *words)
    assert sorted(table(tmp_path)["lr"]) == [0.03, 0.2, 0.3]
    assert list(table(tmp_path)["status"]) == ["ok", "ok", "failed"]


def test_head_of_help_is_no_error(small, tmp_path) -> None:
    """`--help | head` prints no traceback."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m lenet_sweep --help | head -2"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize("single", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sweep_finishes_after_reader_exits(small, tmp_path, single) -> None:
    """With `| head`, the sweep writes all its files and exits with the status of SIGPIPE."""
    grid = [] if single else ["-m", "seed=0,1,2"]
    with subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", *grid, *with_figures(small)[:-1], "epochs=5"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 141, stderr
    assert "Traceback" not in stderr
    assert all(line.startswith("figures: ") for line in stderr.splitlines())
    (folder,) = sweeps(tmp_path)
    assert {"results.md", "report.html", "figures"} <= {path.name for path in folder.iterdir()}
    assert set(table(tmp_path)["status"]) == {"ok"}


def test_ctrl_c_also_ends_the_reader(small, tmp_path) -> None:
    """If Ctrl-C also ends `| tee log`, tables are written and stderr has the command."""
    with subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", "-m", "seed=0,1,2", *small[:-1], "epochs=200"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while "epoch 1/" not in process.stdout.readline():
            pass
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "Stopped by SIGINT" in stderr
    assert "-m lenet_sweep -m seed=0,1,2" in stderr
    assert (sweeps(tmp_path)[0] / "results.md").exists()


@pytest.mark.parametrize(
    ("streams", "status", "stderr"),
    [
        pytest.param(">&-", 0, "", marks=pytest.mark.slow),
        pytest.param("2>&-", 0, "", marks=pytest.mark.slow),
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 1, "error: cannot write to standard output: No space left on device\n"),
        pytest.param(">/dev/full 2>/dev/full", 1, "", marks=pytest.mark.slow),
    ],
)
def test_sweep_finishes_without_output(small, tmp_path, streams, status, stderr) -> None:
    """A sweep writes all its files if standard output or error is closed or full."""
    words = " ".join(["-m", "seed=0,1", *small, "figures=none"])
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m lenet_sweep {words} {streams}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stderr == stderr
    (folder,) = sweeps(tmp_path)
    assert {"results.md", "report.html"} <= {path.name for path in folder.iterdir()}
    assert list(table(tmp_path)["status"]) == ["ok", "ok"]


@pytest.mark.parametrize(("words", "streams"), [("lr=x", "2>/dev/full")])
def test_unprintable_error_keeps_its_status(tmp_path, words, streams) -> None:
    """A wrong command exits with status 2 even if its message cannot be printed."""
    command = f"{sys.executable} -m lenet_sweep {words} {streams}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 2


def test_single_cell_prints_what_the_report_prints(lenet_sweep, small, tmp_path) -> None:
    """Without -m, the output has the form of the report's script, also for a stored cell."""
    done = lenet_sweep(*small, "batch=4")
    script, separator, rest = done.stdout.partition("Written to ")
    assert separator
    assert re.fullmatch(
        r"(loss: \d+\.\d{6} \[ *\d+/  600\]\n){2}"
        r"\* Calculation time on training set\n: \d+\.\d{3} sec\n"
        r"\* Accuracy on test dataset\n: \d+\.\d{2}%\n",
        script,
    ), script
    assert "[    4/  600]" in script
    assert "[  404/  600]" in script
    assert "results.csv" in rest
    assert lenet_sweep(*small, "batch=4").stdout == done.stdout


def test_several_seeds_do_not_import_scipy_stats(small, tmp_path) -> None:
    """Tests and intervals over seeds work without scipy.stats, which is slow to import."""
    # After 3 epochs with lr=0.1, the seeds differ; equal accuracies would need no test.
    arguments = [
        "-m",
        "lr=0.01,0.1",
        "seed=0,1,2",
        *with_figures(small)[:-1],
        "epochs=3",
        "batch=16",
    ]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lenet_sweep", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    table = pd.read_csv(next(tmp_path.glob("outputs/sweeps/*/statistics.csv")))
    assert (table.loc[table["test"] == "paired t", "p"] < 1).all()
    assert "paired t" in set(table["test"])
    assert "scipy.special" in done.stderr
    assert "scipy.stats" not in done.stderr


def test_interrupted_sweep_can_be_resumed(small, tmp_path, lenet_sweep) -> None:
    """Ctrl-C leaves a table, and the printed command gives the table of an undisturbed sweep."""
    arguments = ["-m", "seed=0,1,2", *small[:-1], "epochs=30", "name=cut"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        for line in process.stdout:
            if "[1/3]" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "To resume:" in rest
    assert f"-m lenet_sweep {' '.join(arguments)}" in rest
    # After Ctrl-C, no figures are drawn; this poor model would need many.
    assert not (tmp_path / "outputs/sweeps/cut/figures").exists()
    assert "  report.html\n" in rest
    page = (tmp_path / "outputs/sweeps/cut/report.html").read_text()
    assert "<b>Interrupted by SIGINT</b> with" in page
    interrupted = pd.read_csv(tmp_path / "outputs/sweeps/cut/results.csv")
    assert 1 <= len(interrupted) < 3
    lenet_sweep(*arguments, "figures=none")
    resumed = pd.read_csv(tmp_path / "outputs/sweeps/cut/results.csv")
    page = (tmp_path / "outputs/sweeps/cut/report.html").read_text()
    assert "Interrupted by" not in page
    lenet_sweep(*arguments, "out=undisturbed", "figures=none")
    expected = pd.read_csv(tmp_path / "undisturbed/sweeps/cut/results.csv")
    pd.testing.assert_frame_equal(resumed[DETERMINISTIC], expected[DETERMINISTIC])


def test_ctrl_c_under_submitit_prints_no_traceback(small, tmp_path) -> None:
    """Ctrl-C also reaches submitit's processes, but the output is the command that resumes."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", "-m", "seed=0,1", *small[:-1], "epochs=2000",
         "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not list(tmp_path.glob("outputs/runs/*/run.json")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "To resume:" in text


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_signal_under_basic_launcher_leaves_table(small, tmp_path, number) -> None:
    """After a signal under Hydra's basic launcher, the table so far and the command are there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", "-m", "seed=0,1", *small[:-1], "epochs=1,200",
         "hydra/launcher=basic", "name=cut"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        for line in process.stdout:
            if "epoch 2/" in line or "resumed" in line:
                process.send_signal(number)
                break
        rest = process.stdout.read()
    assert process.returncode == 128 + number
    assert f"Stopped by {number.name} with {len(table(tmp_path))} of 4 cells done" in rest
    assert "To resume:" in rest
    assert len(table(tmp_path)) >= 1


def test_help_is_complete(lenet_sweep, tmp_path) -> None:
    """--help explains every key and group, without importing torch or pandas."""
    (tmp_path / "torch.py").write_text("raise ImportError('not for --help')")
    (tmp_path / "pandas.py").write_text("raise ImportError('not for --help')")
    text = lenet_sweep("--help", env={"PYTHONPATH": str(tmp_path)}).stdout
    for key in (
        "lr", "batch", "epochs", "activation", "seed", "shuffle", "device", "engine", "workers",
        "person", "timeout", "reuse", "dry_run", "report", "figures", "out", "name", "loss",
        "optimizer",
        "recipe", "dataset", "dataset.root", "dataset.limit", "grid/lr", "optimizer.momentum",
        "optimizer.betas", "max_cells", "rows",
    ):  # fmt: skip
        assert re.search(rf"(^|\s){re.escape(key)}\b", text, re.MULTILINE), key
    assert max(map(len, text.splitlines())) <= 120
