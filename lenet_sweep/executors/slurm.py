"""Runs as Slurm jobs: submitit writes and submits them, squeue tells what became of them.

submitit's own watching is not used: it needs Slurm's accounting, without which it waits for ever
for a job that died, and with it some 20 seconds.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lenet_sweep.config.launchers import SlurmOptions
from lenet_sweep.core.errors import UsageError
from lenet_sweep.executors import Executor, RunContext, cluster
from lenet_sweep.executors.cluster import JobExit, RefusedError
from lenet_sweep.executors.job import run_job
from lenet_sweep.executors.local import ONE_THREAD

SIGNAL_BEFORE = 60  # seconds before its time is up that a job is told, or a minute more
ARRAY_MOST = 1000  # jobs of one array, where Slurm does not say (its own default is 1001)
JOB_NAME = "lenet-sweep"
COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
OLD = 3600.0  # seconds after which what submitit has left behind is nobody's
ENDED = frozenset(
    (
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
        "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
    )
)  # fmt: skip
TAIL = 8000  # bytes of what a job said that are kept with its failure
# Names of submitit's files of a job, behind its number; an array's jobs share a submission.
FILE = re.compile(r"(\d+(?:_\d+)?)_(?:\d+_(?:log|result)|submitted|submission)\..*")
# What Slurm gives as a job's signal where its output could not be opened: 4021, its own error, of
# which seven bits are left.
UNOPENED = "53"


def executor(resources: SlurmOptions) -> Executor:
    """Runs as Slurm jobs with these resources."""
    return Executor(
        execute=lambda runs, context: cluster.execute(runs, context, Slurm(resources)),
        room=lambda _: None,
        check=check,
    )


def check() -> None:
    """Raise UsageError where submitit or Slurm's commands are missing."""
    try:
        import submitit  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            "hydra/launcher=lenet_slurm: needs the package submitit, which is not installed; "
            "pip install 'lenet-sweep[slurm]'"
        ) from error
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if missing:
        raise UsageError(
            f"hydra/launcher=lenet_slurm: there is no {missing[0]} here; start it on a machine of "
            "the cluster that has Slurm's commands, as its login node"
        )


