"""Builds the native engine: the same kernels once per instruction set, chosen from at run time.

Everything else about the package stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = Path("lenet_sweep/training/engines/native")
# No -ffast-math: a nan must stay one, since that is how a diverged run is noticed.
# Python's own flags let ints wrap around (-fwrapv), which costs the kernels 6 %.
FLAGS = ["-std=c++17", "-O3", "-fno-wrapv", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
X86 = platform.machine().lower() in ("x86_64", "amd64")
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
        for name, flags in INSTRUCTIONS.items():
            self.compiler.macros = []
            ext.extra_objects += self.compiler.compile(
                [str(FOLDER / "step.cpp")],
                output_dir=str(Path(self.build_temp) / name),
                macros=[("LENET_ISA", name)],
                depends=[str(path) for path in FOLDER.glob("*.?pp")],
                extra_postargs=["-fPIC", *FLAGS, *flags, *SANITIZE],
            )
        super().build_extension(ext)


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
            optional=True,  # without a compiler the torch engine serves
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
