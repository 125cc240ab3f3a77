"""Generated command lines, run in this process so that thousands take a minute."""

import contextlib
import io
import logging
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st

from lenet_sweep.__main__ import main
from lenet_sweep.config import keys
from lenet_sweep.runner import run

KEYS = [key for key in keys.known_keys(keys.defaults()) if key != "dry_run"]
WRONG_KEYS = [
    "learning_rate", "batchs", "optimizer.lr", "optimizer.name", "dataset.name", "loss.x", "hydra",
    "lr.x", "lr.0", "optimizer.betas.0", "", ".", "a.b.c", "$x", "x y", "_target_", "defaults",
    "ключ", "lr[0]", "optimizer.", ".lr", "grid", "grid/lr", "grid/batch", "grid/epochs", "grid/x",
    "loss/x", "hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/x", "hydra.mode",
    "hydra.launcher", "hydra.launcher.n_jobs", "hydra.sweeper.params.lr", "hydra.sweeper.max",
    "hydra.run.dir", "hydra.sweep.dir", "hydra.job.name", "hydra.verbose", "hydra.searchpath",
    "study", "study.rows",
    "hydra.callbacks.x._target_", "hydra.output_subdir", "hydra.runtime.cwd", "hydra.help.header",
]  # fmt: skip
RIGHT = [
    "0.1", "1e-1", ".1", "1", "64", "100", "1e2", "null", "true", "false", "auto", "cpu", "relu",
    "tanh", "sgd", "adam", "nll", "cross_entropy", "ce_sgd", "nll_adam", "mnist", "kmnist",
    "report", "best", "none", "torch", "native", "Ada", "'Ada L.'", "basic", "joblib",
    "lenet_local",
    "[0.9,0.99]", "1,2", "0.1,0.01", "sgd,adam", "ce_sgd,nll_adam", "relu,tanh",
    "[0.5,0.9],[0.9,0.99]",
    "range(1,4)", "choice(0.1,0.2)", "range(0.1,0.5,0.1)", "shuffle(1,2,3)", "sort(3,1,2)",
    "glob(*)",
    "int(2.5)", "float(3)", "str(7)", "bool(true)", "tag(a,choice(1,2))", "shuffle(range(1,5))",
]  # fmt: skip
ODD = [
    "", "nan", "inf", "-inf", "-0", "0", "-1", "1e999", "1e-999", "0x10", "1_000", "9" * 25,
    "1" * 5000,
    "1" + "0" * 400, "???", "${lr}", "${oc.env:HOME}", "$\\{lr\\}", "'${lr}'", "\\", "\\\\", "'",
    '"',
    "''", "'a",
    '"a', "[", "]", "[]", "{", "}", "{}", "{a:1}", "{name:adam}", "{a:{b:[1,2]}}", "(", ")",
    "()", ",", ",,", "1,", ",1", "=", "a=b", "a:b", ":", "@", "~", "%", "#", "!", "|", "&", ";",
    "*",
    "`id`", "$(id)", "../up", "/abs", "..", ".", "~", "~nobody_here", "a/b", "C:\\x", "CON",
    "a" * 300,
    "[" * 300, "[" * 2000 + "]" * 2000, "{a:" * 200 + "1" + "}" * 200, "Zoë", "'Zoë'",
    "数", "😀", "'😀'",
    "'\u202eabc'", "'a\tb'", "'a\nb'", "\x1b[31m", "\x00", "\udcff", "'\udcff'", "\u3000", "\xa0",
    "interval(0,1)", "range(3)", "range(3,1)", "range(1,3,0)", "range(0,1e15,1)", "range(0,nan)",
    "range(0,inf)", "range(1,2,1e-9)", "range(0,4000000000)", "range(a,b)", "range()",
    "range(1,2,3,4)",
    "choice()", "choice(1)", "choice(choice(1,2))", "choice(a,)", "glob()", "glob([a,b])",
    "glob(a,b)",
    "sort(a,1)", "sort([3,1])", "sort(range(5,1),reverse=true)", "sort({a:1})", "shuffle()",
    "shuffle([1,2])",
    "int(a)", "int()", "int(1,2)", "int([1,a])", "int({a:1})", "float(inf)", "int(inf)",
    "int(range(1,3))",
    "str(range(1,3))", "str([1,2])", "str(interval(0,1))", "bool(x)", "bool(range(1,2))", "tag(1)",
    "tag(a)", "int(choice(1.5,2))", "foo(1)", "range(start=1,stop=3)", "range(start=1,start=2)",
    "eval(1)", "choice(1,2),3", "[choice(1,2)]", "int(glob(*))", "sort(glob(*))", "null,1",
    "true,1",
    "[1,2],3", "{a:1},2", "1 2", " 1", "1 ", "range(1, 3)", "sgdd", "/sgd", "sgd/", "../sgd",
    "sgd.yaml",
]  # fmt: skip
FLAGS = [
    ["--cfg", "job"], ["--cfg", "hydra"], ["--cfg", "all"], ["--cfg"], ["--cfg", "x"],
    ["-c", "job"],
    ["--cfg", "job", "--resolve"], ["--cfg", "all", "--resolve"], ["--resolve"],
    ["--package", "lr"],
    ["--cfg", "job", "--package", "optimizer"], ["--cfg", "job", "--package", "no.such"],
    ["--cfg", "all", "--package", "hydra.sweep"], ["--cfg", "job", "-p", "a[b"],
    ["--cfg", "job", "-p"], ["--info"],
    ["--info", "all"], ["--info", "config"], ["--info", "defaults"], ["--info", "defaults-tree"],
    ["--info", "plugins"], ["--info", "searchpath"], ["--info", "x"], ["-i"], ["--hydra-help"],
    ["--shell-completion"], ["-sc", "install=bash"], ["-sc", "query=fish"], ["-sc", "install=x"],
    ["-h"], ["--help"], ["--run"], ["-r"], ["--run", "-m"], ["--multirun"], ["-m", "-m"],
    ["--version"],
    ["--vers"], ["-x"], ["--nonsense"], ["--nonsense=1"], ["--"], ["-"], ["---"], ["-mr"],
    ["--multi"],
    ["--config-dir", "."], ["--config-dir", "no/such"], ["--config-dir"], ["--config-dir", ""],
    ["--config-path", "/"], ["--config-name", "x"], ["-cn", ""], ["--experimental-rerun", "x"],
]  # fmt: skip

