"""Generated input: every command line and every call is planned or rejected in one line."""

import resource
from pathlib import Path

import numpy as np
import pytest
from command_lines import command_lines, find_fault, run_here
from forked_commands import run_forked
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lenet_sweep import sweep
from lenet_sweep.__main__ import register_plugins
from lenet_sweep.cli.guarded_hydra import GuardedLoader
from lenet_sweep.cli.hydra_config import compose_jobs, grid_jobs, raw_settings
from lenet_sweep.cli.main import register_groups
from lenet_sweep.config import files, grids, keys
from lenet_sweep.core.errors import DataError, UsageError


def examples(number: int) -> settings:
    """Hypothesis settings with the same examples in every run."""
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory):
    """The current folder, which must stay empty."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@examples(50)
@given(command_lines())
def test_command_line_is_planned_or_rejected_in_one_line(empty: Path, line: list[str]) -> None:
    """No command line ends in a traceback, in several lines or in a file."""
    assert find_fault(line, empty) == ""


@pytest.mark.slow
@pytest.mark.long
@examples(10_000)
@given(command_lines())
def test_ten_thousand_command_lines(empty: Path, line: list[str]) -> None:
    """The same for 10,000 command lines."""
    assert find_fault(line, empty) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lr=abc", "lr=abc: must be a number above 0"),
        ("-m lr=0.1,abc", "lr=abc: must be a number above 0"),
        ("batch=0", "batch=0: must be a whole number from 1"),
        ("-m batch=32,0", "batch=0: must be a whole number from 1"),
        ("epochs=-1", "epochs=-1: must be a whole number from 1"),
        ("lr=nan", "lr=nan: must be a number above 0"),
        ("-m lr=nan,0.1", "lr=nan: must be a number above 0"),
        ("optimizer=adm", "rmsprop, rprop, sgd; did you mean optimizer=adam?"),
        ("-m optimizer=sgdd,adam", "optimizer=sgdd: must be one of adadelta, adafactor, adagrad,"),
        ("device=tpu", "device=tpu: must be one of auto, cuda, mps, cpu"),
        ("nonsense=1", "nonsense=1: there is no key nonsense"),
        ("-m nonsense=1,2", "nonsense=1: there is no key nonsense"),
        ("+nonsense=1", "nonsense=1: there is no key nonsense"),
        ("optimizer.momentun=0.9", "has no option momentun; the options are momentum,"),
        ("optimizer.momentun=0.9", "did you mean optimizer.momentum?"),
        ("~seed", "the key seed cannot be removed; it can only be changed"),
        ("recipe=ce_sgd loss=nll", "recipe cannot be combined with loss"),
        ("loss=nll loss.label_smoothing=0.1", "the loss has no option label_smoothing"),
        ("loss=mse loss.target=classes", "loss.target=classes: only a file in loss/"),
        ("lr=[1", "lr=[1: cannot be parsed as key=value"),
        ("lr", "lr: cannot be parsed as key=value"),
        ("-m lr=,", "lr=,: cannot be parsed as key=value"),
        ("person=Zoë", "digits, '.', '_' and '-': person="),
        ("=0.1", "=0.1: no key before the '='"),
        ("@x=1", "@x=1: no key before the '='"),
        ("-m lr=glob(*)", "the grid has no cell"),
        ("-m lr=interval(0,1)", "lr=interval(0,1): an interval requires search=tpe"),
        ("optimizer=null", "must be a string or a list"),
        ("optimizer.lr=0.1", "the learning rate is a separate key; use lr=0.1"),
        ("-m --run", "Only one of --run, --multirun"),
        ("--experimental-rerun x", "loads a pickle, which can run code"),
        ("timeout=0", "timeout=0: must be a number of seconds above 0"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("-m workers=1,2", "workers cannot be swept"),
        ("grid/lr=report", "requires the flag -m"),
        ("lr=0.1,0.2", "require the flag -m"),
        ("dataset=folder dataset.root=/nowhere", "dataset.root=/nowhere: there is no such folder"),
        ("dataset=folder dataset.root=/dev/null", "dataset.root=/dev/null: is not a folder"),
        ("person=${oc.env:NO_SUCH}", "Environment variable 'NO_SUCH' not found"),
        ("-m person=${oc.env:NO_SUCH} lr=0.1,0.2", "Environment variable 'NO_SUCH' not found"),
        ("-m person=${person}", "Recursive interpolation"),
        ("-m hydra.sweep.dirr=x", "hydra.sweep.dirr: there is no such setting"),
        ("lr=???", "Missing mandatory value: lr"),
        ("-m hydra/launcher=nonsense", "hydra/launcher=nonsense: must be one of"),
        ("-m hydra/launcher=submitit", "did you mean hydra/launcher=submitit_"),
        ("-m hydra/launcher=ray", "hydra/launcher=ray: the plugin is not installed; run: pip"),
        ("-m hydra/launcher=rq", "pip install hydra-rq-launcher"),
        ("-m hydra/sweeper=ax", "pip install hydra-ax-sweeper"),
        ("-m hydra/sweeper=nevergrad", "pip install hydra-nevergrad-sweeper"),
        ("out=/dev/null", "out: cannot create the folder /dev/null"),
        ("-m out=/dev/null lr=0.1,0.2", "out: cannot create the folder /dev/null"),
        ("-m out=/dev/null hydra/launcher=basic", "out: cannot create the folder /dev/null"),
    ],
)
def test_wrong_command_gets_one_line(tmp_path, monkeypatch, arguments, message) -> None:
    """A wrong command ends with status 2 and one line that names the key and the fix."""
    monkeypatch.chdir(tmp_path)
    done = run_here(*arguments.split())
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


# ---------------------------------------------------------------- the Python interface


class NoText:
    def __str__(self) -> str:
        raise RuntimeError("has no text")

    def __repr__(self) -> str:
        return "NoText()"  # for Hypothesis


class Tricky:
    tolist = 1

    def __float__(self) -> float:
        raise ZeroDivisionError


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.binary(max_size=5),
    st.complex_numbers(), st.decimals(), st.fractions(), st.dates(), st.uuids(),
    st.sampled_from([
        10**400, 10**5000, -(10**5000), "1" * 5000, "a" * 5000, "~nobody_here", "\udcff", "a\x00b",
        "/" + "a" * 300, ("x/" * 3000), range(0), range(10), range(10**30),
        range(0, -(10**30), -1), float,
        int, print, object(), NoText(), Tricky(), np.float32(0.1), np.int64(3), np.array(1.5),
        np.array([]), np.array([1, 2]), np.array([[1, 2], [3, 4]]), np.zeros((2, 2, 2)), np.nan,
        np.array(["sgd", "adam"]), np.datetime64("2020-01-01"), np.array([None, NoText()]),
        Path(), Path("/dev/null"), {"name": "adam"}, {"name": "adam", "betas": 1}, {"name": None},
        {1: 2}, {NoText(): 1}, {"name": "sgd", NoText(): 1}, set(), {1}, frozenset(),
        iter([1]),
        "${oc.env:HOME}", "???", "../x", "CON", "=1+1", "\x1b[31m", [[1, [2, [3]]]], [NoText()],
    ]),
)  # fmt: skip
some = st.one_of(
    odd,
    st.lists(odd, max_size=3),
    st.tuples(odd, odd),
    st.dictionaries(st.text(max_size=5), odd, max_size=2),
)
names = st.one_of(
    st.sampled_from(
        [*keys.known_keys(keys.defaults()), "optimizer.lr", "hydra", "grid/lr", "loss.x"]
    ),
    st.text(max_size=10),
)


@examples(500)
@given(st.dictionaries(names.filter(lambda k: k not in ("dry_run", "progress")), some, max_size=3))
@example({"lr": range(10**30)})
@example({"optimizer": {"name": "adam", NoText(): 1}})
@example({"person": NoText()})
def test_python_call_is_planned_or_rejected_in_one_line(empty: Path, settings: dict) -> None:
    """`sweep()` raises only its documented errors, in one line, for any values."""
    message = ""
    try:
        sweep(**settings, dry_run=True, progress=False)
    except (UsageError, DataError) as error:
        message = str(error)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1000
    assert not list(empty.iterdir())


# ---------------------------------------------------------------- grids that are too large

HUGE = [
    ("lr=range(0,1e15,1)", "1,000,000,000,000,000"),
    ("seed=range(0,4000000000)", "4,000,000,000"),
    ("batch=range(1,1000000)", "999,999"),
    (" ".join(f"{key}=range(1,101)" for key in
              ("lr", "batch", "epochs", "seed", "timeout", "optimizer.momentum")),
     "1,000,000,000,000"),
    ("lr=shuffle(range(0,1e15,1))", "1,000,000,000,000,000"),
    ("lr=range(0,1e300,1)", "more than 10^18"),
    ("seed=range(0,100001)", "100,001"),
    ("seed=1,2,3 max_cells=2", "has 3 cells, which exceeds max_cells=2"),
    ("seed=range(0,4000000000) hydra/launcher=basic", "4,000,000,000"),
]  # fmt: skip
HUGE_TOO = [  # the same in other words
    ("lr=sort(range(1e15,0,-1))", "1,000,000,000,000,000"),
    ("lr=range(0,1,1e-9)", "1,000,000,000"),
    ("++seed=range(0,4000000000)", "4,000,000,000"),
    ("seed=range(0,4000000000) hydra/launcher=joblib", "4,000,000,000"),
    ("seed=range(0,4000000000) hydra/sweeper=basic", "4,000,000,000"),
    ("+hydra.sweeper.params.seed='range(0,4000000000)'", "4,000,000,000"),
]


# Less memory and CPU time than it takes to list a grid of 10^8 cells.
LIMITS = {"RLIMIT_AS": 2 * 10**9, "RLIMIT_CPU": 30}


@pytest.mark.parametrize(
    ("line", "count"), [*HUGE, *(pytest.param(*each, marks=pytest.mark.slow) for each in HUGE_TOO)]
)
def test_large_grid_is_rejected_without_being_built(tmp_path, line: str, count: str) -> None:
    """A typo in a range costs one line, but no memory, no time and no folder."""
    result = run_forked("-m", *line.split(), cwd=tmp_path, limits=LIMITS)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: the grid has ")
    assert result.stderr.count("\n") == 1
    assert count in result.stderr
    assert "max_cells=" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": range(4_000_000_000)},
        {"seed": range(10**30)},
        {"seed": range(0, -(10**30), -7)},
        {
            key: list(range(1, 101))
            for key in ("lr", "batch", "epochs", "seed", "timeout", "workers")
        },
        {"seed": [1, 2, 3], "max_cells": 2},
    ],
)
def test_python_rejects_large_grid(empty, settings: dict[str, object]) -> None:
    """`sweep()` reports the number of cells instead of filling the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="the grid has .* cells, which exceeds max_cells="):
        sweep(**settings, dry_run=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_max_cells_allows_large_grid(empty) -> None:
    """The value of max_cells in the message lets the grid pass."""
    with pytest.raises(UsageError) as error:
        sweep(seed=range(100_001), dry_run=True)
    assert "max_cells=100001" in str(error.value)
    assert len(grids.grid({"seed": range(100_001), "max_cells": 100_001})) == 100_001


@given(
    st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool)
)  # fmt: skip
def test_range_is_counted_correctly(start: int, stop: int, step: int) -> None:
    """The number of cells in the message is the number of values of the range."""
    assert grids._length(range(start, stop, step)) == len(range(start, stop, step))


