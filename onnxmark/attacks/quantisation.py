"""Uniform quantisation: weights rounded to evenly spaced levels, then stored as float32 again.

What every deployment tool does to a model (min-max calibrated integers), without the integers: an audit reads what the
integers stand for, so the attack returns exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means

MAX_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class UniformQuantisation(Attack):
    """Round to 2^bits evenly spaced levels from the smallest to the largest weight (affine, min-max).

    Args:
        bits: Bits a weight, 1 to 32 (symmetric: 2 to 32).
        per_channel: A range of its own for each output channel, instead of one for the layer.
        symmetric: Levels q * max|w| / (2^(bits-1) - 1) for whole q of both signs, instead of min to max: 2^bits - 1
            levels, one of them exactly 0.
    """

    name: ClassVar[str] = "quantize"
    summary: ClassVar[str] = "round to 2^bits evenly spaced levels; bits a weight, 1 to 32"
    strengths: ClassVar[tuple[int, ...]] = (8, 6, 5, 4, 3, 2, 1)

    bits: int
    per_channel: bool = False
    symmetric: bool = False

    def __post_init__(self) -> None:
        lowest = 2 if self.symmetric else 1
        if type(self.bits) is not int or not lowest <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be a whole number from {lowest} to {MAX_BITS}, found {self.bits!r}")

    @property
    def label(self) -> str:
        """``quantisation 4 bit``, with what differs from the default."""
        variant = (", per channel" if self.per_channel else "") + (", symmetric" if self.symmetric else "")
        return f"quantisation {self.bits} bit{variant}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        rows = values.reshape(len(values) if self.per_channel else 1, -1).astype(np.float64)
        if self.symmetric:
            high = np.abs(rows).max(axis=1, keepdims=True)
            levels = rounded(rows, -high, high, 2**self.bits - 2)
        else:
            levels = rounded(rows, rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True), 2**self.bits - 1)
        return levels.astype(np.float32).reshape(values.shape)


def rounded(rows: Float64Array, low: Float64Array, high: Float64Array, n_steps: int) -> Float64Array:
    """Each row (n, width) rounded to the nearest of ``n_steps + 1`` levels from its ``low`` to its ``high`` (n, 1)."""
    span = np.where(high > low, high - low, 1.0)
    share = np.rint((rows - low) / span * n_steps) / n_steps
    # Both ends come out exactly in this form, so a second quantisation finds the same levels again.
    return low * (1 - share) + high * share
