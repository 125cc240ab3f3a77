"""The contenders: lenet-sweep, variants of it, and its peers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.jobs import Job, overrides

NOWHERE = "http://127.0.0.1:9/"
# Disable Ray's usage reports, and keep its processes from talking to each other through a proxy.
RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": NOWHERE,
    "RAY_AUTH_MODE": "disabled",
    "http_proxy": NOWHERE.rstrip("/"),
    "https_proxy": NOWHERE.rstrip("/"),
    "no_proxy": "localhost,127.0.0.1",
}


@dataclass(frozen=True)
class Contender:
    """One way to run a sweep."""

    name: str
    label: str  # in tables and figures
    module: str | None = None  # in benchmarks.peers; None: lenet-sweep itself
    overrides: tuple[str, ...] = ()  # for lenet-sweep, after those of the grid
    environment: str | None = None  # requirements/<name>.txt; None: the current environment
    shares_torch: bool = True  # the environment imports torch from the current one
    keeps_results: bool = False  # a finished sweep is not trained again
    all_jobs: bool = True  # takes part in every job that does not name its contenders
    split_epochs: bool = False  # one sweep for each number of epochs
    rerun: bool = False  # measured after the sweep has already been finished once
    compiled: bool = False  # uses the bytecode of the environment, even in a cold measurement
    variables: dict[str, str] = field(default_factory=dict)  # environment variables

    @property
    def cache(self) -> str:
        """The name of its cache folder; most variants of lenet-sweep share one."""
        return self.name if self.all_jobs or self.compiled else "ours"


def _variant(
    name: str, label: str, *words: str, split_epochs: bool = False, rerun: bool = False
) -> Contender:
    """A variant of lenet-sweep for the jobs that name it."""
    return Contender(
        name, label, None, words, all_jobs=False, split_epochs=split_epochs, rerun=rerun
    )


CONTENDERS = (
    Contender("ours", "lenet-sweep", keeps_results=True),
    Contender(
        "ours_bare", "lenet-sweep (`figures=none report=false`)",
        overrides=("figures=none", "report=false"), keeps_results=True,
    ),
    Contender("report_loop", "report loop (DataLoader)", "report_loop"),
    Contender("resident", "report loop (data in memory)", "resident"),
    Contender("hydra_basic", "Hydra (basic launcher)", "hydra_basic", environment="hydra"),
    Contender("hydra_joblib", "Hydra (joblib launcher)", "hydra_joblib", environment="hydra"),
    Contender(
        "ray_tune", "Ray Tune (reused actors)", "ray_tune", environment="ray", keeps_results=True,
        variables=RAY_VARIABLES,
    ),
    Contender("pool_channels_last", "process pool (channels_last)", "pool_channels_last"),
    Contender("vmap", "torch.func (vmap)", "vmap"),
    Contender("jax_scan", "JAX (scan)", "jax_scan", environment="jax", shares_torch=False),
    Contender("jax_vmap", "JAX (vmap of scan)", "jax_vmap", environment="jax", shares_torch=False),
    Contender(
        "optuna", "Optuna (GridSampler)", "optuna_grid", environment="optuna", keeps_results=True
    ),
    Contender("skorch", "skorch (GridSearchCV)", "skorch_grid", environment="skorch"),
    Contender(
        "ours_compiled", "lenet-sweep, bytecode compiled by pip", all_jobs=False, compiled=True
    ),
    _variant("one_worker", "lenet-sweep (`workers=1 threads=1`)", "workers=1", "threads=1"),
    _variant("two_workers", "lenet-sweep (`workers=2`)", "workers=2"),
    _variant(
        "torch_alone", "torch engine, `workers=1`, one sweep per number of epochs",
        "engine=torch", "workers=1", "threads=1", split_epochs=True,
    ),
    _variant(
        "native_alone", "native engine, otherwise the same",
        "engine=native", "workers=1", "threads=1", split_epochs=True,
    ),
    _variant("and_parallel", "+ parallel runs (`workers=2`)", "workers=2", split_epochs=True),
    _variant("and_snapshots", "+ shared snapshots (`epochs=5,10` in one sweep)", "workers=2"),
    _variant("and_reuse", "+ reuse (the same command again)", "workers=2", rerun=True),
)  # fmt: skip
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def takes_part(contender: Contender, job: Job) -> bool:
    if job.only is not None:
        return contender.name in job.only
    return contender.all_jobs and (contender.keeps_results or not job.rerun)


@dataclass(frozen=True)
class Inputs:
    """What a peer needs to run."""

    python: Path
    mnist: Path  # folder of the IDX files
    weights: Path  # initial weights


def commands(contender: Contender, job: Job, inputs: Inputs) -> list[list[str]]:
    """The commands that do a job, one after the other, in a folder with the generated dataset."""
    if contender.module is None:
        return _our_commands(contender, job)
    command = [str(inputs.python), "-m", f"benchmarks.peers.{contender.module}"]
    if job.lr:
        command += ["--lr", job.lr]
    command += ["--batch", job.batch, "--epochs", job.epochs, "--loss", job.loss]
    command += ["--optimizer", job.optimizer, "--limit", str(job.limit or 60_000)]
    command += ["--data", str(inputs.mnist), "--weights", str(inputs.weights), "--out", "out.json"]
    return [command + (["--store", "."] if job.rerun else [])]


def _our_commands(contender: Contender, job: Job) -> list[list[str]]:
    words = overrides(job)
    command = [sys.executable, "-m", "lenet_sweep"]
    command += ["-m"] if job.tiny_cells or "," in "".join(words) else []  # else a single cell
    command += words
    if job.tiny_cells:
        command += ["dataset=folder", "dataset.root=data"]
    command += contender.overrides
    if not contender.split_epochs:
        return [command]
    all_epochs = f"epochs={job.epochs}"
    return [
        [f"epochs={epochs}" if word == all_epochs else word for word in command]
        + [f"out=out-{epochs}"]
        for epochs in job.epochs.split(",")
    ]
