"""What a model of the zoo is, in numbers alone: its variables by name, some inputs, and what it answers to them.

Written by the process that has the framework, read by those that check; the axes of kernels are put in canonical order
here, by rules of its own, so that a mistake in an adapter's cannot hide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array

_DEPTHWISE: Final = "DepthwiseConv2D"


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A model in numbers.

    Args:
        variables: By ``layer/variable``; kernels in canonical order, ``(out, in / group, *spatial)``.
        inputs: Images, shape (N, H, W, 3).
        outputs: Logits, shape (N, 10).
    """

    variables: Mapping[str, Float32Array]
    inputs: Float32Array
    outputs: Float32Array

    @property
    def kernels(self) -> dict[str, Float32Array]:
        """Variables of more than one axis: the weights of convolutions and fully connected layers."""
        return {name: values for name, values in self.variables.items() if values.ndim > 1}

    @property
    def kinds(self) -> Counter[str]:
        """How many kernels are of convolutions across channels, of depthwise ones, and of fully connected layers."""
        return Counter(_kind(values) for values in self.kernels.values())

    @property
    def spread(self) -> float:
        """By how much answers to different inputs differ: the standard deviation of a logit, mean over the logits."""
        return float(self.outputs.std(axis=0, dtype=np.float64).mean())

    def save(self, path: Path) -> None:
        """Write an ``.npz``."""
        np.savez(path, allow_pickle=False, **self.variables, **{"/inputs": self.inputs, "/outputs": self.outputs})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """What :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            variables = {name: arrays[name] for name in arrays.files if not name.startswith("/")}
            return cls(variables, arrays["/inputs"], arrays["/outputs"])


def in_canonical_order(values: Float32Array, variable: str, layer: str) -> Float32Array:
    """A variable of Keras with a kernel's axes in canonical order.

    Args:
        values: As Keras has it.
        variable: Its name in the layer (``kernel``, ``pointwise_kernel``, ``bias``).
        layer: Class of its layer.
    """
    if values.ndim == 2:
        return np.ascontiguousarray(values.T)
    if values.ndim != 4:
        return values
    if layer == _DEPTHWISE or variable == "depthwise_kernel":
        height, width, n_channels, multiplier = values.shape
        return values.transpose(2, 3, 0, 1).reshape(n_channels * multiplier, 1, height, width)
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1))


def _kind(values: Float32Array) -> str:
    if values.ndim == 2:
        return "dense"
    return "depthwise" if values.shape[1] == 1 else "across"
