"""The one-way flow: what each module may import, and where torch stays out."""

import ast
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lenet_sweep
from lenet_sweep import keys

PACKAGE = Path(lenet_sweep.__file__).parent

# A module imports only from lines above its own.
ORDER = """
errors files ahead output
recipes suggestions
devices
known idx
download
datasets
cells image_sets
keys
engines.choice
studies
config
store
events
interrupts
model
engines.initial
engines
engines.torch_engine engines.native_engine
training
executors
executors.turns
executors.local executors.worker
executors.job
executors.cluster
resources
executors.slurm executors.ray_tasks
provenance
latex
results
style scales
figures samples
gallery
estimate
tally
analysis
analysis.axes analysis.student
analysis.statistics
analysis.reproduction
analysis.loading analysis.marks
analysis.factors analysis.doubt
analysis.effects analysis.grid_doubts analysis.course_doubts
analysis.doubts
analysis.claims
analysis.conclusions
report
report.scale report.sprites report.svg report.gather
report.units
report.rows
report.groups report.atlas report.charts report.surety
report.page
report.files
report.__main__
notebook
live
tables
views
sweeping
api
hydra_glue guard
guard.typed
guard.plain_files
guard.composed
commands
command_line
__main__
""".strip().splitlines()
LEVELS = {name: level for level, line in enumerate(ORDER) for name in line.split()}
# Imported when it is needed and not before, against the order: the base must choose its engine.
LATE = {
    ("engines", "engines.torch_engine"),
    ("engines", "engines.native_engine"),
    ("engines.choice", "engines"),  # the extension inside it, which may not be there
}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("hydra_plugins", "__init__"):
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imported(path: Path) -> set[str]:
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
    return names


def test_every_module_has_its_place() -> None:
    """A new module is put somewhere in the order, and a removed one out of it."""
    assert set(modules()) == set(LEVELS)


@pytest.mark.parametrize("name", LEVELS)
def test_data_flows_one_way(name: str) -> None:
    """Nothing imports what stands at its own level or below."""
    for other in imported(modules()[name]):
        assert LEVELS[other] < LEVELS[name] or (name, other) in LATE, f"{name} imports {other}"


@pytest.mark.parametrize("name", [n for n in LEVELS if LEVELS[n] > LEVELS["config"]])
def test_hydras_configs_end_at_the_edge(name: str) -> None:
    """Below the command line nothing sees Hydra or OmegaConf, only plain values."""
    if name.partition(".")[0] not in ("hydra_glue", "guard", "commands", "command_line"):
        text = modules()[name].read_text()
        assert "omegaconf" not in text
        assert "import hydra" not in text


def test_a_sweep_begins_without_what_only_its_table_needs() -> None:
    """pandas takes as long to import as all else together: runs have begun by then."""
    code = "import lenet_sweep.commands, sys; assert not {'pandas', 'scipy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_imported_ahead_is_there_and_what_is_not_is_no_matter() -> None:
    """Leaving waits for the module at hand and begins no other; a broken one is someone else's."""
    code = (
        "import sys; from lenet_sweep.ahead import importing\n"
        "with importing(['nowhere', 'wave', 'colorsys']):\n"
        "    while 'colorsys' not in sys.modules: pass\n"
        "assert 'wave' in sys.modules\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "with importing(['slowly', 'never']):\n"
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
    "module", ["lenet_sweep", "lenet_sweep.command_line", "lenet_sweep.commands", "lenet_sweep.api"]
)
def test_torch_is_not_imported_where_nothing_is_trained(module: str) -> None:
    """The command line and the Python interface start without the seconds that torch takes."""
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
