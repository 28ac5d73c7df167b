"""Layers and keys of the embedding tests: seeded, small, and the reading as a plain matrix."""

from __future__ import annotations

import numpy as np

from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.projection import Projection, own_projection
from onnxmark.weights import Origin, WeightTensor


def host(shape: tuple[int, ...], seed: int = 0, scale: float = 0.05) -> WeightTensor:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return WeightTensor("weight", values.astype(np.float32), Origin("conv", "Conv", 0, "initializer"))


def projection(
    shape: tuple[int, ...], n_bits: int, kind: str = "full", generator: str = "rademacher", seed: int = 1
) -> Projection:
    key = Key(
        scheme="projection",
        seed=Secret(bytes([seed]) * 32),
        salt=bytes(32),
        payload=np.zeros(n_bits, dtype=np.uint8),
        carriers=(Carrier(shape),),
        parameters={"carrier": kind, "generator": generator},
    )
    return own_projection(key, shape)


def signed_matrix(rows: Projection) -> np.ndarray:
    """diag(b) A as a matrix over the flattened weights, built by probing one weight at a time."""
    size = int(np.prod(rows.carrier.shape))
    columns = []
    for index in range(size):
        probe = np.zeros(size, dtype=np.float32)
        probe[index] = 1
        columns.append(rows.scores(probe.reshape(rows.carrier.shape)))
    return np.where(rows.message == 1, 1.0, -1.0)[:, None] * np.array(columns).T
