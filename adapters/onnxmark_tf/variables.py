"""The variables of a loaded SavedModel that are weights of layers, told by the operation that takes them.

Freezing a function turns its variables into constants where they are used, and names are lost on the way. So a variable
is followed by its value: the constant that equals it bit by bit is where it went.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from numpy.typing import NDArray

from onnxmark.conversion import SourceWeights
from onnxmark_tf.frameworks import imported
from onnxmark_tf.orders import canonical

_ORDERS: Final = MappingProxyType(
    {
        "Conv2D": "HWIO",
        "Conv3D": "HWIO",
        "DepthwiseConv2dNative": "HWCM",
        "Conv2DBackpropInput": "HWOI",
        "Conv3DBackpropInputV2": "HWOI",
        "MatMul": "IO",
        "BatchMatMulV2": "IO",
        "BatchMatMulV3": "IO",
    }
)
"""Axis order of the weights of an operation, which are its second input."""
_PASSING: Final = frozenset({"Identity", "ReadVariableOp", "Cast", "ExpandDims", "Reshape", "Squeeze", "StopGradient"})
"""Operations that weights go through on their way without a change to the order of their axes."""


@dataclass(frozen=True, slots=True)
class Use:
    """What takes a constant.

    Args:
        order: Axis order in which it takes it.
        inputs: Channels of what it is applied to; 0 where they are not known.
    """

    order: str
    inputs: int


def host_weights(signature: Any) -> tuple[SourceWeights, ...]:
    """The weights of layers among the variables that a signature uses.

    Where variables share a name, each has its number behind it.

    Args:
        signature: One of the signatures of what ``tf.saved_model.load`` returned.
    """
    uses = dict(_uses(signature))
    found = []
    for name, variable in _named(signature.variables):
        values = variable.numpy()
        use = uses.get(_fingerprint(values))
        if use is not None and (values.ndim == 2) == (use.order in ("IO", "OI")):
            weights = canonical(values, use.order)
            found.append(SourceWeights(name, weights, use.order, _group(values, weights, use)))
    return tuple(found)


def _uses(signature: Any) -> Iterator[tuple[bytes, Use]]:
    """Every constant that is weights, by its fingerprint."""
    convert = imported("tensorflow.python.framework.convert_to_constants", "tf", "converting a SavedModel")
    make_ndarray = imported("tensorflow", "tf", "converting a SavedModel").make_ndarray
    frozen = convert.convert_variables_to_constants_v2(signature, lower_control_flow=False)
    for operation in frozen.graph.get_operations():
        if operation.type in _ORDERS:
            source = operation.inputs[1].op
            while source.type in _PASSING:
                source = source.inputs[0].op
            if source.type == "Const":
                yield _fingerprint(make_ndarray(source.get_attr("value"))), _use(operation)


def _use(operation: Any) -> Use:
    attributes = operation.node_def.attr
    if any(attributes[name].b for name in ("transpose_b", "adj_y") if name in attributes):
        return Use("OI", 0)
    if operation.type not in ("Conv2D", "Conv3D"):
        return Use(_ORDERS[operation.type], 0)
    shape = operation.inputs[0].shape
    is_first = attributes["data_format"].s.startswith(b"NC")
    return Use(_ORDERS[operation.type], int((shape[1] if is_first else shape[-1]) or 0) if shape.rank else 0)


def _named(variables: Any) -> Iterator[tuple[str, Any]]:
    names = [variable.name.removesuffix(":0") for variable in variables]
    total, met = Counter(names), Counter[str]()
    for name, variable in zip(names, variables, strict=True):
        met[name] += 1
        yield (name if total[name] == 1 else f"{name}#{met[name]}"), variable


def _group(values: NDArray[Any], weights: NDArray[Any], use: Use) -> int:
    return int(values.shape[-2]) if use.order == "HWCM" else max(1, use.inputs // int(weights.shape[1]))


def _fingerprint(values: NDArray[Any]) -> bytes:
    return hashlib.sha256(repr((values.shape, str(values.dtype))).encode() + values.tobytes()).digest()