# Each is valid alone; a combination may not be, such as a recipe with a loss.
GOOD = [
    "lr=0.1", "lr=1e-2", "batch=32", "epochs=2", "seed=7", "activation=tanh", "shuffle=true",
    "device=cpu", "engine=torch", "workers=2", "person=Ada", "timeout=60", "reuse=false",
    "out=there", "figures=none", "name=mine", "loss=nll", "optimizer=adam", "recipe=ce_sgd",
    "dataset=kmnist", "dataset.limit=600", "optimizer.weight_decay=0.1", "max_cells=1e5",
    "++lr=.5", "lr=null",
]  # fmt: skip
SWEPT = [
    "lr=0.1,0.2", "batch=32,64,128", "epochs=1,2", "seed=range(0,5)", "loss=nll,cross_entropy",
    "optimizer=sgd,adam", "recipe=glob(*)", "activation=choice(relu,tanh)", "lr=shuffle(0.1,0.2)",
    "lr=range(0.1,0.5,0.1)", "seed=sort(3,1,2)", "shuffle=true,false", "grid/lr=report",
    "grid/batch=report", "hydra/launcher=basic", "hydra/launcher=joblib", "hydra/sweeper=basic",
    "optimizer.betas=[0.5,0.9],[0.9,0.99]", "++seed=1,2", "person='a, b'", "batch=int(32.5,64)",
]  # fmt: skip

