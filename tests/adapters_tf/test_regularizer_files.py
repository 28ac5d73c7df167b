"""What a marked Keras model leaves in files, and what comes back from them: never the key, and not without the key."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback
import warnings

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import keras
from onnxmark_tf.marks import marked_kernels, remove_regularizers, report
from onnxmark_tf.monitor import WatermarkMonitor
from onnxmark_tf.regularizer import WatermarkRegularizer, keys_at_hand

from onnxmark.errors import CarrierError, KeyFileError
from onnxmark.keys import save_key
from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.secrecy import leaking_files, leaks
from tests.adapters_tf.regularizer_subjects import (
    CONV_SHAPE,
    batch,
    body,
    compiled,
    make_key,
    small_net,
)

KEY = make_key(n_bits=64, name="body")
INERT = "the watermark is not being trained: its regularizer came without the key"
ours = keras.backend.backend() == "tensorflow"


def message_traces(key):
    """The message as a program may write it: bits, signs, packed, as text, or in the signs of the rows."""
    bits = key.message
    turned = -own_projection(key, key.carrier.shape).rows(0, 1)[0, :32]
    kinds = [(2 * bits.astype(np.float32) - 1).astype(kind).tobytes() for kind in ("int8", "float32", "float64")]
    packed = [np.packbits(bits, bitorder=order).tobytes() for order in ("little", "big")]
    texts = ["".join(map(str, bits)), str(list(map(int, bits)))[1:-1], *(part.hex() for part in packed)]
    rows = [turned.astype(kind).tobytes() for kind in ("int8", "float32", "float64")]
    return [bits.tobytes(), *kinds, *packed, *rows, *(text.encode() for text in texts), base64.b64encode(packed[0])]


def tells(data):
    """Whether bytes show the key or its message."""
    return bool(leaks(KEY, data)) or any(trace in data for trace in message_traces(KEY))


def showing(folder):
    """Files that show the key or its message."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    telling = [path for path in files if tells(path.read_bytes())]
    return {path.name for path in (*leaking_files(KEY, folder), *telling)}


def marked_net(**options):
    return small_net(WatermarkRegularizer(KEY, 0.05), **options)


@pytest.fixture(scope="module")
def trained():
    model = marked_net()
    model.fit(*batch(), epochs=2, batch_size=4, verbose=0)
    return model


def test_a_key_left_in_a_file_would_be_found(tmp_path):
    save_key(KEY, tmp_path / "key.npy")
    np.save(tmp_path / "rows.npy", own_projection(KEY, CONV_SHAPE).rows(0, 1).astype(np.int8))
    np.savez(tmp_path / "wanted.npz", 2 * KEY.message.astype(np.float32) - 1)
    (tmp_path / "innocent.txt").write_text("nothing")
    assert showing(tmp_path) == {"key.npy", "rows.npy", "wanted.npz"}


