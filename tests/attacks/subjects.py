"""The table of attacks and the table of layers that the contract is tested on: a new attack without a row fails."""

from __future__ import annotations

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks import (
    Attack,
    GaussianNoise,
    KMeansClustering,
    LargestFirstPruning,
    MagnitudePruning,
    Means,
    RandomPruning,
    UniformQuantisation,
)
from onnxmark.weights import Origin, WeightTensor

RECIPES: dict[str, tuple[Attack, ...]] = {
    "prune": tuple(MagnitudePruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-random": tuple(RandomPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-largest": tuple(LargestFirstPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "quantize": (
        *(UniformQuantisation(bits) for bits in (1, 2, 8, 32)),
        *(UniformQuantisation(bits, per_channel=True) for bits in (1, 4)),
        UniformQuantisation(4, symmetric=True),
        UniformQuantisation(2, per_channel=True, symmetric=True),
    ),
    "cluster": (*(KMeansClustering(bits) for bits in (1, 2, 5, 16)), KMeansClustering(3, rounds=1)),
    "noise": tuple(GaussianNoise(strength) for strength in (0, 0.1, 1.0, 100.0)),
}
"""Recipes to try of each attack, by its name."""


def _layers() -> dict[str, Float32Array]:
    rng = np.random.default_rng(20170401)
    kernel = rng.normal(0, 0.05, (8, 4, 3, 3)).astype(np.float32)
    return {
        "normal kernel": kernel,
        "half pruned kernel": np.where(np.abs(kernel) < 0.034, np.float32(0), kernel),
        "heavy-tailed kernel": rng.standard_cauchy((8, 4, 3, 3)).astype(np.float32),
        "outlier beside tiny weights": np.append(kernel[0].ravel() * 1e-6, [3e30, -3e30])
        .astype(np.float32)
        .reshape(2, 19),
        "constant kernel": np.full((4, 2, 3, 3), 0.1, dtype=np.float32),
        "zero kernel": np.zeros((4, 2, 3, 3), dtype=np.float32),
        "two values": np.tile(np.float32([-0.5, 0.25]), 9).reshape(2, 1, 3, 3),
        "1x1 kernel": rng.normal(0, 1, (6, 5, 1, 1)).astype(np.float32),
        "one weight": np.full((1, 1), -0.7, dtype=np.float32),
        "linear": rng.normal(0, 0.2, (10, 16)).astype(np.float32),
        "1-D convolution": rng.normal(0, 0.2, (4, 3, 7)).astype(np.float32),
        "non-contiguous kernel": kernel.transpose(1, 0, 3, 2),
        "largest float32": np.float32([[np.finfo(np.float32).max, np.finfo(np.float32).min, 1.0]]),
        "subnormal": np.float32([[1e-45, -3e-45, 7e-45, 1e-44]]),
    }


LAYERS = _layers()
"""Layers named after the situation they stand for."""


def layer(values: Float32Array) -> WeightTensor:
    """Host weights made of a copy of ``values``."""
    return WeightTensor(
        "conv.weight", values.copy(order="K"), Origin("conv", "Conv", 0, "initializer float32, raw data")
    )


def generator(seed: int = 0) -> np.random.Generator:
    """A fresh generator."""
    return np.random.default_rng(seed)


def means(seed: int = 0) -> Means:
    """What an attacker has: a fresh generator."""
    return Means(generator(seed))
