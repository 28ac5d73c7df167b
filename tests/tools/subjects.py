"""The table of tool attacks, and the files they are tried on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from onnxmark.attacks import FileMeans
from onnxmark.tools import (
    DynamicQuantisation,
    HalfPrecision,
    Int4Quantisation,
    PassOptimisation,
    RuntimeOptimisation,
    Simplification,
    Slimming,
    StaticQuantisation,
)
from onnxmark.tools.tool import ToolAttack
from tests.model.models import weights

DEMO = Path(__file__).parents[2] / "onnxmark" / "demo_data"
CALIBRATION = DEMO / "calibration.npz"

RECIPES: dict[str, tuple[ToolAttack, ...]] = {
    "ort-optimize": tuple(RuntimeOptimisation(level) for level in ("basic", "extended", "layout", "all")),
    "onnxsim": (Simplification(),),
    "onnxslim": (Slimming(),),
    "onnxoptimizer": (PassOptimisation(),),
    "to-float16": (HalfPrecision(), HalfPrecision(keep_io=False)),
    "ort-dynamic": (DynamicQuantisation(), DynamicQuantisation(7), DynamicQuantisation(signed=False)),
    "ort-static": (
        StaticQuantisation(),
        StaticQuantisation(per_channel=True),
        StaticQuantisation(16),
        StaticQuantisation(4, per_channel=True),
        StaticQuantisation(form="qoperator"),
        StaticQuantisation(per_channel=True, form="qoperator"),
    ),
    "ort-int4": (Int4Quantisation(), Int4Quantisation(16, symmetric=True)),
}
"""Recipes to try of each attack, by its name."""
EVERY_RECIPE = [recipe for recipes in RECIPES.values() for recipe in recipes]


def file_means(calibration: Path | None = CALIBRATION, layers: tuple[str, ...] | None = None) -> FileMeans:
    """What an attacker has."""
    return FileMeans(np.random.default_rng(0), layers, calibration)


def net(path: Path) -> Path:
    """Something to do for every tool: Conv, BatchNormalization, Relu, Identity, then MatMul and Add."""
    rng = np.random.default_rng(4)
    tensors = {
        "conv.weight": weights(8, 1, 3, 3),
        "gamma": rng.uniform(0.5, 1.5, 8),
        "beta": rng.normal(size=8),
        "mean": rng.normal(size=8),
        "var": rng.uniform(0.5, 1.5, 8),
        "axes": np.array([2, 3]),
        "dense.weight": weights(8, 40, seed=7) * 0.2,
        "dense.bias": weights(40, seed=8),
    }
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight"], ["a"], name="conv", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["b"], name="norm"),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("Identity", ["c"], ["d"], name="same"),
        helper.make_node("ReduceMean", ["d", "axes"], ["e"], name="pool", keepdims=0),
        helper.make_node("MatMul", ["e", "dense.weight"], ["f"], name="dense"),
        helper.make_node("Add", ["f", "dense.bias"], ["logits"], name="add"),
    ]
    initializers = [
        numpy_helper.from_array(v if name == "axes" else v.astype(np.float32), name) for name, v in tensors.items()
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("images", T.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", T.FLOAT, ["n", 40])], initializers,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@cache
def images() -> np.ndarray:
    """The shipped calibration inputs, shape (n, 1, 28, 28)."""
    with np.load(CALIBRATION) as file:
        return np.asarray(file["images"])[:32]


def answers(path: Path) -> np.ndarray:
    """The first output for the images, as float64."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    given = images().astype(np.float16 if "float16" in source.type else np.float32)
    size = source.shape[0] if isinstance(source.shape[0], int) else len(given)
    found = [session.run(None, {source.name: given[i : i + size]})[0] for i in range(0, len(given), size)]
    return np.concatenate(found).astype(np.float64)


def relative_change(before: Path, after: Path) -> float:
    """Norm of the change of the answers over their norm."""
    old = answers(before)
    return float(np.linalg.norm(answers(after) - old) / np.linalg.norm(old))


def operators(path: Path) -> list[str]:
    """Operators of the nodes, in order."""
    return [node.op_type for node in onnx.load(path).graph.node]
