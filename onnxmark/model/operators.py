"""ONNX operators as primitive steps: for each one that may stand between stored weights and a layer, its rule.

A rule looks at a node and the expressions of its inputs and returns the expression of its output, shapes worked out.
To support another operator, add a rule and its row in ``RULES``; arithmetic belongs in :mod:`onnxmark.model.resolve`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from onnxmark.model.dtypes import BY_NAME, DType, dtype_of
from onnxmark.model.expression import Expression, Leaf, Shape
from onnxmark.model.operands import Operands, Unfoldable
from onnxmark.model.records import Node

Rule = Callable[[Operands], Expression]


def _identity(op: Operands) -> Expression:
    return op.input(0)


def _cast(op: Operands) -> Expression:
    target = dtype_of(op.integer("to"))
    return _cast_to(op, target)


def _cast_like(op: Operands) -> Expression:
    return _cast_to(op, op.input(1).dtype)


def _cast_to(op: Operands, target: DType) -> Expression:
    if not target.readable or (target.bits < 8 and target.kind != "f"):
        raise Unfoldable(f"makes {target.name}")
    return op.step("cast", (op.integer("saturate", 1),), op.input(0).shape, target, words=target.name)


def _transpose(op: Operands) -> Expression:
    shape = op.input(0).shape
    axes = op.attributes["perm"].integers if "perm" in op.attributes else tuple(reversed(range(len(shape))))
    if sorted(axes) != list(range(len(shape))):
        raise Unfoldable(f"has perm {axes[:16]} for {len(shape)} axes")
    return op.step("transpose", (axes,), tuple(shape[axis] for axis in axes), words=_commas(axes))


def _reshaped(op: Operands, shape: Shape) -> Expression:
    if prod(shape) != prod(op.input(0).shape):
        raise Unfoldable(f"turns {op.input(0).shape} into {shape[:16]}")
    return op.step("reshape", (), shape, words=_commas(shape))


def _reshape(op: Operands) -> Expression:
    source, target = op.input(0).shape, list(op.integers("shape", 1) or ())
    if not op.integer("allowzero"):
        target = [source[i] if size == 0 and i < len(source) else size for i, size in enumerate(target)]
    if target.count(-1) == 1:
        rest = prod(size for size in target if size != -1)
        target[target.index(-1)] = prod(source) // rest if rest else 0
    if min(target, default=0) < 0:
        raise Unfoldable(f"has the target {tuple(target[:16])}")
    return _reshaped(op, tuple(target))


def _axes(axes: tuple[int, ...], rank: int) -> list[int]:
    plain = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in plain) or len(set(plain)) != len(plain):
        raise Unfoldable(f"has the axes {axes[:16]} of {rank}")
    return plain


def _squeeze(op: Operands) -> Expression:
    shape, axes = op.input(0).shape, op.integers("axes", 1)
    gone = [i for i, size in enumerate(shape) if size == 1] if axes is None else _axes(axes, len(shape))
    return _reshaped(op, tuple(size for i, size in enumerate(shape) if i not in gone))


def _unsqueeze(op: Operands) -> Expression:
    axes = op.integers("axes", 1) or ()
    rank = len(op.input(0).shape) + len(axes)
    new, old = _axes(axes, rank), iter(op.input(0).shape)
    return _reshaped(op, tuple(1 if i in new else next(old) for i in range(rank)))


def _flatten(op: Operands) -> Expression:
    shape, axis = op.input(0).shape, op.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise Unfoldable(f"has the axis {axis} of {len(shape)}")
    return _reshaped(op, (prod(shape[:axis]), prod(shape[axis:])))


def _concat(op: Operands) -> Expression:
    shapes = [op.input(i).shape for i in range(len(op.inputs))]
    if not shapes:
        raise Unfoldable("has no inputs")
    (axis,) = _axes((op.integer("axis"),), len(shapes[0]))
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes if len(shape) > axis}
    if len(rests) != 1 or {len(shape) for shape in shapes} != {len(shapes[0])}:
        raise Unfoldable("joins shapes that do not fit")
    total = sum(shape[axis] for shape in shapes)
    joined = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    return op.step("concat", (axis,), joined, words=f"axis={axis}", inputs=len(shapes))


def _slice(op: Operands) -> Expression:
    shape = op.input(0).shape
    starts, ends = op.integers("starts", 1) or (), op.integers("ends", 2) or ()
    axes = op.integers("axes", 3)
    steps = op.integers("steps", 4) or (1,) * len(starts)
    plain = _axes(tuple(range(len(starts))) if axes is None else axes, len(shape))
    if not len(starts) == len(ends) == len(steps) == len(plain) or 0 in steps:
        raise Unfoldable("has starts, ends, axes and steps that do not fit")
    ranges = [(0, size, 1) for size in shape]
    for start, end, stride, axis in zip(starts, ends, steps, plain, strict=True):
        ranges[axis] = slice(start, end, stride).indices(shape[axis])
    return op.step("slice", (tuple(ranges),), tuple(len(range(*bounds)) for bounds in ranges))


def _expand(op: Operands) -> Expression:
    target = op.integers("shape", 1) or ()
    shape = _broadcast(op.input(0).shape, target)
    return op.step("broadcast", (), shape, words=_commas(shape))


def _broadcast(one: Shape, other: Shape) -> Shape:
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    out = []
    for left, right in pairs:
        if (left != right and 1 not in (left, right)) or min(left, right) < 0:
            raise Unfoldable(f"combines the shapes {one[:16]} and {other[:16]}")
        out.append(right if left == 1 else left)
    return tuple(out)


def _binary(step: str) -> Rule:
    def rule(op: Operands) -> Expression:
        left, right = op.input(0), op.input(1)
        if left.dtype != right.dtype:
            raise Unfoldable(f"combines {left.dtype.name} and {right.dtype.name}")
        return op.step(step, (), _broadcast(left.shape, right.shape), inputs=2)

    return rule


def _unary(step: str) -> Rule:
    return lambda op: op.step(step, (), op.input(0).shape)


def _shape(op: Operands) -> Expression:
    shape = op.input(0).shape
    sizes = shape[op.integer("start") : op.integer("end", len(shape))]
    return op.interner.leaf(Leaf(op.node.outputs[0], "shape", (len(sizes),), BY_NAME["int64"], integers=sizes))


def _scaling(op: Operands) -> tuple[int, int, str, int]:
    """Axis, block size, words and number of inputs of a QuantizeLinear or DequantizeLinear."""
    values, scale = op.input(0).shape, op.input(1).shape
    inputs = 3 if op.given(2) else 2
    if inputs == 3 and op.input(2).shape != scale and prod(op.input(2).shape) != prod(scale):
        raise Unfoldable(f"has a zero point of shape {op.input(2).shape} and a scale of shape {scale}")
    block = op.integer("block_size")
    if prod(scale) == 1 and block == 0:
        return 0, 0, "", inputs
    (axis,) = _axes((op.integer("axis", 1),), len(values))
    if block == 0 and scale == (values[axis],):
        return axis, 0, f"axis={axis}", inputs
    if block > 0 and scale == (*values[:axis], -(-values[axis] // block), *values[axis + 1 :]):
        return axis, block, f"axis={axis}, block_size={block}", inputs
    raise Unfoldable(f"has a scale of shape {scale[:16]} for values of shape {values[:16]}")


def _dequantize(op: Operands) -> Expression:
    axis, block, words, inputs = _scaling(op)
    code = op.integer("output_dtype")
    target = dtype_of(code) if code else op.input(1).dtype
    if target.kind != "f":
        raise Unfoldable(f"makes {target.name}")
    return op.step("dequantize", (axis, block), op.input(0).shape, target, words=words, inputs=inputs)


def _quantize(op: Operands) -> Expression:
    axis, block, words, inputs = _scaling(op)
    code = op.integer("output_dtype")
    target = op.input(2).dtype if inputs == 3 else dtype_of(code) if code else BY_NAME["uint8"]
    if not target.readable:
        raise Unfoldable(f"makes {target.name}")
    return op.step(
        "quantize", (axis, block, op.integer("saturate", 1)), op.input(0).shape, target, words=words, inputs=inputs
    )


def _dynamic_quantize(op: Operands) -> Expression:
    return op.step("dynamic quantize", (), op.input(0).shape, BY_NAME["uint8"])


def _commas(numbers: tuple[int, ...]) -> str:
    return ",".join(str(number) for number in numbers)


RULES: dict[str, Rule] = {
    "Identity": _identity,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Concat": _concat,
    "Slice": _slice,
    "Expand": _expand,
    "Shape": _shape,
    "Add": _binary("add"),
    "Sub": _binary("subtract"),
    "Mul": _binary("multiply"),
    "Div": _binary("divide"),
    "Neg": _unary("negate"),
    "Sqrt": _unary("square root"),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
}
"""Of the standard domain; QuantizeLinear and DequantizeLinear also of ``com.microsoft``."""


def rule_for(node: Node) -> Rule | None:
    """The rule for ``node``, if there is one."""
    if node.domain in ("", "ai.onnx"):
        return RULES.get(node.op_type)
    if node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return RULES[node.op_type]
    return None
