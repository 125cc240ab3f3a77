"""Rules for imports: the order of the subpackages, and modules that must stay fast to import."""

import ast
import inspect
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

import lenet_sweep
from lenet_sweep.config import keys

PACKAGE = Path(lenet_sweep.__file__).parent

# A subpackage imports only from itself and from those before it.
SUBPACKAGES = (
    "core", "storage", "machine", "data", "config", "training", "executors", "results", "clean",
    "search", "analysis", "report", "inference", "predict", "export", "ui", "serve", "track",
    "runner", "api", "cli", "hydra_plugins", "__main__",
)  # fmt: skip
# Only these subpackages import Hydra and OmegaConf; the others get plain values.
HYDRA = ("cli", "hydra_plugins")


def modules() -> dict[str, Path]:
    """The modules of the package by their names inside it, such as "core.cells"."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            paths[".".join(p for p in parts if p != "__init__")] = path
    return paths


def subpackage_of(module: str) -> str:
    return module.partition(".")[0]


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, including imports inside functions.

    The subpackage `hydra_plugins` is installed, and imported, as a package of its own.
    """
    found = set()  # modules, and names in modules
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    names = set()
    for name in found:
        first, _, inside = name.partition(".")
        if first in ("lenet_sweep", "hydra_plugins"):
            inside = inside if first == "lenet_sweep" else name
            names.add(inside if inside in modules() else inside.rpartition(".")[0])
    return names - {""}


def test_every_subpackage_is_installed() -> None:
    """pyproject.toml lists each subpackage, so that an installed copy is complete."""
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    listed = set(tomllib.loads(text)["tool"]["setuptools"]["packages"])
    for path in PACKAGE.rglob("__init__.py"):
        name = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        assert name in listed or "hydra_plugins" in name, name


def test_every_module_is_in_a_subpackage() -> None:
    """Every module of the package belongs to a subpackage of the list."""
    assert {subpackage_of(name) for name in modules()} == set(SUBPACKAGES)


@pytest.mark.parametrize("name", modules())
def test_a_subpackage_imports_only_those_before_it(name: str) -> None:
    """The order of the subpackages also holds for imports inside functions."""
    own = SUBPACKAGES.index(subpackage_of(name))
    for other in imported(modules()[name]):
        assert SUBPACKAGES.index(subpackage_of(other)) <= own, f"{name} imports {other}"


IN_OTHER_WORDS = ("core", "storage", "machine", "cli", "hydra_plugins")


@pytest.mark.parametrize(
    "name", [n for n in SUBPACKAGES if (PACKAGE / n).is_dir() and n not in IN_OTHER_WORDS]
)
def test_the_docstring_of_a_subpackage_says_what_it_may_import(name: str) -> None:
    """The last subpackage before it is named."""
    before = SUBPACKAGES[SUBPACKAGES.index(name) - 1]
    text = " ".join((PACKAGE / name / "__init__.py").read_text().split())
    assert f"May import every subpackage from core to {before}." in text


@pytest.mark.parametrize("name", SUBPACKAGES[:-3])
def test_a_subpackage_has_no_circular_imports(name: str) -> None:
    """Modules of a subpackage import each other in one direction, except for pairs in `late`."""
    inside = {m: imported(p) for m, p in modules().items() if subpackage_of(m) == name}
    late = {
        ("training.engines", "training.engines.native_engine"),
        ("training.engines", "training.engines.torch_engine"),
        ("training.engines.support", "training.engines"),  # the extension module inside it
    }
    edges = {m: {o for o in to if o in inside and (m, o) not in late} for m, to in inside.items()}
    while leaves := [m for m, to in edges.items() if not to & edges.keys()]:
        for module in leaves:
            del edges[module]
    assert not edges


@pytest.mark.parametrize(
    "name", [n for n in modules() if subpackage_of(n) not in (*HYDRA, "config")]
)
def test_only_the_command_line_imports_hydra(name: str) -> None:
    """All other subpackages work with plain values instead of objects of Hydra or OmegaConf."""
    text = modules()[name].read_text()
    assert "omegaconf" not in text
    assert "import hydra" not in text


def test_pandas_is_imported_after_the_runs_have_started() -> None:
    """pandas takes as long to import as everything else, and only the table needs it."""
    code = "import lenet_sweep.cli.commands, sys; "
    code += "assert not {'pandas', 'scipy', 'optuna'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_background_imports_skip_broken_modules_and_stop_at_the_end() -> None:
    """Leaving the `with` waits for the import in progress, and no other import starts."""
    code = (
        "import sys; from lenet_sweep.runner.background_imports import import_in_background\n"
        "with import_in_background(['nowhere', 'wave', 'colorsys']):\n"
        "    while 'colorsys' not in sys.modules: pass\n"
        "assert 'wave' in sys.modules\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "with import_in_background(['slowly', 'never']):\n"
        "    while 'slowly' not in sys.modules: pass\n"
        "assert sys.modules['slowly'].done and 'never' not in sys.modules\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "slowly.py").write_text("import time; time.sleep(0.2); done = True")
        (Path(folder) / "never.py").write_text("")
        subprocess.run([sys.executable, "-c", code, folder], check=True)


def test_the_package_lists_its_public_names() -> None:
    """dir() and completion show the public names and the version before their first use."""
    code = (
        "import lenet_sweep, importlib.metadata as m\n"
        "names = {'sweep', 'analyse', 'load_model', 'load_results', 'Cell', 'LeNet5', 'Observer'}\n"
        "assert names <= {*dir(lenet_sweep)}\n"
        "assert lenet_sweep.__version__ == m.version('lenet-sweep')\n"
        "assert '__version__' in dir(lenet_sweep)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sweep_has_a_keyword_for_every_key() -> None:
    """Editors complete all keys of conf/config.yaml, and no others."""
    parameters = set(inspect.signature(lenet_sweep.sweep).parameters)
    others = {"progress", "observers", "settings", "study", "recipe"}
    assert parameters - others == set(keys.defaults())


@pytest.mark.parametrize(
    "module", ["lenet_sweep", "lenet_sweep.cli.main", "lenet_sweep.cli.commands", "lenet_sweep.api"]
)
def test_importing_the_package_does_not_import_torch(module: str) -> None:
    """The command line and the Python interface start without torch, which takes seconds."""
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sweep_without_trackers_imports_no_tracking_library() -> None:
    """Neither does the check of a value of `tracker`. These libraries take seconds."""
    code = (
        "import sys, lenet_sweep.runner.outputs, lenet_sweep.track.__main__\n"
        "from lenet_sweep.config import trackers\n"
        "for name in trackers.BUILT_IN: trackers.parse_trackers('tracker', name)\n"
        "for name in trackers.BUILT_IN: trackers.TRACKERS.find(name)\n"
        "assert not {'tensorboard', 'mlflow', 'optuna', 'sqlalchemy'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
