"""The whole way on a convolutional network: calibrate, embed, compare answers."""

import numpy as np
import pytest
from onnx import helper
from sklearn.datasets import load_digits

from onnxmark.model.running.calibration import Calibration
from onnxmark.model.running.runtime import fidelity
from onnxmark.model.running.taps import input_second_moment
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.metric import ActivationMetric
from onnxmark.weights import Origin, WeightTensor
from tests.model_runtime.graphs import model, normal, save
from tests.schemes.projection.hosts import projection

SHAPE = (32, 32, 3, 3)


@pytest.fixture(scope="module")
def images():
    return (load_digits().images[:, None] / 16).astype(np.float32)


def _network(marked):
    """Three convolutions of random weights (He), the second of which bears the mark, and a classifier."""
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], **same),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="carrier", **same),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], **same),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("Flatten", ["r3"], ["f"]),
        helper.make_node("Gemm", ["f", "w4"], ["y"]),
    ]
    weights = {
        "w1": normal(32, 1, 3, 3, seed=1, scale=(2 / 9) ** 0.5),
        "w2": marked,
        "w3": normal(16, 32, 3, 3, seed=3, scale=(2 / 288) ** 0.5),
        "w4": normal(1024, 10, seed=4, scale=1 / 32),
    }
    return model(nodes, [("x", ["N", 1, 8, 8])], [("y", ["N", 10])], weights)


@pytest.mark.parametrize("kind", ["full", "fold:4096"])
def test_activation_metric_spares_the_answers(tmp_path, images, kind):
    host = normal(*SHAPE, seed=2, scale=(2 / 288) ** 0.5)
    original = save(_network(host), tmp_path / "original.onnx")
    moment = input_second_moment(original, "carrier", Calibration({"": images[:400].copy()}, "digits"))
    layer = WeightTensor("w2", host.copy(), Origin("carrier", "Conv", 1, "initializer"))
    unseen = Calibration({"": images[400:].copy()}, "digits")
    changes = []
    for name, metric in (("plain", None), ("weighted", ActivationMetric(moment))):
        marked = embed_message(layer, projection(SHAPE, 128, kind), 2.0, metric)
        assert marked.margin >= 2
        path = save(_network(marked.weights.values), tmp_path / f"{name}.onnx")
        changes.append(fidelity(original, path, unseen))
    plain, weighted = changes
    assert weighted.relative_change < plain.relative_change / 2
    assert weighted.decisions_changed < plain.decisions_changed / 2
