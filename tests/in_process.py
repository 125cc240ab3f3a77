"""Trains the runs of sweeps from Python in the process of the tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lenet_sweep.core.events import Event
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import RunContext, local
from lenet_sweep.storage.store import Store


@contextmanager
def training_here() -> Iterator[None]:
    """Let sweeps from Python train in this process, because starting a worker takes longer than a
    small run.
    """
    from lenet_sweep.training.loop import train  # noqa: PLC0415 - imports torch

    def execute(runs: Sequence[Run], context: RunContext) -> Iterator[Event]:
        for run in runs:
            yield from train(
                run, Store(context.out).run_folder(run.id), context.data_root,
                retrain=context.retrain, wait=True, stop=context.stop.is_set,
                environment=context.environment,
            )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LOCAL", replace(local.LOCAL, execute=execute))
        yield
