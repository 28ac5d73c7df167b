"""A model saved with the regularizer still in it: converted as any other, without the key and without trust."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import keras
from onnxmark_tf import convert as converter
from onnxmark_tf.regularizer import WatermarkRegularizer
from onnxmark_tf.trusting import look_through

from onnxmark.audit import audit_file
from onnxmark.conversion import Container, Request, convert
from tests.adapters_tf.conversions import convert_here
from tests.adapters_tf.regularizer_subjects import make_key

OURS = {
    "module": "onnxmark_tf.regularizer",
    "class_name": "WatermarkRegularizer",
    "registered_name": "onnxmark>WatermarkRegularizer",
    "config": {},
}


@pytest.fixture(scope="module")
def marked():
    """A model whose kernel was pulled until every bit reads, and its key."""
    keras.utils.set_random_seed(0)
    key = make_key((32, 8, 3, 3), n_bits=64, name="body")
    regularizer = WatermarkRegularizer(key, 1.0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu", name="stem"),
            keras.layers.Conv2D(32, 3, kernel_regularizer=regularizer, name="body"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="head"),
        ]
    )
    kernel, optimizer = model.get_layer("body").kernel, keras.optimizers.SGD(0.05)
    for _ in range(60):
        with _tape() as tape:
            loss = regularizer(kernel)
        optimizer.apply([tape.gradient(loss, kernel.value)], [kernel])
    return model, key


def _tape():
    import tensorflow

    return tensorflow.GradientTape()


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_it_is_converted_and_its_mark_found(marked, ending, tmp_path):
    model, key = marked
    path = tmp_path / f"m{ending}"
    with pytest.warns() if ending == ".h5" else nullcontext():
        model.save(path)
    made = convert_here(path, tmp_path / "m.onnx")
    assert made.n_found == made.n_weights == 3
    assert audit_file(made.output, [key]).verdict == "match"


def test_a_fresh_process_knows_the_class(marked, tmp_path):
    model, key = marked
    model.save(tmp_path / "m.keras")
    made = convert(Request(tmp_path / "m.keras", Container.KERAS, tmp_path / "m.onnx"), lambda _: converter)
    assert audit_file(made.output, [key]).verdict == "match"


def test_only_the_very_class_is_ours():
    assert look_through({"kernel_regularizer": OURS}).custom == ()
    for field, other in (("module", "os"), ("class_name", "function"), ("registered_name", "onnxmark>Other")):
        assert look_through({"kernel_regularizer": {**OURS, field: other}}).custom != ()
