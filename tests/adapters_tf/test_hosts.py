from __future__ import annotations

import numpy as np
from onnxmark_tf.hosts import host_weights, quantised_layers

from tests.adapters_tf.nets import HOSTS, every_rank, keras, layers


def test_every_kernel_has_a_path_of_its_own(every_kind):
    found = {host.name: (host.values().shape, host.order, host.group) for host in host_weights(every_kind)}
    assert found == HOSTS


def test_one_and_three_axes():
    found = {host.name: host.values().shape for host in host_weights(every_rank())}
    assert found["conv1/kernel"] == (6, 4, 3)
    assert found["depthwise1/kernel"] == (12, 1, 3)
    assert found["separable1/depthwise_kernel"] == (12, 1, 3)
    assert found["transposed1/kernel"] == (4, 5, 3)
    assert found["conv3/kernel"] == (3, 2, 2, 3, 2)
    assert found["transposed3/kernel"] == (4, 3, 2, 1, 3)


def test_a_convolution_by_hand_with_canonical_weights_is_that_of_keras(every_kind):
    """One output pixel of each layer, from the canonical weights and nothing else of Keras."""
    generator = np.random.default_rng(0)
    for path, group in (("conv", 1), ("grouped", 4), ("depthwise", 6)):
        (weights,) = (host.values() for host in host_weights(every_kind) if host.name == f"{path}/kernel")
        layer = every_kind.get_layer(path)
        channels = weights.shape[1] * group
        patch = generator.normal(size=(*weights.shape[2:], channels)).astype(np.float32)
        per_group = np.split(np.moveaxis(patch, -1, 0), group)
        filters = np.split(weights, group)
        by_hand = np.concatenate([np.einsum("oikl,ikl->o", w, x) for w, x in zip(filters, per_group, strict=True)])
        kernel = layer.kernel
        valid = keras.ops.depthwise_conv if path == "depthwise" else keras.ops.conv
        theirs = valid(patch[None], kernel, padding="valid")
        np.testing.assert_allclose(by_hand, np.ravel(theirs), rtol=1e-4, atol=1e-5)


def test_a_shared_layer_counts_once():
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    first = keras.Model(x, shared(x), name="first")
    model = keras.Model(x, shared(first(x)))
    assert [host.name for host in host_weights(model)] == ["first/shared/kernel"]


def test_layers_that_are_called_alike_are_told_apart():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = layers.Dense(2, name="twin"), layers.Dense(3, name="twin")

        def call(self, inputs):
            return self.other(self.one(inputs))

    model = Twins()
    model(np.zeros((1, 4), np.float32))
    assert [(host.name, host.shape) for host in host_weights(model)] == [
        ("twin/kernel", (4, 2)),
        ("twin#2/kernel", (2, 3)),
    ]


def test_wrapped_layers_are_found():
    x = keras.Input((3, 8, 8, 2))
    model = keras.Model(x, layers.TimeDistributed(layers.Conv2D(4, 3, name="conv"), name="each")(x))
    assert [host.name for host in host_weights(model)] == ["each/conv/kernel"]


def test_layers_without_weights_yet_are_left_out():
    assert host_weights(keras.Sequential([layers.Dense(3)])) == ()


def test_layers_that_keras_quantised_are_left_out_and_named():
    x = keras.Input((16,))
    model = keras.Model(x, layers.Dense(2, name="last")(layers.Dense(8, name="first")(x)))
    model.get_layer("first").quantize("int8")
    assert [host.name for host in host_weights(model)] == ["last/kernel"]
    assert quantised_layers(model) == ("first",)


def test_computed_weights_are_read_but_are_no_variable():
    x = keras.Input((16,))
    model = keras.Model(x, layers.Dense(8, name="adapted")(x))
    model.get_layer("adapted").enable_lora(2)
    model.get_layer("adapted").lora_kernel_b.assign(np.ones((2, 8)))
    (host,) = host_weights(model)
    plain = model.get_layer("adapted")._kernel.numpy()
    assert not host.is_variable
    assert not np.allclose(host.values().T, plain)


def test_half_precision_is_read_as_float32():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3, dtype="bfloat16")(x))
    (host,) = host_weights(model)
    assert host.values().dtype == np.float32
    np.testing.assert_array_equal(host.values().T, np.asarray(host.tensor).astype(np.float32))
