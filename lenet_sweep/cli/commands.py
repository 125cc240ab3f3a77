"""The commands behind Hydra: one cell, a grid, a search. Each mode calls functions in this order.

    one cell (no -m)                     check_single_cell, if hydra.* is given; run_task
    a grid, launcher lenet_*             run_batch
    a grid, one of Hydra's launchers     prepare_jobs; run_task in each job; its `finish`
    a search that samples settings       run_sampling
    a search, launcher lenet_*           prepare_search; run_batch for each batch; its `finish`
    a search, one of Hydra's launchers   prepare_search; run_task in each job; its `finish`

Hydra's main function and its loader call run_task, check_single_cell and prepare_search (cli.main).
LenetLauncher calls run_batch, and LenetGridSweeper calls prepare_jobs (hydra_plugins).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console

from lenet_sweep.cli import guarded_hydra, output
from lenet_sweep.cli.hydra_config import compose_jobs, override_texts, raw_settings
from lenet_sweep.cli.search_overrides import chosen_by_search, sampled_space, search_space
from lenet_sweep.config import checks, validation
from lenet_sweep.config.pairs import describe_pair
from lenet_sweep.config.registry import Raw, all_choices
from lenet_sweep.config.search_space import Composed, SearchSpace
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import InterruptedBySignal, UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.data import datasets
from lenet_sweep.data.transfer import StderrProgress
from lenet_sweep.executors import Executor
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.machine import devices
from lenet_sweep.results.manifest import read_manifest
from lenet_sweep.results.ranking import TieMarks
from lenet_sweep.runner import interrupts
from lenet_sweep.runner.live_page import start_live_page
from lenet_sweep.runner.outputs import describe_interruption, describe_outputs, write_outputs
from lenet_sweep.runner.preview import preview
from lenet_sweep.runner.run import SweepResult, reload_sweep, run_sweep, sweep_folder
from lenet_sweep.storage.files import make_folder
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui import views
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.script_view import ScriptView, replay, status_console
from lenet_sweep.ui.tables import print_reproduction, print_tables

if TYPE_CHECKING:
    from lenet_sweep.analysis.reproduction import Reproduction


# What a search requires.
OWN_PARTS = (
    "requires the default sweeper and a launcher of this package, such as "
    "hydra/launcher=lenet_local"
)


def run_batch(
    loader: ConfigLoader,
    master: DictConfig,
    jobs: Sequence[Sequence[str]],
    executor: Executor,
) -> list[float]:
    """Train the cells of a batch of jobs as one sweep, and report on it.

    Returns the accuracy of each job in percent (see `_values`); for a study, the mean of its rows.
    A searching sweeper launches several batches; they form one sweep, which is reported at the end
    of the search.
    """
    search_folder = guarded_hydra.search_folder(loader)
    others = chosen_by_search(loader, master) if search_folder else None
    cells, options = validation.validate_cells(
        compose_jobs(loader, master, jobs), NATIVE, executor.devices, others
    )
    if search_folder and not options.dry_run:  # `prepare_search` has printed these lines
        options = replace(options, unused=())
    console = Console()
    _exit_if_dry_run(cells, options, console, executor)
    view = LogView(console) if search_folder else views.choose_view(console)
    folder = search_folder or _typed_folder(master, options)
    if options.serve and not search_folder:  # `prepare_search` has started it
        start_live_page(options, folder, partial(_print, console))
    result = run_sweep(
        cells, options, [view], executor, folder=folder, with_outputs=not search_folder
    )
    if result.interrupted and search_folder:
        raise InterruptedBySignal(result.interrupted)
    if not search_folder:
        _report(result, options, console)
    values = _values(result, cells, searching=bool(search_folder))
    rows = len(cells) // len(jobs)  # more than one in a study
    return [fmean(values[start : start + rows]) for start in range(0, len(values), rows)]


def run_sampling(
    loader: ConfigLoader,
    master: DictConfig,
    overrides: Sequence[Override],
    deletions: Sequence[str],
    executor: Executor,
) -> None:
    """Train the trials of a search that samples settings as one sweep, and report on it.

    overrides: those that were typed, without deletions. Exits with status 1 if a cell failed.
    """
    HydraConfig.instance().set_config(deepcopy(master))  # for ${hydra:...}
    chosen = chosen_by_search(loader, master)

    def validate(raws: Iterable[Raw]) -> Composed:
        cells, options = validation.validate_cells(raws, NATIVE, executor.devices, chosen)
        return cells, options.notes

    _, options = validation.validate_cells([raw_settings(master)], NATIVE, executor.devices, chosen)
    _reject_pairs(options, f"search={options.search.name} samples each key on its own; remove pair")
    space = sampled_space(loader, master, overrides, deletions, validate)
    options = replace(options, unused=_unused_in_search(master, chosen))
    console = Console()
    _exit_if_dry_run([], options, console, executor, space)
    folder = _typed_folder(master, options)
    if options.serve:
        start_live_page(options, folder, partial(_print, console))
    view = views.choose_view(console)
    result = run_sweep([], options, [view], executor, folder, space=space)
    _report(result, options, console)
    if result.exit_status:
        raise SystemExit(result.exit_status)


def _unused_in_search(master: DictConfig, chosen: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Sentences on the options of a search space that not all of its choices have."""
    given = {
        override.key_or_group: str(override.input_line).partition("=")[2]
        for override in search_space(master)
    }
    return validation.unused_of(given, chosen)


