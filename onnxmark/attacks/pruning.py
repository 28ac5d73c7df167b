"""Unstructured pruning: a fraction of a layer's weights set to zero.

Smallest-magnitude pruning (Han, Mao, Dally: Deep Compression, ICLR 2016, arXiv 1510.00149) is what a thief does to
save memory, and the removal attack Uchida et al. (ICMR 2017, arXiv 1701.04082) report. Random and largest-first pruning
bracket it: the first knows nothing of the weights, the second destroys the layer fastest.

The count is exact in these three: ``round(fraction * n)`` weights out of n (halves to even, as
``torch.nn.utils.prune`` counts), ties in magnitude broken by position, the earlier first. Only pruning by one threshold
for the whole model takes what the threshold takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array, Int64Array
from onnxmark.attacks.attack import Attack, Means, Need


@dataclass(frozen=True, slots=True)
class Pruning(Attack, Protocol):
    """What the pruning attacks share, structured ones too.

    Args:
        fraction: Part of what is pruned (weights, filters, ...) to remove, 0 to 1.
    """

    title: ClassVar[str]
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99)

    fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the fraction to prune must be from 0 to 1 (0.65 for 65 %), found {self.fraction!r}")

    @property
    def label(self) -> str:
        """Which weights go, and the percentage (``L1 pruning 65 %``)."""
        return f"{self.title} {100 * self.fraction:.10g} %"


@dataclass(frozen=True, slots=True)
class MagnitudePruning(Pruning):
    """Zero the weights of smallest magnitude ("L1 pruning"). Weights that are zero already count among them.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune"
    title: ClassVar[str] = "L1 pruning"
    summary: ClassVar[str] = "zero the weights of smallest magnitude; fraction of the layer, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return _zeroed(values, smallest(np.abs(values).reshape(-1), count_of(self.fraction, values.size)))


@dataclass(frozen=True, slots=True)
class RandomPruning(Pruning):
    """Zero weights drawn uniformly, whatever their size.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-random"
    title: ClassVar[str] = "random pruning"
    summary: ClassVar[str] = "zero weights drawn at random; fraction of the layer, 0 to 1"
    random: ClassVar[bool] = True

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        # The smallest of as many random numbers: a third of the time of a permutation.
        return _zeroed(values, smallest(means.rng.random(values.size), count_of(self.fraction, values.size)))


@dataclass(frozen=True, slots=True)
class LargestFirstPruning(Pruning):
    """Zero the weights of largest magnitude: ruins the layer fastest, so it bounds what pruning can do to a mark.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-largest"
    title: ClassVar[str] = "largest-first pruning"
    summary: ClassVar[str] = "zero the weights of largest magnitude; fraction of the layer, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return _zeroed(values, smallest(-np.abs(values).reshape(-1), count_of(self.fraction, values.size)))


@dataclass(frozen=True, slots=True)
class GlobalPruning(Pruning):
    """Zero what lies at or below one threshold for the whole model: layers of small weights lose more than others.

    The threshold is the magnitude of the ``round(fraction * n)``-th smallest of the model's n host weights. A layer on
    its own cannot know which of the weights that equal the threshold stand earlier in the model, so all of them go:
    pruned is the fraction or, where magnitudes repeat, more.

    Args:
        fraction: Part of all host weights of the model to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-global"
    title: ClassVar[str] = "global L1 pruning"
    summary: ClassVar[str] = (
        "zero the weights of smallest magnitude in all layers together; fraction of the model, 0 to 1"
    )
    needs: ClassVar[tuple[Need, ...]] = (Need.MAGNITUDES,)

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        if means.magnitudes is None:
            raise ValueError("global pruning needs the magnitudes of all host weights, found none")
        n_pruned = count_of(self.fraction, means.magnitudes.size)
        if n_pruned == 0:
            return values.copy()
        return np.where(np.abs(values) <= means.magnitudes[n_pruned - 1], np.float32(0), values)


def count_of(fraction: float, n: int) -> int:
    """How many of ``n`` a fraction is: rounded, halves to even."""
    return round(fraction * n)


def smallest(ranks: Float32Array | Float64Array, count: int) -> Int64Array:
    """Positions of the ``count`` smallest of ``ranks`` (n,), the earlier first among equals, in linear time."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(ranks, count - 1)[count - 1]
    below = np.flatnonzero(ranks < threshold)
    tied = np.flatnonzero(ranks == threshold)
    return np.concatenate([below, tied[: count - below.size]])


def _zeroed(values: Float32Array, positions: Int64Array) -> Float32Array:
    flat = values.flatten()
    flat[positions] = 0
    return flat.reshape(values.shape)
