"""Low-rank compression: a layer replaced by the nearest matrix of smaller rank, as if split into two thinner layers.

A mark spread over all singular directions loses what the small ones carry; one spread like the weights hardly notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.pruning import count_of
from onnxmark.attacks.saturation import saturated


@dataclass(frozen=True, slots=True)
class LowRank(Attack):
    """Drop the smallest singular values of the layer as a matrix (out, in / group * spatial).

    Of n singular values ``round(fraction * n)`` go (halves to even), but the largest stays: a layer of rank 0 is
    nobody's compression. What is left is the nearest matrix of its rank (Eckart and Young 1936).

    Args:
        fraction: Part of the singular values to drop, 0 to 1.
    """

    name: ClassVar[str] = "low-rank"
    summary: ClassVar[str] = "drop the smallest singular values of the layer; fraction of them, 0 to 1"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

    fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the fraction of singular values to drop must be from 0 to 1, found {self.fraction!r}")

    @property
    def label(self) -> str:
        """``low rank, singular values dropped 50 %``."""
        return f"low rank, singular values dropped {100 * self.fraction:.10g} %"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        matrix = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float64)
        n_dropped = count_of(self.fraction, min(matrix.shape))
        if n_dropped == 0:
            return values.copy()
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        rank = max(1, len(wide) - n_dropped)
        kept = _leading(wide, rank)
        near = kept @ (kept.T @ wide)
        return saturated(near if wide is matrix else near.T).reshape(values.shape)


def _leading(wide: Float64Array, rank: int) -> Float64Array:
    """The ``rank`` leading left singular vectors of a matrix (n, width), n <= width, as columns.

    From the eigenvectors of its Gram matrix, several times faster than a decomposition of the whole. What that loses
    lies below 1e-8 of the largest singular value, and so below the last bit of float32.
    """
    largest = float(np.abs(wide).max())
    scaled = wide / largest if largest > 0 else wide
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
