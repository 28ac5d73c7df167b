"""The table of operators that have host weights: at which input, in which codes, in which order.

The one place to add another. A row says where the weights are; :mod:`onnxmark.model.codes` makes floats of them and
:mod:`onnxmark.model.layouts` brings them into canonical order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnxmark.model import blocked, codes, layouts
from onnxmark.model.expression import Expression
from onnxmark.model.hosts import Host, Unfit
from onnxmark.model.records import Node


@dataclass(frozen=True, slots=True)
class Layer:
    """How an operator holds its weights.

    Args:
        inputs: At which inputs; the first constant one counts.
        layout: Into canonical order.
        floats: From its codes to the numbers they stand for; None for operators that take floats.
        dense: It also multiplies matrices that are no weights.
    """

    inputs: tuple[int, ...]
    layout: Callable[[Host, Expression], Expression]
    floats: Callable[[Host], Expression] | None = None
    dense: bool = False


_MICROSOFT = "com.microsoft"
_BLOCKED = (blocked.DOMAIN, "Conv")
_LAYERS: dict[tuple[str, str], Layer] = {
    ("", "Conv"): Layer((1,), layouts.convolution),
    ("", "ConvTranspose"): Layer((1,), layouts.transposed_convolution),
    ("", "Gemm"): Layer((1,), layouts.dense, dense=True),
    ("", "MatMul"): Layer((1, 0), layouts.dense, dense=True),
    ("", "ConvInteger"): Layer((1,), layouts.convolution, codes.integer_convolution),
    ("", "QLinearConv"): Layer((3,), layouts.convolution, codes.linear_convolution),
    ("", "MatMulInteger"): Layer((1, 0), layouts.dense, codes.integer_product, dense=True),
    ("", "QLinearMatMul"): Layer((3, 0), layouts.dense, codes.linear_product, dense=True),
    _BLOCKED: Layer((1,), layouts.convolution),
    (_MICROSOFT, "FusedConv"): Layer((1,), layouts.convolution),
    (_MICROSOFT, "NhwcConv"): Layer((1,), layouts.channels_last),
    (_MICROSOFT, "QLinearConv"): Layer((3,), layouts.convolution, codes.linear_convolution),
    (_MICROSOFT, "FusedGemm"): Layer((1,), layouts.dense, dense=True),
    (_MICROSOFT, "FusedMatMul"): Layer((1, 0), layouts.dense, dense=True),
    (_MICROSOFT, "QGemm"): Layer((3,), layouts.dense, codes.linear_product, dense=True),
    (_MICROSOFT, "MatMulNBits"): Layer((1,), layouts.outputs_first, codes.blockwise_product),
    (_MICROSOFT, "DynamicQuantizeMatMul"): Layer((1,), layouts.dense, codes.dynamic_product, dense=True),
    (_MICROSOFT, "MatMulIntegerToFloat"): Layer((1,), layouts.dense, codes.product_to_float, dense=True),
}
_LAYERS |= {("ai.onnx", op): layer for (domain, op), layer in _LAYERS.items() if domain == ""}


def layer_of(node: Node) -> Layer | None:
    """How ``node`` holds host weights; None if its operator has none."""
    return _LAYERS.get((node.domain, node.op_type))


def readings(layer: Layer, host: Host) -> list[tuple[str, Expression]]:
    """The host's canonical weights, in every way the file leaves open, with a label for all but the first.

    Raises:
        Unfit: They are no weights of this operator.
    """
    if len(host.native.shape) < 2:
        raise Unfit(f"weights have at least two axes, not shape {host.native.shape}")
    weights = host.native if layer.floats is None else layer.floats(host)
    if (host.node.domain, host.node.op_type) == _BLOCKED:
        return blocked.readings(host, weights)
    return [("", layer.layout(host, weights))]
