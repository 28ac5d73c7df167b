from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnxmark_tf import lite

from onnxmark.errors import ConversionError
from tests.adapters_tf.containers import run_lite
from tests.adapters_tf.conversions import convert_here, run, weights_at
from tests.adapters_tf.nets import inputs, tf

KINDS = ("float", "half", "dynamic", "int8")
KERNELS = {
    "stem": ("Conv", (32, 3, 3, 3), "OHWI"),
    "depthwise": ("Conv", (32, 1, 3, 3), "MHWC"),
    "body": ("Conv", (32, 32, 3, 3), "OHWI"),
    "up": ("ConvTranspose", (32, 32, 3, 3), "OHWI"),
    "head": ("MatMul", (4, 1152), "OI"),
}


@pytest.fixture(scope="module", params=KINDS)
def converted(request, files, tmp_path_factory):
    path = files[f"plain_{request.param}.tflite"]
    return request.param, path, convert_here(path, tmp_path_factory.mktemp("lite") / "m.onnx")


def test_it_agrees_with_the_interpreter(converted, plain):
    kind, path, made = converted
    array, name, theirs = run_lite(path, inputs(plain, n_examples=1)["image"])
    ours = run(made.output, {name: array})
    assert ours.dtype == theirs.dtype
    if kind == "int8":
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    else:
        # Weights of 8 bits are multiplied by activations that the interpreter rounds to 8 bits, too.
        np.testing.assert_allclose(ours, theirs, atol=0.05 if kind == "dynamic" else 1e-4)


def test_every_kernel_is_found_by_value(converted):
    kind, _, made = converted
    assert made.n_found == made.n_weights == len(KERNELS)
    for layer, (_, shape, order) in KERNELS.items():
        (origin,) = [origin for origin in made.origins if f"/{layer}_1/" in origin.weights]
        assert (origin.shape, origin.order, origin.factors) == (shape, order, None)
        assert origin.error == 0 or kind != "float"


def test_quantised_kernels_are_near_those_of_keras(converted, plain):
    """Their scale is one for every filter, and an error of half a step at most."""
    kind, _, made = converted
    (origin,) = [origin for origin in made.origins if "/body_1/" in origin.weights]
    theirs = plain.get_layer("body").kernel.numpy().transpose(3, 2, 0, 1)
    ours = weights_at(made.output, origin.site)
    step = {"float": 0, "half": 2**-10, "dynamic": 1 / 127, "int8": 1 / 127}[kind]
    largest = np.abs(theirs).max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(ours - theirs) <= 0.51 * step * largest + 1e-7).all()
    assert (np.abs(ours - theirs).max() > 0) == (kind != "float")


def test_an_operator_set_is_honoured(files, tmp_path):
    made = convert_here(files["plain_float.tflite"], tmp_path / "m.onnx", opset=13)
    assert {opset.version for opset in onnx.load(made.output).opset_import if opset.domain == ""} == {13}


@pytest.mark.parametrize("kept", [8, 100, 5000])
def test_truncated_files_are_not_even_looked_into(kept, files, tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "host_weights", lambda _: pytest.fail("read before it was verified"))
    path = tmp_path / "m.tflite"
    path.write_bytes(files["plain_float.tflite"].read_bytes()[:kept])
    with pytest.raises(ConversionError, match="damaged, or no TensorFlow Lite model"):
        convert_here(path, tmp_path / "m.onnx")


def test_what_onnx_has_not_is_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, "x")])
    def compute(x):
        return tf.raw_ops.Betainc(a=tf.abs(x), b=tf.abs(x), x=tf.sigmoid(x))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()])
    converter.allow_custom_ops = True
    path = tmp_path / "m.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ConversionError, match=r"not valid ONNX|cannot convert it"):
        convert_here(path, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
