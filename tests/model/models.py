"""Small models for the tests, and the reference they are held to: onnx and its reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

OPSETS = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def info(name: str, shape: object = None, dtype: int = T.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, initializers=(), inputs=("x",), outputs=("y",), functions=(), sparse=(), opsets=OPSETS, ir=11):
    graph = helper.make_graph(
        list(nodes), "g", [info(n) for n in inputs], [info(n) for n in outputs], list(initializers),
        sparse_initializer=list(sparse),
    )  # fmt: skip
    made = helper.make_model(graph, functions=list(functions), opset_imports=list(opsets), ir_version=ir)
    made.producer_name = "tests"
    return made


def conv(weight: str = "w", source: str = "x", out: str = "y", name: str = "conv", **attributes):
    return helper.make_node("Conv", [source, weight], [out], name=name, **attributes)


def constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=tensor(name, values))


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def evaluated(made: onnx.ModelProto, name: str) -> np.ndarray:
    """What onnx's reference evaluator says the value ``name`` of the main graph is."""
    from onnx.reference import ReferenceEvaluator

    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    del copy.graph.output[:]
    copy.graph.output.append(info(name))
    keep, needed = [], {name}
    for node in reversed(copy.graph.node):
        if needed & set(node.output):
            keep.append(node)
            needed |= set(node.input)
    keep.reverse()
    del copy.graph.node[:]
    copy.graph.node.extend(keep)
    del copy.graph.input[:]
    return np.asarray(ReferenceEvaluator(copy).run(None, {})[0])


def runtime(made: onnx.ModelProto | str, feeds: dict[str, np.ndarray], optimised: bool = False) -> list[np.ndarray]:
    """The outputs ONNX Runtime computes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = made if isinstance(made, str) else made.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def every_node(graph: onnx.GraphProto):
    """All nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from every_node(inner)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data
