"""The projections of ADMM compression: the nearest weights that are sparse, share a codebook, or lie on few levels.

Compression by the alternating direction method of multipliers trains weights W towards a compressed copy Z of them, in
turns ``W: minimise loss + rho/2 |W - Z + U|²``, ``Z = projection(W + U)``, ``U += W - Z`` (Zhang et al. 2018, arXiv
1804.03294; with clustering and quantisation Ye et al. 2019, arXiv 1903.09769). The functions are that projection, for a
training loop to use. The attacks are the projection only, applied once without retraining: harsher to the network than
the whole method, and what it does to a mark before training gives the weights a chance to move. Reconstruction: the
papers' definitions, the search for the step ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Means
from onnxmark.attacks.clustering import MAX_BITS, lloyd, snapped
from onnxmark.attacks.pruning import Pruning, count_of, smallest
from onnxmark.attacks.saturation import saturated

STEP_SEARCH: Final = np.linspace(0.9, 1.1, 41)
"""Candidates for the step between levels, over ``max|W| / n``."""


def project_sparse(values: Float32Array, n_kept: int) -> Float32Array:
    """The nearest array with at most ``n_kept`` non-zeros: the largest magnitudes stay (Zhang et al. 2018).

    Args:
        values: Any shape.
        n_kept: 0 to ``values.size``; among equal magnitudes the later positions stay.

    Returns:
        A new array of the same shape.
    """
    if not 0 <= n_kept <= values.size:
        raise ValueError(f"the non-zeros to keep must be from 0 to {values.size}, found {n_kept}")
    flat = values.flatten()
    flat[smallest(np.abs(flat), flat.size - n_kept)] = 0
    return flat.reshape(values.shape)


def fit_codebook(values: Float32Array, n_centroids: int) -> Float64Array:
    """A codebook for the non-zeros of ``values``: k-means, initialised linearly.

    Args:
        values: Any shape.
        n_centroids: 1 or more.

    Returns:
        Centroids (n_centroids,), ascending; empty where all values are zero.
    """
    if n_centroids < 1:
        raise ValueError(f"a codebook must have at least one centroid, found {n_centroids}")
    alive = np.sort(values[values != 0].astype(np.float64))
    return lloyd(alive, n_centroids) if alive.size else alive


def project_codebook(values: Float32Array, n_kept: int, codebook: Float64Array) -> Float32Array:
    """Prune to ``n_kept`` non-zeros, then move each to the nearest centroid; zeros stay zero (Ye et al. 2019).

    The nearest array with at most that many non-zeros, then the nearest with its support and this codebook.

    Args:
        values: Any shape.
        n_kept: 0 to ``values.size``.
        codebook: Ascending centroids (k,); may be empty only where nothing is left to move.

    Returns:
        A new array of the same shape.
    """
    pruned = project_sparse(values, n_kept)
    if not pruned.any():
        return pruned
    if codebook.size == 0:
        raise ValueError(f"the codebook is empty, expected centroids for {np.count_nonzero(pruned)} weights")
    return snapped(pruned, codebook)


def fit_step(values: Float32Array, n_levels: int) -> float:
    """The step q of levels ``q * {-n..-1, 1..n}`` that moves the non-zeros of ``values`` least.

    Args:
        values: Any shape.
        n_levels: n, the levels of one sign, 1 or more.

    Returns:
        The best of :data:`STEP_SEARCH` times ``max|W| / n`` by squared error, the smallest of equals; 0 where all
        values are zero.
    """
    if n_levels < 1:
        raise ValueError(f"there must be at least one level a sign, found {n_levels}")
    magnitudes = np.abs(values[values != 0].astype(np.float64))
    if magnitudes.size == 0:
        return 0.0
    # Relative to the largest weight, so that no square leaves the range of float64.
    relative = magnitudes / magnitudes.max()
    steps = STEP_SEARCH / n_levels
    errors = [float(np.sum(np.square(relative - _on_levels(relative, step, n_levels)))) for step in steps]
    return float(steps[int(np.argmin(errors))] * magnitudes.max())


def project_levels(values: Float32Array, n_kept: int, step: float, n_levels: int) -> Float32Array:
    """Prune to ``n_kept`` non-zeros, then move each to the nearest of ``step * {-n..-1, 1..n}`` (Ye et al. 2019).

    The nearest array with exactly that many non-zeros, all of them on the levels.

    Args:
        values: Any shape.
        n_kept: 0 to ``values.size``.
        step: q, more than 0, unless nothing is left to move.
        n_levels: n, 1 or more.

    Returns:
        A new array of the same shape; pruned zeros are zero.
    """
    pruned = project_sparse(values, n_kept)
    if not pruned.any():
        return pruned
    if not step > 0:
        raise ValueError(f"the step between levels must be more than 0, found {step}")
    return saturated(np.sign(pruned) * _on_levels(np.abs(pruned.astype(np.float64)), step, n_levels))


def _on_levels(magnitudes: Float64Array, step: float, n_levels: int) -> Float64Array:
    return step * np.clip(np.rint(magnitudes / step), 1, n_levels)


@dataclass(frozen=True, slots=True)
class _AdmmProjection(Pruning, Protocol):
    """What the projections share.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
        bits: Bits a weight that is left.
    """

    suffix: ClassVar[str]

    bits: int = 5

    def __post_init__(self) -> None:
        Pruning.__post_init__(self)
        if type(self.bits) is not int or not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be a whole number from 1 to {MAX_BITS}, found {self.bits!r}")

    @property
    def label(self) -> str:
        """``ADMM projection, pruning 90 %, clustering 5 bit``."""
        return f"{Pruning.label.__get__(self)}, {self.suffix} {self.bits} bit"


@dataclass(frozen=True, slots=True)
class AdmmClustering(_AdmmProjection):
    """Prune by magnitude and share 2^bits k-means centroids: the projection only, without the training.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
        bits: Bits an index into the codebook, 1 to 16.
    """

    name: ClassVar[str] = "admm-cluster"
    title: ClassVar[str] = "ADMM projection, pruning"
    suffix: ClassVar[str] = "clustering"
    summary: ClassVar[str] = "ADMM's projection to pruned and clustered weights, no retraining; fraction pruned, 0 to 1"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        n_kept = values.size - count_of(self.fraction, values.size)
        return project_codebook(values, n_kept, fit_codebook(project_sparse(values, n_kept), 2**self.bits))


@dataclass(frozen=True, slots=True)
class AdmmQuantisation(_AdmmProjection):
    """Prune by magnitude and round to 2^bits evenly spaced levels without 0: the projection only, without the training.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1.
        bits: Bits a level, 1 to 16: ``n = 2^(bits - 1)`` levels of each sign.
    """

    name: ClassVar[str] = "admm-quantize"
    title: ClassVar[str] = "ADMM projection, pruning"
    suffix: ClassVar[str] = "quantisation"
    summary: ClassVar[str] = (
        "ADMM's projection to pruned, evenly spaced weights, no retraining; fraction pruned, 0 to 1"
    )

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        n_kept, n_levels = values.size - count_of(self.fraction, values.size), 2 ** (self.bits - 1)
        return project_levels(values, n_kept, fit_step(project_sparse(values, n_kept), n_levels), n_levels)
