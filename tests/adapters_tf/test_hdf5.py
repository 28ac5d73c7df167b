from __future__ import annotations

import numpy as np
import pytest
from onnxmark_tf.hosts import host_weights

from onnxmark.errors import ConversionError
from onnxmark.model import open_model
from tests.adapters_tf.conversions import convert_here, origins, weights_at
from tests.adapters_tf.nets import HOSTS, every_rank, keras, layers

h5py = pytest.importorskip("h5py")


def test_weights_alone_have_no_graph_and_every_kernel(files, every_kind, tmp_path):
    made = convert_here(files["kinds.weights.h5"], tmp_path / "m.onnx")
    assert not made.has_graph
    assert "was guessed from its name" in made.notes[0]
    found = origins(made)
    assert {name: (origin.shape, origin.order) for name, origin in found.items()} == {
        name: (shape, order) for name, (shape, order, _) in HOSTS.items()
    }
    for host in host_weights(every_kind):
        np.testing.assert_array_equal(weights_at(made.output, found[host.name].site), host.values())


def test_groups_of_depthwise_kernels_are_kept(files, tmp_path):
    made = convert_here(files["kinds.weights.h5"], tmp_path / "m.onnx")
    with open_model(made.output) as model:
        groups = {site.name: site.group for site in model.sites()}
    assert groups["depthwise/kernel"] == 6
    assert groups["separable/depthwise_kernel"] == 8


def test_one_and_three_axes(tmp_path):
    model = every_rank()
    model.save_weights(tmp_path / "m.weights.h5")
    found = origins(convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx"))
    assert {name: found[name].order for name in found} == {host.name: host.order for host in host_weights(model)}


def legacy(path, model):
    """Weights as Keras 2 wrote them: groups called after layers, variables with their output number."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = []
            for variable in layer.weights:
                name = variable.path.replace("depthwise/kernel", "depthwise/depthwise_kernel") + ":0"
                group.create_dataset(name, data=variable.numpy())
                names.append(name.encode())
            group.attrs["weight_names"] = names
    return path


def test_the_layout_of_keras_2(every_kind, tmp_path):
    found = origins(convert_here(legacy(tmp_path / "m.h5", every_kind), tmp_path / "m.onnx"))
    renamed = {"depthwise/kernel": "depthwise/depthwise_kernel"}
    assert {name: origin.order for name, origin in found.items()} == {
        renamed.get(name, name): order for name, (_, order, _) in HOSTS.items()
    }


def test_the_layout_of_keras_2_with_the_code_of_the_model(every_kind, tmp_path):
    path = legacy(tmp_path / "old.weights.h5", every_kind)
    made = convert_here(path, tmp_path / "m.onnx", factory="tests.adapters_tf.nets:every_kind")
    assert made.has_graph
    assert set(origins(made)) == set(HOSTS)


def test_other_layers_are_left_out(tmp_path):
    words = keras.Input((6,), dtype="int32")
    x = layers.LSTM(3, name="memory")(layers.Embedding(10, 4, name="words")(words))
    model = keras.Model(words, layers.Dense(2, name="head")(x))
    model.save_weights(tmp_path / "m.weights.h5")
    assert set(origins(convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx"))) == {"head/kernel"}


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_half_precision(policy, tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3, name="d", dtype=policy)(x))
    model.save_weights(tmp_path / "m.weights.h5")
    made = convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx")
    kernel = np.asarray(model.get_layer("d").kernel.value).astype(np.float32)
    np.testing.assert_array_equal(weights_at(made.output, "d/kernel"), kernel.T)


def kernel_file(path, **options):
    """A file with one tensor where Keras 3 keeps a kernel."""
    with h5py.File(path, "w") as file:
        file.create_group("layers/conv2d/vars").create_dataset("0", **options)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": np.zeros((3, 3, 1, 2), np.int8)}, "holds int8, not floats"),
        ({"data": np.zeros(4, np.float32)}, "no tensor in it looks like the weights of a layer"),
        (
            {"shape": (3, 3, 1 << 20, 1 << 20), "dtype": "f4", "chunks": (1, 1, 64, 64)},
            r"says it has 39582418599936 bytes, which the file does not hold",
        ),
        (
            {"shape": (3, 3, 2, 2), "dtype": "f4", "external": [("/etc/hostname", 0, 144)]},
            r"says it has 144 bytes, which the file does not hold",
        ),
    ],
    ids=["integers", "vector", "bomb", "external"],
)
def test_tensors_that_are_not_what_they_say(options, words, tmp_path):
    path = kernel_file(tmp_path / "m.weights.h5", **options)
    with pytest.raises(ConversionError, match=words):
        convert_here(path, tmp_path / "m.onnx")


def test_links_are_not_followed(tmp_path):
    kernel_file(tmp_path / "secret.h5", data=np.ones((3, 3, 1, 2), np.float32))
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "layers/conv2d/vars/0")
        file["layers/dense/vars"] = h5py.SoftLink("/layers/conv2d/vars")
        file["layers/circle"] = file["layers"]
    with pytest.raises(ConversionError, match="no tensor in it looks like"):
        convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx")


def test_no_names_in_the_file(tmp_path):
    path = kernel_file(tmp_path / "m.weights.h5", data=np.ones((3, 3, 1, 2), np.float32))
    assert set(origins(convert_here(path, tmp_path / "m.onnx"))) == {"layers/conv2d/kernel"}


def test_optimizers_are_no_layers(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 2), np.float32)
        file["optimizer/dense/vars/0"] = np.ones((3, 2), np.float32)
    assert set(origins(convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx"))) == {"layers/dense/kernel"}
