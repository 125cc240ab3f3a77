"""Consoles, events and rows for tests of what a sweep shows, and the text that was printed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import replace

from rich.console import Console

from lenet_sweep.config.registry import make_choice
from lenet_sweep.core import events
from lenet_sweep.core.cells import Cell, Dataset
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.core.plans import Plan, Run, make_plan
from lenet_sweep.results.records import Record

HOSTILE = "[red]no\x1b[31m\x07 \u202eend[/red]\r\nnext"
HARMLESS = r"[red]no\x1b[31m\x07 \u202eend[/red] next"
DASH = "\u2013"
NAN = Failure("diverged", 1, "the loss became nan in batch 12 of epoch 1")
BASE = Cell(
    loss=make_choice("loss", "cross_entropy"),
    optimizer=make_choice("optimizer", "sgd"),
    activation="relu",
    lr=0.1,
    batch=64,
    epochs=10,
    seed=0,
    shuffle=False,
    dataset=Dataset("mnist", "0" * 64),
    device="cpu",
    engine="torch",
)
LRS = tuple(replace(BASE, lr=lr) for lr in (0.1, 0.01, 0.001))


class Clock:
    """A clock that shows the time it is set to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def planned(*cells: Cell, finished: Iterable[Cell] = ()) -> Plan:
    return make_plan(cells, set(finished).__contains__)


def search_round(
    stage: str, *cells: Cell, later: tuple[tuple[int, int], ...] = (), **more: bool
) -> events.SearchRound:
    """A round that trains these cells; a round of cells with 10 epochs resumes after epoch 2."""
    trained = {cell.run_id: 2 for cell in cells if cell.epochs == 10}
    runs = tuple(Run(cell, (cell.epochs,)) for cell in cells)
    return events.SearchRound(stage, runs, trained, later, **more)


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        width=width,
        height=height,
        color_system="truecolor",
        _environ={},
    )


def log_file() -> Console:
    return Console(file=io.StringIO(), width=80, _environ={})


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def progress(cell: Cell, epoch: int, seen: int, loss: float = 2.0) -> events.Progress:
    return events.Progress(cell.run_id, epoch, seen, 60_000, loss)


def ended(
    cell: Cell, epoch: int, accuracy: float = 98.0, cost: float = 0.05, seconds: float = 9.102
) -> events.EpochEnded:
    return events.EpochEnded(cell.run_id, Epoch(epoch, cost, accuracy, 0.06, seconds, 0.5))


def row(cell: Cell, accuracy: float | None = 98.0, **changed: object) -> Record:
    ok = accuracy is not None
    return {
        "accuracy": accuracy,
        "batch": cell.batch,
        "lr": cell.lr,
        "epochs": cell.epochs,
        "person": "ada",
        "device": cell.device,
        "loss": cell.loss.name,
        "optimizer": str(cell.optimizer),
        "activation": cell.activation,
        "seed": cell.seed,
        "status": "ok" if ok else "failed",
        "train_loss": 0.0312 if ok else None,
        "seconds_per_epoch": 9.1 if ok else None,
        "seconds": 91.0 if ok else None,
        "engine": cell.engine,
        "dataset": cell.data,
        "error": "" if ok else "RuntimeError: no",
        "cell": cell.id,
    } | changed
