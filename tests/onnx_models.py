"""Small ONNX models for tests, built with onnx itself."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def conv_chain(path, kernels, names=None):
    """A chain of convolutions with ReLU between them; kernels are (O, I, kh, kw) arrays, names their initializers."""
    names = names or [f"conv{index}.weight" for index in range(len(kernels))]
    nodes, initializers, current = [], [], "input"
    for index, (name, kernel) in enumerate(zip(names, kernels, strict=True)):
        pads = [size // 2 for size in kernel.shape[2:]] * 2
        nodes.append(helper.make_node("Conv", [current, name], [f"c{index}"], name=f"node_conv_{index}", pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu_{index}"))
        initializers.append(numpy_helper.from_array(np.asarray(kernel, dtype=np.float32), name))
        current = f"r{index}"
    shape = ["n", kernels[0].shape[1], 8, 8]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def kernel(shape, seed=0):
    """A kernel of a seed."""
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)
