"""What is measured: the sweeps that all contenders are given, and those that are ours alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.bookkeeping import LRS

CARD_LR, CARD_BATCH = "1e-1,1e-2", "32,64,128"
# From 0.002 to 0.1 in 50 steps: no two alike, none that diverges.
MANY_LR = ",".join(f"{n / 500:g}" for n in range(1, 51))
OURS = ("ours",)
ABLATION = ("torch_alone", "native_alone", "and_parallel", "and_readouts", "and_reuse")


@dataclass(frozen=True)
class Job:
    """A grid, and who is to sweep it."""

    name: str
    what: str
    lr: str = ""  # comma lists; empty: the optimizer's own
    batch: str = "64"
    epochs: str = "1"
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    limit: int | None = None  # train on the first so many images
    made: int | None = None  # so many cells on tiny made data instead of MNIST
    again: bool = False  # the sweep has been finished before
    only: tuple[str, ...] | None = None  # the contenders; None: those that sweep everything
    cold: bool = False  # also measured with empty caches
    repeats: int | None = None  # None: as asked for


def card(epochs: int, limit: int | None = None, *, cold: bool = False) -> Job:
    what = f"the card's command, {epochs} epoch{'s' * (epochs > 1)}"
    return Job(f"card-{epochs}", what, CARD_LR, CARD_BATCH, str(epochs), limit=limit, cold=cold)


def cells(count: int) -> Job:
    return Job(f"cells-{count}", f"{count} cells on tiny data", made=count, only=OURS)


def workers(epochs: int, limit: int | None = None) -> Job:
    images = f" of {limit:,} images" if limit else ""
    return Job(
        f"workers-{epochs}", f"the card's command, {epochs} epochs{images}, one worker against two",
        CARD_LR, CARD_BATCH, str(epochs), limit=limit, only=("one_worker", "two_workers"),
    )  # fmt: skip


FULL = (
    Job(
        "startup", "the card's grid on 600 made images: next to nothing to train",
        CARD_LR, CARD_BATCH, made=6, only=OURS, cold=True,
    ),
    card(1, cold=True),
    card(5),
    card(10),
    Job(
        "recipes", "both losses with both optimizers, 2 epochs", epochs="2",
        loss="cross_entropy,nll", optimizer="sgd,adam",
    ),
    Job("shared", "2 learning rates at 5 and at 10 epochs", CARD_LR, epochs="5,10"),
    Job(
        "overhead", "100 cells of one epoch on 6,000 images",
        MANY_LR, "64,128", limit=6000,
    ),
    Job("rerun", "card-1 again, finished before", CARD_LR, CARD_BATCH, again=True),
    *(cells(count) for count in (20, 40, 100, 200, 500, 1000)),
    workers(10),
    workers(30),
    Job(
        "workers-three", "three runs of 10 epochs, which two workers cannot share evenly",
        "1e-1,1e-2,1e-3", epochs="10", only=("one_worker", "two_workers"),
    ),
    Job(
        "ablation", "2 learning rates at 5 and at 10 epochs, one thing added at a time", CARD_LR,
        epochs="5,10", only=ABLATION,
    ),
)  # fmt: skip
QUICK = (
    Job(
        "card-1", "the card's command, 1 epoch of 12,800 images", CARD_LR, CARD_BATCH,
        limit=12_800, only=("ours", "ours_bare", "report_loop", "resident", "pool_channels_last"),
    ),
    Job(
        "overhead", "100 cells of one epoch on 6,000 images", MANY_LR, "64,128", limit=6000,
        only=OURS, repeats=1,
    ),
    workers(5, 12_800),
)  # fmt: skip


def limited(job: Job, limit: int | None) -> Job:
    """The job with no more training images than `limit`, for a trial."""
    if limit is None or job.made:
        return job
    return replace(job, limit=min(limit, job.limit or limit))


def words(job: Job) -> list[str]:
    """The grid as it is typed for lenet-sweep."""
    if job.made and job.name != "startup":
        return [f"lr={','.join(map(str, LRS))}", f"seed=range({job.made // len(LRS)})", "epochs=1"]
    typed = [f"lr={job.lr}"] if job.lr else []
    typed += [f"batch={job.batch}", f"epochs={job.epochs}"]
    typed += [f"loss={job.loss}"] if "," in job.loss else []
    typed += [f"optimizer={job.optimizer}"] if "," in job.optimizer else []
    return typed + ([f"dataset.limit={job.limit}"] if job.limit else [])
