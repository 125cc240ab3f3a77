"""Builds the native engine: the same kernels once per instruction set, chosen from at run time.

Everything else about the package stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = Path("lenet_sweep/training/engines/native")
# No -ffast-math: a nan must stay one, since that is how a diverged run is noticed.
# Python's own flags let ints wrap around (-fwrapv), which costs the kernels 6%.
# -g0: debug information, which Python's flags ask for, is two thirds of the wheel.
FLAGS = [
    "-std=c++17", "-O3", "-g0", "-fno-wrapv", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi",
]  # fmt: skip
PROCESSORS = [platform.machine().lower()]
if sys.platform == "darwin":  # by default, a universal Python compiles for two processors at once
    PROCESSORS = os.environ.setdefault("ARCHFLAGS", f"-arch {PROCESSORS[0]}").split()[1::2]
X86 = all(processor in ("x86_64", "amd64") for processor in PROCESSORS)
INSTRUCTIONS = {"baseline": []}
if X86:
    # Just what binding.cpp asks the processor for before it chooses.
    AVX2 = ["-mavx2", "-mfma"]
    AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]
    INSTRUCTIONS |= {"avx2": AVX2, "avx512": AVX512}
SANITIZE = os.environ.get("LENET_SWEEP_SANITIZE", "").split()  # as in CONTRIBUTING.md


class BuildKernels(build_ext):
    """Compiles step.cpp for each instruction set before the rest of the extension."""

    def build_extension(self, ext: Extension) -> None:
        self.compiler.macros = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for objects in pool.map(self._compile_kernels, INSTRUCTIONS):
                ext.extra_objects += objects
        super().build_extension(ext)

    def _compile_kernels(self, instructions: str) -> list[str]:
        return self.compiler.compile(
            [str(FOLDER / "step.cpp")],
            output_dir=str(Path(self.build_temp) / instructions),
            macros=[("LENET_ISA", instructions)],
            depends=[str(path) for path in FOLDER.glob("*.?pp")],
            extra_postargs=["-fPIC", *FLAGS, *INSTRUCTIONS[instructions], *SANITIZE],
        )


setup(
    ext_modules=[
        Extension(
            "lenet_sweep.training.engines._native",
            [str(FOLDER / "binding.cpp"), str(FOLDER / "threads.cpp")],
            depends=[str(path) for path in FOLDER.glob("*.?pp")],
            define_macros=[("LENET_X86", "1")] if X86 else [],
            # pybind11's own extension class asks for a working compiler even where it may fail.
            include_dirs=[pybind11.get_include()],
            extra_compile_args=[*FLAGS, "-fvisibility=hidden", "-pthread", *SANITIZE],
            language="c++",
            extra_link_args=["-pthread", *SANITIZE],
            # Without a compiler, the torch engine is used. A wheel for others must have the engine.
            optional=not os.environ.get("LENET_SWEEP_REQUIRE_NATIVE"),
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