# ---------------------------------------------------------------- text is kept


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> GuardedLoader:
    """Hydra's loader with a --config-dir that holds a file with each of `YAML_TEXTS`."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "who").mkdir()
    for index, text in enumerate(YAML_TEXTS):
        content = f"# @package _global_\nperson: {text}\ndataset: {{root: {text}}}\n"
        (folder / "who" / f"w{index}.yaml").write_text(content)
    register_plugins()
    register_groups()
    path = create_config_search_path(str(files.config_folder()))
    path.prepend("command-line", str(folder), anchor="schema")
    return GuardedLoader(path)


YAML_TEXTS = ("1e3", "1.10", "2026_11_28", "on", "true", "0o17", "0x1F", "1:30", "3e99999", "007")
words = st.one_of(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.from_regex(r"[0-9][0-9_]{0,8}(\.[0-9]{0,4})?(e[0-9]{1,5})?", fullmatch=True),
    st.sampled_from(["true", "False", "on", "off", "yes", "nan", "inf", "1.1", "1.10", "1e5"]),
).filter(lambda text: text.lower() != "null")


@examples(3)
@given(words)
@example("3e99999")
@example("2026_11_28")
def test_text_is_kept_as_typed(loader: GuardedLoader, text: str) -> None:
    """A name that looks like a number stays text: in one cell, a grid and any launcher."""
    overrides = [f"{key}={text}" for key in ("name", "person", "out", "dataset.root")]
    overrides += ["hydra/launcher=lenet_slurm", f"hydra.launcher.partition={text}"]
    single = loader.load_configuration("config", overrides, RunMode.RUN)
    master = loader.load_configuration("config", [*overrides, "seed=0,1"], RunMode.MULTIRUN)
    parsed = OverridesParser.create().parse_overrides(list(master.hydra.overrides.task))
    jobs = grid_jobs(loader, master, parsed)
    raws = [raw_settings(single), *compose_jobs(loader, master, jobs)]
    raws += [raw_settings(loader.load_sweep_config(master, jobs[0]))]
    for raw in raws:
        assert [raw["name"], raw["person"], raw["out"], raw["dataset"]["root"]] == [text] * 4
    assert single.hydra.launcher.partition == text


@pytest.mark.parametrize("index", range(len(YAML_TEXTS)), ids=YAML_TEXTS)
def test_text_of_file_is_kept(loader: GuardedLoader, index: int) -> None:
    """A name in a file stays text, even where YAML reads a number or a boolean."""
    config = loader.load_configuration("config", [f"+who=w{index}"], RunMode.RUN)
    assert (config.person, config.dataset.root) == (YAML_TEXTS[index], YAML_TEXTS[index])


def test_null_is_default_of_text(loader: GuardedLoader) -> None:
    """name=null means no name; in quotes, null is a word."""
    plain = loader.load_configuration("config", ["name=null"], RunMode.RUN)
    quoted = loader.load_configuration("config", ["name='null'"], RunMode.RUN)
    assert (plain.name, quoted.name) == (None, "null")
