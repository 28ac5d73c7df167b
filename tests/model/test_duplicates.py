"""Names defined twice: what is read is what ONNX Runtime computes with, whichever definition that is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxmark.model import open_model
from tests.onnx_models import conv_chain, kernel

NAME = "conv1.weight"
FIRST, ONE, OTHER = kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2), kernel((16, 16, 3, 3), 3)
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def dense(model, values):
    model.graph.initializer.append(numpy_helper.from_array(values, NAME))


def sparse(model, values):
    flat = numpy_helper.from_array(values.ravel().copy(), NAME)
    places = numpy_helper.from_array(np.arange(values.size, dtype=np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(flat, places, list(values.shape)))


def constant(model, values):
    n_constants = sum(node.op_type == "Constant" for node in model.graph.node)
    made = helper.make_node("Constant", [], [NAME], value=numpy_helper.from_array(values, "value"))
    model.graph.node.insert(n_constants, made)


def second_value(model, values):
    """In the Constant node that there is; one of its own where there is none."""
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    if constants:
        constants[0].attribute.append(helper.make_attribute("value", numpy_helper.from_array(values, "value")))
    else:
        constant(model, values)


WAYS = {
    "two initializers": (dense, dense),
    "two Constant nodes": (constant, constant),
    "two values of a Constant node": (second_value, second_value),
    "an initializer and a Constant node": (dense, constant),
    "a dense and a sparse initializer": (dense, sparse),
    "a Constant node and a sparse initializer": (constant, sparse),
}


@pytest.fixture
def build(tmp_path):
    conv_chain(tmp_path / "plain.onnx", [FIRST, ONE])
    plain = onnx.load(tmp_path / "plain.onnx")

    def built(*definitions):
        model = onnx.ModelProto.FromString(plain.SerializeToString())
        del model.graph.initializer[1]
        for define, values in definitions:
            define(model, values)
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return built


def answer(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": IMAGE})[0]


@pytest.mark.parametrize("swapped", [False, True], ids=["in this order", "the other way round"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_one_that_counts_is_read(build, way, swapped):
    first, second = way
    values = (OTHER, ONE) if swapped else (ONE, OTHER)
    path = build((first, values[0]), (second, values[1]))
    alone = [answer(build((dense, each))) for each in (ONE, OTHER)]
    counts = [np.allclose(answer(path), each, atol=1e-5) for each in alone]
    assert sorted(counts) == [False, True]
    with open_model(path) as model:
        read = [model.read(site).values for site in model.sites()]
    assert len(read) == 2
    np.testing.assert_array_equal(read[1], (ONE, OTHER)[counts.index(True)])
