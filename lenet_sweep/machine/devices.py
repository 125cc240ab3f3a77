"""Device detection, without importing torch on machines that have no accelerator."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

KINDS = ("cuda", "mps", "cpu")


@cache
def available_devices() -> tuple[str, ...]:
    """The kinds of devices available for training, best first; 'cpu' is always last."""
    if not accelerator_likely():
        return ("cpu",)
    import torch  # noqa: PLC0415 - takes seconds, and most laptops do not need it here

    accelerators = [
        kind
        for kind, available in (
            ("cuda", torch.cuda.is_available()),
            ("mps", torch.backends.mps.is_available()),
        )
        if available
    ]
    return (*accelerators, "cpu")


def visible_gpus() -> tuple[str, ...]:
    """The GPUs available to this process, as named in CUDA_VISIBLE_DEVICES."""
    import torch  # noqa: PLC0415 - takes seconds; only needed for GPUs

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return tuple(names[: torch.cuda.device_count()])


def default_workers(device: str) -> int:
    """The number of concurrent runs that fill this machine: one per core, or one per GPU."""
    if device == "cpu":
        return cpu_count()
    return max(1, len(visible_gpus())) if device == "cuda" else 1


def cpu_count() -> int:
    """The number of cores this process may use, by its CPU affinity and its cgroup quota."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max" (no quota)
        pass
    return cores


def accelerator_likely() -> bool:
    """Whether this machine may have an accelerator; True if that is not known."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if platform.system() == "Windows":
        return True  # there is no cheap check
    return any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