class Slurm:
    """A Slurm cluster, as a service that runs jobs."""

    name = "Slurm"
    poll_interval = 5.0
    survives_launch = True

    def __init__(self, resources: SlurmOptions) -> None:
        self.resources = resources
        self.runs_per_job = resources.runs_per_job
        self._silent = False  # whether squeue has not answered
        self._waiting: dict[str, str] = {}  # reasons of the jobs in the queue, as last heard

    def begin(self, context: RunContext) -> None:
        self.context = context
        self.folder = context.out.absolute() / "jobs" / "slurm"
        self._clear()

    def room(self, jobs: int) -> int:
        # The first array holds to `workers` by itself; what comes later adds to it.
        most = _array_size() - 1
        return min(most, self.context.workers - jobs) if self.context.workers and jobs else most

    def submit(self, orders: Sequence[Mapping[str, Any]]) -> list[str]:
        import submitit  # noqa: PLC0415 - an extra

        wanted = self.resources
        # Not a folder for each job, which submitit makes when sbatch has told the job's number: by
        # then Slurm may have started the job, and failed it for want of a place for its output.
        slurm = submitit.SlurmExecutor(self.folder)
        slurm.update_parameters(
            **{key: value for key, value in _options(wanted).items() if value is not None},
            array_parallelism=self.context.workers or len(orders),
            signal_delay_s=min(SIGNAL_BEFORE, wanted.time * 60 // 4),
            setup=[f"export {name}={value}" for name, value in ONE_THREAD.items()],
            additional_parameters={"requeue": True, **(wanted.sbatch or {})},
            # A step of Slurm's does not take over the cores of its job.
            srun_args=[f"--cpus-per-task={wanted.cpus}"],
        )
        try:
            # What sbatch has to say is in the error; submitit's warnings are about itself.
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                jobs = slurm.map_array(run_job, orders)
        except (submitit.core.utils.FailedJobError, OSError) as error:
            raise RefusedError(f"Slurm does not take the jobs: {_complaint(error)}") from error
        ids = [str(job.job_id) for job in jobs]
        span = ids[0] if len(ids) == 1 else f"{ids[0].partition('_')[0]}_[0-{len(ids) - 1}]"
        self.context.say(f"submitted as Slurm job {span}; what they print is in {self.folder}")
        return ids

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        states = self._states()
        if states is None:
            return {}
        return {
            job: self._ending(job, *states.get(job, ("", "")))
            for job in jobs
            if job not in states or states[job][0] in ENDED
        }

    def cancel(self, jobs: Iterable[str]) -> None:
        asked = _ask(["scancel", "--quiet", *jobs])
        if asked.returncode:
            self.context.say(f"scancel does not answer: {asked.stderr.strip()}")

    def describe_pending(self, jobs: Iterable[str]) -> str:
        found = {self._waiting[job] for job in jobs if job in self._waiting}
        return f"in the queue: {', '.join(sorted(found))}" if found else ""

    def end(self) -> None:
        pass

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        names = sorted({job.partition("_")[0] for job in jobs})
        return (
            f"{len(jobs)} Slurm jobs go on ({', '.join(names)}): the same command follows them "
            f"again, scancel {' '.join(names)} ends them"
        )

    def _states(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of each job that Slurm's controller still knows; None: no answer."""
        mine = [f"--user={os.getuid()}", f"--name={JOB_NAME}", "--states=all"]
        asked = _ask(["squeue", *mine, "--noheader", "--array", "--format=%i|%T|%r"])
        if asked.returncode:
            if not self._silent:
                self.context.say(
                    f"squeue does not answer, and is asked again: {asked.stderr.strip()}"
                )
            self._silent = True
            return None
        self._silent = False
        fields = (line.split("|", 2) for line in asked.stdout.splitlines())
        states = {job: (state, reason) for job, state, reason in fields}
        self._waiting = {job: why for job, (state, why) in states.items() if state == "PENDING"}
        return states

    def _ending(self, job: str, state: str, reason: str) -> JobExit:
        if not state:  # longer ago than the controller remembers
            asked = _ask(["sacct", "-X", "-n", "-P", "-o", "State", "-j", job])
            state = asked.stdout.split()[0] if asked.stdout.split() else "UNKNOWN"
        said = self._said(job)
        name = f"Slurm job {job}"
        if state == "COMPLETED":
            return JobExit("", "failed", said)
        if state == "PREEMPTED":
            return JobExit(f"{name} was preempted", again=True)
        if state == "TIMEOUT":
            return JobExit(
                f"{name} was over its time; more: hydra.launcher.time", "timed-out", said
            )
        if state == "OUT_OF_MEMORY":
            return JobExit(f"{name} was out of memory; more: hydra.launcher.memory", "killed", said)
        if state.startswith("CANCELLED"):
            return JobExit(f"{name} was cancelled", "killed", said)
        if state == "UNKNOWN":
            return JobExit(f"Slurm knows nothing of job {job} any more", "killed", said)
        why = "" if reason in ("", "None") else f", {reason}"
        return JobExit(f"{name} ended as {state}{why}{_exit_code(job)}", "killed", said)

    def _clear(self) -> None:
        """Remove what jobs that are gone have printed, and submitit's files of them."""
        # Listed before it is asked which jobs are alive.
        found = [
            (path, named[1])
            for path in self.folder.glob("[0-9]*")
            if (named := FILE.fullmatch(path.name))
        ]
        states = self._states() if found else None
        if states is None:
            return
        living = {job for job, (state, _) in states.items() if state not in ENDED}
        living |= {job.partition("_")[0] for job in living}
        for path, job in found:
            if job not in living:
                with contextlib.suppress(OSError):
                    path.unlink()
        # What was not named after a job yet, or links to what was; a link may lead nowhere by now.
        for path in (*self.folder.glob(".submission_file_*"), *self.folder.glob("*.pkl")):
            with contextlib.suppress(OSError):
                if not FILE.fullmatch(path.name) and time.time() - path.lstat().st_mtime > OLD:
                    path.unlink()

    def _said(self, job: str) -> str:
        with contextlib.suppress(OSError):
            said = (self.folder / f"{job}_0_log.err").read_bytes()
            return said[-TAIL:].decode(errors="replace")
        return ""


def _options(wanted: SlurmOptions) -> dict[str, Any]:
    return {
        "job_name": JOB_NAME,
        "partition": wanted.partition,
        "time": wanted.time,
        "cpus_per_task": wanted.cpus,
        "mem": f"{round(wanted.memory * 1024)}M",
        "gpus_per_node": wanted.gpus or None,
        "account": wanted.account,
        "qos": wanted.qos,
        "constraint": wanted.constraint,
    }


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What a command of Slurm's says; status 127 where it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


@functools.cache
def _array_size() -> int:
    """Jobs that one array may have, as Slurm says."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask(["scontrol", "show", "config"]).stdout)
    return max(2, int(found[1])) if found else ARRAY_MOST


def _exit_code(job: str) -> str:
    """', exit status 137', ', signal 9', or nothing where it is not known."""
    shown = _ask(["scontrol", "show", "job", "--oneliner", job]).stdout
    found = re.search(r"\bExitCode=(\d+):(\d+)", shown)
    if not found or found[0].endswith("=0:0"):
        return ""
    if found[1] != "0":
        return f", exit status {found[1]}"
    if found[2] == UNOPENED:
        return (
            f", signal {found[2]}: its node cannot open the files for its output; out must be on a "
            "disk that all nodes share"
        )
    return f", signal {found[2]}"


def _complaint(error: Exception) -> str:
    """Of all that sbatch and submitit say, the line that tells what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "error" in line.lower()]
    return said[-1] if said else (lines or [type(error).__name__])[0]
