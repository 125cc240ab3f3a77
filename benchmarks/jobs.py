"""The sweeps that are timed: grids for all contenders, and jobs for lenet-sweep alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.bookkeeping import LRS

GRID_LR, GRID_BATCH = "1e-1,1e-2", "32,64,128"
# 50 distinct values from 0.002 to 0.1, none of which diverges.
MANY_LR = ",".join(f"{n / 500:g}" for n in range(1, 51))
OURS = ("ours",)
WORKERS = ("one_worker", "two_workers")
ABLATION = ("torch_alone", "native_alone", "and_parallel", "and_snapshots", "and_reuse")


@dataclass(frozen=True)
class Job:
    """A grid, and which contenders sweep it."""

    name: str
    description: str
    lr: str = ""  # comma-separated; empty: the default of the optimizer
    batch: str = "64"
    epochs: str = "1"
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    limit: int | None = None  # number of training images; None: all
    tiny_cells: int | None = None  # number of cells on a tiny generated dataset instead of MNIST
    seeds: str = "0"
    rerun: bool = False  # the sweep has already been finished once
    only: tuple[str, ...] | None = None  # contender names; None: every contender with all_jobs
    cold: bool = False  # also measured with empty caches
    repeats: int | None = None  # None: the number given on the command line


def grid(epochs: int, limit: int | None = None, *, cold: bool = False) -> Job:
    """The six cells of the README's first command, trained for `epochs` epochs."""
    description = f"6 cells, {epochs} epoch{'s' * (epochs > 1)}"
    if limit:
        description += f" of {limit:,} images"
    return Job(
        f"grid-{epochs}", description, GRID_LR, GRID_BATCH, str(epochs), limit=limit, cold=cold
    )


def cells(count: int) -> Job:
    return Job(f"cells-{count}", f"{count:,} tiny cells", tiny_cells=count, only=OURS)


def workers(epochs: int, limit: int | None = None) -> Job:
    """The six cells with one worker and with two."""
    job = grid(epochs, limit)
    return replace(
        job, name=f"workers-{epochs}", description=f"{job.description}, one and two workers",
        only=WORKERS,
    )  # fmt: skip


OVERHEAD = Job(
    "overhead", "100 cells, 1 epoch of 6,000 images", MANY_LR, "64,128", limit=6000,
)  # fmt: skip
FULL = (
    Job(
        "startup", "6 tiny cells, 1 epoch of 600 generated images", GRID_LR, GRID_BATCH,
        tiny_cells=6, only=("ours", "ours_compiled"), cold=True,
    ),
    grid(1, cold=True),
    grid(5),
    grid(10),
    Job("single-10", "one cell, 10 epochs", "1e-1", epochs="10", only=("ours", "report_loop")),
    Job(
        "grid-24", "24 cells, 1 epoch of 6,000 images", GRID_LR, GRID_BATCH, seeds="0,1,2,3",
        limit=6000, only=OURS,
    ),
    Job(
        "recipes", "both losses with both optimizers, 2 epochs", epochs="2",
        loss="cross_entropy,nll", optimizer="sgd,adam",
    ),
    Job("shared", "2 learning rates, each at 5 and 10 epochs", GRID_LR, epochs="5,10"),
    OVERHEAD,
    Job("rerun", "grid-1 again, after it has finished", GRID_LR, GRID_BATCH, rerun=True),
    *(cells(count) for count in (20, 40, 100, 200, 500, 1000)),
    workers(10),
    workers(30),
    Job(
        "workers-three", "3 runs of 10 epochs, which do not divide evenly between two workers",
        "1e-1,1e-2,1e-3", epochs="10", only=WORKERS,
    ),
    Job(
        "ablation", "2 learning rates, each at 5 and 10 epochs, adding one feature at a time",
        GRID_LR, epochs="5,10", only=ABLATION,
    ),
)  # fmt: skip
QUICK = (
    replace(
        grid(1, 12_800),
        only=("ours", "ours_bare", "report_loop", "resident", "pool_channels_last"),
    ),
    replace(OVERHEAD, only=OURS, repeats=1),
    workers(5, 12_800),
)


def with_limit(job: Job, limit: int | None) -> Job:
    """The job with at most `limit` training images, for a trial run."""
    if limit is None or job.tiny_cells:
        return job
    return replace(job, limit=min(limit, job.limit or limit))


def overrides(job: Job) -> list[str]:
    """The grid as overrides on the command line of lenet-sweep."""
    if job.tiny_cells and job.name != "startup":
        seeds = job.tiny_cells // len(LRS)
        return [f"lr={','.join(map(str, LRS))}", f"seed=range({seeds})", "epochs=1"]
    words = [f"lr={job.lr}"] if job.lr else []
    words += [f"batch={job.batch}", f"epochs={job.epochs}"]
    words += [f"seed={job.seeds}"] if "," in job.seeds else []
    words += [f"loss={job.loss}"] if "," in job.loss else []
    words += [f"optimizer={job.optimizer}"] if "," in job.optimizer else []
    return words + ([f"dataset.limit={job.limit}"] if job.limit else [])
