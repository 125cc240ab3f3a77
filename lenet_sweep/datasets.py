"""Placeholder until the branch with the real module is merged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dataset:
    name: str
    digest: str
    limit: int | None = None


DATASETS = {"mnist": 1, "fashion_mnist": 1, "kmnist": 1}


def find_dataset(name: str, root: Path | None, limit: int | None) -> Dataset:
    return Dataset(name, "0" * 64, limit)
