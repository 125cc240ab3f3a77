"""What the command line does once Hydra has read it: a cell, a grid, a job of another launcher."""

from __future__ import annotations

import re
import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console

from lenet_sweep.cli import guarded_hydra, output
from lenet_sweep.cli.hydra_config import (
    chosen_optimizers,
    compose_jobs,
    override_texts,
    raw_settings,
    search_space,
)
from lenet_sweep.config import keys, validation
from lenet_sweep.config.keys import is_option, missing_options
from lenet_sweep.config.registry import OPTIMIZERS
from lenet_sweep.config.validation import Options
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import InterruptedBySignal, UsageError
from lenet_sweep.core.text import pluralize
from lenet_sweep.data import datasets
from lenet_sweep.data.download import StderrProgress
from lenet_sweep.executors import Executor
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.machine import devices, provenance
from lenet_sweep.results.manifest import read_manifest
from lenet_sweep.results.ranking import NO_COMPARISON
from lenet_sweep.runner import interrupts
from lenet_sweep.runner.outputs import compare, draw_figures, reproduce, write_page, write_tables
from lenet_sweep.runner.preview import preview
from lenet_sweep.runner.run import SweepResult, reload_sweep, run_sweep, sweep_folder
from lenet_sweep.storage.files import make_folder
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui import views
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.script_view import ScriptView, replay, status_console
from lenet_sweep.ui.tables import print_reproduction, print_tables

FAILURES = 10  # of which it is said where their tracebacks are


def launch(
    loader: ConfigLoader,
    master: DictConfig,
    jobs: Sequence[Sequence[str]],
    executor: Executor,
    remote_devices: Sequence[str] | None = None,
) -> list[float]:
    """Sweep over the jobs' cells; the accuracy of each in percent, as `_values` has it.

    Of a job that is a study: the mean of its rows. elsewhere: the device kinds that the executor's
    jobs have, where they do not run on this machine. Where a sweeper that searches launches one
    batch after the other, all of them are one sweep, reported on at its end.
    """
    searching = guarded_hydra.searching(loader)
    among = chosen_optimizers(loader, master) if searching else ()
    cells, options = validation.validate_cells(
        compose_jobs(loader, master, jobs), NATIVE, remote_devices, among
    )
    if searching and not options.dry_run:  # `prepare_search` has printed it
        options = replace(options, unused=())
    console = Console()
    _exit_if_dry(cells, options, console, executor)
    view = LogView(console) if searching else views.choose_view(single=False, console=console)
    folder = searching or _folder(master, options)
    result = run_sweep(cells, options, [view], executor, folder=folder, reported=not searching)
    if result.interrupted and searching:
        raise InterruptedBySignal(result.interrupted)
    if not searching:
        _report(result, options, console)
    found = _values(result, cells, searching=bool(searching))
    each = len(cells) // len(jobs)
    return [fmean(found[at : at + each]) for at in range(0, len(found), each)]


