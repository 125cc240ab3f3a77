"""A cache of test images, which reads those of each dataset once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data import datasets
from lenet_sweep.data.images import LabeledImages


@dataclass
class ImageCache:
    """The test images of each dataset, read on first use.

    `missing` lists the datasets that could not be loaded, one line with the reason for each.
    read_only: as for `load_dataset`.
    """

    read_only: bool = False
    missing: dict[str, None] = field(default_factory=dict)
    _cache: dict[tuple[str, int, Path | None], LabeledImages | None] = field(default_factory=dict)

    def get(self, dataset: Dataset, data_root: Path | None) -> LabeledImages | None:
        """The test images of a dataset; None if they cannot be loaded."""
        key = (dataset.digest, dataset.classes, data_root)
        if key not in self._cache:
            try:
                self._cache[key] = datasets.load_test_images(
                    dataset, data_root, read_only=self.read_only
                )
            except (DataError, UsageError) as error:
                self.missing[f"{dataset.name}: {str(error).splitlines()[0]}"] = None
                self._cache[key] = None
        return self._cache[key]