def test_keras_files_do_not_show_the_key(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    trained.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.json").write_text(trained.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls HDF5 a legacy format.
        trained.save(tmp_path / "model.h5")
    assert not showing(tmp_path)
    assert WatermarkRegularizer(KEY).commitment in (tmp_path / "model.json").read_text()


@pytest.mark.skipif(not ours, reason="SavedModels are TensorFlow's")
def test_saved_models_do_not_show_the_key(trained, tmp_path):
    import tensorflow as tf

    trained.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(trained, str(tmp_path / "saved"))
    assert {path.parent.name for path in tmp_path.rglob("saved_model.pb")} == {"exported", "saved"}
    assert not showing(tmp_path)


def graph_of(function, *shapes):
    """The graph of a function of TensorFlow, as the TensorBoard callback of Keras writes that of a training step."""
    import tensorflow as tf

    traced = tf.function(function, autograph=False).get_concrete_function(*map(tf.TensorSpec, shapes))
    return traced.graph.as_graph_def().SerializeToString()


@pytest.mark.skipif(not ours, reason="TensorFlow's graphs")
def test_a_traced_graph_refers_to_the_key_and_does_not_hold_it():
    graph = graph_of(WatermarkRegularizer(KEY, stop_at_margin=1.0), (3, 3, 8, 16))
    assert b"Softplus" in graph
    assert not tells(graph)


@pytest.mark.skipif(not ours, reason="TensorFlow's graphs")
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_held_by_a_graph_would_be_found(sign):
    rows = sign * own_projection(KEY, CONV_SHAPE).rows(0, KEY.n_bits).astype(np.int8)
    assert tells(graph_of(lambda: keras.ops.convert_to_tensor(rows)))


def test_a_log_does_not_show_the_key(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    marked_net().fit(*batch(), epochs=2, verbose=0, callbacks=[WatermarkMonitor(), logger])
    assert "bit_error_rate" in (tmp_path / "log.csv").read_text()
    assert not showing(tmp_path)


def test_words_do_not_show_the_key(trained):
    regularizer = trained.get_layer("body").kernel_regularizer
    said = [repr(regularizer), str(regularizer.get_config()), str(report(trained)), repr(report(trained))]
    for kernel in ((3, 3, 8, 8), (16,)):
        with pytest.raises(CarrierError, match="does not fit") as caught:
            regularizer(np.zeros(kernel, np.float32))
        said.append("".join(traceback.format_exception(caught.value)))
    words = "".join(said).encode()
    assert not tells(words)


def test_pickling_is_refused():
    with pytest.raises(TypeError, match="holds its key and cannot be pickled"):
        pickle.dumps(WatermarkRegularizer(KEY))
    with pytest.raises(TypeError, match="holds its key and cannot be pickled"):
        copy.deepcopy(WatermarkRegularizer(KEY))


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_model_gets_its_key_back_where_it_is_at_hand(trained, tmp_path, name):
    path = saved(trained, tmp_path / name)
    other = make_key(label="other")
    with keys_at_hand(other, KEY):
        model = keras.models.load_model(path, compile=False)
    regularizer = model.get_layer("body").kernel_regularizer
    assert regularizer.key is KEY
    assert regularizer.get_config() == trained.get_layer("body").kernel_regularizer.get_config()
    assert report(model).min_margin == report(trained).min_margin
    assert float(model.losses[0]) == float(trained.losses[0])


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_without_its_key_a_model_works_and_says_that_no_mark_is_trained(trained, tmp_path, name):
    model = keras.models.load_model(saved(trained, tmp_path / name), compile=False)
    images, labels = batch()
    np.testing.assert_array_equal(model.predict(images, verbose=0), trained.predict(images, verbose=0))
    with pytest.warns(UserWarning, match=INERT):
        assert [float(loss) for loss in model.losses] == [0]
    compiled(model).train_on_batch(images, labels)  # Warns once.
    with pytest.raises(KeyFileError, match="has no key; load or clone the model inside 'with keys_at_hand"):
        report(model)
    assert "inert" in repr(model.get_layer("body").kernel_regularizer)


def test_another_key_is_not_taken_for_it(trained, tmp_path):
    path = saved(trained, tmp_path / "model.keras")
    with keys_at_hand(make_key(n_bits=64, name="body", label="other")):
        model = keras.models.load_model(path, compile=False)
    assert model.get_layer("body").kernel_regularizer.key is None


def test_keys_are_at_hand_inside_only(trained):
    with keys_at_hand(KEY), keys_at_hand(make_key(label="inner")):
        assert keras.models.clone_model(trained).get_layer("body").kernel_regularizer.key is KEY
    assert keras.models.clone_model(trained).get_layer("body").kernel_regularizer.key is None


def test_a_clone_of_a_clone_still_knows_its_key(trained):
    clone = keras.models.clone_model(trained)
    with keys_at_hand(KEY):
        assert keras.models.clone_model(clone).get_layer("body").kernel_regularizer.key is KEY


def test_the_commitment_is_that_of_the_key_file(tmp_path):
    kept = save_key(KEY, tmp_path / "key.npy")
    assert kept.commitment
    assert WatermarkRegularizer(KEY).commitment == WatermarkRegularizer(kept).commitment == kept.commitment


@pytest.mark.parametrize("field", ["strength", "stop_at_margin", "layout"])
def test_a_hostile_config_is_refused(field):
    config = WatermarkRegularizer(KEY).get_config() | {field: -1}
    with pytest.raises(ValueError, match=field):
        WatermarkRegularizer.from_config(config)


class Shell(keras.layers.Layer):
    """A layer with a marked part."""

    def __init__(self):
        super().__init__(name="shell")
        self.inner = keras.layers.Dense(16, name="inner", kernel_regularizer=WatermarkRegularizer(make_key((16, 16))))

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)


def test_removed_regularizers_leave_the_mark_and_no_trace(tmp_path):
    model = marked_net()
    weights = body(model).copy()
    remove_regularizers(model)
    assert "onnxmark" not in model.to_json().lower()
    assert model.losses == []
    np.testing.assert_array_equal(body(model), weights)
    model.save(tmp_path / "model.keras")
    assert b"Watermark" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(CarrierError, match="no layer of model 'net' has a watermark regularizer"):
        marked_kernels(model)


def test_regularizers_are_removed_from_parts_of_layers():
    model = keras.Sequential([keras.layers.Input((16,)), Shell()])
    assert len(model.losses) == 1
    remove_regularizers(model)
    assert model.losses == []
    assert model.layers[0].inner.kernel_regularizer is None


def test_other_regularizers_stay():
    model = marked_net()
    model.get_layer("stem").kernel_regularizer = keras.regularizers.L2(0.1)
    model.get_layer("stem").kernel.regularizer = keras.regularizers.L2(0.1)
    remove_regularizers(model)
    assert len(model.losses) == 1
    assert "L2" in model.to_json()


def test_a_kernel_marked_after_building_leaves_nothing_in_files(tmp_path):
    model = small_net()
    model.get_layer("body").kernel.regularizer = WatermarkRegularizer(KEY)
    model.save(tmp_path / "model.keras")
    assert "onnxmark" not in model.to_json().lower()
    assert not showing(tmp_path)
