"""Installations from a wheel, without a compiler, and hidden by a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import results


@pytest.fixture
def small(small_folder) -> list[str]:
    return ["dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "epochs=1"]


@pytest.mark.slow
def test_installation_without_compiler_uses_torch(tmp_path, small) -> None:
    """Without a C++ compiler, the package installs, and a line says that torch trains."""
    project = Path(__file__).parent.parent
    source, wheels = tmp_path / "source", tmp_path / "wheel"
    ignore = shutil.ignore_patterns(".git", ".venv*", "build", "outputs", "*.so", "*.egg-info")
    shutil.copytree(project, source, ignore=ignore)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels]
    no_compiler = os.environ | {"CC": "/bin/false", "CXX": "/bin/false"}
    subprocess.run([*build, source], check=True, cwd=tmp_path, env=no_compiler)
    (wheel,) = wheels.glob("*.whl")
    assert not [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".so")]
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", "-m", "lr=0.1,0.01", *small, "figures=none"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.count("using torch: this installation has no native engine") == 1
    assert set(results(tmp_path)["engine"]) == {"torch"}


def test_checkout_that_hides_installation_is_reported(tmp_path, small) -> None:
    """After `pip install .`, a sweep in the clone's folder says what is imported and the fix."""
    clone, site = tmp_path / "clone", tmp_path / "site"
    project = Path(__file__).parent.parent
    for name in ("lenet_sweep", "conf"):
        shutil.copytree(project / name, clone / name, ignore=shutil.ignore_patterns("_native.*.*"))
    installed = site / "lenet_sweep" / "training" / "engines"
    installed.mkdir(parents=True)
    (installed / f"_native{EXTENSION_SUFFIXES[0]}").touch()
    done = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", "-m", "lr=0.1,0.01", *small, "dry_run=true"],
        cwd=clone, env=os.environ | {"PYTHONPATH": str(site), "COLUMNS": "1000"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if "using torch" in line)
    for text in (
        f"imports {clone / 'lenet_sweep'}, which has no native engine",
        f"instead of the installed {site / 'lenet_sweep'}",
        "current folder first",
        "run from another folder",
        f"pip install -e {clone}",
    ):
        assert text in line


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("build") and find_spec("twine")), reason="needs build and twine")
def test_distributions_are_complete(tmp_path, small) -> None:
    """The wheel, built from the source distribution, runs a sweep without the checkout."""
    dist = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--outdir", dist, Path(__file__).parent.parent]
    subprocess.run(build, check=True, env=os.environ | {"LENET_SWEEP_REQUIRE_NATIVE": "1"})
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir()], check=True
    )
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "lenet_sweep/py.typed",
        "lenet_sweep/conf/config.yaml",
        "lenet_sweep/analysis/conclusions.py",
        "lenet_sweep/report/templates/page.html.jinja",
        "lenet_sweep/report/templates/table.js",
        "lenet_sweep/report/templates/style.css",
        "lenet_sweep/conf/grid/lr/report.yaml",
        "hydra_plugins/_lenet_sweep.py",
    } <= set(names)
    assert not [name for name in names if name.endswith((".cpp", ".hpp"))]
    assert [name for name in names if name.startswith("lenet_sweep/training/engines/_native.c")]
    assert (
        "hydra_plugins/__init__.py" not in names
    )  # a namespace package, shared with other plugins
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    start = (
        "import lenet_sweep, sys; assert lenet_sweep.__file__.startswith(sys.argv[1]); "
        "from lenet_sweep.__main__ import main; sys.argv[1:] = sys.argv[2:]; main()"
    )
    subprocess.run(
        [sys.executable, "-c", start, str(site), "-m", "lr=0.1,0.01", *small],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, check=True,
    )  # fmt: skip
    assert len(results(tmp_path)) == 2
    assert next(tmp_path.glob("outputs/sweeps/*/report.html")).read_text().endswith("</html>")
