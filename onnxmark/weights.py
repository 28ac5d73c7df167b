"""Host weights as every layer above the reader sees them: float32, canonical order, read-only, with their origin.

Canonical order is ``(out, in / group, *spatial)``: PyTorch's and ONNX's Conv order. A fully connected layer is
``(out, in)`` whatever the file stores; a transposed convolution has its output channels first, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxmark.arrays import Float32Array, frozen


@dataclass(frozen=True, slots=True)
class Origin:
    """Where host weights were found in a model."""

    node: str
    """Name of the node that uses them, with its scope (``If_3/then_branch/conv``); may be empty."""
    op: str
    """Operator: ``Conv``, ``ConvTranspose``, ``Gemm`` or ``MatMul``."""
    position: int
    """Index among the model's weight sites, in graph order."""
    stored: str
    """In words, how the file stores them (``initializer float32, raw data``)."""
    group: int = 1
    """Convolution groups; 1 for fully connected layers."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightTensor:
    """Host weights of one layer.

    Args:
        name: Name of the stored tensor; unique within a :class:`WeightSet`.
        values: Shape ``(out, in / group, *spatial)``, float32, made read-only.
        origin: Where they were found.
    """

    name: str
    values: Float32Array
    origin: Origin

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim < 2:
            raise ValueError(
                f"host weights must be float32 with at least two axes, not {self.values.dtype} {self.values.shape}"
            )
        frozen(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Canonical shape."""
        return self.values.shape

    def with_values(self, values: Float32Array) -> WeightTensor:
        """The same layer with other values of the same or another shape."""
        return replace(self, values=values)


class WeightSet(Mapping[str, WeightTensor]):
    """An ordered, immutable set of host weights by name."""

    def __init__(self, tensors: tuple[WeightTensor, ...]) -> None:
        self._tensors = {tensor.name: tensor for tensor in tensors}
        if len(self._tensors) != len(tensors):
            raise ValueError("names of host weights must be unique within a set")

    def __getitem__(self, name: str) -> WeightTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
