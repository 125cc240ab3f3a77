"""A Slurm cluster on this machine: real daemons, started for the tests and stopped again."""

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

# Two cores whatever the machine has. Requeued jobs wait as long as credentials last, and no longer.
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


class NotHereError(Exception):
    """Slurm cannot be started here; says why."""


@contextmanager
def slurm(state: Path) -> Iterator[dict[str, str]]:
    """A cluster with its files in this folder; the environment variables that its commands need.

    Raises NotHereError.
    """
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing:
        raise NotHereError(f"there is no {missing[0]} here (Debian: slurmctld slurmd munge)")
    if os.getuid() != 0:
        raise NotHereError("Slurm's daemons are started by root alone")
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
        _until(socket_path.exists, "munged", state)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        _until(
            lambda: _answer(["sinfo", "-h", "-o", "%t"], environment) == "idle",
            "sinfo",
            state,
        )
        yield environment
    finally:
        _answer(["scancel", f"--user={os.getuid()}"], environment)
        with suppress(NotHereError):
            _until(lambda: not _answer(["squeue", "-h"], environment), "squeue", state)
        with suppress(OSError, ValueError):  # a node that was lost and is back is no child
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
    """The node's daemon dies, and the controller gives the node up; its jobs live on."""
    os.kill(int((_state() / "slurmd.pid").read_text()), signal.SIGKILL)
    _until(lambda: _set_node("state=down", "reason=lost"), "scontrol", _state())


def find_node() -> None:
    """The node is back; it may have been taken in before that is asked for."""
    _until(lambda: _status("slurmd") == 0, "slurmd", _state())
    _until(
        lambda: _set_node("state=resume") or "down" not in _answer(["sinfo", "-h", "-o", "%t"], {}),
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


def _answer(command: list[str], environment: dict[str, str]) -> str:
    asked = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _until(is_so, what: str, state: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            logs = [p.read_text(errors="replace")[-500:] for p in state.glob("*.out")]
            raise NotHereError(f"{what} does not answer within {PATIENCE:g} s: {logs}")
        time.sleep(0.1)
