"""The table of attacks and the table of layers that the contract is tested on: a new attack without a row fails."""

from __future__ import annotations

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import (
    AdmmClustering,
    AdmmQuantisation,
    Attack,
    BlockQuantisation,
    ChannelPruning,
    ColumnPruning,
    ConstantShift,
    CrossbarDevices,
    CrossbarPruning,
    DeepCompression,
    FilterPruning,
    FloatRounding,
    GaussianNoise,
    GlobalPruning,
    KMeansClustering,
    LargestFirstPruning,
    LowRank,
    MagnitudePruning,
    Means,
    MeanScramble,
    NullSpaceNoise,
    Overwriting,
    RandomPruning,
    Soup,
    UniformQuantisation,
    WeightShifting,
)
from onnxmark.symmetries import InputPermutation, OutputPermutation, Permutation, Rescaling, SignFlip
from onnxmark.weights import Origin, WeightTensor

RECIPES: dict[str, tuple[Attack, ...]] = {
    "prune": tuple(MagnitudePruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-random": tuple(RandomPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-largest": tuple(LargestFirstPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-global": tuple(GlobalPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-filters": tuple(FilterPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-channels": tuple(ChannelPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "prune-columns": tuple(ColumnPruning(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "quantize": (
        *(UniformQuantisation(bits) for bits in (1, 2, 8, 32)),
        *(UniformQuantisation(bits, per_channel=True) for bits in (1, 4)),
        UniformQuantisation(4, symmetric=True),
        UniformQuantisation(2, per_channel=True, symmetric=True),
    ),
    "cluster": (*(KMeansClustering(bits) for bits in (1, 2, 5, 16)), KMeansClustering(3, rounds=1)),
    "quantize-blocks": (
        *(BlockQuantisation(bits) for bits in (2, 4, 8)),
        BlockQuantisation(4, block=5),
        BlockQuantisation(4, symmetric=False),
        BlockQuantisation(2, block=1, symmetric=False),
    ),
    "float": tuple(FloatRounding(name) for name in ("float16", "bfloat16", "float8_e4m3", "float8_e5m2")),
    "deep-compress": (
        *(DeepCompression(fraction) for fraction in (0, 0.5, 0.9, 1.0)),
        DeepCompression(0.9, bits=8, gap_bits=8),
    ),
    "low-rank": tuple(LowRank(fraction) for fraction in (0, 0.3, 0.65, 1.0)),
    "admm-cluster": (*(AdmmClustering(fraction) for fraction in (0, 0.5, 1.0)), AdmmClustering(0.9, bits=1)),
    "admm-quantize": (*(AdmmQuantisation(fraction) for fraction in (0, 0.5, 1.0)), AdmmQuantisation(0.9, bits=1)),
    "crossbar-prune": (
        *(CrossbarPruning(fraction) for fraction in (0, 0.5, 1.0)),
        CrossbarPruning(0.5, rows=4, columns=3),
        CrossbarPruning(0.5, rows=4, columns=3, unit="row"),
        CrossbarPruning(0.5, rows=4, columns=3, unit="column"),
    ),
    "crossbar": (CrossbarDevices(0), CrossbarDevices(0.1), CrossbarDevices(5.0, bits=2), CrossbarDevices(0.1, ratio=2)),
    "noise": tuple(GaussianNoise(strength) for strength in (0, 0.1, 1.0, 100.0)),
    "noise-null-space": (*(NullSpaceNoise(strength) for strength in (0, 0.5, 100.0)), NullSpaceNoise(1.0, rho=10.0)),
    "shift": (WeightShifting(0), WeightShifting(1.0, noise=0.5), WeightShifting(1.5), WeightShifting(100.0)),
    "shift-constant": tuple(ConstantShift(strength) for strength in (0, 0.3, -1.0, 100.0)),
    "scramble-mean": tuple(MeanScramble(strength) for strength in (0, 1.0, 3.0)),
    "overwrite": (
        Overwriting(),
        Overwriting(1.0, n_bits=3, marks=2),
        Overwriting(2.0, carrier="full"),
        Overwriting(2.0, carrier="fold:8"),
    ),
    "permute": tuple(Permutation(fraction) for fraction in (0, 1.0, 0.5)),
    "permute-inputs": tuple(InputPermutation(fraction) for fraction in (0, 1.0, 0.5)),
    "permute-outputs": tuple(OutputPermutation(fraction) for fraction in (0, 1.0, 0.5)),
    "rescale": tuple(Rescaling(strength) for strength in (0, 0.5, 3.0)),
    "flip": tuple(SignFlip(fraction) for fraction in (0, 0.5, 1.0)),
    "soup": tuple(Soup(share) for share in (0, 0.5, 1.0)),
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


def means(seed: int = 0, values: Float32Array | None = None) -> Means:
    """What an attacker has: a fresh generator and, where the weights of a layer are given, all that a need can name."""
    if values is None:
        return Means(generator(seed))
    return Means(
        generator(seed),
        reference=_reference(values),
        second_moment=_second_moment(values),
        magnitudes=_magnitudes(values),
    )


def _reference(values: Float32Array) -> Float32Array:
    """Other finite weights of the same shape and of a size with them."""
    return (values.reshape(-1)[::-1] / 2).reshape(values.shape)


def _second_moment(values: Float32Array) -> Float64Array:
    """Of 50 random patches, the first input ten times the size of the others."""
    patches = generator(50).standard_normal((50, values[0].size))
    patches[:, 0] *= 10
    return (patches.T @ patches / len(patches))[np.newaxis]


def _magnitudes(values: Float32Array) -> Float32Array:
    """Of a model of two layers, this one and ``LAYERS["linear"]``."""
    return np.sort(np.abs(np.append(values, LAYERS["linear"])))
