"""Small models of the runtime tests, built node by node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(nodes, inputs, outputs, weights, opset=17):
    """A checked model; inputs and outputs are (name, shape) or (name, shape, element type)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(item[0], *(item[2:] or (TensorProto.FLOAT,)), item[1]) for item in inputs],
        [helper.make_tensor_value_info(item[0], *(item[2:] or (TensorProto.FLOAT,)), item[1]) for item in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    built.ir_version = 9
    onnx.checker.check_model(built)
    return built


def save(built, path):
    onnx.save(built, path)
    return path


def normal(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def classifier(seed=0, batch="N", scale=1.0):
    """A fully connected classifier of 6 features into 4 classes, shape (batch, 6) -> (batch, 4)."""
    return model(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="head", transB=1)],
        [("x", [batch, 6])],
        [("y", [batch, 4])],
        {"w": normal(4, 6, seed=seed, scale=scale), "b": normal(4, seed=seed + 1)},
    )


def layer(op, weights, rank, channels, **attributes):
    """relu -> one convolution named ``layer``; the activation is not an output."""
    sizes = [f"s{axis}" for axis in range(rank)]
    return model(
        [
            helper.make_node("Relu", ["x"], ["a"], name="relu"),
            helper.make_node(op, ["a", "w"], ["y"], name="layer", **attributes),
        ],
        [("x", ["N", channels, *sizes])],
        [("y", ["N", *["d"] * (rank + 1)])],
        {"w": weights},
    )
