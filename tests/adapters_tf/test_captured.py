"""Constants that a Keras model has, and that tf2onnx takes for its inputs: in the file they are constants again."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from tests.adapters_tf.conversions import convert_here
from tests.adapters_tf.nets import keras, layers

# TensorFlow takes constants of up to 128 numbers into a graph, and hands larger ones to it.
CHANNELS = {"small": 3, "scaled": 3, "large": 130}


@pytest.fixture(scope="module", params=CHANNELS)
def normalising(request):
    """A model with a layer that keeps constants which are no variables."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, CHANNELS[request.param]), name="image")
    moments = np.random.default_rng(0).uniform(0.5, 2, (2, CHANNELS[request.param]))
    x = layers.Normalization(mean=moments[0], variance=moments[1], name="normal")(image)
    x = layers.Rescaling(np.float32(0.3), name="scale")(x) if request.param == "scaled" else x
    return keras.Model(image, layers.Conv2D(4, 3, name="conv")(x), name="net")


@pytest.mark.parametrize("container", ["keras", "saved_model"])
def test_a_normalising_model_takes_its_own_inputs_only(normalising, container, tmp_path):
    source = tmp_path / "m.keras" if container == "keras" else tmp_path / "saved"
    if container == "keras":
        normalising.save(source)
    else:
        normalising.export(source, verbose=False)
    made = convert_here(source, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(made.output, providers=["CPUExecutionProvider"])
    (only,) = session.get_inputs()
    image = np.random.default_rng(0).standard_normal((2, *normalising.input_shape[1:])).astype(np.float32)
    (answer,) = session.run(None, {only.name: image})
    np.testing.assert_allclose(answer, normalising(image), rtol=1e-4, atol=1e-5)
    assert made.n_found == made.n_weights == 1
