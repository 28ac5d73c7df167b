"""Keras models that are small, and have every kind of layer that can carry a mark."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers
N_EXAMPLES = 3


def spread(model, seed=0):
    """The model with biases and normalisations that a mistake would show in."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(generator.normal(size=variable.shape))
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(generator.uniform(0.5, 2.0, variable.shape))
    return model


def every_kind():
    """Two inputs, a nested model with a layer called as outside, and every kind of two-dimensional layer."""
    keras.utils.set_random_seed(1)
    inside = keras.Input((8, 8, 4), name="inside")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, use_bias=False, name="conv")(inside))
    nested = keras.Model(inside, x, name="nested")
    image, extra = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="extra")
    x = nested(layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image))
    x = layers.DepthwiseConv2D((3, 2), depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2D(8, 3, groups=4, padding="same", name="grouped")(x)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="separable")(x)
    x = layers.Conv2DTranspose(5, (3, 2), strides=2, name="transposed")(x)
    x = layers.Concatenate(name="both")([layers.Flatten(name="flat")(x), layers.Dense(7, name="extras")(extra)])
    return spread(keras.Model([image, extra], layers.Dense(3, name="head")(x), name="net"))


HOSTS = {
    "conv/kernel": ((4, 3, 3, 3), "HWIO", 1),
    "nested/conv/kernel": ((6, 4, 3, 3), "HWIO", 1),
    "depthwise/kernel": ((12, 1, 3, 2), "HWCM", 6),
    "grouped/kernel": ((8, 3, 3, 3), "HWIO", 4),
    "separable/depthwise_kernel": ((16, 1, 3, 3), "HWCM", 8),
    "separable/pointwise_kernel": ((6, 16, 1, 1), "HWIO", 1),
    "transposed/kernel": ((5, 6, 3, 2), "HWOI", 1),
    "extras/kernel": ((7, 5), "IO", 1),
    "head/kernel": ((3, 157), "IO", 1),
}
"""Canonical shape, axis order and groups of each of its kernels."""


def every_rank():
    """One and three spatial axes."""
    keras.utils.set_random_seed(2)
    series, volume = keras.Input((12, 4), name="series"), keras.Input((5, 6, 7, 2), name="volume")
    x = layers.Conv1D(6, 3, name="conv1")(series)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, name="depthwise1")(x)
    x = layers.SeparableConv1D(5, 3, name="separable1")(x)
    x = layers.Conv1DTranspose(4, 3, name="transposed1")(x)
    y = layers.Conv3D(3, (2, 3, 2), name="conv3")(volume)
    y = layers.Conv3DTranspose(4, (2, 1, 3), name="transposed3")(y)
    x = layers.Concatenate(name="both")([layers.Flatten(name="flat1")(x), layers.Flatten(name="flat3")(y)])
    return spread(keras.Model([series, volume], layers.Dense(2, name="head")(x), name="ranks"))


def plain(filters=32, name="plain"):
    """Large enough for TensorFlow Lite to quantise; never called, as a model fresh from a file is not."""
    keras.utils.set_random_seed(3)
    x = image = keras.Input((10, 10, 3), name="image")
    x = layers.Conv2D(filters, 3, name="stem", use_bias=False)(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(filters, 3, name="body")(x)
    x = layers.Conv2DTranspose(filters, 3, name="up")(x)
    return spread(keras.Model(image, layers.Dense(4, name="head")(layers.Flatten(name="flat")(x)), name=name))


class Subclassed(keras.Model):
    """A model that only its code can build; layers are made when it is."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stem = layers.Conv2D(4, 3)
        self.body = layers.Conv2D(5, 3)
        self.flat = layers.Flatten()
        self.head = layers.Dense(2)

    def call(self, inputs):
        """Layers in a row."""
        return self.head(self.flat(self.body(self.stem(inputs))))


def subclassed():
    """A factory, for ``module:function``."""
    return Subclassed(name="sub")


def inputs(model, seed=0, n_examples=N_EXAMPLES):
    """Arrays for a model's inputs, by name."""
    generator = np.random.default_rng(seed)
    return {x.name: generator.normal(size=(n_examples, *x.shape[1:])).astype(np.float32) for x in model.inputs}


def outputs(model, arrays):
    """What Keras makes of them."""
    return keras.ops.convert_to_numpy(model(list(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values()))))
