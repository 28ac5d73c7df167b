"""The committed demo data is what its README says: real verdicts, small, and free of anybody's paths."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import onnx
import pytest

from onnxmark.audit import audit_file
from onnxmark.keys import load_key

DATA = files("onnxmark").joinpath("demo_data")
MODELS = ("marked.onnx", "unmarked.onnx", "attacked.onnx")


def test_there_is_nothing_else_and_it_is_small():
    sizes = {path.name: len(path.read_bytes()) for path in DATA.iterdir()}
    assert set(sizes) == {*MODELS, "key.npy", "other_key.npy", "calibration.npz"}
    assert sum(sizes.values()) < 500_000


@pytest.mark.parametrize(
    ("model", "key", "verdict", "errors"),
    [
        ("marked.onnx", "key.npy", "match", 0),
        ("attacked.onnx", "key.npy", "match", 0),
        ("unmarked.onnx", "key.npy", "no-match", None),
        ("marked.onnx", "other_key.npy", "no-match", None),
        ("attacked.onnx", "other_key.npy", "no-match", None),
        ("unmarked.onnx", "other_key.npy", "no-match", None),
    ],
)
def test_verdicts(model, key, verdict, errors):
    (finding,) = audit_file(str(DATA / model), [load_key(str(DATA / key))]).findings
    assert finding.verdict == verdict
    if errors is not None:
        assert finding.best.evidence.n_errors == errors
        assert finding.best.sites[0].shape == (64, 32, 3, 3)


def test_the_key_remembers_its_layer():
    carrier = load_key(str(DATA / "key.npy")).carrier
    nodes = {
        node.name: (node.op_type, node.input[1])
        for node in onnx.load(str(DATA / "marked.onnx")).graph.node
        if node.input[1:]
    }
    assert nodes[carrier.node] == (carrier.op, carrier.name) == ("Conv", "conv3.weight")
    assert carrier.shape == (64, 32, 3, 3)


@pytest.mark.parametrize("model", MODELS)
def test_no_paths_leak(model):
    data = (DATA / model).read_bytes()
    assert not [word for word in (b".py", b"site-packages", b"/home", b"/usr", b"stack_trace") if word in data]


def test_half_of_the_stolen_weights_are_zero():
    stored = {tensor.name: tensor for tensor in onnx.load(str(DATA / "attacked.onnx")).graph.initializer}
    integers = onnx.numpy_helper.to_array(stored["conv3.weight_quantized"])
    assert integers.dtype == np.int8
    assert np.mean(integers == 0) >= 0.5


def test_calibration_feeds_every_model():
    ort = pytest.importorskip("onnxruntime")
    with np.load(str(DATA / "calibration.npz")) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert len(images) == len(labels) == 256
    for model in MODELS:
        session = ort.InferenceSession(str(DATA / model), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"images": images})
        assert np.mean(logits.argmax(axis=1) == labels) > 0.85
