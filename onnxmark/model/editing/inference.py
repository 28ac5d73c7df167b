"""What ONNX's inference knows of the values of a graph; where it gives up, what the file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class ValueType(NamedTuple):
    """The type of a value.

    Args:
        dtype: Element type; None where it is not known or not NumPy's.
        shape: Sizes, None where they are open; None where even the rank is.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None


def inferred_types(model: Any) -> Mapping[str, ValueType]:
    """Types of the inputs, outputs and inner values of the main graph of an ``onnx.ModelProto``."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        # A graph may run and still confuse the inference, custom operators for one.
        graph = model.graph
    items = (*graph.input, *graph.value_info, *graph.output)
    return {item.name: ValueType(_dtype(item), _shape(item)) for item in items if item.type.HasField("tensor_type")}


def _dtype(item: Any) -> np.dtype[Any] | None:
    import onnx

    code = item.type.tensor_type.elem_type
    known = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)) if code else None
    return known if known is not None and known.isbuiltin == 1 else None


def _shape(item: Any) -> tuple[int | None, ...] | None:
    if not item.type.tensor_type.HasField("shape"):
        return None
    sizes = item.type.tensor_type.shape.dim
    return tuple(int(size.dim_value) if size.HasField("dim_value") else None for size in sizes)
