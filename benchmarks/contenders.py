"""Who is measured: lenet-sweep as it is typed, parts of it, and its peers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.jobs import Job, words

NOWHERE = "http://127.0.0.1:9/"
# Ray reports its use unless told not to, and its parts find each other without a proxy.
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": NOWHERE,
    "RAY_AUTH_MODE": "disabled",
    "http_proxy": NOWHERE.rstrip("/"),
    "https_proxy": NOWHERE.rstrip("/"),
    "no_proxy": "localhost,127.0.0.1",
}


@dataclass(frozen=True)
class Contender:
    """One way to do the sweep."""

    name: str
    what: str
    module: str | None = None  # in benchmarks.peers; None: lenet-sweep itself
    words: tuple[str, ...] = ()  # for lenet-sweep, behind those of the grid
    environment: str | None = None  # requirements/<name>.txt; None: the current environment
    beside_torch: bool = True
    keeps: bool = False  # a finished sweep, so that it is not trained again
    everything: bool = True  # takes part in every job that names no contenders
    apart: bool = False  # the numbers of epochs in an invocation each
    again: bool = False  # measured when the sweep has been finished before
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> str:
        """Whose bytecode and compilations it uses: parts of lenet-sweep are the same program."""
        return self.name if self.everything else "ours"


def _part(name: str, what: str, *typed: str, apart: bool = False, again: bool = False) -> Contender:
    return Contender(name, what, None, typed, everything=False, apart=apart, again=again)


CONTENDERS = (
    Contender("ours", "lenet-sweep, as typed: table, figures and page included", keeps=True),
    Contender(
        "ours_bare", "lenet-sweep with `figures=none report=false`",
        words=("figures=none", "report=false"), keeps=True,
    ),
    Contender("report_loop", "the report's loop over a DataLoader", "report_loop"),
    Contender("resident", "the same with tensors in memory", "resident"),
    Contender("hydra_basic", "Hydra, basic launcher", "hydra_basic", environment="hydra"),
    Contender("hydra_joblib", "Hydra, joblib launcher", "hydra_joblib", environment="hydra"),
    Contender(
        "ray_tune", "Ray Tune, actors used again", "ray_tune", environment="ray", keeps=True,
        variables=RAY,
    ),
    Contender("pool_channels_last", "process pool, channels_last", "pool_channels_last"),
    Contender("vmap", "torch.func ensembles (vmap)", "vmap"),
    Contender(
        "jax_scan", "JAX, jit and scan", "jax_scan", environment="jax", beside_torch=False
    ),
    Contender(
        "jax_vmap", "JAX, vmap of that", "jax_vmap", environment="jax", beside_torch=False
    ),
    Contender("optuna", "Optuna, GridSampler", "optuna_grid", environment="optuna", keeps=True),
    Contender("skorch", "skorch, GridSearchCV", "skorch_grid", environment="skorch"),
    _part("one_worker", "lenet-sweep with `workers=1`", "workers=1"),
    _part("two_workers", "lenet-sweep with `workers=2`", "workers=2"),
    _part(
        "torch_alone", "the torch engine alone: one worker, each number of epochs by itself",
        "engine=torch", "workers=1", apart=True,
    ),
    _part(
        "native_alone", "the native engine alone, in the same way",
        "engine=native", "workers=1", apart=True,
    ),
    _part("and_parallel", "+ parallel runs (`workers=2`)", "workers=2", apart=True),
    _part("and_readouts", "+ shared read-outs (`epochs=5,10` in one sweep)", "workers=2"),
    _part("and_reuse", "+ reuse (the same command again)", "workers=2", again=True),
)  # fmt: skip
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def takes_part(contender: Contender, job: Job) -> bool:
    if job.only is not None:
        return contender.name in job.only
    return contender.everything and (contender.keeps or not job.again)


@dataclass(frozen=True)
class Inputs:
    """What a measurement finds in place."""

    python: Path
    mnist: Path  # folder of the IDX files
    weights: Path


def commands(contender: Contender, job: Job, inputs: Inputs) -> list[list[str]]:
    """The commands that do a job, to be run in turn in an empty folder with the made data."""
    if contender.module is None:
        return _ours(contender, job)
    command = [str(inputs.python), "-m", f"benchmarks.peers.{contender.module}"]
    if job.lr:
        command += ["--lr", job.lr]
    command += ["--batch", job.batch, "--epochs", job.epochs, "--loss", job.loss]
    command += ["--optimizer", job.optimizer, "--limit", str(job.limit or 60_000)]
    command += ["--data", str(inputs.mnist), "--weights", str(inputs.weights), "--out", "out.json"]
    return [command + (["--store", "."] if job.again else [])]


def _ours(contender: Contender, job: Job) -> list[list[str]]:
    command = [sys.executable, "-m", "lenet_sweep", "-m", *words(job)]
    if job.made:
        command += ["dataset=folder", "dataset.root=data"]
    command += contender.words
    if not contender.apart:
        return [command]
    typed = f"epochs={job.epochs}"
    return [
        [f"epochs={epochs}" if word == typed else word for word in command] + [f"out=out-{epochs}"]
        for epochs in job.epochs.split(",")
    ]
