"""Running a model before and after a change that its outputs must not notice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from onnxmark.attacks import FileMeans

TYPES = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int32)": "i4"}
DEMO = Path(__file__).parents[2] / "onnxmark" / "demo_data"


def file_means(layers: tuple[str, ...] | None = None, seed: int = 0) -> FileMeans:
    """What an attacker has."""
    return FileMeans(np.random.default_rng(seed), layers)


def built(
    path: Path,
    nodes: Iterable[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    shape: tuple[int, ...],
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> Path:
    """A file of one float input ``x``; tensors are initializers by name."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", T.FLOAT, shape)],
        [helper.make_tensor_value_info(name, T.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def answers(path: Path, taps: tuple[str, ...] = (), size: int = 2) -> list[np.ndarray]:
    """Outputs for random inputs, with ONNX Runtime's own rewriting of the graph off.

    Args:
        path: The model.
        taps: Inner values to give out instead, where outputs are saturated and so show little.
        size: What inputs have where the model leaves it open, but for one as a batch.
    """
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taps)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed: dict[str, Any] = {}
    for item in session.get_inputs():
        shape = [n if isinstance(n, int) and n > 0 else (size if axis else 2) for axis, n in enumerate(item.shape)]
        whole = "int" in item.type
        values = rng.integers(0, 256, shape) if whole else rng.normal(size=shape)
        feed[item.name] = values.astype(TYPES[item.type])
    return [np.asarray(values) for values in session.run(list(taps) or None, feed)]


def assert_same_answers(
    before: Path, after: Path, within: float = 1e-5, taps: tuple[str, ...] = (), size: int = 2
) -> None:
    """Equal but for rounding: sums of some thousand float32 terms in another order, relative to the largest value."""
    old, new = answers(before, taps, size), answers(after, taps, size)
    assert len(old) == len(new)
    for one, other in zip(old, new, strict=True):
        assert one.shape == other.shape
        assert np.abs(one).max() > 0
        error = np.abs(one.astype(np.float64) - other).max()
        assert error <= within * np.abs(one.astype(np.float64)).max()


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """Initializers by name."""
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
