"""K-means clustering: weights share a small codebook ("trained quantisation" before the training).

Han, Mao, Dally: Deep Compression (ICLR 2016, arXiv 1510.00149), section 3: one codebook a layer, centroids initialised
linearly between the extremes, and only the weights that survived pruning are clustered: zeros stay zero. The paper uses
8 bits for convolutions and 5 for dense layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array, Int64Array
from onnxmark.attacks.attack import Attack, Means

MAX_BITS: Final = 16
ROUNDS: Final = 300


@dataclass(frozen=True, slots=True)
class KMeansClustering(Attack):
    """Replace each non-zero weight by the nearest of 2^bits centroids, after Lloyd's algorithm in one dimension.

    Centroid j starts at min + j (max - min) / (2^bits - 1), over the non-zero weights. A centroid nobody is nearest to
    stays where it is; ties go to the lower centroid. Rounds end early once no weight changes its centroid.

    Args:
        bits: Bits an index into the codebook, 1 to 16.
        rounds: Rounds of Lloyd's algorithm at the most, 1 or more. A tool that stops early leaves a visibly different
            codebook: with 2 bits the outermost centroids are slow to come in.
    """

    name: ClassVar[str] = "cluster"
    summary: ClassVar[str] = "replace non-zero weights by 2^bits k-means centroids; bits an index, 1 to 16"
    strengths: ClassVar[tuple[int, ...]] = (8, 6, 5, 4, 3, 2, 1)

    bits: int
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be a whole number from 1 to {MAX_BITS}, found {self.bits!r}")
        if type(self.rounds) is not int or self.rounds < 1:
            raise ValueError(f"rounds must be a whole number from 1, found {self.rounds!r}")

    @property
    def label(self) -> str:
        """``k-means clustering 4 bit``."""
        return f"k-means clustering {self.bits} bit" + ("" if self.rounds == ROUNDS else f", {self.rounds} rounds")

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        alive = np.sort(values[values != 0])  # before they become doubles: half the time
        if alive.size == 0:
            return values.copy()
        return snapped(values, lloyd(alive.astype(np.float64), 2**self.bits, self.rounds))


def snapped(values: Float32Array, centroids: Float64Array) -> Float32Array:
    """Each non-zero of ``values``, of any shape, replaced by the nearest of ascending ``centroids`` (k,), k > 0."""
    clustered = values.copy()
    clustered[values != 0] = centroids[np.searchsorted(_midpoints(centroids), values[values != 0].astype(np.float64))]
    return clustered


def lloyd(values: Float64Array, n_centroids: int, rounds: int = ROUNDS) -> Float64Array:
    """Centroids, ascending, of ascending ``values`` (n,) with n > 0.

    In one dimension clusters are intervals, so a round costs one binary search a centroid and one pass of sums.
    """
    centroids = np.linspace(values[0], values[-1], n_centroids)
    ends = _cluster_ends(values, centroids)
    for _ in range(rounds):
        centroids = _means(values, ends, centroids)
        moved = _cluster_ends(values, centroids)
        if np.array_equal(moved, ends):
            break
        ends = moved
    return centroids


def _midpoints(centroids: Float64Array) -> Float64Array:
    return 0.5 * (centroids[:-1] + centroids[1:])


def _cluster_ends(values: Float64Array, centroids: Float64Array) -> Int64Array:
    """For each centroid, where in the ascending ``values`` its cluster ends (exclusive)."""
    return np.append(np.searchsorted(values, _midpoints(centroids), side="right"), values.size)


def _means(values: Float64Array, ends: Int64Array, centroids: Float64Array) -> Float64Array:
    """Mean of each cluster; the old centroid where the cluster is empty."""
    sizes = np.diff(ends, prepend=0)
    taken = sizes > 0
    # Differences of one running sum would lose small clusters next to outliers; sums by segment do not.
    sums = np.add.reduceat(values, (ends - sizes)[taken])
    means = centroids.copy()
    means[taken] = sums / sizes[taken]
    return means
