"""Operations that tf2onnx lacks: the exact GELU, which is Keras's default."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from tests.adapters_tf.conversions import convert_here, run
from tests.adapters_tf.nets import keras, layers


@pytest.mark.parametrize("container", ["m.keras", "saved"])
def test_the_exact_gelu_computes_what_keras_does(container, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="image")
    model = keras.Model(image, layers.Activation("gelu")(layers.Conv2D(4, 3, name="conv")(image)), name="net")
    save = model.save if container == "m.keras" else model.export
    save(tmp_path / container, **({} if container == "m.keras" else {"verbose": False}))
    made = convert_here(tmp_path / container, tmp_path / "m.onnx")
    values = (3 * np.random.default_rng(0).standard_normal((2, 6, 6, 3))).astype(np.float32)
    np.testing.assert_allclose(run(made.output, {"image": values}), model(values), rtol=1e-4, atol=1e-5)
