from __future__ import annotations

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnxmark_tf import opening
from onnxmark_tf.child import converted
from onnxmark_tf.exporting import export
from onnxmark_tf.hosts import host_weights

from onnxmark.conversion import Container, Request
from onnxmark.errors import ConversionError, SettingError, TrustRequired
from tests.adapters_tf.conversions import convert_here, origins, run, weights_at
from tests.adapters_tf.nets import HOSTS, Subclassed, every_rank, inputs, keras, layers, outputs, plain, spread, tf

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def kinds(files, tmp_path_factory):
    target = tmp_path_factory.mktemp("kinds") / "kinds.onnx"
    return convert_here(files["kinds.keras"], target)


def test_a_model_never_called_with_two_inputs_agrees_with_keras(kinds, every_kind):
    arrays = inputs(every_kind)
    np.testing.assert_allclose(run(kinds.output, arrays), outputs(every_kind, arrays), **TOLERANCE)
    assert kinds.has_graph
    assert kinds.notes == ()
    assert kinds.route.startswith(f"keras {keras.version()} on tensorflow ")


def test_grouped_convolutions_are_operators_and_no_calls(kinds):
    model = onnx.load(kinds.output)
    assert "StatefulPartitionedCall" not in {node.op_type for node in model.graph.node}
    groups = {a.i for node in model.graph.node if node.op_type == "Conv" for a in node.attribute if a.name == "group"}
    assert {1, 4, 6, 8} <= groups


def test_every_kernel_is_found_in_the_file_and_equals_that_of_keras(kinds, every_kind):
    found = origins(kinds)
    assert set(found) == set(HOSTS)
    for host in host_weights(every_kind):
        origin, theirs = found[host.name], host.values()
        ours = weights_at(kinds.output, origin.site)
        if origin.factors is None:
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs * origin.factors.reshape(-1, 1, 1, 1), rtol=1e-5)


def test_a_folded_normalisation_is_told_by_its_factors(kinds, every_kind):
    norm = every_kind.get_layer("nested").get_layer("norm")
    expected = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    np.testing.assert_allclose(origins(kinds)["nested/conv/kernel"].factors, expected, rtol=1e-5)


def test_an_h5_file_makes_the_same_model(files, every_kind, kinds, tmp_path):
    made = convert_here(files["kinds.h5"], tmp_path / "m.onnx")
    arrays = inputs(every_kind)
    np.testing.assert_array_equal(run(made.output, arrays), run(kinds.output, arrays))
    assert {name: one.order for name, one in origins(made).items()} == {
        name: order for name, (_, order, _) in HOSTS.items()
    }


def test_one_and_three_axes_agree_with_keras(tmp_path):
    model = every_rank()
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx", opset=17)
    arrays = inputs(model)
    np.testing.assert_allclose(run(made.output, arrays), outputs(model, arrays), **TOLERANCE)
    assert set(origins(made)) == {host.name for host in host_weights(model)}
    assert {opset.version for opset in onnx.load(made.output).opset_import if opset.domain == ""} == {17}


def test_names_in_any_script(tmp_path):
    image = keras.Input((6, 6, 2), name="bild")
    x = layers.Conv2D(3, 3, name="größe")(image)
    model = spread(keras.Model(image, layers.Dense(2, name="_頭")(layers.Flatten()(x)), name="モデル"))
    path = tmp_path / "ネット.keras"
    model.save(path)
    made = convert_here(path, tmp_path / "ネット.onnx")
    assert set(origins(made)) == {"größe/kernel", "_頭/kernel"}
    arrays = inputs(model)
    np.testing.assert_allclose(run(made.output, arrays), outputs(model, arrays), **TOLERANCE)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_half_precision_becomes_float32_with_the_same_kernels(policy, tmp_path):
    image = keras.Input((6, 6, 2), name="image")
    model = spread(keras.Model(image, layers.Conv2D(3, 3, name="conv", dtype=policy)(image)))
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert [tensor.data_type for tensor in onnx.load(made.output).graph.initializer if len(tensor.dims) == 4] == [1]
    assert f"layers compute in {policy}" in made.notes[0]
    kernel = model.get_layer("conv").kernel.numpy().astype(np.float32)
    np.testing.assert_array_equal(
        weights_at(made.output, origins(made)["conv/kernel"].site), kernel.transpose(3, 2, 0, 1)
    )
    arrays = inputs(model)
    np.testing.assert_allclose(run(made.output, arrays), outputs(model, arrays).astype(np.float32), atol=0.05)


