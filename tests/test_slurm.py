"""What Slurm alone does to runs: cancel, preempt, cut short, refuse. A real controller and node."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import Place, interrupt, place, slurm_resources, small_runs
from processes import Sweep, linux, results
from slurm_here import find_node, lose_node

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
LONG = 30_000  # epochs that no test waits for the end of


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Place:
    with place("slurm", tmp_path_factory.mktemp("slurm")) as found:
        yield found


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def my_jobs() -> list[str]:
    """The jobs that are queued or running."""
    return ask("squeue", "--noheader", "--array", "--format=%i").split()


def replace_sbatch(folder: Path, environment: pytest.MonkeyPatch, script: str) -> None:
    """Have this script be sbatch; $sbatch is the real one."""
    path = folder / "commands" / "sbatch"
    path.parent.mkdir()
    path.write_text(f"#!/bin/bash\nsbatch={shutil.which('sbatch')}\n{script}")
    path.chmod(0o755)
    environment.setenv("PATH", str(path.parent), prepend=os.pathsep)


def resumed_after(seen) -> list[int]:
    """After how many epochs the run began, each time that it did."""
    return [event.epoch for event in seen if isinstance(event, Started)]


def test_a_cancelled_job_is_a_row_with_its_reason(cluster, runs_of) -> None:
    """Who cancels a job with scancel finds its run in the table, and why it has no accuracy."""
    runs, setup = runs_of(seed=[0, 1], epochs=[1, LONG])
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, CellFinished) and len({e.run_id for e in seen}) == 2 and my_jobs():
            ask("scancel", *my_jobs())
    failed = {event.run_id: event.failure for event in seen if isinstance(event, Failed)}
    assert set(failed) == {run.id for run in runs}
    for run in runs:
        assert failed[run.id].status == "killed"
        assert failed[run.id].reason.startswith("Slurm job ")
        assert failed[run.id].reason.endswith(" was cancelled")
        folder = Store(setup.out).run(run.id)
        assert folder.failure() == failed[run.id]
        assert folder.has(1)
        assert folder.read(folder.checkpoint).epoch > 1  # told to end, it kept what it had


def test_a_job_cancelled_before_it_began_is_a_row(cluster, runs_of) -> None:
    """A job that was cancelled in the queue never trained, and its run says so."""
    runs, setup = runs_of(seed=[0, 1], epochs=[1, LONG], workers=1)
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, CellFinished):
            ask("scancel", *sorted(my_jobs(), key=lambda job: "_0" in job))
    assert len([event for event in seen if isinstance(event, Failed)]) == 2
    assert len({event.run_id for event in seen if isinstance(event, Started)}) == 1


def test_a_preempted_job_goes_on_from_its_checkpoint(cluster, runs_of) -> None:
    """A more urgent job takes the node; the run is queued again and loses no epoch."""
    runs, setup = runs_of(epochs=800)
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5:
            ask("sbatch", "--partition=urgent", "--exclusive", "--wrap=true", "--output=/dev/null")
    assert isinstance(seen[-1], Finished)
    (requeued,) = (event for event in seen if isinstance(event, Requeued))
    assert requeued.reason == "its job was interrupted by Slurm"
    first, second = resumed_after(seen)
    assert first == 0
    assert second >= 5
    epochs = [event.result.epoch for event in seen if isinstance(event, EpochEnded)]
    assert sorted(set(epochs)) == list(range(1, 801))


def test_a_job_queued_again_by_hand_goes_on(cluster, runs_of) -> None:
    """`scontrol requeue` costs no epoch either."""
    runs, setup = runs_of(epochs=800)
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5:
            ask("scontrol", "requeue", *my_jobs())
    assert isinstance(seen[-1], Finished)
    assert resumed_after(seen)[1] >= 5


def test_a_lost_node_costs_no_run(cluster, runs_of, tmp_path) -> None:
    """The node's daemon dies, its job lives on unseen, and Slurm starts the job again elsewhere.

    Two processes then want one run: one trains it, and what it comes to is what it always is.
    """
    runs, setup = runs_of(epochs=[20, 800])
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5 and len(seen) < 12:
            lose_node()
            find_node()
    assert isinstance(seen[-1], Finished)
    assert not [event for event in seen if isinstance(event, Failed)]
    alone, other = small_runs(tmp_path / "alone", setup.data_root, epochs=[20, 800])
    list(LOCAL.execute(alone, other))
    for epochs in (20, 800):
        found, expected = (Store(where.out).run(runs[0].id) for where in (setup, other))
        weights = found.read(found.readout(epochs)).state
        for name, array in expected.read(expected.readout(epochs)).state.items():
            assert weights[name].tobytes() == array.tobytes()


def test_a_job_whose_time_is_up_is_queued_again(cluster, runs_of) -> None:
    """A run that needs more than the time of a job is trained in several, and loses no epoch."""
    runs, setup = runs_of(epochs=LONG)
    executor = slurm.executor(slurm_resources(time=1))
    seen = []
    for event in executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, Started) and len(resumed_after(seen)) == 2:
            interrupt(setup)
    assert [event for event in seen if isinstance(event, Requeued)]
    assert resumed_after(seen)[1] > 5


def test_many_runs_in_one_job(cluster, runs_of) -> None:
    """With runs_per_job=3 seven runs are three jobs, and one that dies takes no other with it."""
    runs, setup = runs_of(lr=[0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    said = []
    object.__setattr__(setup, "say", said.append)
    executor = slurm.executor(slurm_resources(runs_per_job=3))
    seen = list(executor.execute(runs, setup))
    assert len([event for event in seen if isinstance(event, Finished)]) == 6
    (failed,) = (event for event in seen if isinstance(event, Failed))
    assert failed.failure.reason == "the process was ended by SIGKILL (out of memory?)"
    (line,) = said
    assert "_[0-2];" in line


def test_a_lost_job_is_submitted_again_with_retries(cluster, runs_of) -> None:
    """With retries=1 a run whose job was cancelled goes on in another one, from its checkpoint."""
    runs, setup = runs_of(epochs=800, retries=1)
    seen = []
    for event in cluster.executor.execute(runs, setup):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5 and my_jobs():
            ask("scancel", *my_jobs())
    assert isinstance(seen[-1], Finished)
    assert len([event for event in seen if isinstance(event, Retrying)]) == 1
    assert resumed_after(seen)[1] >= 5


def test_another_launch_follows_the_jobs_of_the_first(cluster, tmp_path, small_folder) -> None:
    """The same command twice at once, or after a lost connection, submits nothing twice."""
    words = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
        "report=false", *cluster.words, "seed=0,1", "epochs=10,800",
    )  # fmt: skip
    with Sweep(tmp_path, *words) as first:
        first.until("submitted as Slurm job")
        first.until("[1/4]")
        with Sweep(tmp_path, *words) as second:
            line = second.until("an earlier launch")
            assert "has 2 of these runs" in line
            for sweep in (first, second):
                status, output = sweep.ends()
                assert status == 0, output
                assert "FAILED" not in output
    assert "submitted as Slurm job" not in second.before
    assert list(results(tmp_path)["status"]) == ["ok"] * 4


def test_of_two_launches_both_know_why_a_run_failed(cluster, tmp_path, small_folder) -> None:
    """Whichever reads the end of a job first, the reason is the same in both tables."""
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
        assert frame.loc[0.04, "error"] == "the process was ended by SIGKILL (out of memory?)"
        assert list(frame.loc[[0.1, 0.2], "status"]) == ["ok", "ok"]


@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["job", "array"])
def test_slurm_may_start_a_job_before_it_tells_its_number(
    cluster, runs_of, tmp_path, monkeypatch, seeds
) -> None:
    """However late sbatch comes back, the job that it started has a place for its output."""
    runs, setup = runs_of(seed=seeds)
    replace_sbatch(
        tmp_path,
        monkeypatch,
        f"""told=$("$sbatch" "$@") || exit
