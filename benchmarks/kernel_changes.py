"""What the symmetries of a network do to one layer of it, seen from that layer alone.

Reordering, rescaling and flipping channels, enlarging kernels and inserting channels that cancel all keep a network's
function once the neighbouring layers follow. A mark notices only the share that falls on its own layer, so a benchmark
of marks needs no network for them. Inserted channels: Yan, Pan, Zhang, Yang, Rethinking White-Box Watermarks on Deep
Learning Models under Neural Structural Obfuscation (USENIX Security 2023, arXiv 2303.09732); their proportions and
places are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import Means
from onnxmark.schemes.projection.carriers import fit_kernel

Change = Callable[[Float32Array, Means], Float32Array]
"""From canonical weights to canonical weights; draws from the generator of the means."""


def permuted(*axes: int) -> Change:
    """Filters (axis 0) or input channels (axis 1) in another order."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        for axis in axes:
            values = values.take(means.rng.permutation(values.shape[axis]), axis=axis)
        return values

    return change


def rescaled(sigma: float, *axes: int) -> Change:
    """Filters or input channels times log-normal factors of parameter ``sigma``."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        for axis in axes:
            values = _scaled(values, np.exp(sigma * means.rng.standard_normal(values.shape[axis])), axis)
        return values

    return change


def flipped(axis: int) -> Change:
    """Filters or input channels with their sign reversed, each with probability one half."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        return _scaled(values, means.rng.choice([-1.0, 1.0], values.shape[axis]), axis)

    return change


def with_stored_norms(values: Float32Array, means: Means) -> Float32Array:
    """Every filter brought back to the norm it had before the layer was marked, which a key can remember."""
    if means.reference is None:
        raise ValueError("stored norms are those of the unmarked layer, found none")
    return _scaled(values, _norms(means.reference) / _norms(values), 0)


def expanded(values: Float32Array, means: Means) -> Float32Array:
    """Kernels padded by a ring of zeros, then cut by the reader."""
    rings = [(0, 0), (0, 0), *[(1, 1)] * (values.ndim - 2)]
    return fit_kernel(np.pad(values, rings), values.shape)


def with_dummies(zeros: int = 0, pairs: int = 0, splits: int = 0, *, shuffled: bool = False) -> Change:
    """Further input channels, as a reader meets them who knows the old number of channels and takes the first.

    Args:
        zeros: Channels with outgoing weights of zero (nso_zero).
        pairs: Pairs of channels that receive the same and whose outgoing weights cancel (nso_clique).
        splits: Channels that take over a share, uniform from 0 to 1, of an old one's outgoing weights (nso_split).
        shuffled: Whether the new channels are mixed with the old ones, or appended.
    """

    def change(values: Float32Array, means: Means) -> Float32Array:
        width = values.shape[1]
        chosen = means.rng.permutation(width)[:splits]
        shares = np.zeros(width)
        shares[chosen] = means.rng.random(splits)
        parts = _scaled(values, shares, 1)
        clique = values[:, means.rng.permutation(width)[:pairs]]
        nothing = np.zeros_like(values[:, :1]).repeat(zeros, axis=1)
        enlarged = np.concatenate([values - parts, nothing, clique, -clique, parts[:, chosen]], axis=1)
        order = means.rng.permutation(enlarged.shape[1]) if shuffled else np.arange(enlarged.shape[1])
        return enlarged[:, order[:width]]

    return change


def in_turn(*changes: Change) -> Change:
    """Changes one after the other."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        for each in changes:
            values = each(values, means)
        return values

    return change


def _scaled(values: Float32Array, factors: Float64Array, axis: int) -> Float32Array:
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    return values * factors.astype(np.float32).reshape(shape)


def _norms(values: Float32Array) -> Float64Array:
    norms: Float64Array = np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), axis=1)
    return norms
