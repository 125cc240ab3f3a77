"""The sweeper and the launchers that lenet-sweep registers with Hydra: thin shells.

Hydra loads plugins only from the namespace package `hydra_plugins`, and imports every module in it
into every application. It skips names that start with an underscore, so other applications do not
see this module; `register` makes it known to the lenet-sweep command line. The imports inside
functions keep --help fast, which also imports this module. It may import every subpackage.
"""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from lenet_sweep.core.errors import UsageError

if TYPE_CHECKING:
    from lenet_sweep.executors import Executor


class LenetGridSweeper(BasicSweeper):
    """A grid sweeper that launches all jobs in one batch."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        from lenet_sweep.cli import commands, hydra_config, output  # noqa: PLC0415 - see above
        from lenet_sweep.runner import interrupts  # noqa: PLC0415 - see above
        from lenet_sweep.search import sampling  # noqa: PLC0415 - see above

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        if self.max_batch_size is not None:
            raise UsageError(
                f"hydra.sweeper.max_batch_size={self.max_batch_size}: not supported, since "
                "the grid is planned as a whole and has one table; use workers=N to limit the runs "
                "that are trained at the same time"
            )
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        params = map(hydra_config.keep_text, self._parse_config())
        overrides = parser.parse_overrides([*params, *arguments])
        deletions = [str(o.input_line) for o in overrides if o.is_delete()]
        overrides = [o for o in overrides if not o.is_delete()]
        if sampling.samples(self.config.search.get("name")):
            if not isinstance(self.launcher, LenetLauncher):
                raise UsageError(f"search={self.config.search.name}: {commands.OWN_PARTS}")
            self.launcher.sample(overrides, deletions)
            return []
        jobs = hydra_config.grid_jobs(loader, self.config, overrides)
        if deletions:
            jobs = [[*job, *deletions] for job in jobs]
        if isinstance(self.launcher, LenetLauncher):
            returned = self.launcher.launch(jobs, initial_job_idx=0)
        else:  # one of Hydra's own launchers, which trains each cell as a job
            finish = commands.prepare_jobs(loader, self.config, jobs)
            # Created again because `prepare_jobs` set the sweep's folder, which the launcher may
            # have copied into its settings (submitit's does).
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=self.config,
            )
            try:
                # On Ctrl-C, each of submitit's controllers prints a traceback. The output of jobs
                # goes to files, so nothing is lost.
                is_submitit = type(launcher).__module__.startswith("hydra_plugins.hydra_submitit")
                stderr = output.silent_children() if is_submitit else contextlib.nullcontext()
                with interrupts.handle_signals(), stderr:
                    returned = launcher.launch(jobs, initial_job_idx=0)
            except KeyboardInterrupt as interrupt:
                finish(signal.Signals(getattr(interrupt, "signal", signal.SIGINT)))
                raise
            finish(None)
        return returned


class LenetLauncher(Launcher):
    """Plans all jobs of a batch together and trains each of their runs once.

    executor: the name of an executor. settings: its options, the other keys of hydra.launcher.
    """

    def __init__(self, executor: str, **settings: Any) -> None:
        self.executor = executor
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader = hydra_context.config_loader
        self.callbacks = hydra_context.callbacks
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from lenet_sweep.cli import commands  # noqa: PLC0415 - see above

        executor = self._executor()
        hydra = self.config.hydra
        composed = []
        if hydra.callbacks:  # only then, since composing a job takes Hydra 50 ms
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                job = self.loader.load_sweep_config(self.config, list(overrides))
                with open_dict(job):
                    job.hydra.job.id = job.hydra.job.num = number
                composed.append(job)
                self.callbacks.on_job_start(config=job, task_function=self.task_function)
        with env_override(hydra.job.env_set):
            accuracies = commands.run_batch(self.loader, self.config, job_overrides, executor)
        returned = [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=accuracy)
            for overrides, accuracy in zip(job_overrides, accuracies, strict=True)
        ]
        for job, job_return in zip(composed, returned, strict=False):
            self.callbacks.on_job_end(config=job, job_return=job_return)
        return returned

    def sample(self, overrides: Sequence[Override], deletions: Sequence[str]) -> None:
        """Train the trials of a search that samples settings."""
        from lenet_sweep.cli import commands  # noqa: PLC0415 - see above

        with env_override(self.config.hydra.job.env_set):
            commands.run_sampling(self.loader, self.config, overrides, deletions, self._executor())

    def _executor(self) -> "Executor":
        from lenet_sweep.executors.options import parse_options  # noqa: PLC0415 - see above
        from lenet_sweep.executors.registry import EXECUTORS  # noqa: PLC0415 - see above

        spec = EXECUTORS.find(self.executor)
        return spec.create(parse_options(spec.options, self.settings))


@dataclass
class LenetGridConf(BasicSweeperConf):
    _target_: str = "hydra_plugins._lenet_sweep.LenetGridSweeper"
    # Not None, so that +hydra.sweeper.params.lr='0.1,0.2' can add a list.
    params: dict[str, str] | None = field(default_factory=dict)


def register() -> None:
    """Register the sweeper and the launcher with Hydra, in this process only.

    Hydra passes its state, including plugins, to jobs in other processes.
    """
    plugins = Plugins.instance()
    for plugin in (LenetGridSweeper, LenetLauncher):
        plugins.register(plugin)
    # Replaces Hydra's own `basic`, which creates folders and all cells before any check.
    for name in ("lenet_grid", "basic"):
        ConfigStore.instance().store(
            group="hydra/sweeper", name=name, node=LenetGridConf, provider="lenet_sweep"
        )
