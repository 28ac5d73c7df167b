"""Structured pruning: whole filters, input channels or columns of the weight matrix set to zero.

What a thief does who wants the network faster and not only smaller. The layer keeps its shape here, so the mark can
still be read where it was written; removing the zeros from the file changes the next layer, too. A layer (out, in /
group, *spatial) is seen as a matrix V of shape (out, in / group * spatial). Units of smallest L2 norm go first,
``round(fraction * n)`` of n (halves to even), ties by position, the earlier first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array, Int64Array
from onnxmark.attacks.attack import Means
from onnxmark.attacks.pruning import Pruning, count_of, smallest


@dataclass(frozen=True, slots=True)
class FilterPruning(Pruning):
    """Zero the output filters, rows of V, of smallest norm.

    Args:
        fraction: Part of the layer's filters to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-filters"
    title: ClassVar[str] = "filter pruning"
    summary: ClassVar[str] = "zero the filters of smallest L2 norm; fraction of the filters, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        pruned = values.copy()
        pruned[_weakest(values.reshape(len(values), -1), self.fraction)] = 0
        return pruned


@dataclass(frozen=True, slots=True)
class ChannelPruning(Pruning):
    """Zero the input channels of smallest norm over all filters.

    In a grouped convolution a channel is one place of the weight tensor's second axis: the same channel of every group.

    Args:
        fraction: Part of the layer's input channels to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-channels"
    title: ClassVar[str] = "channel pruning"
    summary: ClassVar[str] = "zero the input channels of smallest L2 norm; fraction of the channels, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        channels = np.moveaxis(values, 1, 0)
        pruned = values.copy()
        pruned[:, _weakest(channels.reshape(len(channels), -1), self.fraction)] = 0
        return pruned


@dataclass(frozen=True, slots=True)
class ColumnPruning(Pruning):
    """Zero the columns of V of smallest norm: one place (channel and tap) of all filters at once.

    Args:
        fraction: Part of the columns to zero, 0 to 1.
    """

    name: ClassVar[str] = "prune-columns"
    title: ClassVar[str] = "column pruning"
    summary: ClassVar[str] = "zero the columns (channel and tap) of smallest L2 norm; fraction of the columns, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        pruned = values.reshape(len(values), -1).copy()
        pruned[:, _weakest(pruned.T, self.fraction)] = 0
        return pruned.reshape(values.shape)


def _weakest(units: Float32Array, fraction: float) -> Int64Array:
    """Positions of the fraction of ``units`` (n, width) of smallest norm."""
    # In one memory order, because the order of summation decides between norms that are equal on paper.
    ordered: Float64Array = np.ascontiguousarray(units, dtype=np.float64)
    return smallest(np.square(ordered).sum(axis=1), count_of(fraction, len(ordered)))