def test_a_sequential_model_with_a_shape_given(tmp_path):
    model = spread(keras.Sequential([keras.Input((None, None, 2), name="image"), layers.Conv2D(3, 3, name="conv")]))
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx", shapes=(("", (1, 9, 7, 2)),))
    (given,) = onnx.load(made.output).graph.input
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [1, 9, 7, 2]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ((("picture", (1, 8, 8, 3)),), "has the inputs image, extra, and not picture"),
        ((("", (1, 8, 8, 3)),), "has the inputs image, extra, and not only one"),
        ((("image", (1, 8, 3)),), "input 'image' has 4 axes with the batch, not 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, words, files, tmp_path):
    with pytest.raises(ConversionError, match=words):
        convert_here(files["kinds.keras"], tmp_path / "m.onnx", shapes=shapes)


FACTORY = "tests.adapters_tf.nets:"


def test_a_model_of_the_users_own_class(tmp_path):
    model = Subclassed()
    images = np.random.default_rng(0).normal(size=(3, 7, 7, 2)).astype(np.float32)
    model(images)
    spread(model).save(tmp_path / "m.keras")
    with pytest.raises(ConversionError, match=r"Subclassed.*whose code is not in the file; name a function of yours"):
        convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx", factory=f"{FACTORY}subclassed")
    (name,) = [value.name for value in onnx.load(made.output).graph.input]
    np.testing.assert_allclose(run(made.output, {name: images}), model(images).numpy(), **TOLERANCE)
    assert made.n_found == 3


def test_weights_alone_with_the_code_of_their_model(files, every_kind, tmp_path):
    made = convert_here(files["kinds.weights.h5"], tmp_path / "m.onnx", factory=f"{FACTORY}every_kind")
    arrays = inputs(every_kind)
    np.testing.assert_allclose(run(made.output, arrays), outputs(every_kind, arrays), **TOLERANCE)
    assert made.has_graph


def test_weights_of_a_model_that_must_meet_an_input_first(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 7, 7, 2), np.float32))
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ConversionError, match=r"no weights before it meets an input; give its shape"):
        convert_here(tmp_path / "m.weights.h5", tmp_path / "m.onnx", factory=f"{FACTORY}subclassed")
    made = convert_here(
        tmp_path / "m.weights.h5", tmp_path / "m.onnx", factory=f"{FACTORY}subclassed", shapes=(("", (1, 7, 7, 2)),)
    )
    kernels = [host.values() for host in host_weights(model)]
    sites = [origin.site for origin in made.origins]
    for ours, theirs in zip(sites, kernels, strict=True):
        np.testing.assert_array_equal(weights_at(made.output, ours), theirs)


@pytest.mark.parametrize(
    ("factory", "kind", "words"),
    [
        ("nets", SettingError, "named as module:function"),
        ("tests.nowhere:build", SettingError, "is not there: No module named 'tests.nowhere'"),
        (f"{FACTORY}nothing", SettingError, "has no attribute 'nothing'"),
        (f"{FACTORY}spread", ConversionError, "raised TypeError: spread"),
        ("builtins:dict", ConversionError, "returned dict, not a keras.Model"),
        (f"{FACTORY}plain", ConversionError, "its weights do not fit the model of"),
    ],
)
def test_factories_that_do_not_serve(factory, kind, words, files, tmp_path):
    with pytest.raises(kind, match=words):
        convert_here(files["kinds.weights.h5"], tmp_path / "m.onnx", factory=factory)


def with_lambda(path):
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Lambda(lambda x: x * 2.0, output_shape=(6, 6, 2))(layers.Conv2D(2, 3, padding="same")(image))
    model = keras.Model(image, x)
    model.save(path)
    return model


def test_python_in_the_file_runs_with_trust_only(tmp_path):
    model = with_lambda(tmp_path / "m.keras")
    with pytest.raises(TrustRequired, match=r"a Lambda layer, .*run code that the file chooses; pass --trust"):
        convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx", trust=True)
    arrays = inputs(model)
    np.testing.assert_allclose(run(made.output, arrays), outputs(model, arrays), **TOLERANCE)


def test_python_in_an_h5_file_is_refused_as_well(tmp_path):
    with_lambda(tmp_path / "m.h5")
    with pytest.raises(TrustRequired, match="Lambda"):
        convert_here(tmp_path / "m.h5", tmp_path / "m.onnx")


