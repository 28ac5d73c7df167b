"""Routes by hand: the same network with its carrier stored in every way ONNX allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

Nodes = Sequence[onnx.NodeProto]
SHAPE = (32, 32, 3, 3)


def carrier(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """The second convolution with the carrier's shape, and its weights."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [
        (node, stored[node.input[1]])
        for node in graph.node
        if node.op_type == "Conv" and tuple(stored[node.input[1]].dims) == SHAPE
    ]
    return found[1]


def hidden(model: onnx.ModelProto, make: Callable[[np.ndarray, str], tuple[Nodes, Sequence[Any]]]) -> onnx.ModelProto:
    """The carrier's tensor replaced by nodes and tensors that make the value ``new``."""
    node, old = carrier(model.graph)
    nodes, tensors = make(numpy_helper.to_array(old), "new")
    model.graph.initializer.remove(old)
    node.input[1] = "new"
    for tensor in tensors:
        where = model.graph.initializer if isinstance(tensor, onnx.TensorProto) else model.graph.sparse_initializer
        where.append(tensor)
    for place, extra in enumerate(nodes):
        model.graph.node.insert(place, extra)
    return model


def chain(*steps: tuple[Any, ...], **tensors: Any) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes ``(op, inputs, output, attributes)`` and initializers by name."""
    nodes = [helper.make_node(op, inputs.split(), [out], **attributes) for op, inputs, out, attributes in steps]
    made = [t if isinstance(t, onnx.TensorProto) else numpy_helper.from_array(t, n) for n, t in tensors.items()]
    return nodes, made


def typed(name: str, code: int, values: np.ndarray) -> onnx.TensorProto:
    """A tensor whose elements are in its typed field."""
    return helper.make_tensor(name, code, values.shape, values.reshape(-1))


def all_in_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every initializer becomes a Constant node."""
    for place, tensor in enumerate(model.graph.initializer):
        model.graph.node.insert(place, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    return model


def in_branches(model: onnx.ModelProto, inside: bool) -> onnx.ModelProto:
    """The carrier's convolution moves into an If, its weights stay outside or go with it."""
    graph = model.graph
    node, weights = carrier(graph)
    place = list(graph.node).index(node)
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.output[0] = "then_out"
    result = helper.make_tensor_value_info("then_out", T.FLOAT, None)
    then = helper.make_graph([inner], "then", [], [result], [weights] if inside else [])
    other = helper.make_graph(
        [helper.make_node("Identity", [node.input[0]], ["else_out"])], "else", [],
        [helper.make_tensor_value_info("else_out", T.FLOAT, None)],
    )  # fmt: skip
    choice = helper.make_node("If", ["flag"], list(node.output), name="choice", then_branch=then, else_branch=other)
    if inside:
        graph.initializer.remove(weights)
    graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    graph.node.remove(node)
    graph.node.insert(place, choice)
    del graph.value_info[:]
    return model


def in_function(model: onnx.ModelProto, inside: bool) -> onnx.ModelProto:
    """The carrier's convolution becomes a local function, its weights an argument or a constant of the function."""
    graph = model.graph
    node, weights = carrier(graph)
    formal = ["x", "w", "b"][: len(node.input)]
    passed = [place for place in range(len(formal)) if not (inside and place == 1)]
    call = helper.make_node(
        "Layer", [node.input[place] for place in passed], list(node.output), domain="local", name="call"
    )
    body = onnx.NodeProto()
    body.CopyFrom(node)
    body.input[:], body.output[:] = formal, ["y"]
    nodes = [helper.make_node("Constant", [], ["w"], value=weights), body] if inside else [body]
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(
        helper.make_function("local", "Layer", [formal[place] for place in passed], ["y"], nodes, opset)
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    if inside:
        graph.initializer.remove(weights)
    place = list(graph.node).index(node)
    graph.node.remove(node)
    graph.node.insert(place, call)
    model.ir_version = max(model.ir_version, 8)
    return model


def in_loop(model: onnx.ModelProto) -> onnx.ModelProto:
    """The carrier's convolution is the body of a loop of one turn."""
    graph = model.graph
    node, _ = carrier(graph)
    place = list(graph.node).index(node)
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.input[0], inner.output[0] = "state", "turned"
    body = helper.make_graph(
        [inner, helper.make_node("Identity", ["go"], ["go_on"])], "body",
        [helper.make_tensor_value_info("i", T.INT64, []), helper.make_tensor_value_info("go", T.BOOL, []),
         helper.make_tensor_value_info("state", T.FLOAT, None)],
        [helper.make_tensor_value_info("go_on", T.BOOL, []), helper.make_tensor_value_info("turned", T.FLOAT, None)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["turns", "", node.input[0]], list(node.output), name="loop", body=body)
    graph.initializer.append(numpy_helper.from_array(np.array(1), "turns"))
    graph.node.remove(node)
    graph.node.insert(place, loop)
    del graph.value_info[:]
    return model


def sparse(name: str, values: np.ndarray) -> onnx.SparseTensorProto:
    """A tensor as the list of its elements that are not zero."""
    flat = values.reshape(-1)
    kept = np.flatnonzero(flat)
    indices = numpy_helper.from_array(kept.astype(np.int64), f"{name}_indices")
    return helper.make_sparse_tensor(numpy_helper.from_array(flat[kept], name), indices, list(values.shape))


def with_noise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A convolution more, of the carrier's shape, whose weights are one number repeated (ConstantOfShape)."""
    node, _ = carrier(model.graph)
    nodes, tensors = chain(
        ("ConstantOfShape", "noise_shape", "noise", {"value": typed("v", T.FLOAT, np.float32([0.01]))}),
        ("Conv", f"{node.input[0]} noise", "noise_out", {"pads": [1, 1, 1, 1]}),
        ("Mul", "noise_out nought", "noise_gone", {}),
        noise_shape=np.array(SHAPE, np.int64), nought=np.float32(0),
    )  # fmt: skip
    place = list(model.graph.node).index(node)
    after = model.graph.node[place + 1]
    nodes.append(helper.make_node("Add", [node.output[0], "noise_gone"], ["with_noise"]))
    after.input[list(after.input).index(node.output[0])] = "with_noise"
    for extra in reversed(nodes):
        model.graph.node.insert(place + 1, extra)
    model.graph.initializer.extend(tensors)
    return model


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The carrier's convolution as com.microsoft::NhwcConv: weights OHWI, transpositions around it."""
    node, old = carrier(model.graph)
    model.graph.initializer.append(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(old).transpose(0, 2, 3, 1)), "ohwi")
    )
    model.graph.initializer.remove(old)
    place = list(model.graph.node).index(node)
    source, result = node.input[0], node.output[0]
    node.op_type, node.domain = "NhwcConv", "com.microsoft"
    node.input[0], node.input[1], node.output[0] = "nhwc_in", "ohwi", "nhwc_out"
    model.graph.node.insert(place + 1, helper.make_node("Transpose", ["nhwc_out"], [result], perm=[0, 3, 1, 2]))
    model.graph.node.insert(place, helper.make_node("Transpose", [source], ["nhwc_in"], perm=[0, 2, 3, 1]))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model
