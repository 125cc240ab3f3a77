"""Hostile configuration files: nothing in them is called, and nothing is read or written."""

from pathlib import Path

import pytest
from command_lines import CommandResult, run_here

SECRET = "correct-horse-battery-staple"  # noqa: S105 - not a real password; must not appear in any output
# CANARY in the files below stands for a path that nothing may create.

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
GLOBAL = "# @package _global_\n"
GRID = GLOBAL + "hydra: {sweeper: {params: {lr: '1,2'}}}\n"
FILES = [
    # Tags that create Python objects, and references that grow without limit.
    "a: !!python/object/apply:os.system ['touch CANARY']",
    "a: !!python/object/new:subprocess.Popen [[touch, CANARY]]",
    "a: !!python/object/apply:pathlib.Path [CANARY]",
    "a: !!python/name:os.system",
    "a: !!python/module:antigravity",
    "!!python/object/apply:os.system ['touch CANARY']",
    "a: !!binary aGk=",
    "a: !x 1",
    "a: !!str 1",
    BOMB,
    "a: &a [*a]",
    "a: &a {<<: *a}",
    "[" * 5000,
    "a: " + "{a: " * 500 + "1" + "}" * 500,
    "a: '" + "x" * 200_000 + "'",
    "a: 1\na: 2",
    "a: [1",
    "\x00",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n---\na: 2",
    "- 1",
    "text",
    # Interpolation.
    *(GLOBAL + f"{key}: {value}" for key in ("person", "out", "name") for value in (
        "${oc.env:LENET_SECRET}", "a${oc.decode:${oc.env:LENET_SECRET}}", "${oc.create:{a: 1}}",
        "${hydra:runtime.cwd}", "${now:%Y}", "${person}", "[{a: '${oc.env:LENET_SECRET}'}]")),
    "${oc.env:LENET_SECRET}: 1",
    "defaults: [{/optimizer: '${oc.env:LENET_SECRET}'}]",
    "defaults: ['${oc.env:LENET_SECRET}']",
    # Settings that Hydra would call or act on.
    *(GLOBAL + f"hydra: {{{place}}}" for place in (
        "callbacks: {x: {_target_: os.system, _args_: ['touch CANARY']}}",
        "launcher: {_target_: os.system, command: 'touch CANARY'}",
        "launcher: {x: {_target_: os.system, _args_: ['touch CANARY']}}",
        "sweeper: {x: [{_target_: os.system, _args_: ['touch CANARY']}]}",
        "sweeper: {_target_: subprocess.call}", "sweeper: {_partial_: true}",
        "sweeper: {params: {'+hydra.callbacks.x._target_': os.system}}",
        "sweeper: {params: {'hydra.run.dir': CANARY}}",
        "sweeper: {params: {'++hydra.job.env_set.PATH': x}}",
        "sweeper: {params: {person: '$\\{oc.env:LENET_SECRET\\}'}}",
        "sweeper: {params: {lr: 'range(0,1e15,1)'}}",
        "sweeper: {params: {'hydra/job_logging': default}}",
        "job_logging: {version: 1, root: {}, handlers: {x: {class: logging.FileHandler}}}",
        "hydra_logging: {version: 1, root: {}, handlers: {x: {'()': os.system}}}",
        "run: {dir: CANARY}", "sweep: {dir: CANARY}", "sweep: {subdir: CANARY}", "output_subdir: x",
        "job: {chdir: true}", "job: {env_set: {PATH: x}}", "job: {env_copy: [LENET_SECRET]}",
        "searchpath: ['file:///']", "searchpath: ['pkg://antigravity']", "verbose: true",
        "mode: RUN",
        "help: {template: x}")),
    GLOBAL + "hydra: [1]",
    GLOBAL + "hydra: text",
    GLOBAL + "optimizer: {_target_: os.system}",
    GLOBAL + "_target_: os.system",
    # Settings placed elsewhere in the configuration, or taken from other files.
    *(f"# @package {package}\n_target_: os.system" for package in ("hydra.callbacks.x", "hydra")),
    "# @package hydra.job\nenv_copy: [LENET_SECRET]",
    "# @package _global_.hydra.job\nenv_copy: [LENET_SECRET]",
    "# @package hydra.run\ndir: CANARY",
    "# @package a b c\nx: 1",
    "# @x\nx: 1",
    *(GLOBAL + f"defaults: [{entry}]" for entry in (
        "override /hydra/job_logging: default", "/hydra/job_logging@hydra.launcher.x: default",
        "/hydra/launcher@hydra.callbacks.x: basic", "/optimizer@hydra.callbacks.x: sgd",
        "/hydra/output: default", "/hydra/env: default", "../../../../../etc/x", "/../../x",
        "{/grid/lr: ../../../../x}", "/optimizer: '../../x'", "optional /hydra/callbacks: x",
        "/hydra/config")),
    GLOBAL + "defaults: 1",
    GLOBAL + "defaults: {a: b}",
    GLOBAL + "defaults: [1]",
    GLOBAL + "defaults: [{a: b, c: d}]",
    GLOBAL + "defaults: [{a: 1}]",
    GLOBAL + "defaults: [mine]",
    # Invalid keys and values.
    GLOBAL + "lr: ???",
    GLOBAL + "no_such_key: 1",
    GLOBAL + "lr: {a: 1}",
    GLOBAL + "name: ../x",
    GLOBAL + 'person: "\\e[31m"',
    "x: 1",
]  # fmt: skip
PLACES = [
    ("config.yaml", GLOBAL + "defaults: [optimizer: sgd]\nhydra: {run: {dir: CANARY}}"),
    ("config.yaml", "hydra: {searchpath: ['pkg://antigravity']}"),
    ("hydra/config.yaml", "run: {dir: CANARY}"),
    ("hydra/job_logging/none.yaml", "version: 1\nroot: {}\nhandlers: {x: {class: os.system}}"),
    ("hydra/hydra_logging/none.yaml", "version: 1\nroot: {}"),
    ("hydra/output/default.yaml", GLOBAL + "hydra: {run: {dir: CANARY}}"),
    ("hydra/env/default.yaml", GLOBAL + "hydra: {job: {env_copy: [LENET_SECRET]}}"),
    ("hydra/launcher/lenet_local.yaml", "_target_: os.system\ncommand: touch CANARY"),
    ("hydra/launcher/lenet_local.yaml", "a: 1"),
    ("hydra/sweeper/lenet_grid.yaml", "_target_: os.system"),
    ("hydra/sweeper/lenet_grid.yaml", "params: {hydra.run.dir: CANARY}"),
    ("optimizer/sgd.yaml", "_target_: os.system"),
    ("optimizer/sgd.yaml", "name: ${oc.env:LENET_SECRET}"),
    ("optimizer/sgd.yaml", "name: os.system"),
    ("dataset/mnist.yaml", "name: folder\nroot: ${oc.env:LENET_SECRET}\nlimit: null"),
    ("loss/cross_entropy.yaml", GLOBAL + "hydra: {run: {dir: CANARY}}"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A current folder in which nothing may appear, and a secret in the environment."""
    monkeypatch.setenv("LENET_SECRET", SECRET)
    (tmp_path / "work").mkdir()
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def assert_rejected(place: Path, *arguments: str) -> CommandResult:
    """Run the command line, which must be rejected in one line and leave no trace."""
    before = sorted(place.rglob("*"))
    result = run_here(*(word.replace("CANARY", str(place / "canary")) for word in arguments))
    assert sorted(place.rglob("*")) == before
    assert SECRET not in result.out + result.err
    assert result.status == 2, result
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.err[:-1].isprintable()
    assert result.out == ""
    assert result.warnings == ()
    return result


FLAGS = [
    (["--config-path", "/"], "would replace the settings, including"),
    (["--config-name", "/etc/passwd"], "would replace the settings, including"),
    (["--experimental-rerun", "CANARY"], "loads a pickle"),
    (["-m", "hydra.sweeper.max_batch_size=2"], "the grid is planned as a whole"),
    (["-m", "hydra.sweep.dir=CANARY", "name=x"], "both set the sweep's folder"),
    (["hydra.run.dir=CANARY", "lr=abc"], "lr=abc: must be"),  # Hydra would create the folder first
    (["hydra.searchpath=[pkg://antigravity]"], "must be the path of an existing folder"),
    (["grid/lr=../../x", "-m"], "not a path"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "reason"), FLAGS)
def test_unsupported_flag_is_rejected_with_reason(
    place: Path, arguments: list[str], reason: str
) -> None:
    """Flags and settings that would break a promise are rejected, and the message says why."""
    assert reason in assert_rejected(place, *arguments).err


@pytest.mark.parametrize("content", FILES, ids=lambda text: text[-60:])
def test_hostile_list_has_no_effect(place: Path, content: str) -> None:
    """A hostile list of values, used with --config-dir, is rejected."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "grid/lr=mine")


@pytest.mark.parametrize("content", FILES, ids=lambda text: text[-60:])
def test_hostile_settings_have_no_effect(place: Path, content: str) -> None:
    """The same content in a user's own config group, which may have any form, is rejected."""
    file = place / "configs" / "mine" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


@pytest.mark.parametrize("name", ["/{place}/other", "../../../other", "/../other"])
def test_defaults_cannot_leave_the_folder(place: Path, name: str) -> None:
    """A defaults list cannot include files outside its folder, which would not be checked."""
    canary = place / "canary"
    call = f"{{_target_: logging.FileHandler, filename: '{canary}'}}"
    (place / "other.yaml").write_text(GLOBAL + f"hydra: {{callbacks: {{x: {call}}}}}")
    file = place / "configs" / "mine" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"defaults: [{name.format(place=place)}]")
    assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


@pytest.mark.parametrize("content", FILES[::8], ids=lambda text: text[-60:])
def test_hostile_list_in_search_path_has_no_effect(place, content: str) -> None:
    """Files of hydra.searchpath are checked like those of --config-dir."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    assert_rejected(place, "-m", f"hydra.searchpath=[{place / 'configs'}]", "grid/lr=mine")


def test_missing_config_folder_is_named(place: Path) -> None:
    """A typo in the name of a --config-dir gets a message with the name."""
    result = assert_rejected(place, "-m", "--config-dir", str(place / "confgs"), "lr=0.1")
    assert f"--config-dir {place / 'confgs'}: there is no such folder" in result.err


@pytest.mark.parametrize(("name", "content"), PLACES)
def test_file_cannot_replace_another(place: Path, name: str, content: str) -> None:
    """A --config-dir cannot replace configuration files of Hydra or lenet-sweep."""
    file = place / "configs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "lr=0.1,0.2")


def test_unreadable_file_is_not_quoted(place: Path) -> None:
    """A file that is not settings is not quoted, since it may be confidential."""
    (place / "configs" / "mine").mkdir()
    for content in (
        f"{SECRET}",
        f"a: [{SECRET}",
        f"# @{SECRET} a b c",
        f"a: *{SECRET}",
        f"a: !{SECRET} 1",
    ):
        (place / "configs" / "mine" / "x.yaml").write_text(content)
        assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


def test_list_cannot_set_keys_of_hydra(place: Path) -> None:
    """The keys of a list are checked like typed ones, and the message names them."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(GLOBAL + "hydra: {sweeper: {params: {'++hydra.job.env_copy': '[HOME]'}}}")
    result = assert_rejected(place, "-m", "--config-dir", str(place / "configs"), "grid/lr=mine")
    assert ": ++hydra.job.env_copy: params may contain only keys of" in result.err


@pytest.mark.parametrize(
    "content",
    ["[0.1, 0.2]", "0.1,0.2", "lr: 0.1,0.2", GLOBAL + "lr: [0.1, 0.2]", "",
     GLOBAL + "hydra: {sweeper: {params: {lr: [0.1, 0.2]}}}",
     GLOBAL + "hydra: {sweeper: {params: [0.1, 0.2]}}",
     "hydra: {sweeper: {params: {lr: '0.1,0.2'}}}"],
)  # fmt: skip
def test_wrong_form_of_list_gets_correct_form(place: Path, content: str) -> None:
    """The message shows the two lines that such a file needs, and they work."""
    file = place / "configs" / "grid" / "lr" / "wide.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    words = ["--config-dir", str(place / "configs"), "grid/lr=wide"]
    result = assert_rejected(place, "-m", *words)
    first, second = result.err.split("'")[1::2]
    file.write_text(f"{first}\n{second.replace('VALUE,VALUE', '0.1,0.2')}\n")
    assert_planned(place, *words, cells=2)


def assert_planned(place: Path, *arguments: str, cells: int) -> None:
    result = run_here("-m", *arguments, "dry_run=true")
    assert result.status == 0, result
    assert result.out.startswith(f"{cells} cell")
    assert list((place / "work").iterdir()) == []


def test_own_lists_and_settings_work(place: Path) -> None:
    """A --config-dir adds lists of values, groups of settings and launchers with their keys."""
    files = {
        "grid/lr/mine.yaml": GLOBAL
        + "# ours\nhydra:\n  sweeper:\n    params:\n      lr: 0.5,0.25,0.125\n",
        "lab/big.yaml": GLOBAL + "defaults:\n  - override /optimizer: adam\nbatch: 512\n",
        "lab/two.yaml": GLOBAL + "defaults: [big]\nworkers: 2\n",
        "hydra/launcher/four.yaml": "defaults: [joblib]\nn_jobs: 4\n",
    }
    for name, content in files.items():
        path = place / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    folder = ["--config-dir", str(place / "configs")]
    assert_planned(place, *folder, "grid/lr=mine", "batch=32,64", cells=6)
    assert_planned(place, *folder, "+lab=big", "lr=0.1,0.2", cells=2)
    assert_planned(place, *folder, "+lab=two", cells=1)
    assert_planned(place, *folder, "hydra/launcher=four", "seed=0,1", cells=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["hydra/launcher=basic"],
        ["hydra/sweeper=basic"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.backend=loky"],
        ["+hydra.sweeper.params.lr='0.1,0.2'"],
    ],
)
def test_launchers_and_sweepers_can_be_set(place: Path, arguments: list[str]) -> None:
    """Launchers and sweepers can be selected and configured on the command line."""
    assert_planned(place, *arguments, "seed=0,1", cells=4 if "+" in arguments[0] else 2)
