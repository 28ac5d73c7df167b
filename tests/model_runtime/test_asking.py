"""Asking a classifier: logits, probabilities and labels come out as what they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxmark.errors import CalibrationError
from onnxmark.model.running.asking import ask

RNG = np.random.default_rng(3)
WEIGHTS = RNG.standard_normal((4, 5)).astype(np.float32)
INPUTS = RNG.standard_normal((70, 4)).astype(np.float32)


def model(path, nodes, outputs, batch="N"):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"]), *nodes],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


LOGITS = ("logits", TensorProto.FLOAT, ["N", 5])
SOFTMAX = helper.make_node("Softmax", ["logits"], ["p"], axis=1)
ARGMAX = helper.make_node("ArgMax", ["logits"], ["c"], axis=1, keepdims=0)


@pytest.mark.parametrize("batch", ["N", 1, 16])
def test_logits_are_given_as_they_are(tmp_path, batch):
    shape = [batch, 5]
    asked = ask(model(tmp_path / "m.onnx", [], [("logits", TensorProto.FLOAT, shape)], batch), INPUTS)
    np.testing.assert_allclose(asked.scores, INPUTS @ WEIGHTS, rtol=1e-5, atol=1e-5)
    assert np.array_equal(asked.decisions, (INPUTS @ WEIGHTS).argmax(axis=1))


def test_probabilities_become_logarithms(tmp_path):
    asked = ask(model(tmp_path / "m.onnx", [SOFTMAX], [("p", TensorProto.FLOAT, ["N", 5])]), INPUTS)
    np.testing.assert_allclose(
        asked.scores[:, 0] - asked.scores[:, 1], (INPUTS @ WEIGHTS)[:, 0] - (INPUTS @ WEIGHTS)[:, 1], atol=1e-3
    )


@pytest.mark.parametrize("keepdims", [0, 1])
def test_labels_alone_give_decisions_alone(tmp_path, keepdims):
    node = helper.make_node("ArgMax", ["logits"], ["c"], axis=1, keepdims=keepdims)
    shape = ["N", 1] if keepdims else ["N"]
    asked = ask(model(tmp_path / "m.onnx", [node], [("c", TensorProto.INT64, shape)]), INPUTS)
    assert asked.scores is None
    assert np.array_equal(asked.decisions, (INPUTS @ WEIGHTS).argmax(axis=1))


def test_what_comes_first_is_taken(tmp_path):
    path = model(tmp_path / "m.onnx", [ARGMAX], [("c", TensorProto.INT64, ["N"]), LOGITS])
    assert ask(path, INPUTS).scores is None


def test_a_model_without_classes(tmp_path):
    node = helper.make_node("ReduceMean", ["logits"], ["mean"], keepdims=0)
    path = model(tmp_path / "m.onnx", [node], [("mean", TensorProto.FLOAT, [])])
    with pytest.raises(CalibrationError, match="neither scores of shape"):
        ask(path, INPUTS)


def test_inputs_of_another_form(tmp_path):
    with pytest.raises(CalibrationError, match="the model wants 'x'"):
        ask(model(tmp_path / "m.onnx", [], [LOGITS]), INPUTS[:, :3])
