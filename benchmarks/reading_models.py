"""Write one of the models of :mod:`benchmarks.reading`; payloads are random, so no file system stores them sparsely.

    python -m benchmarks.reading_models KIND PATH COUNT

A process of its own, because some need gigabytes of memory. Every model names one of its kernels ``TARGET``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.large_model import COMMON, write_model

TARGET: Final = "conv3"
"""The layer that is read; its weights are called ``conv3.weight``."""
_RAW_DATA: Final = 9
_INITIALIZER: Final = 5
_GRAPH: Final = 7
_IR_VERSION: Final = 10
_PAYLOAD: Final = 4 * int(np.prod(COMMON))


def inline(path: Path, convs: int) -> None:
    """Convolutions and half as many fully connected layers, in one file."""
    write_model(path, convs, convs // 2)
    # ONNX Runtime lags behind what onnx writes by default; a later value of a field replaces an earlier one.
    with path.open("ab") as file:
        file.write(onnx.ModelProto(ir_version=_IR_VERSION).SerializeToString())


def external(path: Path, convs: int) -> None:
    """Convolutions whose weights are in a second file."""
    data = path.with_suffix(".data")
    tensors = []
    with data.open("wb") as file:
        for index in range(convs):
            tensor = TensorProto(name=f"conv{index}.weight", data_type=TensorProto.FLOAT, dims=COMMON)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": data.name, "offset": file.tell(), "length": _PAYLOAD}.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            file.write(_payload(index))
    onnx.save(_model(_convolutions(0, convs), tensors, "image", f"conv{convs - 1}"), str(path))


def concatenated(path: Path, convs: int) -> None:
    """Two models one after the other, which protobuf takes for one: legal, and beyond the 2 GiB of its libraries."""
    half = convs // 2
    with path.open("wb") as file:
        for first, last in ((0, half), (half, convs)):
            made = _model(_convolutions(first, last), [], "image", f"conv{last - 1}")
            made.graph.ClearField("input" if first else "output")
            heads = [
                TensorProto(name=f"conv{i}.weight", data_type=TensorProto.FLOAT, dims=COMMON).SerializeToString()
                for i in range(first, last)
            ]
            payload = _tag(_RAW_DATA, _PAYLOAD)
            sizes = [len(head) + len(payload) + _PAYLOAD for head in heads]
            graph = made.graph.SerializeToString()
            whole = len(graph) + sum(len(_tag(_INITIALIZER, size)) + size for size in sizes)
            made.ClearField("graph")
            file.write(made.SerializeToString() + _tag(_GRAPH, whole) + graph)
            for index, (head, size) in enumerate(zip(heads, sizes, strict=True), first):
                file.write(_tag(_INITIALIZER, size) + head + payload)
                file.write(_payload(index))


def numerous(path: Path, convs: int) -> None:
    """As many activations as convolutions, as many biases as kernels, named as torch's exporter names them."""
    rng = np.random.default_rng(0)
    nodes, tensors, value = [], [], "image"
    shape = (16, 16, 3, 3)
    for index in range(convs):
        name = f"conv{index}"
        weights, bias = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[0], np.float32)
        for part, array in (("weight", weights), ("bias", bias)):
            tensors.append(helper.make_tensor(f"{name}.{part}", TensorProto.FLOAT, array.shape, array.tobytes(), True))
        settings: dict[str, Any] = {"group": 1}
        settings |= {"dilations": [1, 1], "kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
        made, active = f"/{name}/Conv_output_0", f"/{name}/Relu_output_0"
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [made], name=f"/{name}/Conv", **settings))
        nodes.append(helper.make_node("Relu", [made], [active], name=f"/{name}/Relu"))
        value = active
    onnx.save(_model(nodes, tensors, "image", value), str(path))


KINDS: Final[dict[str, Callable[[Path, int], None]]] = {
    "inline": inline,
    "external": external,
    "concatenated": concatenated,
    "numerous": numerous,
}


def _convolutions(first: int, last: int) -> list[onnx.NodeProto]:
    names = ["image", *(f"conv{index}" for index in range(last))]
    return [
        helper.make_node("Conv", [names[i], f"conv{i}.weight"], [f"conv{i}"], name=f"conv{i}", pads=[1, 1, 1, 1])
        for i in range(first, last)
    ]


def _model(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], source: str, result: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "reading",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=_IR_VERSION)


def _payload(index: int) -> bytes:
    return (0.02 * np.random.default_rng(index).standard_normal(COMMON, np.float32)).tobytes()


def _tag(field: int, size: int) -> bytes:
    """Tag and length of a field of bytes."""
    out = bytes([field << 3 | 2])
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size])


if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
