"""A file of ResNet-50's size and shapes with random weights: 53 folded convolutions and a dense layer.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (CVPR 2016, arXiv 1512.03385), table 1. Trained
weights cannot be shipped, and what is timed here does not depend on them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES: Final = ((3, 64), (4, 128), (6, 256), (3, 512))
"""Blocks and width of each stage; a block gives out four times its width."""
CARRIER: Final = "stage4.block1.conv2.weight"


class _Builder:
    """Nodes and weights so far."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def weights(self, name: str, shape: tuple[int, ...]) -> str:
        fan_in = int(np.prod(shape[1:]))
        values = (self._rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, name: str, value: str, shape: tuple[int, int, int], stride: int = 1, *, relu: bool = True) -> str:
        out, into, kernel = shape
        weights = self.weights(f"{name}.weight", (out, into, kernel, kernel))
        bias = numpy_helper.from_array(np.zeros(out, np.float32), f"{name}.bias")
        self.initializers.append(bias)
        pads = [kernel // 2] * 4
        node = helper.make_node(
            "Conv", [value, weights, bias.name], [name], name=f"/{name}", pads=pads, strides=[stride] * 2
        )
        self.nodes.append(node)
        return self.op("Relu", [name]) if relu else name

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{inputs[0]}.{kind.lower()}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"/{name}", **attributes))
        return name


def _blocks() -> Iterator[tuple[str, int, int, int]]:
    """Name, input channels, width and stride of each block."""
    into = 64
    for stage, (count, width) in enumerate(STAGES, start=1):
        for block in range(count):
            yield f"stage{stage}.block{block}", into, width, 2 if stage > 1 and block == 0 else 1
            into = 4 * width


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """The model: 25.5 million parameters, input (N, 3, 224, 224), output (N, 1000)."""
    made = _Builder(seed)
    value = made.op("MaxPool", [made.conv("conv1", "image", (64, 3, 7), 2)], kernel_shape=[3, 3], strides=[2, 2])
    for name, into, width, stride in _blocks():
        inner = made.conv(f"{name}.conv1", value, (width, into, 1))
        inner = made.conv(f"{name}.conv2", inner, (width, width, 3), stride)
        inner = made.conv(f"{name}.conv3", inner, (4 * width, width, 1), relu=False)
        short = value
        if into != 4 * width:
            short = made.conv(f"{name}.downsample", value, (4 * width, into, 1), stride, relu=False)
        value = made.op("Relu", [made.op("Add", [inner, short])])
    flat = made.op("Flatten", [made.op("GlobalAveragePool", [value])])
    made.nodes.append(
        helper.make_node("Gemm", [flat, made.weights("fc.weight", (1000, 2048))], ["logits"], name="/fc", transB=1)
    )
    graph = helper.make_graph(
        made.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1000])],
        made.initializers,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="onnxmark benchmarks"
    )


if __name__ == "__main__":
    onnx.save(resnet50(), Path(sys.argv[1]))
