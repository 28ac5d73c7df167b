"""Block-wise integer quantisation, the way large models ship: a scale for every few weights of a row.

ONNX Runtime's ``MatMulNBits`` and ONNX's ``DequantizeLinear`` with ``block_size`` store int4 this way. It is gentler
than one scale a channel, and because its scales follow the weights it moves a mark differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.saturation import saturated

MAX_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class BlockQuantisation(Attack):
    """Round blocks of consecutive inputs of each filter to 2^bits levels of their own.

    A layer is seen as a matrix (out, in / group * spatial); the last block of a row may be short. With a zero point the
    levels run evenly from the block's smallest weight to its largest, moved so that one of them is exactly 0, which the
    range takes in. Symmetric levels are ``q * s`` for q from ``-2^(bits-1)`` to ``2^(bits-1) - 1``; the scale ``s`` has
    the sign that puts the block's largest magnitude at the end with the extra level, as ONNX Runtime does it.

    Args:
        bits: Bits a weight, 2 to 8.
        block: Weights a scale, 1 or more; ONNX Runtime's kernels take powers of two from 16.
        symmetric: No zero point.
    """

    name: ClassVar[str] = "quantize-blocks"
    summary: ClassVar[str] = "round blocks of each filter to 2^bits levels of their own; bits a weight, 2 to 8"
    strengths: ClassVar[tuple[int, ...]] = (8, 4, 3, 2)

    bits: int
    block: int = 32
    symmetric: bool = True

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be a whole number from 2 to {MAX_BITS}, found {self.bits!r}")
        if type(self.block) is not int or self.block < 1:
            raise ValueError(f"the block must be a whole number of weights from 1, found {self.block!r}")

    @property
    def label(self) -> str:
        """``quantisation 4 bit, blocks of 32``, with a zero point where there is one."""
        variant = "" if self.symmetric else ", zero point"
        return f"quantisation {self.bits} bit, blocks of {self.block}{variant}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        rows = values.reshape(len(values), -1).astype(np.float64)
        blocks = _blocks(rows, min(self.block, rows.shape[1]))
        rounded = _symmetric(blocks, self.bits) if self.symmetric else _affine(blocks, self.bits)
        return saturated(rounded.reshape(len(rows), -1)[:, : rows.shape[1]]).reshape(values.shape)


def _blocks(rows: Float64Array, size: int) -> Float64Array:
    """Rows (n, width) as (n, blocks, size), the last block filled up with zeros, which change none of its levels."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % size))).reshape(len(rows), -1, size)


def _symmetric(blocks: Float64Array, bits: int) -> Float64Array:
    half = 2 ** (bits - 1)
    low, high = blocks.min(axis=-1, keepdims=True), blocks.max(axis=-1, keepdims=True)
    scale = _divisor(np.where(high > -low, high, low) / -half)
    return np.clip(np.rint(blocks / scale), -half, half - 1) * scale


def _affine(blocks: Float64Array, bits: int) -> Float64Array:
    last = 2**bits - 1
    low = np.minimum(blocks.min(axis=-1, keepdims=True), 0)
    high = np.maximum(blocks.max(axis=-1, keepdims=True), 0)
    scale = _divisor((high - low) / last)
    zero_point = np.rint(-low / scale)
    levels: Float64Array = np.clip(np.rint(blocks / scale + zero_point), 0, last) - zero_point
    return levels * scale


def _divisor(scale: Float64Array) -> Float64Array:
    """A block of zeros has no scale; any other than 0 leaves it as it is."""
    divisor: Float64Array = np.where(scale == 0, 1.0, scale)
    return divisor
