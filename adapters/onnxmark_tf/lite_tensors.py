"""The weights of layers in a TensorFlow Lite model: constant tensors that its convolutions and products take.

The file is a flatbuffer, read through the schema's classes that tf2onnx brings. Quantised weights are given their
floats back; float16 ones stand behind an operator that does so when the model runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.conversion import SourceWeights
from onnxmark_tf.orders import canonical

_ORDERS: Final = MappingProxyType(
    {
        3: "OHWI",  # CONV_2D
        4: "MHWC",  # DEPTHWISE_CONV_2D
        9: "OI",  # FULLY_CONNECTED
        67: "OHWI",  # TRANSPOSE_CONV
        132: "HWIO",  # CONV_3D
        141: "HWOI",  # CONV_3D_TRANSPOSE
    }
)
"""Axis order of the weights of an operator, by its number in the schema; they are its second input."""
_DEQUANTIZE: Final = 6
_TYPES: Final = MappingProxyType({0: "<f4", 1: "<f2", 3: "u1", 7: "<i2", 9: "i1"})
"""Element types that weights are kept in, by their number in the schema."""


@dataclass(frozen=True, slots=True)
class Use:
    """An operator that takes weights.

    Args:
        tensor: Index of the constant tensor.
        order: Its axis order.
        channels: Index of the tensor that the weights are applied to; None where groups are unknown to the operator.
    """

    tensor: int
    order: str
    channels: int | None


def host_weights(model: Any) -> tuple[tuple[SourceWeights, ...], tuple[str, ...]]:
    """The weights of the layers of a model.

    Args:
        model: ``tf2onnx.tflite.Model.Model``.

    Returns:
        The weights, named after their tensors, and the names of tensors that are kept in a way we cannot read.
    """
    found: dict[str, SourceWeights] = {}
    unread = []
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        seen: set[int] = set()
        for use in _uses(model, graph):
            if use.tensor in seen:
                continue
            seen.add(use.tensor)
            name = _unique(graph.Tensors(use.tensor).Name().decode("utf-8", "replace"), found)
            values = _floats(model, graph.Tensors(use.tensor))
            if values is None:
                unread.append(name)
            else:
                found[name] = _source(name, values, use, graph)
    return tuple(found.values()), tuple(unread)


def _uses(model: Any, graph: Any) -> Iterator[Use]:
    """Every use of constant weights by an operator we know."""
    made_by = {}
    for operator in (graph.Operators(index) for index in range(graph.OperatorsLength())):
        code = _code(model, operator)
        if code == _DEQUANTIZE:
            made_by[operator.Outputs(0)] = operator.Inputs(0)
        if code in _ORDERS and operator.InputsLength() > 1:
            tensor = made_by.get(operator.Inputs(1), operator.Inputs(1))
            if tensor >= 0 and not model.Buffers(graph.Tensors(tensor).Buffer()).DataIsNone():
                channels = operator.Inputs(0) if code in (3, 132) else None
                yield Use(tensor, _ORDERS[code], channels)


def _code(model: Any, operator: Any) -> int:
    """Number of an operator: new ones do not fit the byte that old files have."""
    code = model.OperatorCodes(operator.OpcodeIndex())
    return int(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))


def _floats(model: Any, tensor: Any) -> NDArray[Any] | None:
    """A constant tensor as floats; None where it is sparse or of a type that weights are not kept in."""
    if tensor.Type() not in _TYPES or tensor.Sparsity() is not None or tensor.ShapeIsNone():
        return None
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    values = np.frombuffer(raw.tobytes(), dtype=_TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
    return values if values.dtype.kind == "f" else _dequantised(values, tensor.Quantization())


def _dequantised(codes: NDArray[Any], quantisation: Any) -> NDArray[Any] | None:
    """Scale times code less zero point, with one scale or with one for every index of an axis."""
    if quantisation is None or quantisation.ScaleIsNone():
        return None
    scale = quantisation.ScaleAsNumpy()
    zero = quantisation.ZeroPointAsNumpy() if not quantisation.ZeroPointIsNone() else np.zeros(1)
    along = [1] * codes.ndim
    if scale.size > 1:
        along[quantisation.QuantizedDimension()] = -1
    centred = codes.astype(np.float64) - zero.reshape(along if zero.size > 1 else 1)
    floats: NDArray[Any] = centred * scale.reshape(along)
    return floats


def _source(name: str, values: NDArray[Any], use: Use, graph: Any) -> SourceWeights:
    weights = canonical(values, use.order)
    if use.order == "MHWC":
        return SourceWeights(name, weights, use.order, len(weights))
    inputs = 0 if use.channels is None else int(graph.Tensors(use.channels).ShapeAsNumpy()[-1])
    return SourceWeights(name, weights, use.order, max(1, inputs // weights.shape[1]))


def _unique(name: str, taken: dict[str, SourceWeights]) -> str:
    """The name, with a number behind it where it is taken."""
    numbered = (f"{name}#{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)
