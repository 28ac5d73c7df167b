from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnxmark_tf.precision import half_policies, in_float32
from onnxmark_tf.signatures import input_signature, zeros

from onnxmark.conversion import Container, Request
from onnxmark.errors import ConversionError
from tests.adapters_tf.nets import Subclassed, every_rank, keras, layers


def request(*shapes, **options):
    """A request that gives shapes by name."""
    return Request(Path("m.keras"), Container.KERAS, Path("m.onnx"), shapes=shapes, **options)


def described(signature):
    (structure,) = signature
    return keras.tree.map_structure(lambda spec: (spec.name, tuple(spec.shape), spec.dtype), structure)


def test_a_functional_model_knows_its_inputs_and_the_batch_stays_open():
    assert described(input_signature(keras, every_rank(), request())) == [
        ("series", (None, 12, 4), "float32"),
        ("volume", (None, 5, 6, 7, 2), "float32"),
    ]


def test_one_of_several_inputs_may_be_given_its_shape():
    found = described(input_signature(keras, every_rank(), request(("series", (2, 12, 4)))))
    assert [shape for _, shape, _ in found] == [(2, 12, 4), (None, 5, 6, 7, 2)]


def test_inputs_keep_their_dictionary_and_their_types():
    words, image = keras.Input((6,), dtype="int32", name="words"), keras.Input((3,), name="image")
    model = keras.Model(
        {"words": words, "image": image}, layers.Concatenate()([keras.ops.cast(words, "float32"), image])
    )
    assert described(input_signature(keras, model, request())) == {
        "words": ("words", (None, 6), "int32"),
        "image": ("image", (None, 3), "float32"),
    }


def test_a_model_of_its_own_class_tells_what_it_met():
    model = Subclassed()
    model(np.zeros((4, 7, 7, 2), np.float32))
    assert described(input_signature(keras, model, request())) == ("input", (None, 7, 7, 2), "float32")


def test_open_axes_stay_open_where_the_backend_can(monkeypatch):
    model = keras.Sequential([keras.Input((None, None, 2), name="image"), layers.Conv2D(3, 3)])
    assert described(input_signature(keras, model, request())) == ("image", (None, None, None, 2), "float32")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        ConversionError, match=r"open shape \(None, None, None, 2\), which PyTorch cannot trace; give it"
    ):
        input_signature(keras, model, request())
    given = described(input_signature(keras, model, request(("image", (1, 9, 9, 2)))))
    assert given == ("image", (1, 9, 9, 2), "float32")


def test_an_input_to_build_with():
    assert zeros(keras, request(("", (1, 7, 7, 2)))).shape == (1, 7, 7, 2)
    assert [tuple(array.shape) for array in zeros(keras, request(("a", (1, 2)), ("b", (3,))))] == [(1, 2), (3,)]
    with pytest.raises(ConversionError, match="'nets:build' has no weights before it meets an input"):
        zeros(keras, request(factory="nets:build"))


def test_policies_of_half_precision_are_found_at_any_depth():
    x = keras.Input((4,))
    inner = keras.Model(x, layers.Dense(3, dtype="mixed_bfloat16")(x))
    model = keras.Model(x, layers.Dense(3, dtype="float16")(inner(x)))
    assert half_policies(model) == ("float16", "mixed_bfloat16")
    assert half_policies(every_rank()) == ()


def test_the_twin_in_float32_has_the_same_weights_and_the_model_is_left_alone():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3, name="head", dtype="float16")(x))
    twin = in_float32(keras, model, request())
    assert half_policies(twin) == ()
    assert half_policies(model) == ("float16",)
    kernel = twin.get_layer("head").kernel
    assert kernel.dtype == "float32"
    np.testing.assert_array_equal(kernel.numpy(), model.get_layer("head").kernel.numpy().astype(np.float32))


def test_a_model_in_float32_is_no_twin():
    model = every_rank()
    assert in_float32(keras, model, request()) is model


def test_a_class_that_cannot_be_built_anew_is_refused():
    class Closed(keras.Model):
        def __init__(self, width):
            super().__init__(dtype="mixed_float16")
            self.head = layers.Dense(width)

        def call(self, inputs):
            return self.head(inputs)

    model = Closed(3)
    model(np.zeros((1, 4), np.float32))
    with pytest.raises(ConversionError, match=r"computes in mixed_float16 and cannot be rebuilt in float32.*--model"):
        in_float32(keras, model, request())
