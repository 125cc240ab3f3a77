"""The native engine on processors and systems that this machine does not have."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import engine_check
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not find_spec("ziglang"), reason="needs the compiler of the package ziglang")
@pytest.mark.parametrize("source", ["step.cpp", "threads.cpp"])
@pytest.mark.parametrize("target", ["aarch64-macos", "x86_64-macos", "x86_64-windows-gnu"])
def test_engine_compiles_for_other_systems(tmp_path: Path, target: str, source: str) -> None:
    """The sources are valid for Clang and the headers of the system, without a warning."""
    compiler = [sys.executable, "-m", "ziglang", "c++", "-target", target]
    flags = ["-O1", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-c"]
    subprocess.run(
        [*compiler, *engine_check.FLAGS, *flags, engine_check.SOURCES / source,
         "-o", tmp_path / "object"],
        check=True, env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip


@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-g++")),
    reason="needs qemu-user and g++-aarch64-linux-gnu",
)
def test_aarch64_agrees_with_this_processor(tmp_path: Path) -> None:
    """An emulated AArch64 gives the same results, also with several threads, up to rounding."""
    results = []
    for compiler, emulator in (("c++", []), ("aarch64-linux-gnu-g++", ["qemu-aarch64"])):
        program = engine_check.build(compiler, tmp_path / compiler, "-O3", "-static")
        done = subprocess.run(
            [*emulator, program, tmp_path / "results"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr
        results.append(np.fromfile(tmp_path / "results", np.float32))
    here, there = results
    assert len(here) > 4 * 60_000  # the parameters of each case
    np.testing.assert_allclose(there, here, rtol=0, atol=5e-4)
    assert not np.array_equal(here, there)  # the instructions differ
