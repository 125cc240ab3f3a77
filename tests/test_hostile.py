"""Hostile files of a --config-dir: nothing is run, read, or written for them."""

from pathlib import Path

import pytest
from command_lines import Said, typed

SECRET = "correct-horse-battery-staple"  # noqa: S105 - what must not be seen anywhere
# In all below, CANARY is a path outside the output folder that nothing may create.

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
GLOBAL = "# @package _global_\n"
GRID = GLOBAL + "hydra: {sweeper: {params: {lr: '1,2'}}}\n"
FILES = [
    # Tags that make Python objects, and references that grow.
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
    # Filling in.
    *(GLOBAL + f"{key}: {value}" for key in ("person", "out", "name") for value in (
        "${oc.env:LENET_SECRET}", "a${oc.decode:${oc.env:LENET_SECRET}}", "${oc.create:{a: 1}}",
        "${hydra:runtime.cwd}", "${now:%Y}", "${person}", "[{a: '${oc.env:LENET_SECRET}'}]")),
    "${oc.env:LENET_SECRET}: 1",
    "defaults: [{/optimizer: '${oc.env:LENET_SECRET}'}]",
    "defaults: ['${oc.env:LENET_SECRET}']",
    # What Hydra would call.
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
    # Somewhere else in the configuration, or another file altogether.
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
    # Keys and values that are not lenet-sweep's.
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
    """A folder to be in, beside which nothing may appear, and a secret in the environment."""
    monkeypatch.setenv("LENET_SECRET", SECRET)
    (tmp_path / "work").mkdir()
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def refused(place: Path, *arguments: str) -> Said:
    """Type it; it must be refused in one line and leave no trace."""
    before = sorted(place.rglob("*"))
    said = typed(*(argument.replace("CANARY", str(place / "canary")) for argument in arguments))
    assert sorted(place.rglob("*")) == before
    assert SECRET not in said.out + said.err
    assert said.status == 2, said
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()
    assert said.out == ""
    assert said.warned == ()
    return said


FLAGS = [
    (["--config-path", "/"], "would replace the settings"),
    (["--config-name", "/etc/passwd"], "would replace the settings"),
    (["--experimental-rerun", "CANARY"], "nothing is unpickled here"),
    (["-m", "hydra.sweeper.max_batch_size=2"], "the grid is planned as a whole"),
    (["-m", "hydra.sweep.dir=CANARY", "name=x"], "both choose the sweep's folder"),
    (["hydra.run.dir=CANARY", "lr=abc"], "lr=abc: must be"),  # Hydra would have made it
    (["hydra.searchpath=[pkg://antigravity]"], "must be a folder"),
    (["grid/lr=../../x", "-m"], "no paths here"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "why"), FLAGS)
def test_what_would_break_a_promise_is_refused_with_the_promise(
    place: Path, arguments: list[str], why: str
) -> None:
    """Of what is typed only this is not the user's own choice."""
    assert why in refused(place, *arguments).err


@pytest.mark.parametrize("content", FILES, ids=lambda text: text[-60:])
def test_nothing_hostile_in_a_file_is_acted_on(place: Path, content: str) -> None:
    """Nor does a list of values that someone was given, used with --config-dir."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    refused(place, "-m", "--config-dir", str(place / "configs"), "grid/lr=mine")


@pytest.mark.parametrize("content", FILES, ids=lambda text: text[-60:])
def test_nothing_hostile_in_a_file_of_settings_is_acted_on(place: Path, content: str) -> None:
    """The same files in a group of one's own, which need not have the form of a list."""
    file = place / "configs" / "mine" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    refused(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


@pytest.mark.parametrize("name", ["/{place}/other", "../../../other", "/../other"])
def test_a_file_brings_in_no_file_from_outside_its_folder(place: Path, name: str) -> None:
    """Only what is below a folder is checked, so a defaults list does not leave it."""
    canary = place / "canary"
    call = f"{{_target_: logging.FileHandler, filename: '{canary}'}}"
    (place / "other.yaml").write_text(GLOBAL + f"hydra: {{callbacks: {{x: {call}}}}}")
    file = place / "configs" / "mine" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"defaults: [{name.format(place=place)}]")
    refused(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


@pytest.mark.parametrize("content", FILES[::8], ids=lambda text: text[-60:])
def test_nothing_hostile_in_a_file_of_the_search_path_is_acted_on(place, content: str) -> None:
    """hydra.searchpath is a --config-dir too."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    refused(place, "-m", f"hydra.searchpath=[{place / 'configs'}]", "grid/lr=mine")


def test_a_config_folder_that_is_not_there(place: Path) -> None:
    """A slip in the folder's name is told as one, with the name."""
    said = refused(place, "-m", "--config-dir", str(place / "confgs"), "lr=0.1")
    assert f"--config-dir {place / 'confgs'}: there is no such folder" in said.err


@pytest.mark.parametrize(("name", "content"), PLACES)
def test_no_file_takes_the_place_of_another(place: Path, name: str, content: str) -> None:
    """A --config-dir does not replace what Hydra or lenet-sweep themselves are made of."""
    file = place / "configs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content.replace("CANARY", str(place / "canary")))
    refused(place, "-m", "--config-dir", str(place / "configs"), "lr=0.1,0.2")


def test_a_file_is_not_quoted(place: Path) -> None:
    """What cannot be read as settings is not shown: it may be a file that nobody meant."""
    (place / "configs" / "mine").mkdir()
    for content in (
        f"{SECRET}",
        f"a: [{SECRET}",
        f"# @{SECRET} a b c",
        f"a: *{SECRET}",
        f"a: !{SECRET} 1",
    ):
        (place / "configs" / "mine" / "x.yaml").write_text(content)
        refused(place, "-m", "--config-dir", str(place / "configs"), "+mine=x")


def test_a_list_of_values_names_no_setting_of_hydras(place: Path) -> None:
    """The keys of a list are checked as if they were typed, and named in the message."""
    file = place / "configs" / "grid" / "lr" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(GLOBAL + "hydra: {sweeper: {params: {'++hydra.job.env_copy': '[HOME]'}}}")
    said = refused(place, "-m", "--config-dir", str(place / "configs"), "grid/lr=mine")
    assert ": ++hydra.job.env_copy: a list of values is for a key of" in said.err


@pytest.mark.parametrize(
    "content",
    ["[0.1, 0.2]", "0.1,0.2", "lr: 0.1,0.2", GLOBAL + "lr: [0.1, 0.2]", "",
     GLOBAL + "hydra: {sweeper: {params: {lr: [0.1, 0.2]}}}",
     GLOBAL + "hydra: {sweeper: {params: [0.1, 0.2]}}",
     "hydra: {sweeper: {params: {lr: '0.1,0.2'}}}"],
)  # fmt: skip
def test_a_list_in_another_form_is_answered_with_the_right_one(place: Path, content: str) -> None:
    """The message has the two lines that such a file consists of, and they work."""
    file = place / "configs" / "grid" / "lr" / "wide.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    words = ["--config-dir", str(place / "configs"), "grid/lr=wide"]
    said = refused(place, "-m", *words)
    first, second = said.err.split("'")[1::2]
    file.write_text(f"{first}\n{second.replace('VALUE,VALUE', '0.1,0.2')}\n")
    planned(place, *words, cells=2)


def planned(place: Path, *arguments: str, cells: int) -> None:
    said = typed("-m", *arguments, "dry_run=true")
    assert said.status == 0, said
    assert said.out.startswith(f"{cells} cell")
    assert list((place / "work").iterdir()) == []


def test_lists_and_settings_of_ones_own_are_taken(place: Path) -> None:
    """A --config-dir adds lists of values, groups of settings and launchers with their fields."""
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
    planned(place, *folder, "grid/lr=mine", "batch=32,64", cells=6)
    planned(place, *folder, "+lab=big", "lr=0.1,0.2", cells=2)
    planned(place, *folder, "+lab=two", cells=1)
    planned(place, *folder, "hydra/launcher=four", "seed=0,1", cells=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["hydra/launcher=basic"],
        ["hydra/sweeper=basic"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.backend=loky"],
        ["+hydra.sweeper.params.lr='0.1,0.2'"],
    ],
)
def test_launchers_and_sweepers_are_chosen_and_set(place: Path, arguments: list[str]) -> None:
    """What the allow-list leaves of Hydra's own settings works."""
    planned(place, *arguments, "seed=0,1", cells=4 if "+" in arguments[0] else 2)