def prepare(
    loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> guarded_hydra.FinishSweep:
    """Check all jobs and their folder before another launcher starts the first of them.

    Returns what makes the one table of its jobs, once it has run them or was interrupted.
    """
    cells, options = validation.validate_cells(compose_jobs(loader, master, jobs), NATIVE)
    console = Console()
    _exit_if_dry(cells, options, console, None)  # how many train at once is the launcher's choice
    for line in options.unused:
        _print(console, line)
    folder = _folder(master, options) or sweep_folder(options, list(dict.fromkeys(cells)))
    guarded_hydra.all_jobs_write_to(loader, master, folder)
    make_folder(folder)

    def gather(interrupted: signal.Signals | None) -> None:
        result = SweepResult(reload_sweep(folder), tuple(cells), interrupted)
        _report(result, options, Console())

    return gather


def prepare_search(loader: ConfigLoader, master: DictConfig) -> guarded_hydra.FinishSweep:
    """Choose the folder of all batches that a sweeper which searches will launch.

    Returns what reports on them at the end; it exits where not all of them are well.
    """
    HydraConfig.instance().set_config(deepcopy(master))  # for ${hydra:...}
    optimizers = chosen_optimizers(loader, master)
    _, options = validation.validate_cells(
        [raw_settings(master)], NATIVE, devices.KINDS, optimizers
    )
    missing = {
        o.key_or_group.removeprefix("optimizer."): str(o.input_line).partition("=")[2]
        for o in search_space(master)
        if is_option(o.key_or_group)
        and any(missing_options([o.key_or_group], name) for name in optimizers)
    }
    if not options.dry_run:
        for line in validation.unused_options(missing, optimizers):
            _print(Console(), line)
    folder = _folder(master, options)
    if folder is None:
        folder = sweep_folder(options, []) if options.name else Path(master.hydra.sweep.dir)
    guarded_hydra.all_jobs_write_to(loader, master, folder)

    def gather(interrupted: signal.Signals | None) -> None:
        try:
            cells = read_manifest(folder).cells
        except FileNotFoundError:  # nothing was launched, and whoever knows why has said so
            return
        result = SweepResult(reload_sweep(folder), tuple(cells), interrupted)
        _report(result, options, Console())
        if result.exit_status:
            raise SystemExit(result.exit_status)

    return gather


def _folder(master: DictConfig, options: Options) -> Path | None:
    """The folder that was typed as hydra.sweep.dir, or for a single cell as hydra.run.dir."""
    kind = "run" if master.hydra.mode == RunMode.RUN else "sweep"
    typed = re.compile(rf"\+*hydra\.{kind}(\.dir)?=")
    if not any(map(typed.match, override_texts(master.hydra.overrides.hydra))):
        return None
    folder = str(master.hydra[kind].dir)
    if options.name:
        raise UsageError(f"name and hydra.{kind}.dir both choose the sweep's folder; give one")
    if not folder or not folder.isprintable():
        keys.reject(f"hydra.{kind}.dir", folder, "the path of a folder")
    return Path(folder)


def check_single(cfg: DictConfig) -> None:
    """Check the one cell of a composed config; a dry run ends here. Raises UsageError."""
    with read_write(cfg), open_dict(cfg):
        cfg.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(deepcopy(cfg))
    cells, options = validation.validate_cells([raw_settings(cfg)], NATIVE)
    _folder(cfg, options)
    _exit_if_dry(cells, options, Console(), LOCAL)


def run(cfg: DictConfig) -> float:
    """Hydra's task function: train the cell of a composed config; its accuracy in percent.

    Under a launcher of Hydra's a study is one job: the mean of its rows.
    """
    hydra = HydraConfig.get()
    several = hydra.mode == RunMode.MULTIRUN
    # The sweeper has checked what the optimizers of the other jobs are.
    cells, options = validation.validate_cells(
        [raw_settings(cfg)], NATIVE, among=OPTIMIZERS if several else ()
    )
    options = replace(options, unused=())
    if several:
        _exit_if_dry(cells, options, Console(), None)  # under another sweeper too
        result = run_sweep(
            cells,
            options,
            [LogView(Console())],
            LOCAL,  # supervised here too: Hydra's launchers lose all to one killed process
            folder=Path(hydra.sweep.dir),
            reported=False,
        )
        if result.interrupted:
            raise InterruptedBySignal(result.interrupted)
    else:
        if hydra.sweeper.params:
            raise UsageError("grid/...: a grid of several cells needs the flag -m")
        if options.study:
            raise UsageError("+study=...: the rows of a study need the flag -m")
        chosen = _folder(OmegaConf.create({"hydra": hydra}), options)
        folder = Path(hydra.runtime.output_dir) if chosen and hydra.job.chdir else chosen
        result = _run_single(cells[0], options, folder)
    searching = guarded_hydra.is_search(hydra.sweeper)
    return fmean(_values(result, cells, searching=searching))


def _values(result: SweepResult, cells: Sequence[Cell], *, searching: bool) -> list[float]:
    """The accuracy of each cell in percent; where there is none, nan, and 0 for a search.

    A sweeper that searches could not go on from nan. The table is made from the store, and has
    no accuracy there.
    """
    accuracies = result.accuracies()
    found = [accuracies.get(cell.id, float("nan")) for cell in cells]
    return [0.0 if searching and isnan(value) else value for value in found]


def _run_single(cell: Cell, options: Options, folder: Path | None) -> SweepResult:
    console = Console()
    _exit_if_dry([cell], options, console, LOCAL)
    view = ScriptView(console, status_console())
    result = run_sweep([cell], options, [view], LOCAL, folder)
    run_folder = Store(options.out).run(cell.run_id)
    if not view.complete and (snapshot := run_folder.read(run_folder.snapshot_path(cell.epochs))):
        images = len(datasets.load_dataset(cell.dataset, options.data_root).train_labels)
        replay(console, snapshot, cell, images)  # it was trained before
    _report(result, options, console, tables=False)
    if result.exit_status:
        raise SystemExit(result.exit_status)
    return result


def _exit_if_dry(
    cells: Sequence[Cell], options: Options, console: Console, executor: Executor | None
) -> None:
    if options.dry_run:
        for line in preview(cells, options, executor).lines():
            _print(console, line)
        raise SystemExit(0)


def _report(
    result: SweepResult, options: Options, console: Console, *, tables: bool = True
) -> None:
    """Write and print the tables, draw the figures, and say how to resume if it was cut short.

    A signal does not keep the tables from being written, but ends the drawing at once.
    """
    with interrupts.handle_signals() as signals:
        with signals.deferred():
            marks = compare(result, options) if tables else NO_COMPARISON
            reproduced = reproduce(result)
            files = write_tables(result.sweep, marks, reproduced)
            if tables and len(result.sweep.table):
                print_tables(console, result.sweep.table, marks)
            for each in reproduced:
                print_reproduction(console, each)
        if signals.received:
            result = replace(result, interrupted=signals.received[0])
        page: list[Path] = []
        figures: list[Path] = []
        try:
            # After the tables, which people wait for. Progress goes to stderr: the output of one
            # cell is that of the report's script.
            say = StderrProgress().say
            page = write_page(result, options, say)
            figures = draw_figures(result, options, say)
        except KeyboardInterrupt:
            if signals.insisted or result.interrupted or not signals.received:
                raise
            result = replace(result, interrupted=signals.received[0])
        with signals.deferred():
            _print_files(result, options, console, [*page, *files, *figures])
    if result.interrupted:
        raise SystemExit(result.exit_status)


def _print_files(
    result: SweepResult, options: Options, console: Console, files: Sequence[Path]
) -> None:
    """Print where everything was written, what failed, and how to resume if it was cut short."""
    _print(console, f"Written to {result.sweep.folder}/")
    for name in _shortened([path.relative_to(result.sweep.folder) for path in files]):
        _print(console, f"  {name}")
    failed = result.sweep.table[~result.sweep.table["status"].isin(["ok", "diverged"])]
    for name in failed["cell"][:FAILURES]:
        run = Store(options.out).run(name.partition("-e")[0])
        failure = run.failure()
        traced = failure and failure.traceback
        where = f"{run.path / 'failure.json'} has its traceback; " if traced else ""
        _print(console, f"{name} failed: {where}the same command tries again")
    if len(failed) > FAILURES:
        _print(console, f"and {len(failed) - FAILURES} more failed")
    if result.interrupted:
        asked = {cell.id for cell in result.requested}
        ended = len(asked & set(result.sweep.table["cell"]) - result.stale)
        done = f"{ended} of {pluralize(len(result.requested), 'cell')}"
        consoles = [console]
        if output.lost():  # `| tee log` ends of the same Ctrl-C
            consoles.append(Console(stderr=True))
        for each in consoles:
            _print(each, f"Stopped by {result.interrupted.name} with {done} done. To go on:")
            _print(each, f"  {shlex.join(provenance.command())}")


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)  # paths stay whole


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
