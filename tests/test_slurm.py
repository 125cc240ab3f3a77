"""Slurm jobs that are canceled, preempted, out of time or rejected, on a real cluster."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import TargetExecutor, interrupt, slurm_options, small_runs, start_executor
from processes import Sweep, linux, results
from slurm_here import lose_node, restore_node, wait_for_jobs

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import (
    CellFinished,
    EpochEnded,
    Failed,
    Finished,
    Requeued,
    Retrying,
    Started,
)
from lenet_sweep.executors import cluster as cluster_module
from lenet_sweep.executors import slurm
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.storage.files import write_json
from lenet_sweep.storage.store import Store

pytestmark = [linux, pytest.mark.slow]
LONG = 30_000  # epochs; no test waits for the last one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> TargetExecutor:
    with start_executor("slurm", tmp_path_factory.mktemp("slurm")) as target:
        yield target


def run_command(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def my_jobs() -> list[str]:
    """The ids of the jobs that are pending or running."""
    return run_command("squeue", "--noheader", "--array", "--format=%i").split()


def replace_sbatch(folder: Path, environment: pytest.MonkeyPatch, script: str) -> None:
    """Replace sbatch by this script, in which $sbatch is the real command."""
    path = folder / "commands" / "sbatch"
    path.parent.mkdir()
    path.write_text(f"#!/bin/bash\nsbatch={shutil.which('sbatch')}\n{script}")
    path.chmod(0o755)
    environment.setenv("PATH", str(path.parent), prepend=os.pathsep)


def resumed_after(seen) -> list[int]:
    """The number of epochs trained before each start of the run."""
    return [event.epoch for event in seen if isinstance(event, Started)]


def test_a_canceled_job_is_a_row_with_its_reason(cluster, runs_of) -> None:
    """After scancel, the table names the reason, and the run has a checkpoint."""
    runs, context = runs_of(seed=[0, 1], epochs=[1, LONG])
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, CellFinished) and len({e.run_id for e in seen}) == 2 and my_jobs():
            run_command("scancel", *my_jobs())
    failed = {event.run_id: event.failure for event in seen if isinstance(event, Failed)}
    assert set(failed) == {run.id for run in runs}
    for run in runs:
        assert failed[run.id].status == "killed"
        assert failed[run.id].reason.startswith("Slurm job ")
        assert failed[run.id].reason.endswith(" was canceled")
        folder = Store(context.out).run_folder(run.id)
        assert folder.failure() == failed[run.id]
        assert folder.has_intact_snapshot(1)
        assert folder.read(folder.checkpoint_path).epoch > 1  # saved when the job was canceled


def test_a_job_canceled_before_it_started_is_a_row(cluster, runs_of) -> None:
    """The row of a job that was canceled in the queue says so."""
    runs, context = runs_of(seed=[0, 1], epochs=[1, LONG], workers=1)
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, CellFinished):
            run_command("scancel", *sorted(my_jobs(), key=lambda job: "_0" in job))
    assert len([event for event in seen if isinstance(event, Failed)]) == 2
    assert len({event.run_id for event in seen if isinstance(event, Started)}) == 1


def preempt() -> None:
    """A more urgent job takes the node."""
    run_command("sbatch", "--partition=urgent", "--exclusive", "--wrap=true", "--output=/dev/null")


def requeue() -> None:
    """The user returns the job to the queue."""
    run_command("scontrol", "requeue", *my_jobs())


@pytest.mark.parametrize("cause", [preempt, requeue])
def test_a_requeued_job_resumes_from_its_checkpoint(cluster, runs_of, cause) -> None:
    """A run whose job is preempted or requeued manually loses no epoch."""
    runs, context = runs_of(epochs=800)
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5:
            cause()
    assert isinstance(seen[-1], Finished)
    (requeued,) = (event for event in seen if isinstance(event, Requeued))
    assert requeued.reason == "its job was interrupted by Slurm"
    first, second = resumed_after(seen)
    assert first == 0
    assert second >= 5
    epochs = [event.result.epoch for event in seen if isinstance(event, EpochEnded)]
    assert sorted(set(epochs)) == list(range(1, 801))


def test_a_lost_node_loses_no_run(cluster, runs_of, tmp_path) -> None:
    """If the node's daemon dies, the job continues unnoticed and Slurm starts it a second time.

    Of the two processes, one trains the run, with the usual result.
    """
    runs, context = runs_of(epochs=[20, 800])
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5 and len(seen) < 12:
            lose_node()
            restore_node()
    assert isinstance(seen[-1], Finished)
    assert not [event for event in seen if isinstance(event, Failed)]
    alone, other = small_runs(tmp_path / "alone", context.data_root, epochs=[20, 800])
    list(LOCAL.execute(alone, other))
    for epochs in (20, 800):
        actual, expected = (Store(where.out).run_folder(runs[0].id) for where in (context, other))
        weights = actual.read(actual.snapshot_path(epochs)).state
        for name, array in expected.read(expected.snapshot_path(epochs)).state.items():
            assert weights[name].tobytes() == array.tobytes()


def test_a_job_that_reaches_its_time_limit_is_requeued(cluster, runs_of) -> None:
    """A run longer than the time limit is trained in several jobs, and loses no epoch."""
    runs, context = runs_of(epochs=LONG)
    executor = slurm.create(slurm_options(time=1))
    seen = []
    for event in executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, Started) and len(resumed_after(seen)) == 2:
            interrupt(context)
    assert [event for event in seen if isinstance(event, Requeued)]
    assert resumed_after(seen)[1] > 5


def test_many_runs_in_one_job(cluster, runs_of) -> None:
    """With runs_per_job=3, seven runs are three jobs; a run that dies does not affect others."""
    runs, context = runs_of(lr=[0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    lines = []
    object.__setattr__(context, "on_message", lines.append)
    executor = slurm.create(slurm_options(runs_per_job=3))
    seen = list(executor.execute(runs, context))
    assert len([event for event in seen if isinstance(event, Finished)]) == 6
    (failed,) = (event for event in seen if isinstance(event, Failed))
    assert failed.failure.reason == "the worker process was terminated by SIGKILL (out of memory?)"
    (line,) = (line for line in lines if line.startswith("submitted as Slurm job"))
    assert "_[0-2];" in line


def test_a_lost_job_is_submitted_again_with_retries(cluster, runs_of) -> None:
    """With retries=1, a run whose job was canceled resumes in another job."""
    runs, context = runs_of(epochs=800, retries=1)
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5 and my_jobs():
            run_command("scancel", *my_jobs())
    assert isinstance(seen[-1], Finished)
    assert len([event for event in seen if isinstance(event, Retrying)]) == 1
    assert resumed_after(seen)[1] >= 5


def test_another_launch_follows_the_jobs_of_the_first(cluster, tmp_path, small_folder) -> None:
    """The same command a second time, for example after a lost connection, submits nothing."""
    words = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
        "report=false", *cluster.words, "seed=0,1", "epochs=10,800",
    )  # fmt: skip
    with Sweep(tmp_path, *words) as first:
        first.until("submitted as Slurm job")
        first.until("[1/4]")
        with Sweep(tmp_path, *words) as second:
            line = second.until("an earlier launch")
            assert "following 2 runs" in line
            for sweep in (first, second):
                status, output = sweep.ends()
                assert status == 0, output
                assert "FAILED" not in output
    assert "submitted as Slurm job" not in second.before
    assert list(results(tmp_path)["status"]) == ["ok"] * 4


def test_two_launches_report_the_same_failure(cluster, tmp_path, small_folder) -> None:
    """Whichever launch reads the end of a job first, both tables have the reason."""
    words = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
        "report=false", *cluster.words, "hydra.launcher.runs_per_job=3", "lr=0.1,0.04,0.2",
        "epochs=300",
    )  # fmt: skip
    with Sweep(tmp_path, *words, "name=first") as first:
        first.until("started")
        with Sweep(tmp_path, *words, "name=second") as second:
            second.until("an earlier launch")
            for sweep in (first, second):
                status, output = sweep.ends()
                assert status == 1, output
    for name in ("first", "second"):
        frame = results(tmp_path, name).set_index("lr")
        assert (
            frame.loc[0.04, "error"]
            == "the worker process was terminated by SIGKILL (out of memory?)"
        )
        assert list(frame.loc[[0.1, 0.2], "status"]) == ["ok", "ok"]


@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["job", "array"])
def test_a_job_may_start_before_sbatch_returns(
    cluster, runs_of, tmp_path, monkeypatch, seeds
) -> None:
    """However late sbatch returns, the job can write its output."""
    runs, context = runs_of(seed=seeds)
    replace_sbatch(
        tmp_path,
        monkeypatch,
        f"""output=$("$sbatch" "$@") || exit
