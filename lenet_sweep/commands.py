"""What the command line does once Hydra has read it: a cell, a grid, a job of another launcher."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from lenet_sweep import config, datasets, provenance, views
from lenet_sweep.cells import Cell, distinguish
from lenet_sweep.config import Options
from lenet_sweep.errors import UsageError
from lenet_sweep.executors import inline, local
from lenet_sweep.hydra_glue import compose_jobs, raw_settings
from lenet_sweep.store import Store, make_folder
from lenet_sweep.sweeping import Outcome, finish, preview, reopen, run_sweep
from lenet_sweep.tally import counted

PREVIEW = 20  # cells that a dry run names


def validated(
    loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> tuple[list[Cell], Options]:
    """Each job's cell, and the options of all. Raises UsageError where something is not allowed."""
    return config.all_settings(compose_jobs(loader, master, jobs))


def launch(loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]) -> list[float]:
    """Sweep over the jobs' cells; the accuracy of each in percent, nan where there is none."""
    cells, options = validated(loader, master, jobs)
    console = Console()
    if options.dry_run:
        _print_plan(cells, options, console)
        raise SystemExit(0)
    asked = any(o.startswith("hydra.sweep.dir=") for o in master.hydra.overrides.hydra)
    outcome = run_sweep(
        cells,
        options,
        views.choose(single=False, console=console),
        local.execute,
        folder=Path(master.hydra.sweep.dir) if asked else None,
    )
    _report(outcome, options, console)
    accuracy = dict(zip(outcome.table["cell"], outcome.table["accuracy"], strict=True))
    return [accuracy.get(cell.id, float("nan")) for cell in cells]


def prepare(loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]) -> Options:
    """Check all jobs and their folder before another launcher starts the first of them."""
    _, options = validated(loader, master, jobs)
    make_folder(_job_folder(options, Path(master.hydra.sweep.dir)))
    return options


def gather(master: DictConfig, options: Options) -> None:
    """Make the one table of a sweep whose jobs another launcher ran."""
    outcome = reopen(_job_folder(options, Path(master.hydra.sweep.dir)))
    _report(outcome, options, Console())


def run(cfg: DictConfig) -> float:
    """Hydra's task function: train the one cell of a composed config; its accuracy in percent."""
    cell, options = config.settings(raw_settings(cfg))
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        outcome = run_sweep(
            [cell],
            options,
            views.LogView(Console()),
            inline.execute,
            folder=_job_folder(options, Path(hydra.sweep.dir)),
        )
        if outcome.interrupted:
            raise KeyboardInterrupt
    else:
        if hydra.sweeper.params:
            raise UsageError("grid/...: a grid of several cells needs the flag -m")
        outcome = _run_single(cell, options)
    accuracy = outcome.table.set_index("cell")["accuracy"].get(cell.id, float("nan"))
    return float(accuracy)


def _run_single(cell: Cell, options: Options) -> Outcome:
    console = Console()
    if options.dry_run:
        _print_plan([cell], options, console)
        raise SystemExit(0)
    view = views.ScriptView(console)
    outcome = run_sweep([cell], options, view, local.execute)
    run_folder = Store(options.out).run(cell.run_id)
    if not view.complete and (snapshot := run_folder.read(run_folder.readout(cell.epochs))):
        images = len(datasets.load(cell.dataset, options.data_root).train_labels)
        views.replay(console, snapshot, cell, images)  # it was trained before
    _report(outcome, options, console, tables=False)
    if outcome.exit_status:
        raise SystemExit(outcome.exit_status)
    return outcome


def _print_plan(cells: Sequence[Cell], options: Options, console: Console) -> None:
    planned = preview(cells, options)
    text = (
        f"{counted(len(planned.cells), 'cell')} ({planned.duplicates} equal ones merged), "
        f"{planned.finished} of them in the store; {counted(len(planned.runs), 'run')} to train, "
        f"{counted(planned.epochs, 'epoch')} at most"
    )
    names = distinguish(planned.cells)
    lines = [f"  {names[cell]}" for run in planned.runs for cell in run.cells()]
    if len(lines) > PREVIEW:
        lines[PREVIEW:] = [f"  and {len(lines) - PREVIEW} more"]
    for line in (text, *lines):
        console.print(line, markup=False, highlight=False)


def _job_folder(options: Options, sweep_dir: Path) -> Path:
    return options.out / "sweeps" / options.name if options.name else sweep_dir


def _report(outcome: Outcome, options: Options, console: Console, *, tables: bool = True) -> None:
    """Print the tables, where everything was written, and how to go on if it was cut short."""
    files = finish(outcome, options)
    if tables and len(outcome.table):
        views.print_tables(console, outcome.table)
    console.print(f"Written to {outcome.folder}/", markup=False, highlight=False)
    for name in _shortened([path.relative_to(outcome.folder) for path in files]):
        console.print(f"  {name}", markup=False, highlight=False)
    failed = outcome.table[~outcome.table["status"].isin(["ok", "diverged"])]
    for cell in failed["cell"]:
        run_folder = options.out / "runs" / cell.partition("-e")[0]
        console.print(
            f"{cell} failed; its traceback is in {run_folder / 'failure.json'}, "
            "and the same command tries it again",
            markup=False,
            highlight=False,
            style="red",
        )
    if outcome.interrupted:
        console.print(
            f"Stopped by {outcome.interrupted.name} with {len(outcome.table)} of "
            f"{len(outcome.cells)} cells done. To go on:\n  {shlex.join(provenance.command())}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise SystemExit(outcome.exit_status)


def _shortened(paths: Sequence[Path]) -> list[str]:
    """The files, one a line; where there are more than five of a kind, their pattern and number."""
    kinds = Counter(_kind(path) for path in paths)
    lines: dict[str, Any] = {}
    for path in paths:
        kind, number = _kind(path), kinds[_kind(path)]
        line = f"{kind} ({number} files)" if number > 5 else str(path)
        lines[line] = None
    return list(lines)


def _kind(path: Path) -> str:
    """'figures/nll-adam_..._cost.png' to 'figures/*_cost.png'; other names stay."""
    _, mark, last = path.stem.rpartition("_")
    return str(path.parent / f"*_{last.partition('-')[0]}*{path.suffix}") if mark else str(path)
