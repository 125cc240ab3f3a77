"""The Slurm executor: submitit submits runs as jobs, and squeue reports their states.

submitit's own monitoring is not used. It needs Slurm's accounting: with it, noticing a dead job
takes about 20 s, and without it, submitit waits forever.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.checks import finite, integer, reject
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import Failed, Failure
from lenet_sweep.core.text import format_value, pluralize
from lenet_sweep.executors import Executor, RunContext, cluster
from lenet_sweep.executors.cluster import JobExit, RejectedError
from lenet_sweep.executors.job import TERMINATION_SIGNALS, InterruptedRun, run_job
from lenet_sweep.executors.local import ONE_THREAD
from lenet_sweep.executors.options import (
    PREFIX,
    check_mapping,
    check_optional_text,
    check_text,
    executor_option,
    integer_check,
    number_check,
)
from lenet_sweep.executors.registry import register_executor
from lenet_sweep.storage.store import Store

SIGNAL_BEFORE = 60  # seconds before its time limit when a job gets SIGUSR2; up to 60 s more
WAIT_FOR_TERMINATION = 900.0  # seconds that a job waits for Slurm to end it
DEFAULT_ARRAY_SIZE = 1000  # jobs in an array if Slurm does not report it (its own default is 1001)
JOB_NAME = "lenet-sweep"
COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
STALE_AFTER = 3600.0  # seconds until submitit's temporary files are abandoned
ENDED = frozenset(
    (
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
        "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
    )
)  # fmt: skip
OUTPUT_TAIL = 8000  # bytes of a job's error output that are kept with its failure
# submitit's files of a job, which start with its id; the jobs of an array share a submission.
FILE = re.compile(r"(\d+(?:_\d+)?)_(?:\d+_(?:log|result)|submitted|submission)\..*")
# The signal that Slurm reports for a job whose output files cannot be opened: the last seven bits
# of its own error number 4021.
OUTPUT_NOT_OPENED = "53"

SBATCH_KEYS = {  # options of sbatch that have a separate key, or ("") that the launcher sets
    "array": "workers=N",
    "cpus-per-task": f"{PREFIX}.cpus=N",
    "mem": f"{PREFIX}.memory=GB",
    "time": f"{PREFIX}.time=MINUTES",
    "partition": f"{PREFIX}.partition=NAME",
    "account": f"{PREFIX}.account=NAME",
    "qos": f"{PREFIX}.qos=NAME",
    "constraint": f"{PREFIX}.constraint=TEXT",
    "gpus": f"{PREFIX}.gpus=N",
    "gpus-per-node": f"{PREFIX}.gpus=N",
    **dict.fromkeys(
        (
            "chdir", "error", "export", "job-name", "no-requeue", "nodes", "ntasks",
            "ntasks-per-node", "open-mode", "output", "parsable", "requeue", "signal", "test-only",
            "wait", "wrap",
        ),
        "",
    ),
}  # fmt: skip


def _whole_gpus(key: str, value: Any) -> int:
    if (number := finite(value)) is not None and not number.is_integer():
        reject(key, value, "a whole number of GPUs; only Ray can assign fractions")
    return integer(key, value, 0, 64, "GPUs per job")


def _sbatch(key: str, value: Any) -> dict[str, str | bool]:
    """Other options of sbatch by name, without the leading dashes."""
    options: dict[str, str | bool] = {}
    for name, given in check_mapping(key, value, "options by name, such as {nice: 100}").items():
        dotted = f"{key}.{format_value(name)}"
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UsageError(f"{dotted}: must be the name of an option of sbatch, such as nice")
        if name in SBATCH_KEYS:
            separate_key = SBATCH_KEYS[name]
            fix = (
                f"use {separate_key} instead" if separate_key else "set by the launcher; remove it"
            )
            raise UsageError(f"{dotted}={format_value(given)}: {fix}")
        # An option without a value is a flag, such as {hold: true}.
        options[name] = True if given is True else check_text(dotted, given)
    return options


@dataclass(frozen=True)
class SlurmOptions:
    """Each run is a Slurm job; `out` must be on a disk that all nodes share.

    `workers` limits the jobs that run at the same time (auto: as many as Slurm starts).
    """

    partition: str | None = executor_option(
        None, "partition of the jobs; null: the cluster's default", check_optional_text
    )
    time: int = executor_option(
        60, "time limit of a job in minutes; a job that reaches it requeues itself and resumes",
        integer_check(1, 525_600, "minutes per job"),
    )  # fmt: skip
    cpus: int = executor_option(
        1,
        "CPU cores per job; a run uses that many threads",
        integer_check(1, 1024, "cores per job"),
    )
    memory: float = executor_option(
        2,
        "memory per job in GB",
        number_check("a number of GB per job, from 0.001 to 1000000", least=0.001),
    )
    gpus: int = executor_option(
        0, "whole GPUs per job; with one or more, device=auto selects cuda", _whole_gpus
    )
    runs_per_job: int = executor_option(
        1, "runs that a job trains one after the other; use more if runs are short",
        integer_check(1, 100_000, "runs per job"),
    )  # fmt: skip
    account: str | None = executor_option(
        None, "account to charge, if the cluster requires one", check_optional_text
    )
    qos: str | None = executor_option(None, "quality of service", check_optional_text)
    constraint: str | None = executor_option(
        None, "features that the nodes must have", check_optional_text
    )
    sbatch: Mapping[str, str | bool] | None = executor_option(
        None, "other options of sbatch by name, such as {nice: 100}", _sbatch, text=True
    )


@register_executor("slurm", SlurmOptions)
def create(resources: SlurmOptions) -> Executor:
    """An executor that trains runs as Slurm jobs with these resources."""
    return Executor(
        execute=lambda runs, context: cluster.execute(runs, context, Slurm(resources)),
        capacity=lambda _: None,
        check=check,
        devices=("cuda", "cpu") if resources.gpus else ("cpu",),
    )


def check() -> None:
    """Raise UsageError if submitit or Slurm's commands are missing."""
    try:
        import submitit  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise UsageError(
            "hydra/launcher=lenet_slurm: requires the package submitit, which is not installed; "
            "run: pip install 'lenet-sweep[slurm]'"
        ) from error
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if missing:
        raise UsageError(
            f"hydra/launcher=lenet_slurm: {missing[0]} is not installed; start the sweep on a "
            "machine of the cluster that has Slurm's commands, such as its login node"
        )


