from __future__ import annotations

import shutil

import numpy as np
import pytest
from onnxmark_tf.hosts import host_weights

from onnxmark.errors import ConversionError, TrustRequired
from tests.adapters_tf.conversions import convert_here, origins, run, weights_at
from tests.adapters_tf.nets import HOSTS, inputs, keras, layers, outputs, tf

saved_model_pb2 = pytest.importorskip("tensorflow.core.protobuf.saved_model_pb2")


@pytest.fixture(scope="module")
def kinds(files, tmp_path_factory):
    return convert_here(files["kinds"], tmp_path_factory.mktemp("kinds") / "kinds.onnx")


def test_it_agrees_with_keras(kinds, every_kind):
    arrays = inputs(every_kind)
    np.testing.assert_allclose(run(kinds.output, arrays), outputs(every_kind, arrays), rtol=1e-4, atol=1e-5)


def test_every_variable_that_is_weights_is_found(kinds, every_kind):
    """Names of Keras's variables lack the models they are nested in, so that two are called conv/kernel."""
    found = origins(kinds)
    names = {name: name for name in HOSTS} | {"conv/kernel": "conv/kernel#1", "nested/conv/kernel": "conv/kernel#2"}
    assert {name: found[names[name]].order for name in HOSTS} == {name: order for name, (_, order, _) in HOSTS.items()}
    for host in host_weights(every_kind):
        origin = found[names[host.name]]
        factors = 1 if origin.factors is None else origin.factors.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(weights_at(kinds.output, origin.site), host.values() * factors, rtol=1e-5)


def test_the_file_in_it_serves_as_well_as_the_directory(files, every_kind, kinds, tmp_path):
    made = convert_here(files["kinds"] / "saved_model.pb", tmp_path / "m.onnx")
    arrays = inputs(every_kind)
    np.testing.assert_array_equal(run(made.output, arrays), run(kinds.output, arrays))


