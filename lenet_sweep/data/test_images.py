"""A cache of test images, which reads those of each dataset once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Dataset
from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.data import datasets


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Test images (N, 28, 28) and their labels (N,), both uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass
class ImageCache:
    """The test images of each dataset, read on first use.

    `missing` lists the datasets that could not be loaded, one line with the reason for each.
    """

    missing: dict[str, None] = field(default_factory=dict)
    _cache: dict[tuple[str, Path | None], LabeledImages | None] = field(default_factory=dict)

    def get(self, dataset: Dataset, data_root: Path | None) -> LabeledImages | None:
        """The test images of a dataset; None if they cannot be loaded."""
        key = (dataset.digest, data_root)
        if key not in self._cache:
            try:
                self._cache[key] = LabeledImages(*datasets.load_test_images(dataset, data_root))
            except (DataError, UsageError) as error:
                self.missing[f"{dataset.name}: {str(error).splitlines()[0]}"] = None
                self._cache[key] = None
        return self._cache[key]