class Slurm:
    """A Slurm cluster as a ClusterBackend."""

    name = "Slurm"
    job_name = "Slurm job"
    poll_interval = 5.0
    survives_launch = True

    def __init__(self, resources: SlurmOptions) -> None:
        self.resources = resources
        self.runs_per_job = resources.runs_per_job
        self.threads = resources.cpus
        self._squeue_failed = False
        self._pending: dict[str, str] = {}  # reasons of the pending jobs, from the last query

    def connect(self, context: RunContext) -> None:
        self.context = context
        self.folder = context.out.absolute() / "jobs" / "slurm"
        self._remove_stale_files()

    def free_slots(self, jobs: int) -> int:
        # Slurm limits the first array to `workers` itself; jobs submitted later would add to it.
        limit = _array_size() - 1
        return min(limit, self.context.workers - jobs) if self.context.workers and jobs else limit

    def submit(self, payloads: Sequence[Mapping[str, Any]]) -> list[str]:
        import submitit  # noqa: PLC0415 - an optional extra

        resources = self.resources
        # Use one folder for all jobs. submitit can create a folder per job only after sbatch
        # returns the job id; Slurm may have started the job by then, and the job fails if it cannot
        # open its output files.
        slurm = submitit.SlurmExecutor(self.folder)
        slurm.update_parameters(
            **{key: value for key, value in _options(resources).items() if value is not None},
            array_parallelism=self.context.workers or len(payloads),
            signal_delay_s=min(SIGNAL_BEFORE, resources.time * 60 // 4),
            setup=[f"export {name}={value}" for name, value in ONE_THREAD.items()],
            additional_parameters={"requeue": True, **(resources.sbatch or {})},
            # A job step does not inherit the number of cores of its job.
            srun_args=[f"--cpus-per-task={resources.cpus}"],
        )
        try:
            # The output of sbatch is part of the error, and submitit's warnings do not help users.
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                jobs = slurm.map_array(run_slurm_job, payloads)
        except (submitit.core.utils.FailedJobError, OSError) as error:
            raise RejectedError(f"Slurm rejected the jobs: {_error_line(error)}") from error
        ids = [str(job.job_id) for job in jobs]
        span = ids[0] if len(ids) == 1 else f"{ids[0].partition('_')[0]}_[0-{len(ids) - 1}]"
        self.context.on_message(f"submitted as Slurm job {span}; its output is in {self.folder}")
        return ids

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        states = self._states()
        if states is None:
            return {}
        return {
            job: self._job_exit(job, *states.get(job, ("", "")))
            for job in jobs
            if job not in states or states[job][0] in ENDED
        }

    def cancel(self, jobs: Iterable[str]) -> None:
        result = _run(["scancel", "--quiet", *jobs])
        if result.returncode:
            self.context.on_message(f"scancel failed: {result.stderr.strip()}")

    def describe_pending(self, jobs: Iterable[str]) -> str:
        return ", ".join(sorted({self._pending[job] for job in jobs if job in self._pending}))

    def disconnect(self) -> None:
        pass

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        names = sorted({job.partition("_")[0] for job in jobs})
        count = pluralize(len(jobs), "Slurm job")
        return (
            f"{count} left running ({', '.join(names)}); run the same command again to follow "
            f"them, or cancel them with scancel {' '.join(names)}"
        )

    def _states(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of each job in squeue; None if squeue fails."""
        own_jobs = [f"--user={os.getuid()}", f"--name={JOB_NAME}", "--states=all"]
        result = _run(["squeue", *own_jobs, "--noheader", "--array", "--format=%i|%T|%r"])
        if result.returncode:
            if not self._squeue_failed:
                error = result.stderr.strip()
                self.context.on_message(f"squeue failed and will be retried: {error}")
            self._squeue_failed = True
            return None
        self._squeue_failed = False
        fields = (line.split("|", 2) for line in result.stdout.splitlines())
        states = {job: (state, reason) for job, state, reason in fields}
        self._pending = {job: why for job, (state, why) in states.items() if state == "PENDING"}
        return states

    def _job_exit(self, job: str, state: str, reason: str) -> JobExit:
        if not state:  # no longer in squeue
            result = _run(["sacct", "-X", "-n", "-P", "-o", "State", "-j", job])
            state = result.stdout.split()[0] if result.stdout.split() else "UNKNOWN"
        output = self._error_output(job)
        name = f"Slurm job {job}"
        if state == "COMPLETED":
            return JobExit("", "failed", output)
        if state == "PREEMPTED":
            return JobExit(f"{name} was preempted", interrupted=True)
        if state == "TIMEOUT":
            text = f"{name} reached its time limit; increase hydra.launcher.time"
            return JobExit(text, "timed-out", output)
        if state == "OUT_OF_MEMORY":
            text = f"{name} ran out of memory; increase hydra.launcher.memory"
            return JobExit(text, "killed", output)
        if state.startswith("CANCELLED"):
            return JobExit(f"{name} was canceled", "killed", output)
        if state == "UNKNOWN":
            return JobExit(f"Slurm has no record of job {job}", "killed", output)
        why = "" if reason in ("", "None") else f", {reason}"
        text = f"{name} ended with state {state}{why}{_exit_code(job)}"
        return JobExit(text, "killed", output)

    def _remove_stale_files(self) -> None:
        """Remove the output of jobs that have ended, and submitit's files of these jobs."""
        # List the files before querying the jobs, so that a new job's files are not removed.
        job_files = [
            (path, match[1])
            for path in self.folder.glob("[0-9]*")
            if (match := FILE.fullmatch(path.name))
        ]
        states = self._states() if job_files else None
        if states is None:
            return
        active = {job for job, (state, _) in states.items() if state not in ENDED}
        active |= {job.partition("_")[0] for job in active}
        for path, job in job_files:
            if job not in active:
                with contextlib.suppress(OSError):
                    path.unlink()
        # Files that are not yet named after a job, and links to files that are, possibly dangling.
        for path in (*self.folder.glob(".submission_file_*"), *self.folder.glob("*.pkl")):
            with contextlib.suppress(OSError):
                if (
                    not FILE.fullmatch(path.name)
                    and time.time() - path.lstat().st_mtime > STALE_AFTER
                ):
                    path.unlink()

    def _error_output(self, job: str) -> str:
        with contextlib.suppress(OSError):
            output = (self.folder / f"{job}_0_log.err").read_bytes()
            return output[-OUTPUT_TAIL:].decode(errors="replace")
        return ""


def _options(resources: SlurmOptions) -> dict[str, Any]:
    return {
        "job_name": JOB_NAME,
        "partition": resources.partition,
        "time": resources.time,
        "cpus_per_task": resources.cpus,
        "mem": f"{round(resources.memory * 1024)}M",
        "gpus_per_node": resources.gpus or None,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
    }


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; the status is 127 if it cannot be started."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


@functools.cache
def _array_size() -> int:
    """Slurm's setting MaxArraySize."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]).stdout)
    return max(2, int(match[1])) if match else DEFAULT_ARRAY_SIZE


def _exit_code(job: str) -> str:
    """How a job exited, such as ', exit status 137' or ', signal 9'; empty if unknown."""
    details = _run(["scontrol", "show", "job", "--oneliner", job]).stdout
    match = re.search(r"\bExitCode=(\d+):(\d+)", details)
    if not match or match[0].endswith("=0:0"):
        return ""
    if match[1] != "0":
        return f", exit status {match[1]}"
    if match[2] == OUTPUT_NOT_OPENED:
        return (
            f", signal {match[2]}: the node cannot open the job's output files; out must be on a "
            "disk that all nodes share"
        )
    return f", signal {match[2]}"


def _error_line(error: Exception) -> str:
    """The line of sbatch's and submitit's messages that states the problem."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return errors[-1] if errors else (lines or [type(error).__name__])[0]


# ---------------------------------------------------------------- inside a job


def run_slurm_job(payload: Mapping[str, Any]) -> None:
    """Train the runs of a `job_payload` in a Slurm job.

    A job that reaches its time limit is requeued and resumes from the checkpoint. A job that Slurm
    ends for other reasons waits to be terminated: if it exited by itself, Slurm would not requeue
    it after a preemption.
    """

    def on_stop(received: Sequence[int], interrupted: Sequence[InterruptedRun]) -> None:
        job = _own_job()
        if not job or not interrupted:
            return
        if signal.SIGUSR2 in received:
            _requeue(job, interrupted, payload)
        else:
            time.sleep(WAIT_FOR_TERMINATION)

    run_job(payload, (*TERMINATION_SIGNALS, signal.SIGUSR2), on_stop)


def _own_job() -> str | None:
    """The id of the Slurm job that this process belongs to."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _requeue(job: str, interrupted: Sequence[InterruptedRun], payload: Mapping[str, Any]) -> None:
    """Requeue this job, or record the failure of its runs if that would not help."""
    if not any(item.has_progressed for item in interrupted):
        reason = "no epoch finished within the time limit of its job; increase hydra.launcher.time"
    else:
        # Use a new session, because Slurm terminates the processes of this job.
        result = subprocess.run(
            ["scontrol", "requeue", job],  # noqa: S607 - use the Slurm on the user's path
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            start_new_session=True,
        )
        if result.returncode <= 0:  # below 0: terminated while Slurm requeues the job
            time.sleep(WAIT_FOR_TERMINATION)
            return
        reason = (
            f"its job reached the time limit, and Slurm did not requeue it: {result.stderr.strip()}"
        )
    person = str(payload["environment"].get("person", ""))
    for item in interrupted:
        failure = Failure("timed-out", item.epoch, reason, person=person)
        Store(Path(payload["out"])).run_folder(item.run.id).write_failure(failure)
        item.journal.append(Failed(item.run.id, failure))
