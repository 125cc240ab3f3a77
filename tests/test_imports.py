"""The one-way flow: what each module may import, and where torch stays out."""

import ast
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lenet_sweep
from lenet_sweep.config import keys

PACKAGE = Path(lenet_sweep.__file__).parent

# A room imports only from itself and from the rooms above it.
ROOMS = (
    "core", "storage", "machine", "data", "config", "training", "executors", "results", "analysis",
    "report", "ui", "runner", "api", "cli", "hydra_plugins", "__main__",
)  # fmt: skip
# Only these see Hydra: everything below the command line gets plain values.
HYDRA = ("cli", "hydra_plugins")


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, also those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lenet_sweep"):
            inside = node.module.removeprefix("lenet_sweep").lstrip(".")
            for alias in node.names:
                full = f"{inside}.{alias.name}".lstrip(".")
                names.add(full if full in modules() else inside)
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("lenet_sweep.")
                for alias in node.names
                if alias.name.startswith("lenet_sweep.")
            }
    return names - {""}


def test_every_module_is_in_a_room() -> None:
    """The package itself holds only its public interface."""
    assert {room(name) for name in modules()} == set(ROOMS)


@pytest.mark.parametrize("name", modules())
def test_a_room_imports_only_rooms_below_it(name: str) -> None:
    """Data flows one way, also through imports inside functions."""
    own = ROOMS.index(room(name))
    for other in imported(modules()[name]):
        assert ROOMS.index(room(other)) <= own, f"{name} imports {other}"


@pytest.mark.parametrize("name", ROOMS[:-3])
def test_the_modules_of_a_room_do_not_import_each_other_in_a_circle(name: str) -> None:
    """Within a room, too, there is an order; imports inside functions are for what is optional."""
    inside = {m: imported(p) for m, p in modules().items() if room(m) == name}
    late = {
        ("training.engines", "training.engines.native_engine"),
        ("training.engines", "training.engines.torch_engine"),
        ("training.engines.support", "training.engines"),  # the extension module inside it
    }
    arrows = {m: {o for o in to if o in inside and (m, o) not in late} for m, to in inside.items()}
    while free := [m for m, to in arrows.items() if not to & arrows.keys()]:
        for module in free:
            del arrows[module]
    assert not arrows


@pytest.mark.parametrize("name", [n for n in modules() if room(n) not in (*HYDRA, "config")])
def test_only_the_command_line_sees_hydra(name: str) -> None:
    """Every other room works with plain values, never with Hydra's or OmegaConf's objects."""
    text = modules()[name].read_text()
    assert "omegaconf" not in text
    assert "import hydra" not in text


def test_a_sweep_begins_without_what_only_its_table_needs() -> None:
    """pandas takes as long to import as all else together: runs have begun by then."""
    code = "import lenet_sweep.cli.commands, sys; assert not {'pandas', 'scipy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_imported_ahead_is_there_and_what_is_not_is_no_matter() -> None:
    """Leaving waits for the module at hand and begins no other; a broken one is someone else's."""
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


def test_the_package_lists_what_it_offers() -> None:
    """dir() and completion see the public names before any of them is used, and the version."""
    code = (
        "import lenet_sweep, importlib.metadata as m\n"
        "assert {'sweep', 'analyse', 'load_results', 'Cell', 'LeNet5'} <= {*dir(lenet_sweep)}\n"
        "assert lenet_sweep.__version__ == m.version('lenet-sweep')\n"
        "assert '__version__' in dir(lenet_sweep)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sweep_has_a_keyword_for_every_key() -> None:
    """Editors complete the keys of conf/config.yaml, and nothing that is no key."""
    parameters = set(inspect.signature(lenet_sweep.sweep).parameters)
    assert parameters - {"progress", "settings", "study", "recipe"} == set(keys.defaults())


@pytest.mark.parametrize(
    "module", ["lenet_sweep", "lenet_sweep.cli.main", "lenet_sweep.cli.commands", "lenet_sweep.api"]
)
def test_torch_is_not_imported_where_nothing_is_trained(module: str) -> None:
    """The command line and the Python interface start without the seconds that torch takes."""
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
