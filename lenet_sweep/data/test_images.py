"""The test images that a table's cells saw, each dataset's read once."""

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
    """The test images of a dataset: (N, 28, 28) and (N,), uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass
class ImageCache:
    """Test images by dataset, each read once. `missing`: why some could not be had, a line each."""

    missing: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[str, Path | None], LabeledImages | None] = field(default_factory=dict)

    def get(self, dataset: Dataset, data_root: Path | None) -> LabeledImages | None:
        """The test images that a cell of this dataset saw; None where they are not here."""
        key = (dataset.digest, data_root)
        if key not in self._known:
            try:
                self._known[key] = LabeledImages(*datasets.load_test_images(dataset, data_root))
            except (DataError, UsageError) as error:
                self.missing[f"{dataset.name}: {str(error).splitlines()[0]}"] = None
                self._known[key] = None
        return self._known[key]
