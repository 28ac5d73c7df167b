"""Memristor crossbars: weights pruned in the blocks of a crossbar, then written as conductances that vary.

Reconstruction after Yuan et al., "An Ultra-Efficient Memristor-Based DNN Framework with Structured Weight Pruning and
Quantization Using ADMM" (2019): the mapping of a layer to crossbars, the conductance range and the model of device
variation are ours. A layer (out, in / group, *spatial) is written as ``G = V'``, V the matrix (out, in / group *
spatial): an input a row, a filter a column, cut into crossbars of ``rows x columns``; the last ones may be smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.pruning import Pruning, count_of, smallest
from onnxmark.attacks.quantisation import rounded
from onnxmark.attacks.saturation import saturated

UNITS: Final = ("block", "row", "column")
MAX_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class CrossbarPruning(Pruning):
    """Zero whole crossbars, or rows or columns within a crossbar, of smallest Frobenius norm (reconstruction).

    ``round(fraction * n)`` of the layer's n units go, ties in row-major order, the earlier first. A smaller crossbar at
    the edge competes with its smaller norm.

    Args:
        fraction: Part of the units to zero, 0 to 1.
        rows: Inputs a crossbar, 1 or more.
        columns: Filters a crossbar, 1 or more.
        unit: What goes at once: the whole ``block``, or one ``row`` or ``column`` of a block.
    """

    name: ClassVar[str] = "crossbar-prune"
    title: ClassVar[str] = "crossbar pruning"
    summary: ClassVar[str] = "zero crossbar blocks, or rows or columns of them; fraction of these units, 0 to 1"

    rows: int = 128
    columns: int = 128
    unit: str = "block"

    def __post_init__(self) -> None:
        Pruning.__post_init__(self)
        for size in (self.rows, self.columns):
            if type(size) is not int or size < 1:
                raise ValueError(f"a crossbar must have a whole number of rows and columns from 1, found {size!r}")
        if self.unit not in UNITS:
            raise ValueError(f"the unit must be one of {', '.join(UNITS)}, found {self.unit!r}")

    @property
    def label(self) -> str:
        """``crossbar pruning 50 %, blocks of 128 x 128``."""
        unit = "blocks" if self.unit == "block" else f"{self.unit}s of blocks"
        return f"{Pruning.label.__get__(self)}, {unit} of {self.rows} x {self.columns}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        conductances = np.ascontiguousarray(values.reshape(len(values), -1).T, dtype=np.float64)
        height = 1 if self.unit == "row" else self.rows
        width = 1 if self.unit == "column" else self.columns
        alive = _strongest(conductances, height, width, self.fraction)
        return np.where(alive.T.reshape(values.shape), values, np.float32(0))


def _strongest(
    matrix: Float64Array, height: int, width: int, fraction: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which entries of ``matrix`` lie in tiles of ``height x width`` that are kept."""
    n_rows, n_columns = matrix.shape
    energy = np.add.reduceat(np.square(matrix), np.arange(0, n_rows, height), axis=0)
    energy = np.add.reduceat(energy, np.arange(0, n_columns, width), axis=1)
    alive = np.ones(energy.size, dtype=np.bool_)
    alive[smallest(energy.reshape(-1), count_of(fraction, energy.size))] = False
    tiles = np.ix_(np.arange(n_rows) // height, np.arange(n_columns) // width)
    return alive.reshape(energy.shape)[tiles]


@dataclass(frozen=True, slots=True)
class CrossbarDevices(Attack):
    """Write the weights as conductances of devices that are few-valued and vary (reconstruction).

    A weight is a device in one of two crossbars, one a sign; the largest magnitude of the layer is the highest
    conductance. Magnitudes are clipped to the range of conductances, ``max|w| / ratio`` to ``max|w|``, and rounded to
    the nearest of ``2^bits - 1`` evenly spaced levels of it; each device is off by a factor ``1 + variation * N(0, 1)``
    of its own. A zero has no device and stays zero.

    Args:
        variation: Standard deviation of a device relative to its conductance, 0 or more.
        bits: Bits a device, 2 to 16.
        ratio: Highest over lowest conductance, more than 1.
    """

    name: ClassVar[str] = "crossbar"
    summary: ClassVar[str] = "write to few-valued devices that vary; their relative standard deviation, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.5)

    variation: float
    bits: int = 4
    ratio: float = 100.0

    def __post_init__(self) -> None:
        if not 0 <= self.variation < math.inf:
            raise ValueError(f"the device variation must be finite and not negative, found {self.variation!r}")
        if type(self.bits) is not int or not 2 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be a whole number from 2 to {MAX_BITS}, found {self.bits!r}")
        if not 1 < self.ratio < math.inf:
            raise ValueError(f"the ratio of conductances must be finite and more than 1, found {self.ratio!r}")

    @property
    def label(self) -> str:
        """``crossbar devices 10 % variation, 4 bit, range 100``."""
        return f"crossbar devices {100 * self.variation:.10g} % variation, {self.bits} bit, range {self.ratio:.10g}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        magnitudes = np.abs(values).astype(np.float64)
        highest = magnitudes.max(keepdims=True)
        lowest = highest / self.ratio
        levels = rounded(np.clip(magnitudes, lowest, highest), lowest, highest, 2**self.bits - 2)
        written = np.sign(values) * levels * (1 + self.variation * means.rng.standard_normal(values.shape))
        return saturated(written)
