"""Which devices this machine has, found without importing torch where there is no accelerator."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

KINDS = ("cuda", "mps", "cpu")  # in the order in which device=auto prefers them


@cache
def available_devices() -> tuple[str, ...]:
    """The device kinds that can be trained on here, best first; 'cpu' is always the last."""
    if not _accelerator_likely():
        return ("cpu",)
    import torch  # noqa: PLC0415 - takes seconds, and most laptops never get here

    found = [
        kind
        for kind, is_there in (
            ("cuda", torch.cuda.is_available()),
            ("mps", torch.backends.mps.is_available()),
        )
        if is_there
    ]
    return (*found, "cpu")


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that runs can be spread over, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # noqa: PLC0415 - see above

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return tuple(names[: torch.cuda.device_count()])


def default_workers(device: str) -> int:
    """How many runs at the same time fill this machine: one per core, or per GPU."""
    if device == "cpu":
        return cpu_count()
    return max(1, len(visible_gpus())) if device == "cuda" else 1


def cpu_count() -> int:
    """Cores this process may use, by its affinity and its control group's quota."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        pass
    return cores


def _accelerator_likely() -> bool:
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if platform.system() == "Windows":
        return True  # no cheap sign to look for
    return any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
