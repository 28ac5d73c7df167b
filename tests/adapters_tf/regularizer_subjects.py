"""Keys, kernels and small models for the tests of the Keras regularizer, alike on every backend of Keras."""

from __future__ import annotations

import hashlib

import keras
import numpy as np
from onnxmark_tf.regularizer import WatermarkRegularizer

from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.projection import own_projection

GENERATORS = ("rademacher", "gaussian", "direct", "diff")
CARRIERS = ("full", "fold:256", "mean-ihw", "mean-hwi")
CONV_SHAPE = (16, 8, 3, 3)

# As Keras keeps them, and what an audit sees of each.
KERNELS = {
    "dense": ((40, 24), "plain", (24, 40)),
    "conv1d": ((5, 6, 10), "plain", (10, 6, 5)),
    "conv2d": ((3, 3, 8, 16), "plain", CONV_SHAPE),
    "uneven conv2d": ((3, 5, 8, 16), "plain", (16, 8, 3, 5)),
    "conv3d": ((2, 3, 4, 3, 8), "plain", (8, 3, 2, 3, 4)),
    "depthwise conv2d": ((3, 3, 8, 4), "depthwise", (32, 1, 3, 3)),
    "transposed conv2d": ((3, 3, 16, 8), "transposed", CONV_SHAPE),
}
# Every stretched seed takes a tenth of a second, so that not everything is crossed with everything.
CASES = (
    *(("conv2d", "full", generator) for generator in GENERATORS),
    *(("conv2d", carrier, "rademacher") for carrier in CARRIERS[1:]),
    *((kernel, "full", "rademacher") for kernel in KERNELS if kernel != "conv2d"),
    *((kernel, "mean-hwi", "rademacher") for kernel in ("uneven conv2d", "depthwise conv2d", "transposed conv2d")),
)


def make_key(shape=CONV_SHAPE, *, n_bits=16, generator="rademacher", carrier="full", label="key", name=""):
    """A key from a public seed."""
    digest = hashlib.sha256(label.encode()).digest()
    parameters = {"generator": generator, "carrier": carrier}
    return Key("projection", Secret(digest), digest, np.zeros(n_bits, np.uint8), (Carrier(shape, name),), parameters)


def case_key(kernel, carrier, generator):
    """The key of a case; as many bits as the smallest carrier has room for."""
    return make_key(
        KERNELS[kernel][2], n_bits=4 if carrier.startswith("mean") else 16, generator=generator, carrier=carrier
    )


def case_values(kernel):
    """Weights for a case, as Keras keeps them."""
    shape = KERNELS[kernel][0]
    return (0.2 * np.random.default_rng(sum(shape)).standard_normal(shape)).astype(np.float32)


def case_regularizer(case, strength=0.3):
    """The regularizer of a case."""
    return WatermarkRegularizer(case_key(*case), strength, layout=KERNELS[case[0]][1])


def in_canonical_order(kernel, layout):
    """An independent reference: one output channel at a time."""
    if layout == "plain":
        return np.stack([np.moveaxis(kernel[..., out], -1, 0) for out in range(kernel.shape[-1])])
    if layout == "transposed":
        return np.stack([np.moveaxis(kernel[..., out, :], -1, 0) for out in range(kernel.shape[-2])])
    channels, multiplier = kernel.shape[-2:]
    return np.stack([kernel[None, ..., c, m] for c in range(channels) for m in range(multiplier)])


def reference(key, values):
    """Uchida's sum of cross-entropies and its gradient by canonical weights, in float64, and the smallest margin."""
    projection = own_projection(key, values.shape)
    scores = projection.rows(0, key.n_bits) @ projection.carrier.fold(values)
    signed = np.where(key.message == 1, scores, -scores)
    gradient = projection.adjoint(1 / (1 + np.exp(-scores)) - key.message)
    return np.sum(np.logaddexp(0, -signed)), gradient, signed.min() / projection.unit(values)


def pull(key):
    """The change of a canonical kernel that moves every bit the right way by as much as it can."""
    return own_projection(key, key.carrier.shape).adjoint(2.0 * key.message - 1)


def loss_and_gradient(regularizer, values):
    """What the backend makes of a regularizer: the loss, and its gradient by the kernel in Keras's order."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        loss, gradient = jax.value_and_grad(regularizer)(values)
    elif backend == "torch":
        kernel = keras.ops.convert_to_tensor(values).requires_grad_()
        loss = regularizer(kernel)
        loss.backward()
        gradient = kernel.grad
    else:
        import tensorflow as tf

        kernel = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            loss = regularizer(kernel)
        gradient = tape.gradient(loss, kernel)
    return float(loss), keras.ops.convert_to_numpy(gradient)


def small_net(regularizer=None, *, dtype=None, optimizer=None, **options):
    """Two convolutions, the second 3x3x8x16, and a dense layer; the same initial weights every time, compiled."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="stem", dtype=dtype),
            layers.Conv2D(16, 3, name="body", kernel_regularizer=regularizer, dtype=dtype),
            layers.GlobalAveragePooling2D(dtype=dtype),
            layers.Dense(3, name="head", dtype=dtype),
        ],
        name="net",
    )
    return compiled(model, optimizer, **options)


def compiled(model, optimizer=None, **options):
    """The model, ready for training."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), loss=loss, **options)
    return model


def batch(size=12, seed=0):
    """Random images (size, 6, 6, 1) and labels."""
    rng = np.random.default_rng(seed)
    return rng.random((size, 6, 6, 1), dtype=np.float32), rng.integers(0, 3, size)


def trained(model, steps=40, **options):
    """The model after one epoch of so many steps."""
    model.fit(*batch(12 * steps), batch_size=12, verbose=0, **options)
    return model


def body(model):
    """The kernel of the second convolution."""
    return keras.ops.convert_to_numpy(model.get_layer("body").kernel)