class Raw(tf.Module):
    """TensorFlow without Keras."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.kernel = tf.Variable(generator.normal(size=(3, 3, 2, 4)).astype("f4"), name="kernel")
        self.matrix = tf.Variable(generator.normal(size=(4, 36)).astype("f4"), name="matrix")
        self.unused = tf.Variable(np.ones((2, 2), "f4"), name="unused")

    def compute(self, image):
        x = tf.nn.conv2d(image, self.kernel, 1, "VALID")
        return {"answer": tf.matmul(tf.reshape(tf.reduce_mean(x, -1), (-1, 36)), self.matrix, transpose_b=True)}


def saved(path, compute, module=None, names=("serving_default",)):
    """A SavedModel of one function of an image, under some signatures."""
    module = module or Raw()
    function = tf.function(
        compute.__get__(module), input_signature=[tf.TensorSpec((None, 8, 8, 2), tf.float32, "image")]
    )
    tf.saved_model.save(module, str(path), signatures=dict.fromkeys(names, function))
    return module


def test_variables_of_plain_tensorflow(tmp_path):
    module = saved(tmp_path / "m", Raw.compute, names=("only",))
    made = convert_here(tmp_path / "m", tmp_path / "m.onnx")
    found = origins(made)
    assert {name: origin.order for name, origin in found.items()} == {"kernel": "HWIO", "matrix": "OI"}
    np.testing.assert_array_equal(weights_at(made.output, found["matrix"].site), module.matrix.numpy())
    image = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
    np.testing.assert_allclose(
        run(made.output, {"image": image}), module.compute(image)["answer"].numpy(), rtol=1e-4, atol=1e-5
    )


def test_no_usual_signature(tmp_path):
    saved(tmp_path / "m", Raw.compute, names=("first", "second"))
    with pytest.raises(ConversionError, match=r"no signature 'serving_default' to convert \(it has: first, second\)"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def spying(self, image):
    """Reads a file of the machine that opens the model."""
    words = tf.strings.length(tf.io.read_file("/etc/hostname"))
    return {"answer": image + tf.cast(words, tf.float32)}


def writing(self, image):
    """Hides it behind a condition."""
    tf.cond(tf.reduce_sum(image) > 0, lambda: tf.io.write_file("/tmp/never", "x"), tf.no_op)
    return {"answer": image}


def printing(self, image):
    """A print may go to any file."""
    tf.print(image, output_stream="file:///tmp/never")
    return {"answer": image}


def calling_python(self, image):
    """Calls back into the process that made it."""
    return {"answer": tf.py_function(lambda x: x, [image], tf.float32)}


@pytest.mark.parametrize(
    ("compute", "operation"),
    [(spying, "ReadFile"), (writing, "WriteFile"), (printing, "PrintV2"), (calling_python, "EagerPyFunc")],
)
def test_what_could_act_is_refused_before_it_is_loaded(compute, operation, tmp_path, monkeypatch):
    saved(tmp_path / "m", compute)
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(TrustRequired, match=rf"the operation {operation}.*pass --trust"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def rewritten(path, change):
    """The SavedModel with its message changed."""
    message = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    change(message.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(message.SerializeToString())


def test_functions_are_found_though_the_list_of_them_hides_them(tmp_path):
    """TensorFlow looks functions up by the names that objects give, whether they are listed or not."""
    saved(tmp_path / "m", spying)
    rewritten(tmp_path / "m", lambda meta_graph: meta_graph.object_graph_def.concrete_functions.clear())
    with pytest.raises(TrustRequired, match="ReadFile"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def test_the_saver_is_no_hiding_place(tmp_path):
    """An object whose function is the one that writes checkpoints."""
    saved(tmp_path / "m", Raw.compute)

    def hide(meta_graph):
        (writer,) = (
            f.signature.name for f in meta_graph.graph_def.library.function if "traced_save" in f.signature.name
        )
        meta_graph.object_graph_def.nodes.add().function.concrete_functions.append(writer)

    rewritten(tmp_path / "m", hide)
    with pytest.raises(TrustRequired, match=r"operation (SaveV2|MergeV2Checkpoints|ShardedFilename)"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def test_a_table_filled_from_a_file_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("one\ntwo\n")

    class Looking(tf.Module):
        def __init__(self):
            source = tf.lookup.TextFileInitializer(
                str(tmp_path / "words.txt"), tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(source, -1)

    def compute(self, image):
        found = self.table.lookup(tf.constant("one"))
        return {"answer": image + tf.cast(found, tf.float32)}

    saved(tmp_path / "m", compute, Looking())
    with pytest.raises(TrustRequired, match="InitializeTableFromTextFileV2"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def test_trust_lets_it_through(tmp_path):
    saved(tmp_path / "m", printing)
    made = convert_here(tmp_path / "m", tmp_path / "m.onnx", trust=True)
    image = np.ones((1, 8, 8, 2), np.float32)
    np.testing.assert_array_equal(run(made.output, {"image": image}), image)


def test_what_tensorflow_1_saved_is_refused(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        w = tf.compat.v1.get_variable("w", (4, 2), use_resource=True)
        y = tf.matmul(x, w)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
    with pytest.raises(TrustRequired, match="TensorFlow 1 runs to restore it"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_truncated_graph(kept, files, tmp_path):
    shutil.copytree(files["kinds"], tmp_path / "m")
    graph = tmp_path / "m" / "saved_model.pb"
    content = graph.read_bytes()
    graph.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises((ConversionError, TrustRequired), match=r"damaged, or no SavedModel|TensorFlow 1"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_variables_that_are_missing_or_torn(name, files, tmp_path):
    shutil.copytree(files["kinds"], tmp_path / "m")
    part = tmp_path / "m" / "variables" / name
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(ConversionError, match="TensorFlow cannot load it"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def test_an_empty_directory(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(ConversionError, match="damaged, or no SavedModel"):
        convert_here(tmp_path / "m", tmp_path / "m.onnx")


def test_dense_layers_on_series_and_one_axis(tmp_path):
    series = keras.Input((6, 3), name="series")
    model = keras.Model(series, layers.Dense(4, name="dense")(layers.Conv1D(5, 2, name="conv")(series)))
    model.export(tmp_path / "m", verbose=False)
    made = convert_here(tmp_path / "m", tmp_path / "m.onnx")
    assert {name: origin.shape for name, origin in origins(made).items()} == {
        "conv/kernel": (5, 3, 2),
        "dense/kernel": (4, 5),
    }