values = st.one_of(
    st.sampled_from(RIGHT),
    st.sampled_from(ODD),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.sampled_from(RIGHT + ODD), min_size=2, max_size=3).map(",".join),
)
overrides = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(RIGHT)).map("=".join),
    st.tuples(st.sampled_from(KEYS), values).map("=".join),
    st.tuples(
        st.sampled_from(["", "", "", "+", "++", "~", "+++", "@", "-"]),
        st.sampled_from(KEYS + WRONG_KEYS),
        st.sampled_from(
            ["", "", "", "", "@", "@x", "@hydra.callbacks.x", "@_global_", ".x", "[0]"]
        ),
        st.sampled_from(["=", "=", "=", "==", "", " = ", ":"]),
        values,
    ).map("".join),
    st.text(max_size=20),
    st.sampled_from(
        ["lr=0.1 batch=32", "lr=0.1,batch=32", "lr0.1", "lr =0.1", "-m lr=0.1", "lr:0.1"]
    ),
)
flags = st.one_of(
    st.just(["-m"]), st.just([]), st.just(["-m"]), st.just([]), st.sampled_from(FLAGS)
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Flags and overrides in any order, with dry_run=true so that nothing is trained."""
    if draw(st.booleans()):
        sweep = draw(st.booleans())
        valid = st.sampled_from(GOOD + SWEPT if sweep else GOOD)
        words = draw(st.lists(valid, max_size=3, unique_by=lambda text: text.partition("=")[0]))
        words += [draw(overrides)] * draw(st.integers(0, 1))
        return [*["-m"] * sweep, *words, "dry_run=true"]
    first, words = draw(flags), draw(st.lists(overrides, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.permutations([*first, *words, "dry_run=true"]))
    return [*first, *words, "dry_run=true"]


@dataclass(frozen=True)
class CommandResult:
    """The exit status, the output and the Python warnings of a command line."""

    status: object
    out: str
    err: str
    warnings: tuple[str, ...]


def run_here(*arguments: str) -> CommandResult:
    """Run a command line in this process. Lets exceptions pass that would print a traceback."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the command would have trained")

    handlers, level = logging.root.handlers[:], logging.root.level
    argv, sys.argv = sys.argv, ["lenet_sweep", *arguments]
    ensure_dataset = run.download.ensure_dataset
    run.download.ensure_dataset = fail  # the first step before any training
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    GlobalHydra.instance().clear()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            try:
                main()
            except SystemExit as exiting:
                status = exiting.code or 0
    finally:
        sys.argv = argv
        run.download.ensure_dataset = ensure_dataset
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        os.environ.pop("HYDRA_FULL_ERROR", None)
    messages = tuple(str(warning.message) for warning in caught)
    return CommandResult(status, out.getvalue(), err.getvalue(), messages)


def find_fault(arguments: list[str], folder: Path) -> str:
    """What is wrong with the response to a command line that ran in `folder`; '' if nothing is."""
    try:
        result = run_here(*arguments)
    except BaseException as error:  # noqa: BLE001 - a user would see a traceback for any of them
        return f"traceback: {type(error).__name__}: {error}"
    message = result.err
    if written := list(folder.iterdir()):
        for path in written:  # so that the next command line starts in an empty folder
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return f"files were written: {written}"
    if result.warnings:
        return f"Python warnings: {result.warnings}"
    if result.status == 0:
        return f"planned, but with an error: {message}" if message else ""
    if result.status != 2:
        return f"status {result.status}: {message}"
    if not message.startswith("error: ") or message.count("\n") != 1 or message[-1] != "\n":
        return f"not one line: {message!r}"
    if not message[:-1].isprintable():
        return f"control characters: {message!r}"
    if len(message) > 1000:
        return f"{len(message)} characters: {message[:200]!r}"
    return "" if len(message) > 20 else f"too short to help: {message!r}"
