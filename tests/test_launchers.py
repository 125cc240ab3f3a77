"""Validation of the options of launchers, and the journals in which jobs report their progress."""

import subprocess

import pytest
from clusters import ray_options, slurm_options
from forked_commands import run_forked

from lenet_sweep.cli.text_keys import takes_text
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import Finished, Progress, Started
from lenet_sweep.executors import ray, slurm
from lenet_sweep.executors.job import Journal
from lenet_sweep.executors.options import check_optional_text, check_text, executor_option
from lenet_sweep.training.engines.support import NATIVE


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time": 0}, "hydra.launcher.time=0: must be a whole number from 1 to"),
        ({"time": "1:00:00"}, "hydra.launcher.time=1:00:00: must be a whole number"),
        ({"memory": -1}, "hydra.launcher.memory=-1: must be a number of GB per job, from 0.001"),
        ({"gpus": 0.5}, "hydra.launcher.gpus=0.5: must be a whole number of GPUs; only Ray"),
        ({"partition": "a\n#SBATCH --wrap=x"}, "must be one line of up to 200 printable"),
        ({"account": True}, "hydra.launcher.account=true: must be text or a number"),
        ({"sbatch": [1]}, "hydra.launcher.sbatch=[1]: must be options by name"),
        ({"sbatch": {"array": "1-9"}}, "hydra.launcher.sbatch.array=1-9: use workers=N instead"),
        (
            {"sbatch": {"signal": "USR1"}},
            "hydra.launcher.sbatch.signal=USR1: set by the launcher; remove it",
        ),
        (
            {"sbatch": {"ntasks": 2}},
            "hydra.launcher.sbatch.ntasks=2: set by the launcher; remove it",
        ),
        ({"partion": "x"}, "there is no key hydra.launcher.partion; did you mean hydra.launcher.p"),
        ({"sbatch": {"a b": 1}}, "hydra.launcher.sbatch.a b: must be the name of an option"),
        ({"sbatch": {"nice": "1\nrm"}}, "must be one line"),
    ],
    ids=str,
)
def test_invalid_slurm_options_are_rejected(changed, message) -> None:
    """Each invalid value gives one line that names the key."""
    with pytest.raises(UsageError) as error:
        slurm_options(**changed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gpus": -0.5}, "hydra.launcher.gpus=-0.5: must be a number of GPUs per task"),
        ({"cpus": "many"}, "hydra.launcher.cpus=many: must be a number of cores per task"),
        ({"resources": {"big": "x"}}, "hydra.launcher.resources.big=x: must be a number"),
        ({"gpus": 1.5}, "hydra.launcher.gpus=1.5: must be a whole number, or a fraction below 1"),
        ({"memory": 1e300}, "hydra.launcher.memory=1e+300: must be a number of GB per task"),
        ({"resources": {"GPU": 1}}, "CPU, GPU, and memory are set with cpus, gpus, and memory"),
        ({"foo": 1}, "there is no key hydra.launcher.foo; "),
        ({"runs_per_job": 0}, "hydra.launcher.runs_per_job=0: must be a whole number from 1"),
    ],
    ids=str,
)
def test_invalid_ray_options_are_rejected(changed, message) -> None:
    """Each invalid value gives one line that names the key."""
    with pytest.raises(UsageError) as error:
        ray_options(**changed)
    assert message in str(error.value)


def dry_run(*overrides: str) -> subprocess.CompletedProcess[str]:
    return run_forked("-m", "dry_run=true", *overrides)


@pytest.mark.parametrize(
    ("overrides", "status", "message"),
    [
        (("hydra/launcher=lenet_slurm", "hydra.launcher.sbatch={nice: 100, hold: true}"), 0, ""),
        (("hydra/launcher=lenet_ray", "hydra.launcher.resources={big: 1}"), 0, ""),
        (("hydra/launcher=lenet_slurm", "+hydra.launcher.partion=x"), 2, "no key hydra.launcher."),
        (("hydra/launcher=lenet_slurm", "hydra.launcher.partion=x"), 2, "no such setting"),
        (("hydra/launcher=lenet_slurm", "device=cuda"), 2, "hydra.launcher.gpus=1 gives each"),
        (
            ("+hydra.launcher.foo=1",),
            2,
            "hydra.launcher.foo=1: this launcher has no options; remove the key",
        ),
    ],
    ids=str,
)
def test_launcher_keys_on_the_command_line(overrides, status, message) -> None:
    """The documented keys can be typed, and a typo gives one line with status 2."""
    result = dry_run(*overrides)
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_text_options_of_executors_are_known_to_the_command_line() -> None:
    """An option is text by its check or by its declaration; a flag of sbatch is no text."""
    assert executor_option("", "", check_text).metadata["text"]
    assert executor_option(None, "", check_optional_text).metadata["text"]
    assert executor_option("", "", lambda _, value: value, text=True).metadata["text"]
    assert not executor_option(1, "", lambda _, value: value).metadata["text"]
    for name in (
        "partition",
        "account",
        "qos",
        "constraint",
        "address",
        "sbatch.nice",
        "mail_user",
    ):
        assert takes_text(f"hydra.launcher.{name}")
    assert not takes_text("hydra.launcher.sbatch.hold", flag=True)
    assert not any(takes_text(f"hydra.launcher.{name}") for name in ("time", "gpus", "resources.a"))


def test_gpus_of_jobs_determine_the_device() -> None:
    """device=auto is cuda if the jobs have GPUs, even if this machine has none."""
    assert ray.create(ray_options(gpus=0.25)).devices == ("cuda", "cpu")
    assert slurm.create(slurm_options()).devices == ("cpu",)
    (cell,), _ = validate_cells(grid({}), NATIVE, remote_devices=("cuda", "cpu"))
    assert cell.device == "cuda"
    with pytest.raises(
        UsageError, match="not available to the jobs; must be one of auto, cpu; hydra"
    ):
        validate_cells(grid({"device": "cuda"}), NATIVE, remote_devices=("cpu",))


def test_a_journal_survives_an_incomplete_line(tmp_path) -> None:
    """A job that is killed in the middle of a line and requeued loses only that line."""
    path = tmp_path / "run.journal"
    first = Journal(path)
    first.append(Started("run", 0))
    with path.open("a") as file:
        file.write('{"kind": "Finis')
    reader = Journal(path)
    assert reader.poll() == [Started("run", 0)]
    assert not Journal(path).has_ended()
    restarted = Journal(path)
    restarted.append(Started("run", 3))
    restarted.append(Finished("run"))
    assert reader.poll() == [Started("run", 3), Finished("run")]
    assert reader.poll() == []
    assert Journal(path).has_ended()


def test_a_journal_records_progress_once_a_second(tmp_path) -> None:
    """The shared disk is not written to for every reported batch."""
    journal = Journal(tmp_path / "run.journal")
    for images in range(100, 100_000, 100):
        journal.append(Progress("run", 1, images, 100_000, 1.0))
    assert 1 <= len(Journal(journal.path).poll()) < 100
