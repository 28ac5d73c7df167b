"""Constant folding: an expression's array, step by step, in the element types the file uses.

Every step is a small pure function of arrays; the table at the end says which. Arithmetic is done in the stored types,
as a runtime would, and only the result becomes float32.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from onnxmark.arrays import AnyArray, Float32Array
from onnxmark.errors import ModelLimitError, WeightsUnresolved
from onnxmark.model.dtypes import cast
from onnxmark.model.expression import Apply, Expression, Leaf, Parameters
from onnxmark.model.payload import Payloads

_Step = Callable[[Apply, tuple[AnyArray, ...]], AnyArray]
_MAX_INTERMEDIATES = 1 << 17
_MAX_WORK = 256
_MAX_HELD = 16
"""Both in tensors of the largest size allowed: far more than any chain of real weights, which are read one by one."""


def resolve(expression: Expression, payloads: Payloads) -> Float32Array:
    """The values of ``expression`` as float32, C-contiguous; perhaps read-only.

    Raises:
        WeightsUnresolved: The chain cannot be computed.
        ModelLimitError: A tensor on the way is larger than ``payloads.most``.
        MalformedModel: A stored tensor contradicts itself.
        ExternalDataError: Its data file cannot serve.
    """
    try:
        values = evaluate(expression, payloads)
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(values, np.float32)
    except MemoryError as error:
        raise ModelLimitError(f"weights of shape {expression.shape} do not fit in memory") from error


def evaluate(
    expression: Expression, payloads: Payloads, done: dict[int, AnyArray] | None = None, most: int | None = None
) -> AnyArray:
    """The values of ``expression`` in its own type. See :func:`resolve` for what it raises.

    Args:
        expression: What to compute.
        payloads: Where leaves are read from.
        done: Results by identity of their expressions, used and added to; without it, they are let go when used up.
        most: Bytes any tensor on the way may have as float32, ``payloads.most`` by default.
    """
    budget = _Budget(expression, payloads.most if most is None else most, keep=done is not None)
    done = {} if done is None else done
    waiting: list[Expression] = [expression]
    while waiting:
        current = waiting[-1]
        if id(current) in done:
            waiting.pop()
            continue
        payloads.check_size(current.name if isinstance(current, Leaf) else current.words, current.shape, most)
        if isinstance(current, Leaf):
            done[id(current)] = _leaf(current, payloads)
            budget.spend(current, done)
            continue
        missing = [argument for argument in current.arguments if id(argument) not in done]
        if missing:
            if len(waiting) > _MAX_INTERMEDIATES:
                raise ModelLimitError(f"weights computed in more than {_MAX_INTERMEDIATES} steps")
            waiting.extend(missing)
            continue
        done[id(current)] = _apply(current, tuple(done[id(argument)] for argument in current.arguments))
        budget.spend(current, done)
    return done[id(expression)]


class _Budget:
    """What computing one expression may cost, and when each result on the way has been used for the last time.

    A file of a few kilobytes can ask for hundreds of steps on tensors as large as the limit allows, out of nothing
    (ConstantOfShape, Expand). Each alone is within the limit; all of them together must be, too.
    """

    def __init__(self, expression: Expression, most: int, *, keep: bool) -> None:
        self._most = most
        self._work = self._held = 0
        self._uses: dict[int, int] = {}
        self._keep = keep
        stack = [] if keep else [expression]
        while stack:
            current = stack.pop()
            for argument in current.arguments if isinstance(current, Apply) else ():
                known = self._uses.get(id(argument), 0)
                self._uses[id(argument)] = known + 1
                if not known:
                    stack.append(argument)

    def spend(self, current: Expression, done: dict[int, AnyArray]) -> None:
        """Count ``current``, just computed, and forget its arguments where nothing else needs them.

        Raises:
            ModelLimitError: Too much was computed, or is held.
        """
        if self._keep:
            return
        size = prod(current.shape) * 4
        self._work += size
        self._held += size
        for argument in current.arguments if isinstance(current, Apply) else ():
            self._uses[id(argument)] -= 1
            if not self._uses[id(argument)]:
                del done[id(argument)]
                self._held -= prod(argument.shape) * 4
        if self._work > _MAX_WORK * self._most or self._held > _MAX_HELD * self._most:
            raise ModelLimitError(
                f"weights of shape {current.shape} are computed from tensors that take {_MAX_WORK} times the limit of"
                f" {self._most} bytes in all, or {_MAX_HELD} times at once; raise the limit if meant"
            )


def _leaf(leaf: Leaf, payloads: Payloads) -> AnyArray:
    if leaf.sparse is not None:
        return payloads.dense(leaf.sparse)
    if leaf.tensor is None and leaf.fill:
        return np.zeros(leaf.shape, np.float32)
    if leaf.tensor is None:
        return np.array(leaf.integers, np.int64).reshape(leaf.shape)
    values = payloads.array(leaf.tensor)
    return np.full(leaf.shape, values.reshape(-1)[0]) if leaf.fill else values.reshape(leaf.shape)


def _apply(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    try:
        with np.errstate(all="ignore"):
            result = _STEPS[step.step](step, arguments)
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())
        shapes = ", ".join(f"{argument.dtype}{list(argument.shape)}" for argument in arguments)
        raise WeightsUnresolved(f"weights pass through {step.words or step.step} of {shapes}: {reason}") from error
    if result.shape != step.shape:
        raise WeightsUnresolved(f"weights pass through {step.words}, which gives {result.shape} and not {step.shape}")
    return result


def _divide(left: AnyArray, right: AnyArray) -> AnyArray:
    if not np.issubdtype(left.dtype, np.integer):
        return np.asarray(left / right)
    quotient = np.abs(left) // np.maximum(np.abs(right), 1)
    return np.asarray(quotient * np.sign(left) * np.sign(right))


def _slice(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    (ranges,) = step.parameters
    assert isinstance(ranges, tuple)
    index = []
    for entry in ranges:
        assert isinstance(entry, tuple)
        start, stop, stride = entry
        index.append(slice(start, stop if stop >= 0 else None, stride))
    return arguments[0][tuple(index)]


def spread(factors: AnyArray, shape: tuple[int, ...], axis: int, block: int) -> AnyArray:
    """Scales or zero points made to broadcast against ``shape``: one, one per index of ``axis``, or one per block."""
    if factors.size == 1 and block == 0:
        return factors.reshape(())
    if block == 0:
        return factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    index = [slice(None)] * len(shape)
    index[axis] = slice(shape[axis])
    return np.repeat(factors, block, axis)[tuple(index)]


def _ints(parameters: Parameters) -> tuple[int, int]:
    axis, block = parameters[0], parameters[1]
    assert isinstance(axis, int)
    assert isinstance(block, int)
    return axis, block


def _wide(values: AnyArray) -> AnyArray:
    """Codes wide enough for a zero point to be taken away, or small floats as float32."""
    return values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32)


def _dequantize(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    codes, scale = arguments[:2]
    axis, block = _ints(step.parameters)
    centred = _wide(codes)
    if len(arguments) > 2:
        centred = centred - _wide(spread(arguments[2], codes.shape, axis, block))
    factors = spread(scale, codes.shape, axis, block).astype(np.float32)
    return cast(step.dtype, np.asarray(centred.astype(np.float32) * factors))


def quantize(step: Apply, values: AnyArray, scale: AnyArray, zero: AnyArray | None, saturate: bool = True) -> AnyArray:
    """``values`` as codes of ``step.dtype``: divided by the scale, rounded half to even, shifted, clipped."""
    axis, block = _ints(step.parameters)
    scaled = values.astype(np.float32) / spread(scale, values.shape, axis, block).astype(np.float32)
    if step.dtype.kind == "f":
        return cast(step.dtype, scaled, saturate)
    low, high = step.dtype.limits
    codes = np.rint(np.nan_to_num(scaled, nan=0.0, posinf=3e38, neginf=-3e38)).astype(np.float64)
    if zero is not None:
        codes = codes + spread(zero, values.shape, axis, block).astype(np.float64)
    return np.asarray(np.clip(codes, low, high).astype(step.dtype.numpy))


def _quantize(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    zero = arguments[2] if len(arguments) > 2 else None
    return quantize(step, arguments[0], arguments[1], zero, step.parameters[2] == 1)


def _dynamic_quantize(_: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    values = arguments[0].astype(np.float32)
    low, high = min(np.float32(0), values.min(initial=0)), max(np.float32(0), values.max(initial=0))
    scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray(np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8))


def _unpack(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    (bits,) = step.parameters
    assert isinstance(bits, int)
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    codes = arguments[0].reshape(-1, 1) >> shifts & np.uint8((1 << bits) - 1)
    return np.asarray(codes.reshape(step.shape))


def _crop(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    return arguments[0][tuple(slice(size) for size in step.shape)]


def _transpose(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    (axes,) = step.parameters
    assert isinstance(axes, tuple)
    return arguments[0].transpose([int(axis) for axis in axes if isinstance(axis, int)])


def _concat(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    (axis,) = step.parameters
    assert isinstance(axis, int)
    return np.concatenate(arguments, axis)


def _cast(step: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    return cast(step.dtype, arguments[0], step.parameters == (1,))


def _batch_norm_scale(_: Apply, arguments: tuple[AnyArray, ...]) -> AnyArray:
    """Compute gamma / sqrt(var + eps); 1e-5 is the operator's default for eps."""
    gamma, variance = (argument.astype(np.float64) for argument in arguments[:2])
    epsilon = float(arguments[2]) if len(arguments) > 2 else 1e-5
    return np.asarray((gamma / np.sqrt(variance + epsilon)).astype(np.float32))


_STEPS: dict[str, _Step] = {
    "identity": lambda _, given: given[0],
    "reshape": lambda step, given: given[0].reshape(step.shape),
    "transpose": _transpose,
    "broadcast": lambda step, given: np.broadcast_to(given[0], step.shape),
    "cast": _cast,
    "concat": _concat,
    "slice": _slice,
    "add": lambda _, given: np.asarray(given[0] + given[1]),
    "subtract": lambda _, given: np.asarray(given[0] - given[1]),
    "multiply": lambda _, given: np.asarray(given[0] * given[1]),
    "divide": lambda _, given: _divide(given[0], given[1]),
    "negate": lambda _, given: np.asarray(-given[0]),
    "square root": lambda _, given: np.asarray(np.sqrt(given[0])),
    "batch norm scale": _batch_norm_scale,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "dynamic quantize": _dynamic_quantize,
    "unpack": _unpack,
    "crop": _crop,
}
