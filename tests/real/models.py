"""Real models found inside installed wheels, and what onnx itself says of their convolutions.

The packages themselves are never imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

MODELS = {
    "rapidocr-onnxruntime": [
        "ch_ppocr_mobile_v2.0_cls_infer.onnx", "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx",
    ],
    "silero-vad": [
        "silero_vad.onnx", "silero_vad_16k_sequence.onnx", "silero_vad_op18_ifless.onnx",
        "silero_vad_openvino_16k.onnx", "silero_vad_half.onnx", "silero_vad_16k_op15.onnx",
    ],
    "magika": ["model.onnx"],
    "ddddocr": ["common.onnx", "common_det.onnx", "common_old.onnx"],
}  # fmt: skip
SUBJECTS = [(package, name) for package, names in MODELS.items() for name in names]
_CONVOLUTIONS = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}


def locate(package: str, name: str) -> Path | None:
    """Where the model is; None if its package is not installed."""
    try:
        entries = files(package) or []
    except PackageNotFoundError:
        return None
    return next((Path(str(e.locate())) for e in entries if Path(str(e)).name == name), None)


def convolutions(model: onnx.ModelProto) -> Iterator[np.ndarray]:
    """The weights of every convolution, as onnx stores or evaluates them, in canonical order and float32."""
    for values, node in _nodes(model.graph, {}):
        if node.op_type in _CONVOLUTIONS:
            name = node.input[_CONVOLUTIONS[node.op_type]]
            weights = _value(name, values, model)
            if node.op_type == "ConvInteger":
                # The quantiser's own naming tells scale and zero point.
                stem = name.removesuffix("_quantized")
                zero = _value(f"{stem}_zero_point", values, model).astype(np.float32)
                weights = (weights.astype(np.float32) - zero) * _value(f"{stem}_scale", values, model)
            if node.op_type == "ConvTranspose":
                group = next((a.i for a in node.attribute if a.name == "group"), 1)
                apart = weights.reshape(group, -1, *weights.shape[1:]).swapaxes(1, 2)
                weights = apart.reshape(-1, *apart.shape[2:])
            yield weights.astype(np.float32)


_Values = dict[str, onnx.NodeProto | onnx.TensorProto]


def _nodes(graph: onnx.GraphProto, outer: _Values) -> Iterator[tuple[_Values, onnx.NodeProto]]:
    """All nodes of a graph and of those inside it, each with what the names it sees stand for."""
    values: _Values = dict(outer)
    values |= {tensor.name: tensor for tensor in graph.initializer}
    values |= {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        yield values, node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _nodes(inner, values)


def _value(name: str, values: _Values, model: onnx.ModelProto) -> np.ndarray:
    """The constant called ``name``: stored, or computed node by node with onnx's reference evaluator."""
    maker = values[name]
    if isinstance(maker, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(maker))
    inputs = [source for source in maker.input if source]
    graph = onnx.helper.make_graph(
        [maker], "one", [onnx.helper.make_tensor_value_info(source, 1, None) for source in inputs],
        [onnx.helper.make_tensor_value_info(name, 1, None)],
    )  # fmt: skip
    alone = onnx.helper.make_model(graph, opset_imports=list(model.opset_import))
    return np.asarray(
        ReferenceEvaluator(alone).run([name], {source: _value(source, values, model) for source in inputs})[0]
    )
