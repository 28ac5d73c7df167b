"""Constants that a file computes: a bias reshaped to (1, C, 1, 1), weights transposed, a zero expanded.

Exporters leave such expressions where nothing folds them. Only operators that move, repeat or convert elements are
followed, since dequantised or otherwise computed values could not be put back; and no further than a tensor may grow.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray

FOLDED: Final = frozenset(
    ["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Cast", "CastLike", "Shape",
     "Concat"]
)  # fmt: skip
"""Operators whose result is computed here when their operands are constants."""
_MOST: Final = 1 << 26
"""Elements an expression may have."""


def folded(node: Any, operands: list[AnyArray], opsets: Any) -> AnyArray | None:
    """The first output of a node of constants, by ONNX's reference; None where it has none, or would be too large.

    Args:
        node: An ``onnx.NodeProto`` of one of the operators :data:`FOLDED`.
        operands: Values of its inputs, in order.
        opsets: Operator sets of the model.
    """
    if sum(values.size for values in operands) > _MOST:
        return None
    if node.op_type == "Expand" and not _bounded(operands[0].shape, operands[1].tolist()):
        return None
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    names = [f"operand{place}" for place in range(len(operands))]
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.input[:], alone.output[:] = names, ["result"]
    tensors = [numpy_helper.from_array(values, name) for values, name in zip(operands, names, strict=True)]
    result = helper.make_tensor_value_info("result", onnx.TensorProto.UNDEFINED, None)
    graph = helper.make_graph([alone], "constant", [], [result], tensors)
    model = helper.make_model(graph, opset_imports=list(opsets))
    try:
        values: Any = ReferenceEvaluator(model).run(None, {})
    except Exception:  # the reference's exceptions share no base class; what it cannot compute is no constant
        return None
    return np.asarray(values[0])


def constant_tensor(attribute: Any) -> Any:
    """The TensorProto that the attribute of a ``Constant`` node stands for; None for strings and sparse tensors."""
    from onnx import helper, numpy_helper

    if attribute.name == "value":
        return attribute.t
    element = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in element:
        return None
    return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), element[attribute.name]))


def _bounded(shape: tuple[int, ...], target: list[int]) -> bool:
    """Whether an array of ``shape`` stays small when it is expanded to ``target``."""
    return prod(max(1, size) for size in (*shape, *target)) <= _MOST
