"""A Slurm cluster on this machine: real daemons, started and stopped by the tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 60.0
DAEMONS = ("slurmctld", "slurmd", "munged")

# Two cores on any machine. Requeued jobs wait until their credentials expire.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port1}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={state}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={state}/state
SlurmdSpoolDir={state}/spool
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
MinJobAge=300
KillWait=2
OverTimeLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=usual Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


class UnavailableError(Exception):
    """Slurm cannot be started; the message says why."""


@contextmanager
def slurm(state: Path) -> Iterator[dict[str, str]]:
    """Start a cluster with its files in this folder; yields the environment that its commands
    need.

    Raises UnavailableError.
    """
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing:
        raise UnavailableError(f"{missing[0]} is not installed (Debian: slurmctld slurmd munge)")
    if os.getuid() != 0:
        raise UnavailableError("only root can start Slurm's daemons")
    for name in ("state", "spool", "munge"):
        (state / name).mkdir()
    port = _free_port()
    host = socket.gethostname().partition(".")[0]
    configuration = state / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, state=state, port=port, port1=port + 1)
    )
    environment = {"SLURM_CONF": str(configuration)}
    key = state / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        log = (state / f"{command[0]}.out").open("wb")
        processes.append(
            subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
            )
        )
        log.close()

    socket_path = state / "munge" / "socket"
    try:
        start(
            "munged", "--foreground", "--force", f"--socket={socket_path}", f"--key-file={key}",
            f"--pid-file={state}/munge/pid", f"--log-file={state}/munge/log",
            f"--seed-file={state}/munge/seed",
        )  # fmt: skip
        _wait_until(socket_path.exists, "munged", state)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        _wait_until(
            lambda: _output(["sinfo", "-h", "-o", "%t"], environment) == "idle",
            "sinfo",
            state,
        )
        yield environment
    finally:
        _output(["scancel", f"--user={os.getuid()}"], environment)
        with suppress(UnavailableError):
            _wait_until(lambda: not _output(["squeue", "-h"], environment), "squeue", state)
        with suppress(OSError, ValueError):  # a restored slurmd is not a child process
            os.kill(int((state / "slurmd.pid").read_text()), signal.SIGKILL)
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lose_node() -> None:
    """Kill the node's daemon and let the controller give the node up; its jobs continue."""
    os.kill(int((_state() / "slurmd.pid").read_text()), signal.SIGKILL)
    _wait_until(lambda: _set_node("state=down", "reason=lost"), "scontrol", _state())


def wait_for_jobs() -> None:
    """Wait until Slurm has no job left: a job may still be ending when its runs have ended."""
    _wait_until(lambda: not _output(["squeue", "-h"], {}), "an empty queue", _state())


def restore_node() -> None:
    """Bring the node back, which may happen before it is requested."""
    _wait_until(lambda: _status("slurmd") == 0, "slurmd", _state())
    _wait_until(
        lambda: _set_node("state=resume") or "down" not in _output(["sinfo", "-h", "-o", "%t"], {}),
        "scontrol",
        _state(),
    )


def _state() -> Path:
    return Path(os.environ["SLURM_CONF"]).parent


def _set_node(*words: str) -> bool:
    node = socket.gethostname().partition(".")[0]
    return _status("scontrol", "update", f"nodename={node}", *words) == 0


def _status(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return min(free.getsockname()[1], 60_000)


def _output(command: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return result.stdout.strip()


def _wait_until(condition, what: str, state: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            logs = [p.read_text(errors="replace")[-500:] for p in state.glob("*.out")]
            raise UnavailableError(f"{what} is not ready after {PATIENCE:g} s: {logs}")
        time.sleep(0.1)
