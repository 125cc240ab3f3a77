"""Builds engine_check.cpp, which trains with the native engine without Python."""

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "lenet_sweep/training/engines/native"
FLAGS = ("-std=c++17", "-pthread", "-Wno-psabi", "-DLENET_ISA=baseline", f"-I{SOURCES}")


def build(compiler: str, program: Path, *flags: str) -> Path:
    check = Path(__file__).with_name("engine_check.cpp")
    sources = [check, SOURCES / "step.cpp", SOURCES / "threads.cpp"]
    command = [compiler, *FLAGS, *flags, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return program
