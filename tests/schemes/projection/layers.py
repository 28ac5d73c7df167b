"""Layers and keys for tests, made from a seed."""

import numpy as np

from onnxmark.keys import Carrier, ForeignKey, Key, Secret
from onnxmark.weights import Origin, WeightTensor

SHAPE = (16, 8, 3, 3)


def layer(shape=SHAPE, seed=0, bias=0.0):
    """Heavy-tailed weights with channel scales, as trained layers have them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, size=shape) * np.exp(rng.normal(0, 0.3, (shape[0],) + (1,) * (len(shape) - 1))) + bias
    return weights(values.astype(np.float32))


def weights(values):
    return WeightTensor(
        "conv.weight", np.array(values, dtype=np.float32), Origin("conv", "Conv", 0, "initializer float32")
    )


def own_key(carrier="full", generator="rademacher", n_bits=32, shape=SHAPE, seed=0):
    return Key(
        scheme="projection",
        seed=Secret(seed.to_bytes(32, "little")),
        salt=bytes(32),
        payload=np.zeros(n_bits, dtype=np.uint8),
        carriers=(Carrier(shape, "conv.weight"),),
        parameters={"generator": generator, "carrier": carrier},
    )


def foreign_key(matrix, bits=None):
    return ForeignKey(
        np.asarray(matrix, dtype=float), None if bits is None else np.asarray(bits, np.uint8), "w.npy", "0" * 64
    )
