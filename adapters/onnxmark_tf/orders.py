"""From the axis orders of TensorFlow to canonical order, ``(out, in / group, *spatial)``, and back.

A mark is read in canonical order whatever a framework keeps, so that every kernel passes through here on its way to an
audit, and once more on its way home. Both directions stand on one table: where an order keeps its first two canonical
axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float32Array

_OUT_AND_IN: Final = MappingProxyType(
    {
        "HWIO": (-1, -2),
        "HWOI": (-2, -1),
        "HWCM": (-2, -1),
        "OHWI": (0, -1),
        "MHWC": (-1, 0),
        "IO": (1, 0),
        "OI": (0, 1),
    }
)
"""Axes of the outputs and of the inputs; for a depthwise kernel of Keras (HWCM), of its channels and its multiplier."""


def canonical(values: NDArray[Any], order: str) -> Float32Array:
    """Weights as the framework keeps them, in canonical order.

    A depthwise kernel becomes one filter per output, ``(channels * multiplier, 1, *spatial)``, outputs of a channel
    side by side: what ONNX calls a convolution with as many groups as channels.

    Args:
        values: Weights of any float type, shape as ``order`` says, with any number of spatial axes.
        order: One of :data:`onnxmark.conversion.converter.ORDERS`.

    Returns:
        A contiguous float32 array of its own.
    """
    moved = np.moveaxis(np.asarray(values), _OUT_AND_IN[order], (0, 1))
    if order == "HWCM":
        moved = moved.reshape(-1, 1, *moved.shape[2:])
    return np.array(moved, dtype=np.float32, order="C")


def stored(values: Float32Array, order: str, shape: Sequence[int]) -> Float32Array:
    """The inverse of :func:`canonical`.

    Args:
        values: Canonical order.
        order: The framework's.
        shape: Shape of the tensor that is to hold them.

    Raises:
        ValueError: They do not fit it.
    """
    if order == "HWCM" and values.ndim == len(shape) and values.size == np.prod(shape):
        values = values.reshape(*shape[-2:], *values.shape[2:])
    moved = np.moveaxis(values, (0, 1), _OUT_AND_IN[order])
    if moved.shape != tuple(shape):
        raise ValueError(f"weights of shape {values.shape} do not fit a tensor of shape {tuple(shape)} kept as {order}")
    return np.ascontiguousarray(moved)