def prepare_jobs(
    loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> guarded_hydra.FinishSweep:
    """Check all jobs and their folder before one of Hydra's own launchers starts the first.

    Returns a function that reports on all jobs as one sweep, once they have run or were
    interrupted. Raises UsageError for a wrong setting in any job.
    """
    cells, options = validation.validate_cells(compose_jobs(loader, master, jobs), NATIVE)
    _reject_search(options, f"{OWN_PARTS}; Hydra's own launchers train each cell on its own")
    console = Console()
    _exit_if_dry_run(cells, options, console, None)  # the launcher chooses the number of workers
    for line in options.unused:
        _print(console, line)
    folder = _typed_folder(master, options) or sweep_folder(options, list(dict.fromkeys(cells)))
    guarded_hydra.set_sweep_folder(loader, master, folder)
    make_folder(folder)
    if options.serve:
        start_live_page(options, folder, partial(_print, console))

    def finish(interrupted: signal.Signals | None) -> None:
        _report_jobs(folder, options, interrupted, tuple(dict.fromkeys(cells)))

    return finish


def prepare_search(loader: ConfigLoader, master: DictConfig) -> guarded_hydra.FinishSweep:
    """Check the settings of a search, and choose the folder of all its batches.

    Returns a function that reports on all batches as one sweep, and exits with status 1 if a cell
    failed. Raises UsageError for a wrong setting.
    """
    HydraConfig.instance().set_config(deepcopy(master))  # for ${hydra:...}
    chosen = chosen_by_search(loader, master)
    _, options = validation.validate_cells([raw_settings(master)], NATIVE, devices.KINDS, chosen)
    _reject_pairs(options, "the sweeper chooses the values itself; remove pair")
    _reject_search(options, f"{OWN_PARTS}; this sweeper runs its own search")
    unused = _unused_in_search(master, chosen)
    for line in () if options.dry_run else unused:
        _print(Console(), line)
    folder = _typed_folder(master, options)
    if folder is None:
        folder = sweep_folder(options, []) if options.name else Path(master.hydra.sweep.dir)
    guarded_hydra.set_sweep_folder(loader, master, folder)
    if options.serve and not options.dry_run:
        start_live_page(options, folder, partial(_print, Console()))

    def finish(interrupted: signal.Signals | None) -> None:
        result = _report_jobs(folder, options, interrupted)
        if result and result.exit_status:
            raise SystemExit(result.exit_status)

    return finish


def _report_jobs(
    folder: Path,
    options: SweepOptions,
    interrupted: signal.Signals | None,
    requested: tuple[Cell, ...] = (),
) -> SweepResult | None:
    """Report on the jobs of Hydra's launchers as one sweep; None if no job has started.

    requested: all cells of the sweep if omitted.
    """
    try:
        cells = read_manifest(folder).cells
    except FileNotFoundError:  # the reason has been reported
        return None
    result = SweepResult(reload_sweep(folder), requested or cells, interrupted)
    _report(result, options, Console())
    return result


def _typed_folder(master: DictConfig, options: SweepOptions) -> Path | None:
    """The folder given as hydra.sweep.dir (for a single cell, hydra.run.dir), if any."""
    kind = "run" if master.hydra.mode == RunMode.RUN else "sweep"
    typed = re.compile(rf"\+*hydra\.{kind}(\.dir)?=")
    if not any(map(typed.match, override_texts(master.hydra.overrides.hydra))):
        return None
    folder = str(master.hydra[kind].dir)
    if options.name:
        raise UsageError(
            f"name={options.name} and hydra.{kind}.dir={format_value(folder)} both set the sweep's "
            "folder; remove one of them"
        )
    if not folder or not folder.isprintable():
        checks.reject(f"hydra.{kind}.dir", folder, "the path of a folder")
    return Path(folder)


def check_single_cell(cfg: DictConfig) -> None:
    """Check the cell of a composed config, before Hydra writes files for it. Raises UsageError.

    Exits after printing the preview of a dry run.
    """
    with read_write(cfg), open_dict(cfg):
        cfg.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(deepcopy(cfg))
    cells, options = validation.validate_cells([raw_settings(cfg)], NATIVE)
    _check_is_single_cell(cfg, options)
    _typed_folder(cfg, options)
    _exit_if_dry_run(cells, options, Console(), LOCAL)


def _check_is_single_cell(cfg: DictConfig, options: SweepOptions) -> None:
    """Check that nothing was typed that requires -m. Raises UsageError."""
    if params := cfg.hydra.sweeper.get("params"):
        key, values = next(iter(params.items()))
        raise UsageError(f"{key}={format_value(values)}: a grid requires the flag -m; add it")
    _reject_pairs(options, "a grid requires the flag -m; add it")
    _reject_search(options, "a search requires the flag -m; add it")
    if options.study:
        name = cfg.hydra.runtime.choices.get("study", "...")
        raise UsageError(f"+study={name}: a study requires the flag -m; add it")


def _reject_pairs(options: SweepOptions, reason: str) -> None:
    if options.pair:
        raise UsageError(f"{describe_pair(options.pair[0])}: applies only to a grid; {reason}")


def _reject_search(options: SweepOptions, reason: str) -> None:
    if options.search.name != "grid":
        raise UsageError(f"search={options.search.name}: {reason}")


def run_task(cfg: DictConfig) -> float:
    """Train the cell of a composed config and return its accuracy in percent.

    Under Hydra's own launchers, a study is one job, and the result is the mean of its rows.
    """
    hydra = HydraConfig.get()
    is_multirun = hydra.mode == RunMode.MULTIRUN
    # In a multirun, the sweeper has checked options against the choices of all jobs.
    cells, options = validation.validate_cells(
        [raw_settings(cfg)], NATIVE, other_choices=all_choices() if is_multirun else None
    )
    options = replace(options, unused=())
    if is_multirun:
        result = _run_job(cells, options, Path(hydra.sweep.dir))
    else:
        config = OmegaConf.create({"hydra": hydra})
        _check_is_single_cell(config, options)
        typed = _typed_folder(config, options)
        folder = Path(hydra.runtime.output_dir) if typed and hydra.job.chdir else typed
        result = _run_single_cell(cells[0], options, folder)
    searching = guarded_hydra.is_search(hydra.sweeper)
    return fmean(_values(result, cells, searching=searching))


def _run_job(cells: Sequence[Cell], options: SweepOptions, folder: Path) -> SweepResult:
    """Train the cells of a job of one of Hydra's own launchers."""
    # The launcher may run several jobs on this machine, which do not know of each other.
    options = replace(options, threads=options.threads or 1)
    _exit_if_dry_run(cells, options, Console(), None)  # for a search; a grid has exited before
    result = run_sweep(
        cells,
        options,
        [LogView(Console())],
        LOCAL,  # a supervised process: if it is killed, the other jobs of the launcher continue
        folder=folder,
        with_outputs=False,
    )
    if result.interrupted:
        raise InterruptedBySignal(result.interrupted)
    return result


def _values(result: SweepResult, cells: Sequence[Cell], *, searching: bool) -> list[float]:
    """The accuracy of each cell in percent. Without one: nan if it failed, 0 if it was stopped.

    It is 0 for failed cells, too, if a sweeper of Hydra is searching, which cannot continue after
    nan. The table still has no accuracy there.
    """
    accuracies = result.accuracies()
    stopped = {cell.id for cell in result.sweep.stopped_cells()}
    values = [(cell.id, accuracies.get(cell.id, float("nan"))) for cell in cells]
    return [0.0 if isnan(v) and (searching or cell in stopped) else v for cell, v in values]


def _run_single_cell(cell: Cell, options: SweepOptions, folder: Path | None) -> SweepResult:
    """Train one cell with the output of the report's script. Exits with status 1 if it failed."""
    console = Console()
    _exit_if_dry_run([cell], options, console, LOCAL)
    if options.serve:  # standard output is that of the report's script
        start_live_page(options, folder, partial(_print, Console(stderr=True)))
    view = ScriptView(console, status_console())
    result = run_sweep([cell], options, [view], LOCAL, folder)
    run_folder = Store(options.out).run_folder(cell.run_id)
    is_done = options.reuse and not view.complete  # in the store, or finished by another process
    if is_done and (snapshot := run_folder.result(cell)):
        images = len(datasets.load_dataset(cell.dataset, options.data_root).train_labels)
        replay(console, snapshot, cell, images)
    _report(result, options, console, tables=False)
    if result.exit_status:
        raise SystemExit(result.exit_status)
    return result


def _exit_if_dry_run(
    cells: Sequence[Cell],
    options: SweepOptions,
    console: Console,
    executor: Executor | None,
    space: SearchSpace | None = None,
) -> None:
    if options.dry_run:
        for line in preview(cells, options, executor, space).lines():
            _print(console, line)
        raise SystemExit(0)


def _report(
    result: SweepResult, options: SweepOptions, console: Console, *, tables: bool = True
) -> None:
    """Write the outputs of a sweep, and print its tables, its files and how to resume it.

    tables: False prints only the verdicts on studies. Exits with the status of the signal after an
    interruption.
    """

    def print_results(marks: TieMarks, reproductions: Sequence[Reproduction]) -> None:
        if tables and len(result.sweep.table):
            print_tables(console, result.sweep.table, marks)
        for reproduction in reproductions:
            print_reproduction(console, reproduction)

    with interrupts.handle_signals() as signals:
        # Messages go to stderr: for one cell, standard output is that of the report's script.
        result, files = write_outputs(
            result, options, StderrProgress().on_message, print_results, comparisons=tables
        )
        with signals.deferred():
            for line in describe_outputs(result, options, files):
                _print(console, line)
            consoles = [console]
            if output.lost():  # in `| tee log`, the same Ctrl-C ends tee
                consoles.append(Console(stderr=True))
            for target in consoles:
                for line in describe_interruption(result):
                    _print(target, line)
    if result.interrupted:
        raise SystemExit(result.exit_status)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)  # keeps paths on one line
