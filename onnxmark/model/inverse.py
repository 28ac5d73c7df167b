"""The way back: from canonical float32 weights to the bytes of the tensor they were read from.

Each step of a site's plan that loses nothing but precision is undone in turn. What cannot be undone that way is said to
be so, and :mod:`onnxmark.model.write` then replaces the tensor instead.
"""

from __future__ import annotations

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.model.dtypes import cast, to_raw
from onnxmark.model.expression import Apply, Expression, Leaf, chain
from onnxmark.model.payload import Payloads
from onnxmark.model.records import Storage
from onnxmark.model.resolve import evaluate, quantize

_IN_PLACE = {Storage.RAW, Storage.FLOAT, Storage.DOUBLE, Storage.EXTERNAL}


class NotInvertible(Exception):
    """Why values cannot be put back into the stored tensor; never leaves the writer, which turns it into words."""


def stored_bytes(plan: Expression, values: AnyArray, payloads: Payloads) -> tuple[Leaf, bytes]:
    """The leaf of ``plan`` and the ``raw_data`` bytes that make it evaluate to ``values``, as nearly as its type can.

    Raises:
        NotInvertible: There are none, or they would not take the same room in the file.
        ModelError: Scales or zero points on the way cannot be read.
    """
    *steps, leaf = chain(plan)
    assert isinstance(leaf, Leaf)
    if leaf.tensor is None or leaf.fill or leaf.tensor.storage not in _IN_PLACE:
        raise NotInvertible(f"{leaf.origin} has no place of its own for each weight")
    for step in steps:
        assert isinstance(step, Apply)
        values = _undo(step, values, payloads)
    if leaf.dtype.kind == "f":
        # Beyond the type's range they become infinite, as in any runtime, and no warning is due.
        with np.errstate(all="ignore"):
            values = cast(leaf.dtype, values)
    elif values.dtype != leaf.dtype.numpy:
        raise NotInvertible(f"{leaf.dtype.name} weights without a scale")
    return leaf, to_raw(leaf.dtype, values)


def native_values(plan: Expression, native: Expression, values: AnyArray, payloads: Payloads) -> AnyArray:
    """``values`` from canonical order to the order the node wants them in, in the type it wants.

    Raises:
        NotInvertible: The node wants codes of a type that has no values of its own.
    """
    steps = chain(plan)
    if native not in steps:
        raise NotInvertible(f"the model quantises them itself, to {native.dtype.name}")
    for step in steps[: steps.index(native)]:
        assert isinstance(step, Apply)
        values = _undo(step, values, payloads)
    if native.dtype.kind in "iu" and native.dtype.bits >= 8 and values.dtype == native.dtype.numpy:
        return values
    if native.dtype.kind != "f":
        raise NotInvertible(f"the node takes {native.dtype.name}")
    with np.errstate(all="ignore"):
        return cast(native.dtype, values)


def _undo(step: Apply, values: AnyArray, payloads: Payloads) -> AnyArray:
    source = step.arguments[0]
    if step.step == "identity":
        return values
    if step.step == "reshape":
        return values.reshape(source.shape)
    if step.step == "transpose":
        (axes,) = step.parameters
        return values.transpose(np.argsort(np.array(axes, np.int64)))
    if step.step == "cast" and source.dtype.kind == "f":
        return values
    if step.step == "quantize":
        # Float weights that the file itself rounds: what is stored may stay exact.
        return values
    if step.step == "dequantize":
        if isinstance(source, Apply) and source.step == "quantize":
            return values
        scale = evaluate(step.arguments[1], payloads)
        zero = evaluate(step.arguments[2], payloads) if len(step.arguments) > 2 else None
        codes = Apply("quantize", (), (*step.parameters, 1), source.shape, source.dtype)
        with np.errstate(all="ignore"):
            return quantize(codes, values, scale, zero)
    if step.step == "crop":
        whole = evaluate(source, payloads).copy()
        whole[tuple(slice(size) for size in step.shape)] = values
        return whole
    if step.step == "unpack":
        (bits,) = step.parameters
        assert isinstance(bits, int)
        packed = values.reshape(-1, 8 // bits) << np.arange(8 // bits, dtype=np.uint8) * bits
        return np.asarray(np.bitwise_or.reduce(packed, axis=1).reshape(source.shape))
    raise NotInvertible(f"the file computes them with {step.words or step.step}")
