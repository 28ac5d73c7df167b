"""Unstructured pruning: a fraction of a layer's weights set to zero.

Smallest-magnitude pruning (Han, Mao, Dally: Deep Compression, ICLR 2016, arXiv 1510.00149) is what a thief does to
save memory, and the removal attack Uchida et al. (ICMR 2017, arXiv 1701.04082) report. Random and largest-first pruning
bracket it: the first knows nothing of the weights, the second destroys the layer fastest.

The count is exact in all three: ``round(fraction * n)`` weights out of n (halves to even, as
``torch.nn.utils.prune`` counts), ties in magnitude broken by position, the earlier first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array, Int64Array
from onnxmark.attacks.attack import Attack, Means


@dataclass(frozen=True, slots=True)
class _Pruning(Attack, Protocol):
    """What the pruning attacks share.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
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
class MagnitudePruning(_Pruning):
    """Zero the weights of smallest magnitude ("L1 pruning"). Weights that are zero already count among them.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune"
    title: ClassVar[str] = "L1 pruning"
    summary: ClassVar[str] = "zero the weights of smallest magnitude; fraction of the layer, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return _zeroed(values, _smallest(np.abs(values).reshape(-1), _count(self.fraction, values.size)))


@dataclass(frozen=True, slots=True)
class RandomPruning(_Pruning):
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
        return _zeroed(values, means.rng.permutation(values.size)[: _count(self.fraction, values.size)])


@dataclass(frozen=True, slots=True)
class LargestFirstPruning(_Pruning):
    """Zero the weights of largest magnitude: ruins the layer fastest, so it bounds what pruning can do to a mark.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-largest"
    title: ClassVar[str] = "largest-first pruning"
    summary: ClassVar[str] = "zero the weights of largest magnitude; fraction of the layer, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return _zeroed(values, _smallest(-np.abs(values).reshape(-1), _count(self.fraction, values.size)))


def _count(fraction: float, n_weights: int) -> int:
    return round(fraction * n_weights)


def _smallest(ranks: Float32Array, count: int) -> Int64Array:
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
