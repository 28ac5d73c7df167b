"""Networks named after the situation they stand for, each with the symmetries it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .subjects import built


@dataclass
class Net:
    """A network that grows node by node; every method returns the name of what it adds."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    dtype: type = np.float32
    result: str = ""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def put(self, label: str, values: Any) -> str:
        name = f"{label}{len(self.tensors)}"
        self.tensors[name] = np.asarray(values)
        return name

    def draw(self, label: str, *shape: int, low: float | None = None) -> str:
        """Random numbers, or uniform ones from ``low`` to three times that."""
        drawn = self.rng.normal(size=shape) if low is None else self.rng.uniform(low, 3 * low, shape)
        return self.put(label, (drawn if low is not None else drawn * 0.4).astype(self.dtype))

    def conv(self, x: str, outputs: int, inputs: int, size: int = 3, bias: bool = True, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        weights = self.draw("w", outputs, inputs // group, size, size)
        extra = [self.draw("b", outputs)] if bias else []
        return self.add("Conv", x, weights, *extra, pads=[size // 2] * 4, **attributes)

    def norm(self, x: str, size: int) -> str:
        parameters = [self.draw(name, size, low=low) for name, low in
                      (("gamma", 0.5), ("beta", None), ("mean", None), ("var", 0.4))]  # fmt: skip
        return self.add("BatchNormalization", x, *parameters)

    def gemm(self, x: str, outputs: int, inputs: int) -> str:
        return self.add("Gemm", x, self.draw("w", outputs, inputs), self.draw("b", outputs), transB=1)

    def head(self, x: str, size: int) -> str:
        return self.gemm(self.add("Flatten", self.add("GlobalAveragePool", x)), 3, size)

    def save(self, path: Path, result: str, shape: tuple[int, ...] = (2, 3, 8, 8), opset: int = 17) -> Path:
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        return built(path, self.nodes, self.tensors, shape, opset=opset)


@dataclass(frozen=True)
class Subject:
    """A network and what must be found out about it.

    Args:
        make: Writes it to a path.
        permutes: Groups that can be permuted.
        rescales: Groups with a region that can be rescaled.
        flips: The same for signs.
        grows: Groups to which neurons can be added.
        opset: Its operator set.
    """

    make: Callable[[Net], str]
    permutes: int
    rescales: int
    flips: int
    grows: int
    shape: tuple[int, ...] = (2, 3, 8, 8)
    opset: int = 17

    def save(self, path: Path) -> Path:
        net = Net()
        return net.save(path, self.make(net), self.shape, self.opset)


def plain(net: Net) -> str:
    x = net.add("Relu", net.conv("x", 6, 3))
    return net.head(net.add("Relu", net.conv(net.add("MaxPool", x, kernel_shape=[2, 2]), 5, 6)), 5)


def normalised(net: Net) -> str:
    x = net.add("Relu", net.norm(net.conv("x", 6, 3, bias=False), 6))
    return net.head(net.add("Relu", net.norm(net.conv(x, 5, 6), 5)), 5)


def residual(net: Net) -> str:
    x = net.add("Relu", net.norm(net.conv("x", 6, 3), 6))
    inner = net.add("Relu", net.norm(net.conv(x, 4, 6), 4))
    return net.head(net.add("Relu", net.add("Add", x, net.norm(net.conv(inner, 6, 4), 6))), 6)


def looped(net: Net) -> str:
    """A layer that reads and writes the same channels."""
    x = net.add("Relu", net.conv("x", 6, 3))
    return net.head(net.add("Add", x, net.add("Relu", net.conv(x, 6, 6))), 6)


def mobile(net: Net) -> str:
    """Inverted bottleneck: expanded, convolved channel by channel, projected, added."""
    low, high = net.put("low", np.float32(0)), net.put("high", np.float32(6))
    x = net.norm(net.conv("x", 4, 3, bias=False), 4)
    y = net.add("Clip", net.norm(net.conv(x, 8, 4, 1, bias=False), 8), low, high)
    y = net.add("Clip", net.norm(net.conv(y, 8, 8, bias=False, group=8), 8), low, high)
    return net.head(net.add("Add", x, net.norm(net.conv(y, 4, 8, 1, bias=False), 4)), 4)


def depthwise(net: Net) -> str:
    x = net.conv(net.add("Relu", net.conv("x", 6, 3)), 6, 6, group=6)
    return net.head(net.add("Relu", net.conv(net.add("Relu", x), 4, 6, 1)), 4)


def grouped(net: Net) -> str:
    x = net.add("Relu", net.conv("x", 6, 3))
    return net.head(net.add("Relu", net.conv(x, 6, 6, group=3)), 6)


def flattened(net: Net) -> str:
    x = net.add("Flatten", net.add("Relu", net.conv("x", 4, 3)))
    return net.gemm(net.add("Relu", net.gemm(x, 5, 4 * 64)), 3, 5)


def reshaped(net: Net) -> str:
    """Its shape says how many channels there are."""
    x = net.add("Reshape", net.add("Relu", net.conv("x", 4, 3)), net.put("shape", np.int64([2, 4 * 64])))
    return net.gemm(x, 3, 4 * 64)


def channels_last(net: Net) -> str:
    x = net.add("Transpose", net.add("Tanh", net.conv("x", 4, 3)), perm=[0, 2, 3, 1])
    return net.gemm(net.add("Reshape", x, net.put("shape", np.int64([0, -1]))), 3, 4 * 64)


def slopes(net: Net) -> str:
    x = net.add("PRelu", net.conv("x", 6, 3), net.draw("slope", 6, 1, 1, low=0.1))
    x = net.add("LeakyRelu", net.conv(x, 5, 6), alpha=0.2)
    return net.head(net.add("PRelu", net.conv(x, 4, 5), net.draw("slope", 1)), 4)


def odd(net: Net) -> str:
    x = net.add("Tanh", net.conv("x", 6, 3))
    low, high = net.put("low", np.float32(-1)), net.put("high", np.float32(1))
    return net.head(net.add("Clip", net.conv(x, 5, 6), low, high), 5)


def linear(net: Net) -> str:
    """Nothing between the layers but averages; constants per channel by other operators."""
    x = net.add("Add", net.conv("x", 6, 3, bias=False), net.draw("shift", 6, 1, 1))
    x = net.add("Div", net.add("Mul", x, net.draw("factor", 1, 6, 1, 1)), net.put("two", np.float32(2)))
    x = net.add("Sub", net.draw("shift", 1, 6, 1, 1), x)
    return net.head(net.conv(net.add("AveragePool", x, kernel_shape=[2, 2]), 5, 6), 5)


def gated(net: Net) -> str:
    """Squeeze and excitation, after a hard swish."""
    x = net.add("HardSwish", net.norm(net.conv("x", 6, 3), 6))
    inner = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 3, 6, 1))
    return net.head(net.add("Mul", x, net.add("HardSigmoid", net.conv(inner, 6, 3, 1))), 6)


def instances(net: Net) -> str:
    x = net.add("InstanceNormalization", net.conv("x", 6, 3), net.draw("g", 6, low=0.5), net.draw("b", 6))
    return net.head(net.add("Relu", x), 6)


def decoder(net: Net) -> str:
    """Transposed convolution, padding, resizing."""
    x = net.add("Relu", net.conv("x", 6, 3))
    x = net.add("ConvTranspose", x, net.draw("w", 6, 4, 2, 2), net.draw("b", 4), strides=[2, 2])
    x = net.add("Pad", net.add("Relu", x), net.put("pads", np.int64([0, 0, 1, 1, 0, 0, 1, 1])))
    x = net.add("Resize", x, "", net.put("scales", np.float32([1, 1, 2, 2])), mode="nearest")
    return net.head(net.conv(x, 5, 4), 5)


def perceptron(net: Net) -> str:
    """Matrix products over the last of three axes, GELU as exporters wrote it."""
    x = net.add("Add", net.add("MatMul", "x", net.draw("w", 8, 12)), net.draw("b", 12))
    half, one, root = (net.put("c", np.float32(value)) for value in (0.5, 1.0, np.sqrt(2)))
    gate = net.add("Add", net.add("Erf", net.add("Div", x, root)), one)
    x = net.add("Mul", net.add("Mul", x, gate), half)
    x = net.add("Relu", net.add("Add", net.add("MatMul", x, net.draw("w", 12, 6)), net.draw("b", 6)))
    return net.add("MatMul", net.add("ReduceMean", x, axes=[1], keepdims=0), net.draw("w", 6, 4))


def tied(net: Net) -> str:
    """One tensor in two layers, one normalisation's statistics in two."""
    x = net.add("Relu", net.conv("x", 6, 3))
    weights, bias = net.draw("w", 6, 6, 3, 3), net.draw("b", 6)
    for _ in range(2):
        x = net.add("Relu", net.add("Conv", x, weights, bias, pads=[1, 1, 1, 1]))
    return net.head(x, 6)


def concatenated(net: Net) -> str:
    """Only before the normalisation is anything free."""
    one, other = (net.add("Relu", net.norm(net.conv("x", 4, 3), 4)) for _ in range(2))
    return net.head(net.add("Concat", one, other, axis=1), 8)


def roots(net: Net) -> str:
    """Defined for positive numbers only, which is what all real channels are."""
    x = net.add("Conv", net.add("Sigmoid", "x"), net.draw("w", 6, 3, 3, 3, low=0.1), net.draw("b", 6, low=0.1))
    return net.head(net.add("Sqrt", x), 6)


def axes(net: Net) -> str:
    """Axes removed and added on both ways into a sum."""
    both = net.put("axes", np.int64([2, 3]))
    x = net.add("Relu", net.conv("x", 6, 3))
    pooled = net.add("Squeeze", net.add("GlobalAveragePool", x), both)
    y = net.add("Unsqueeze", net.gemm(pooled, 4, 6), both)
    z = net.add("Relu", net.add("Add", net.conv(x, 4, 6), y))
    means = net.add("ReduceMax", net.add("ReduceMean", z, axes=[-1], keepdims=0), axes=[2], keepdims=1)
    turned = net.add("Transpose", net.add("Add", means, net.gemm(pooled, 1, 6)), perm=[2, 0, 1])
    return net.gemm(net.add("Squeeze", turned, net.put("axes", np.int64([0]))), 3, 4)


SUBJECTS = {
    "partly defined": Subject(roots, 1, 0, 0, 1),
    "axes": Subject(axes, 2, 1, 0, 2, shape=(1, 3, 8, 8)),
    "plain": Subject(plain, 2, 2, 0, 2),
    "batch normalisation": Subject(normalised, 2, 2, 2, 2),
    "residual": Subject(residual, 2, 2, 2, 2),
    "same channels in and out": Subject(looped, 1, 1, 0, 1),
    "mobile": Subject(mobile, 2, 2, 2, 2),
    "depthwise": Subject(depthwise, 2, 2, 0, 2),
    "grouped": Subject(grouped, 0, 1, 0, 0),
    "flatten": Subject(flattened, 2, 2, 0, 2),
    "reshape to a constant": Subject(reshaped, 1, 1, 0, 0),
    "channels last": Subject(channels_last, 1, 0, 1, 1),
    "slopes": Subject(slopes, 3, 3, 0, 3),
    "odd": Subject(odd, 2, 0, 2, 2),
    "linear": Subject(linear, 2, 2, 2, 2),
    "gated": Subject(gated, 2, 2, 1, 2),
    "instance normalisation": Subject(instances, 1, 1, 1, 1),
    "decoder": Subject(decoder, 3, 3, 1, 3),
    "perceptron": Subject(perceptron, 2, 1, 0, 2, shape=(2, 5, 8)),
    "tied weights": Subject(tied, 3, 3, 0, 3),
    "concatenation": Subject(concatenated, 0, 2, 2, 0),
}