state() {{ squeue --noheader --states=all --format=%T --jobs="${{output##* }}"; }}
until ls {context.out.absolute()}/jobs/slurm/*_log.out || state | grep --quiet FAILED; do
    sleep 0.1
done >/dev/null 2>&1
echo "$output"
""",
    )
    seen = list(cluster.executor.execute(runs, context))
    assert not [event.failure for event in seen if isinstance(event, Failed)]
    assert len([event for event in seen if isinstance(event, Finished)]) == len(seeds)


def test_output_that_a_node_cannot_write_is_explained(
    cluster, runs_of, tmp_path, monkeypatch
) -> None:
    """If a node does not see the disk, Slurm reports signal 53, which the table explains."""
    runs, context = runs_of(seed=[0])
    replace_sbatch(tmp_path, monkeypatch, f'exec "$sbatch" --output={tmp_path}/nowhere/%j "$@"')
    *_, last = cluster.executor.execute(runs, context)
    assert isinstance(last, Failed)
    assert "signal 53: the node cannot open the job's output files" in last.failure.reason


def test_files_of_ended_jobs_are_removed(cluster, runs_of) -> None:
    """The output of jobs is kept until the next launch, which removes it and stale records."""
    runs, context = runs_of(seed=[0, 1])
    list(cluster.executor.execute(runs, context))
    jobs = context.out / "jobs"
    printed = list((jobs / "slurm").glob("[0-9]*"))
    assert len([path for path in printed if path.name.endswith("_log.out")]) == 2
    assert [path.name for path in jobs.iterdir()] == ["slurm"]
    unnamed = [jobs / "slurm" / ".submission_file_0.sh", jobs / "slurm" / "0123456789abcdef.pkl"]
    unnamed[0].symlink_to(jobs / "gone")
    unnamed[1].touch()
    for path in unnamed:
        os.utime(path, (0, 0), follow_symlinks=False)
    write_json(jobs / "abc.json", {"service": "Slurm", "job": "1_7", "journal": "abc-1.journal"})
    (jobs / "abc-1.journal").touch()
    wait_for_jobs()  # the files of a job that is still ending are kept
    runs, context = runs_of(seed=[2])
    list(cluster.executor.execute(runs, context))
    assert [path.name for path in jobs.iterdir()] == ["slurm"]
    assert not [path for path in (*printed, *unnamed) if os.path.lexists(path)]


def test_pending_jobs_are_explained(cluster, runs_of, monkeypatch) -> None:
    """If jobs do not start, a line gives Slurm's reason."""
    monkeypatch.setattr(cluster_module, "REPORT_PENDING_AFTER", 0.5)
    runs, context = runs_of(seed=[0, 1])
    lines = []

    def on_message(line: str) -> None:
        lines.append(line)
        if "jobs pending" in line:
            interrupt(context)

    object.__setattr__(context, "on_message", on_message)
    executor = slurm.create(slurm_options(sbatch={"hold": True}))
    assert not [e for e in executor.execute(runs, context) if isinstance(e, Started)]
    assert lines[-1] == "2 Slurm jobs pending: JobHeldUser"
    assert not (context.out / "jobs" / f"{runs[0].id}.json").exists()


def test_no_more_jobs_than_workers(cluster, runs_of) -> None:
    """workers=1 runs one job at a time, also when a run is submitted again."""
    Path(os.environ["FAILED_ONCE"]).unlink(missing_ok=True)
    runs, context = runs_of(lr=[0.11, 0.1, 0.2, 0.3], epochs=200, workers=1, retries=1)
    training: set[str] = set()
    for event in cluster.executor.execute(runs, context):
        if isinstance(event, EpochEnded):
            training.add(event.run_id)
        if isinstance(event, (Finished, Retrying)):
            training.discard(event.run_id)
        assert len(training) <= 1
    assert {
        run.id for run in runs if Store(context.out).run_folder(run.id).has_intact_snapshot(200)
    } == {run.id for run in runs}


def test_a_rejected_job_is_an_error(cluster, tmp_path, small_folder) -> None:
    """An unknown partition gives one line with status 2."""
    words = ("-m", "dataset=folder", f"dataset.root={small_folder()}", "seed=0,1")
    with Sweep(tmp_path, *words, *cluster.words, "hydra.launcher.partition=none") as sweep:
        status, output = sweep.ends()
    assert status == 2
    assert "Traceback" not in output
    assert "error: Slurm rejected the jobs: " in output
    assert output.lower().count("invalid partition") == 1


def test_a_missing_sbatch_is_an_error(monkeypatch) -> None:
    """Without sbatch, one line says where to start the sweep."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        UsageError, match="sbatch is not installed; start the sweep on a machine of"
    ):
        slurm.check()


def test_a_missing_submitit_names_the_command_to_install_it(monkeypatch) -> None:
    """If the extra is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'lenet-sweep\[slurm\]'"):
        slurm.check()