def rewritten(path, target, change):
    """The archive with its configuration changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member == "config.json" else content)
    return target


def test_a_vocabulary_of_this_machine_is_not_read(tmp_path, files):
    def spying(content):
        config = json.loads(content)
        config["config"]["layers"][0]["config"]["vocabulary"] = "/etc/hostname"
        return json.dumps(config)

    path = rewritten(files["kinds.keras"], tmp_path / "m.keras", spying)
    with pytest.raises(TrustRequired, match="reads the file '/etc/hostname'"):
        convert_here(path, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"not a zip", b"\x89HDF\r\n\x1a\n"], ids=["empty", "torn", "text", "hdf5"]
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_that_are_something_else(content, suffix, tmp_path):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"m\.(keras|h5)': (has no configuration|damaged)"):
        convert_here(path, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("name", ["kinds.keras", "kinds.h5"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_files(name, kept, files, tmp_path):
    content = files[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ConversionError, match=r"has no configuration|damaged"):
        convert_here(path, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: b"{", "has no configuration of a model that can be read"),
        (lambda _: b"[" * 100_000, "has no configuration of a model that can be read"),
        (lambda _: b"[1]", "no JSON object"),
        (lambda _: b'{"class_name": "Functional"}', "holds no model that Keras can load"),
        (lambda content: content.replace(b'"Conv2D"', b'"Conv9D"'), "holds no model that Keras can load"),
        (lambda content: content.replace(b'"filters": 4', b'"filters": 5'), "holds no model that Keras can load"),
    ],
    ids=["torn", "deep", "list", "empty", "unknown-layer", "wrong-size"],
)
def test_configurations_that_are_wrong(change, words, files, tmp_path):
    path = rewritten(files["kinds.keras"], tmp_path / "m.keras", change)
    with pytest.raises(ConversionError, match=words) as caught:
        convert_here(path, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_an_operator_set_that_the_exporter_does_not_know(files, tmp_path):
    with pytest.raises(ConversionError, match=r"cannot export it to ONNX on tensorflow.*opset"):
        convert_here(files["kinds.keras"], tmp_path / "m.onnx", opset=99)


def test_what_onnx_has_not_is_refused_and_not_written(tmp_path):
    x = keras.Input((6,), name="x")

    class Strange(layers.Layer):
        def call(self, inputs):
            return tf.raw_ops.Betainc(a=tf.abs(inputs), b=tf.abs(inputs), x=tf.sigmoid(inputs))

    request = Request(tmp_path / "m.keras", Container.KERAS, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"not valid ONNX.*Betainc|cannot export it.*Betainc"):
        export(keras, keras.Model(x, Strange()(x)), request)
    assert not (tmp_path / "m.onnx").exists()


def test_groups_along_three_axes_are_refused(tmp_path):
    x = keras.Input((4, 4, 4, 4))
    keras.Model(x, layers.Conv3D(4, 3, groups=2, name="volume")(x)).save(tmp_path / "m.keras")
    with pytest.raises(
        ConversionError, match=r"loses the groups of three-dimensional convolutions \('volume/kernel'\)"
    ):
        convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")


def test_a_model_that_was_saved_too_early(tmp_path):
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([layers.Dense(3)]).save(tmp_path / "m.keras")
    with pytest.raises(ConversionError, match="saved before it met an input"):
        convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")


def test_layers_that_augment_do_so_in_training_only(tmp_path):
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Dropout(0.5)(layers.RandomFlip()(image))
    model = keras.Model(image, layers.Conv2D(3, 3, name="conv")(x))
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    array = inputs(model)["image"]
    expected = keras.ops.convert_to_numpy(model(array, training=False))
    np.testing.assert_allclose(run(made.output, {"image": array}), expected, **TOLERANCE)


def test_inputs_in_a_dictionary(tmp_path):
    one, other = keras.Input((4,), name="b"), keras.Input((3,), name="a")
    model = keras.Model({"b": one, "a": other}, layers.Concatenate()([layers.Dense(2)(one), layers.Dense(2)(other)]))
    model.save(tmp_path / "m.keras")
    made = convert_here(tmp_path / "m.keras", tmp_path / "m.onnx")
    arrays = {"b": np.ones((2, 4), np.float32), "a": np.full((2, 3), 2.0, np.float32)}
    expected = keras.ops.convert_to_numpy(model(arrays))
    np.testing.assert_allclose(run(made.output, arrays), expected, **TOLERANCE)


def test_the_model_in_hand_keeps_its_names_and_its_freedom(tmp_path):
    model = plain(name="größe")
    export(keras, model, Request(tmp_path / "m.keras", Container.KERAS, tmp_path / "m.onnx"))
    assert model.name == "größe"
    assert not tf.config.functions_run_eagerly()


def test_another_name_than_keras_wants(files, every_kind, tmp_path):
    path = tmp_path / "checkpoint.zip"
    path.write_bytes(files["kinds.keras"].read_bytes())
    made = converted(Request(path, Container.KERAS, tmp_path / "m.onnx"))
    assert [weights.name for weights in made.weights] == list(HOSTS)


def test_a_configuration_of_any_size_is_not_read(files, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_MAX_CONFIGURATION", 100)
    with pytest.raises(ConversionError, match=r"config.json says it has \d{4,} bytes"):
        convert_here(files["kinds.keras"], tmp_path / "m.onnx")
