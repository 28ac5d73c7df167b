"""A mark trained by Keras is found in the ONNX file that Keras exports: the order of every kind of kernel is right."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import keras
from onnxmark_tf.marks import report
from onnxmark_tf.regularizer import WatermarkRegularizer

from onnxmark import Verdict, audit_file
from tests.adapters_tf.regularizer_subjects import make_key

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports through tf2onnx")

# As many inputs as outputs where that is possible: nothing but the order tells rows from columns.
SHAPES = {
    "conv": (16, 16, 3, 3),
    "up": (16, 16, 2, 2),
    "depthwise": (64, 1, 3, 3),
    "dense": (32, 32),
}
KEYS = {name: make_key(shape, n_bits=32, carrier="full", label=name) for name, shape in SHAPES.items()}


def mark(name, layout="plain"):
    return WatermarkRegularizer(KEYS[name], 1.0, layout=layout)


@pytest.fixture(scope="module")
def model():
    layers = keras.layers
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            layers.Input((4, 4, 16)),
            layers.Conv2D(16, 3, padding="same", name="conv", kernel_regularizer=mark("conv")),
            layers.Conv2DTranspose(16, 2, name="up", kernel_regularizer=mark("up", "transposed")),
            layers.DepthwiseConv2D(
                3, depth_multiplier=4, name="depthwise", depthwise_regularizer=mark("depthwise", "depthwise")
            ),
            layers.GlobalAveragePooling2D(),
            layers.Dense(32, name="narrow"),
            layers.Dense(32, name="dense", kernel_regularizer=mark("dense")),
        ]
    )
    net.compile(optimizer=keras.optimizers.Adam(0.02), loss="mse")
    rng = np.random.default_rng(0)
    net.fit(rng.random((8, 4, 4, 16)), rng.random((8, 32)), epochs=40, batch_size=8, verbose=0)
    return net


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx's own.
        model.export(path, format="onnx", verbose=False)
    return path


@pytest.fixture(scope="module")
def findings(exported):
    return dict(zip(KEYS, audit_file(exported, list(KEYS.values())).findings, strict=True))


@pytest.mark.parametrize("name", KEYS)
def test_an_audit_finds_the_mark_in_the_file(findings, name):
    finding = findings[name]
    assert finding.verdict is Verdict.MATCH
    assert finding.best.evidence.bit_error_rate == 0


@pytest.mark.parametrize("name", KEYS)
def test_the_file_reads_as_the_model_reported(model, findings, name):
    (kernel,) = (evidence for path, evidence in report(model).kernels.items() if path.startswith(f"{name}/"))
    np.testing.assert_allclose(findings[name].best.evidence.margins, kernel.margins, rtol=1e-6)
