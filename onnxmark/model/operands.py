"""What a rule of :mod:`onnxmark.model.operators` sees of a node: its attributes and the expressions of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.model.dtypes import DType
from onnxmark.model.expression import Expression, Interner, Parameters, Shape
from onnxmark.model.records import Attribute, Node


class Unfoldable(Exception):
    """Why a rule does not apply; never leaves the planner, which turns it into words."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What a rule sees of a node."""

    node: Node
    attributes: Mapping[str, Attribute]
    inputs: tuple[Expression | None, ...]
    interner: Interner
    small: Callable[[Expression], AnyArray]
    """Reads a constant of few elements."""

    def given(self, index: int) -> bool:
        """Whether the optional input ``index`` is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Expression:
        """The expression of input ``index``."""
        expression = self.inputs[index] if index < len(self.inputs) else None
        if expression is None:
            raise Unfoldable(f"has no input {index}")
        return expression

    def integer(self, name: str, default: int = 0) -> int:
        """An INT attribute."""
        return self.attributes[name].integer if name in self.attributes else default

    def integers(self, name: str, index: int) -> tuple[int, ...] | None:
        """A list of integers: the attribute ``name`` in older opsets, input ``index`` in newer; None if neither is."""
        if name in self.attributes:
            return self.attributes[name].integers
        if not self.given(index):
            return None
        values = self.small(self.input(index))
        if not np.issubdtype(values.dtype, np.integer):
            raise Unfoldable(f"wants integers for its {name}, not {values.dtype}")
        return tuple(int(value) for value in values.reshape(-1))

    def step(
        self,
        step: str,
        parameters: Parameters,
        shape: Shape,
        dtype: DType | None = None,
        *,
        words: str = "",
        inputs: int = 1,
    ) -> Expression:
        """The primitive ``step`` applied to the first ``inputs`` inputs.

        Raises:
            Unfoldable: An input is missing, or the result has more elements than can be counted in 64 bits.
        """
        if prod(shape) >> 63:
            raise Unfoldable("makes more elements than any machine can hold")
        arguments = tuple(self.input(i) for i in range(inputs))
        label = self.node.op_type + (f"({words})" if words else "")
        return self.interner.apply(step, arguments, parameters, shape, dtype or arguments[0].dtype, words=label)
