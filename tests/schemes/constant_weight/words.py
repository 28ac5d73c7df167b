"""Layers and keys for tests, made from a seed."""

import numpy as np

from onnxmark.keys import Carrier, Key, Secret
from onnxmark.weights import Origin, WeightTensor

SHAPE = (32, 16, 3, 3)


def layer(shape=SHAPE, seed=0, name="conv.weight"):
    """Heavy-tailed weights with channel scales, as trained layers have them."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(0, 0.3, (shape[0],) + (1,) * (len(shape) - 1)))
    return weights(rng.standard_t(4, size=shape) * scales, name)


def weights(values, name="conv.weight"):
    return WeightTensor(name, np.array(values, dtype=np.float32), Origin("conv", "Conv", 0, "initializer float32"))


def key(n_bits=64, shapes=(SHAPE,), seed=0, payload=None, **parameters):
    """A key from a public seed; 64 bits fit in 150 symbols of which 15 are ones."""
    parameters = {"length": 150, "weight": 15, "rate": 0.9, **parameters}
    return Key(
        scheme="constant-weight",
        seed=Secret(seed.to_bytes(32, "little")),
        salt=bytes(32),
        payload=np.zeros(n_bits, dtype=np.uint8) if payload is None else payload,
        carriers=tuple(Carrier(shape, f"layer{index}.weight") for index, shape in enumerate(shapes)),
        parameters=parameters,
    )
