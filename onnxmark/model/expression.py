"""A value computed from constants, as a tree of primitive steps with known shapes: the plan that reading follows.

ONNX has many ways to say the same thing (five operators only reshape), and most need their operands to say it. Planning
settles that: a step carries everything but the arrays. Equal subtrees are one object, so that shared weights
are recognised by identity and a residual net costs no more than its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from onnxmark.model.dtypes import DType
from onnxmark.model.records import SparseTensor, Tensor

Shape = tuple[int, ...]
Parameters = tuple[int | str | tuple[int, ...] | tuple[tuple[int, int, int], ...], ...]


class Leaf(NamedTuple):
    """A constant stored in the file. Like a step, it is equal to itself only; the interner makes equal ones the same.

    Args:
        name: Name of the initializer, or of the Constant node's output.
        origin: ``initializer``, ``Constant node``, …
        shape: Its shape in the file.
        dtype: Its type in the file.
        tensor: Where its elements are; for ConstantOfShape, the single element.
        sparse: Set instead of ``tensor`` when only the elements that are not zero are stored.
        integers: Set instead of ``tensor`` when an attribute holds the numbers themselves.
        fill: The tensor's single element repeated.
    """

    name: str
    origin: str
    shape: Shape
    dtype: DType
    tensor: Tensor | None = None
    sparse: SparseTensor | None = None
    integers: tuple[int, ...] = ()
    fill: bool = False
    note: str = ""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """A step applied to other expressions.

    Args:
        step: Name of the primitive (see :mod:`onnxmark.model.resolve`).
        arguments: What it is applied to.
        parameters: What else it needs.
        shape: Shape of the result.
        dtype: Type of the result.
        words: The operator in the file it stands for, for people; empty for none.
    """

    step: str
    arguments: tuple[Expression, ...]
    parameters: Parameters
    shape: Shape
    dtype: DType
    words: str = ""


Expression = Leaf | Apply


@dataclass(slots=True)
class Interner:
    """Makes expressions so that equal ones are the same object."""

    # Whatever is an argument is in here, so it lives as long, and its identity can be part of a key.
    _known: dict[tuple[object, ...], Expression] = field(default_factory=dict)

    def leaf(self, leaf: Leaf) -> Leaf:
        """The one leaf with this content."""
        holder = leaf.tensor or (leaf.sparse.values if leaf.sparse else None)
        content = holder.start if holder else leaf.integers
        found = self._known.setdefault(("leaf", content, leaf.shape, leaf.fill, leaf.dtype.code), leaf)
        assert isinstance(found, Leaf)
        return found

    def apply(
        self,
        step: str,
        arguments: tuple[Expression, ...],
        parameters: Parameters,
        shape: Shape,
        dtype: DType,
        *,
        words: str = "",
    ) -> Apply:
        """The one application with this content."""
        key = (step, parameters, shape, dtype.code, *map(id, arguments))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Apply(step, arguments, parameters, shape, dtype, words)
        assert isinstance(known, Apply)
        return known


def carrier(expression: Expression) -> Expression:
    """The operand of a step that carries the weights: the first of the largest; the leaf itself for a leaf."""
    if isinstance(expression, Leaf):
        return expression
    if expression.step in ("dequantize", "quantize"):
        return expression.arguments[0]
    return max(expression.arguments, key=lambda argument: prod(argument.shape))


def chain(expression: Expression) -> tuple[Expression, ...]:
    """From ``expression`` down to the leaf that carries the weights."""
    found = [expression]
    while isinstance(found[-1], Apply):
        found.append(carrier(found[-1]))
    return tuple(found)


def stored_leaf(expression: Expression) -> Leaf:
    """The last of the chain: the leaf that carries the weights."""
    while isinstance(expression, Apply):
        expression = carrier(expression)
    return expression


def leaves(expression: Expression) -> tuple[Leaf, ...]:
    """All leaves under ``expression``, each once."""
    return census(expression)[0]


def census(expression: Expression) -> tuple[tuple[Leaf, ...], int]:
    """All leaves under ``expression``, each once, and how many expressions there are under it in all."""
    if isinstance(expression, Leaf):
        return (expression,), 1
    seen: set[int] = set()
    stack: list[Expression] = [expression]
    found: list[Leaf] = []
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Leaf):
            found.append(current)
        else:
            stack.extend(reversed(current.arguments))
    return tuple(found), len(seen)
