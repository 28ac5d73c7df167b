"""A legal ONNX file of weights that came without a graph.

Every layer is a node of its own, on an input of its own, so whatever reads models finds its weights where it looks for
them; nothing connects the layers, and the file says so. Running it computes nothing of the original model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from onnxmark.arrays import Float32Array

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

WEIGHTS_ONLY: Final = "onnxmark.weights_only"
"""Key in ``metadata_props`` of such a file."""
_OPSET: Final = 17
_IR: Final = 8
_MOST_INLINE: Final = 1 << 30
"""Bytes of weights beyond which they lie in a file beside the model: a protobuf message ends at 2 GiB."""


class LayerWeights(Protocol):
    """Host weights with a name."""

    @property
    def name(self) -> str:
        """Unique among the layers."""
        ...

    @property
    def values(self) -> Float32Array:
        """Canonical order ``(out, in / group, *spatial)``."""
        ...

    @property
    def group(self) -> int:
        """Convolution groups."""
        ...


def write_weights_only(target: str | PathLike[str], layers: Sequence[LayerWeights]) -> None:
    """Write a file that holds the weights of layers and no graph between them.

    Args:
        target: The file; weights of a gigabyte and more land beside it.
        layers: At least one; names are those of the initializers.

    Raises:
        ValueError: There is no layer, or two have one name.
    """
    import onnx

    if not layers or len({layer.name for layer in layers}) != len(layers):
        raise ValueError(f"a file of weights takes layers with names of their own, found {len(layers)}")
    parts = [_layer(index, layer) for index, layer in enumerate(layers)]
    graph = onnx.helper.make_graph(
        [node for node, *_ in parts],
        "weights_only",
        [inputs for _, inputs, _, _ in parts],
        [outputs for _, _, outputs, _ in parts],
        [tensor for *_, tensor in parts],
        doc_string="Weights without the graph they belong to: each layer stands alone.",
    )
    model = onnx.helper.make_model(
        graph, producer_name="onnxmark", opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    onnx.helper.set_model_props(model, {WEIGHTS_ONLY: "each layer stands alone"})
    large = sum(layer.values.nbytes for layer in layers) > _MOST_INLINE
    location = f"{Path(fspath(target)).name}.data"
    onnx.save_model(model, fspath(target), save_as_external_data=large, location=location if large else None)


def is_weights_only(metadata: Mapping[str, str]) -> bool:
    """Whether a file says of itself that it holds weights without a graph.

    Args:
        metadata: The model's ``metadata_props``.
    """
    return WEIGHTS_ONLY in metadata


def _layer(index: int, layer: LayerWeights) -> tuple[NodeProto, ValueInfoProto, ValueInfoProto, TensorProto]:
    """A node, its input and output, and its weights."""
    from onnx import TensorProto, helper, numpy_helper

    rank = layer.values.ndim
    given, computed = f"input_{index}", f"output_{index}"
    channels = int(layer.values.shape[1]) * layer.group
    free = [f"d{axis}" for axis in range(rank - 2)]
    attributes: dict[str, Any] = {"transB": 1} if rank == 2 else {"group": layer.group}
    node = helper.make_node(
        "Gemm" if rank == 2 else "Conv", [given, layer.name], [computed], name=layer.name, **attributes
    )
    reduced = [f"{name}_out" for name in free]
    return (
        node,
        helper.make_tensor_value_info(given, TensorProto.FLOAT, ["N", channels, *free]),
        helper.make_tensor_value_info(computed, TensorProto.FLOAT, ["N", int(layer.values.shape[0]), *reduced]),
        numpy_helper.from_array(np.ascontiguousarray(layer.values), layer.name),
    )
