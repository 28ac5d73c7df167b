"""Labelled images as the readers give them: bytes, because four times as many floats say nothing more."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Int64Array, frozen
from onnxmark.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Images and what they show.

    Args:
        images: Shape (N, C, H, W), uint8, brightness 0 to 255; read-only from here on.
        labels: Shape (N,), int64, indices into ``class_names``; read-only from here on.
        class_names: What each class is called.

    Raises:
        DataError: Images and labels do not belong together, there are none, or a label names no class.
    """

    images: NDArray[np.uint8]
    labels: Int64Array
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DataError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {self.images.shape}")
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64 or not self.labels.size:
            raise DataError(
                f"labels must be int64, one for each of the {len(self.images)} images (at least 1), "
                f"not {self.labels.dtype} of shape {self.labels.shape}"
            )
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            found = f"{self.labels.min()} to {self.labels.max()}"
            raise DataError(f"labels go from {found}, but there are {len(self.class_names)} classes, from 0")
        frozen(self.images)
        frozen(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Examples:
        """The first ``count`` examples, from 1 to all of them; they share memory with the rest.

        Raises:
            ValueError: There are not so many.
        """
        if not 1 <= count <= len(self):
            raise ValueError(f"asked for the first {count} of {len(self)} examples")
        return replace(self, images=self.images[:count], labels=self.labels[:count])


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """The two parts every task needs.

    Args:
        training: To learn from.
        test: To judge by.
    """

    training: Examples
    test: Examples
