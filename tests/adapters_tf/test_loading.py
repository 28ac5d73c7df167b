from __future__ import annotations

import numpy as np
import pytest
from onnxmark_tf import load_weights
from onnxmark_tf.child import converted
from onnxmark_tf.hosts import host_weights

from onnxmark.conversion import Container, Request
from onnxmark.conversion.origins import from_record
from onnxmark.errors import ConversionError, NotAModel
from onnxmark.model import open_model, write_model
from tests.adapters_tf.conversions import convert_here, origins, run, weights_at
from tests.adapters_tf.nets import Subclassed, every_kind, inputs, keras, layers, outputs, plain


def changed(source, target, factor=1.01):
    """The ONNX file with the weights of every layer moved a little, each in its own way."""
    generator = np.random.default_rng(7)
    with open_model(source) as model:
        weights = model.weights()
        moved = {
            name: (one.values * generator.uniform(0.9, factor, one.shape)).astype(np.float32)
            for name, one in weights.items()
        }
    write_model(source, moved, target)
    return target


@pytest.fixture(scope="module")
def marked(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    convert_here(files["kinds.keras"], folder / "m.onnx")
    return changed(folder / "m.onnx", folder / "marked.onnx")


def test_the_keras_model_computes_what_the_marked_file_does(marked):
    model = every_kind()
    before = outputs(model, inputs(model))
    names = load_weights(model, marked)
    assert sorted(names) == sorted(host.name for host in host_weights(model))
    after = outputs(model, inputs(model))
    np.testing.assert_allclose(after, run(marked, inputs(model)), rtol=1e-4, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_converted_again_it_has_the_same_weights(marked, tmp_path):
    model = every_kind()
    load_weights(model, marked)
    model.save(tmp_path / "m.keras")
    again = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    with open_model(marked) as model:
        before = from_record(model.metadata, "marked")
    after = origins(again)
    assert {one.weights for one in before} == set(after)
    for one in before:
        ours, theirs = weights_at(marked, one.site), weights_at(again.output, after[one.weights].site)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-7)


def test_a_saved_model_is_loaded_by_the_names_of_keras(tmp_path):
    """Keras's names, which it keeps, leave out the model that a layer is nested in."""

    def build():
        inside, image = keras.Input((8, 8, 2)), keras.Input((8, 8, 2), name="image")
        nested = keras.Model(inside, layers.Conv2D(4, 3, name="conv")(inside), name="nested")
        return keras.Model(image, layers.Dense(2, name="head")(layers.Flatten(name="flat")(nested(image))))

    build().export(tmp_path / "m", verbose=False)
    convert_here(tmp_path / "m", tmp_path / "m.onnx")
    model = build()
    assert sorted(load_weights(model, tmp_path / "m.onnx")) == ["head/kernel", "nested/conv/kernel"]
    arrays = inputs(model)
    np.testing.assert_allclose(outputs(model, arrays), run(tmp_path / "m.onnx", arrays), rtol=1e-4, atol=1e-5)


def test_a_saved_model_in_which_layers_share_a_name_is_refused(files, tmp_path):
    convert_here(files["kinds"], tmp_path / "m.onnx")
    refused(every_kind(), tmp_path / "m.onnx", "holds weights of 'conv/kernel#1', which the model does not have")


def test_names_that_keras_numbered_anew(tmp_path):
    def build():
        model = Subclassed()
        model(np.zeros((1, 7, 7, 2), np.float32))
        return model

    first, second = build(), build()
    assert {host.name for host in host_weights(first)} != {host.name for host in host_weights(second)}
    first.save_weights(tmp_path / "m.weights.h5")
    made = convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx")
    load_weights(second, made.output)
    for one, other in zip(host_weights(first), host_weights(second), strict=True):
        np.testing.assert_array_equal(one.values(), other.values())


def test_the_type_of_a_variable_stays(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3, name="head", dtype="bfloat16")(x))
    model.save_weights(tmp_path / "m.weights.h5")
    convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx")
    load_weights(model, changed(tmp_path / "m.onnx", tmp_path / "marked.onnx"))
    assert model.get_layer("head").kernel.dtype == "bfloat16"


def values_of(model):
    return [variable.numpy().copy() for variable in model.variables]


def refused(model, path, words):
    """Nothing is changed where anything is refused."""
    before = values_of(model)
    with pytest.raises(ConversionError, match=words):
        load_weights(model, path)
    for one, other in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_model(marked):
    refused(plain(), marked, r"holds weights of '.*', which the model does not have \(it has stem/kernel")


def test_a_model_without_layers(marked):
    x = keras.Input((4,))
    refused(keras.Model(x, layers.ReLU()(x)), marked, "no layer that can carry a mark")


def test_one_layer_of_another_width(files, tmp_path):
    convert_here(files["plain"], tmp_path / "m.onnx")
    refused(plain(filters=16), tmp_path / "m.onnx", r"does not fit '.*' of the model")


def test_computed_weights(tmp_path):
    def build():
        x = keras.Input((8,))
        return keras.Model(x, layers.Dense(2, name="last")(layers.Dense(8, name="first")(x)))

    build().save_weights(tmp_path / "m.weights.h5")
    convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx")
    model = build()
    model.get_layer("first").enable_lora(2)
    refused(model, tmp_path / "m.onnx", r"'first/kernel' from other weights \(LoRA\?\)")


def test_a_file_that_was_not_converted(files, tmp_path):
    converted(Request(files["kinds.keras"], Container.KERAS, tmp_path / "m.onnx"))
    refused(every_kind(), tmp_path / "m.onnx", "does not say where its weights came from")


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"words")
    with pytest.raises(NotAModel, match=r"m\.onnx"):
        load_weights(every_kind(), tmp_path / "m.onnx")


def test_a_filter_that_a_normalisation_silences_keeps_its_own_weights(tmp_path):
    def build():
        keras.utils.set_random_seed(5)
        x = image = keras.Input((6, 6, 2), name="image")
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, use_bias=False, name="conv")(x))
        model = keras.Model(image, layers.Dense(2, name="head")(layers.Flatten(name="flat")(x)))
        model.get_layer("norm").gamma.assign([1.5, 0.0, 0.7, -1.0])
        return model

    model = build()
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert origins(made)["conv/kernel"].factors[1] == 0
    fresh = build()
    load_weights(fresh, changed(made.output, tmp_path / "marked.onnx"))
    ours, theirs = (one.get_layer("conv").kernel.numpy() for one in (fresh, model))
    np.testing.assert_array_equal(ours[..., 1], theirs[..., 1])
    assert np.abs(ours[..., 0] - theirs[..., 0]).max() > 1e-3