state() {{ squeue --noheader --states=all --format=%T --jobs="${{told##* }}"; }}
until ls {setup.out.absolute()}/jobs/slurm/*_log.out || state | grep --quiet FAILED; do
    sleep 0.1
done >/dev/null 2>&1
echo "$told"
""",
    )
    seen = list(cluster.executor.execute(runs, setup))
    assert not [event.failure for event in seen if isinstance(event, Failed)]
    assert len([event for event in seen if isinstance(event, Finished)]) == len(seeds)


def test_output_that_a_node_cannot_write_is_explained(
    cluster, runs_of, tmp_path, monkeypatch
) -> None:
    """Where a node does not see the disk, Slurm says 'signal 53'; the table says what it means."""
    runs, setup = runs_of(seed=[0])
    replace_sbatch(tmp_path, monkeypatch, f'exec "$sbatch" --output={tmp_path}/nowhere/%j "$@"')
    *_, last = cluster.executor.execute(runs, setup)
    assert isinstance(last, Failed)
    assert "JobLaunchFailure, signal 53: its node cannot open the files" in last.failure.reason


def test_nothing_of_a_job_is_left_for_good(cluster, runs_of) -> None:
    """What jobs printed is there until the next launch; records of jobs that are gone go."""
    runs, setup = runs_of(seed=[0, 1])
    list(cluster.executor.execute(runs, setup))
    jobs = setup.out / "jobs"
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
    runs, setup = runs_of(seed=[2])
    list(cluster.executor.execute(runs, setup))
    assert [path.name for path in jobs.iterdir()] == ["slurm"]
    assert not [path for path in (*printed, *unnamed) if os.path.lexists(path)]


def test_jobs_that_do_not_begin_are_explained(cluster, runs_of, monkeypatch) -> None:
    """Who asked for what Slurm never gives is told what the jobs wait for."""
    monkeypatch.setattr(cluster_module, "WAITS_SAID_AFTER", 0.5)
    runs, setup = runs_of(seed=[0, 1])
    said = []

    def say(line: str) -> None:
        said.append(line)
        if "wait" in line:
            interrupt(setup)

    object.__setattr__(setup, "say", say)
    executor = slurm.executor(slurm_resources(sbatch={"hold": True}))
    assert not [e for e in executor.execute(runs, setup) if isinstance(e, Started)]
    assert said[-1] == "2 jobs of Slurm wait in the queue: JobHeldUser"
    assert not (setup.out / "jobs" / f"{runs[0].id}.json").exists()


def test_no_more_jobs_than_workers(cluster, runs_of) -> None:
    """workers=1 is one job at a time, also where one is submitted again."""
    Path(os.environ["FAILED_ONCE"]).unlink(missing_ok=True)
    runs, setup = runs_of(lr=[0.11, 0.1, 0.2, 0.3], epochs=200, workers=1, retries=1)
    training: set[str] = set()
    for event in cluster.executor.execute(runs, setup):
        if isinstance(event, EpochEnded):
            training.add(event.run_id)
        if isinstance(event, (Finished, Retrying)):
            training.discard(event.run_id)
        assert len(training) <= 1
    assert {run.id for run in runs if Store(setup.out).run(run.id).has(200)} == {
        run.id for run in runs
    }


def test_what_slurm_does_not_take_is_one_line(cluster, tmp_path, small_folder) -> None:
    """A partition that is not there is said by Slurm, in one line, with status 2."""
    words = ("-m", "dataset=folder", f"dataset.root={small_folder()}", "seed=0,1")
    with Sweep(tmp_path, *words, *cluster.words, "hydra.launcher.partition=none") as sweep:
        status, output = sweep.ends()
    assert status == 2
    assert "Traceback" not in output
    assert "error: Slurm does not take the jobs: " in output
    assert output.lower().count("invalid partition") == 1


def test_without_slurm_here_is_said(monkeypatch) -> None:
    """Where there is no sbatch, one line says where to start it."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="there is no sbatch here; start it on a machine of"):
        slurm.check()


def test_without_submitit_the_command_is_said(monkeypatch) -> None:
    """Where the extra is not installed, the line says how to install it."""
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'lenet-sweep\[slurm\]'"):
        slurm.check()
