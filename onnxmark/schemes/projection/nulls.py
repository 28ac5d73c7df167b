"""How probable a reading of a *foreign* key is by chance; its law depends on how its matrix was made.

A key of ours has a whitened message, so its null is a row of fair coins whatever the weights are. A foreign matrix with
a constant message has no such luck: *direct* keys read the sign of single weights, and host weights have a bias.
All of these assume that the matrix was drawn without looking at the weights, which nobody can verify.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import BitArray, Float64Array
from onnxmark.schemes.evidence import Test
from onnxmark.statistics import log10_binomial_tail, log10_poisson_binomial_tail, log10_two_urn_tail


def foreign_null(rows: Float64Array, vector: Float64Array, message: BitArray, n_right: int) -> Test:
    """P(at least ``n_right`` bits right) for a foreign matrix over a carrier vector.

    Args:
        rows: Shape (T, size).
        vector: Shape (size,).
        message: Bits claimed, shape (T,).
        n_right: Bits read right.
    """
    if _is_one_hot(rows):
        return _direct(rows, vector, message, n_right)
    if _is_difference(rows):
        return Test("fair-coins (diff key)", log10_binomial_tail(n_right, len(rows)), "exact")
    chances = row_permutation_chances(rows, vector, message)
    return Test("row-permutation (dense key)", log10_poisson_binomial_tail(chances, n_right), "estimate")


def row_permutation_chances(rows: Float64Array, vector: Float64Array, message: BitArray) -> Float64Array:
    """Per bit, the chance that it is read right when the entries of its row are shuffled; never below 1/2.

    The shuffled score is a sum of many terms with the permutation moments below; its law is taken as normal. A key with
    a mean of its own reads the mean of the weights in every row, which is no evidence: here its chances approach 1.

    Returns:
        Shape (T,), each in [1/2, 1].
    """
    size = vector.size
    row_means = rows.mean(axis=1)
    expectation = size * row_means * vector.mean()
    spread_rows = np.sum((rows - row_means[:, None]) ** 2, axis=1)
    variance = spread_rows * np.sum((vector - vector.mean()) ** 2) / max(size - 1, 1)
    wanted = np.where(message == 1, expectation, -expectation)
    z = wanted / np.sqrt(np.maximum(variance, 1e-300))
    chances = [max(0.5, 0.5 * math.erfc(-value / math.sqrt(2))) for value in z.tolist()]
    return np.array(chances, dtype=np.float64)


def _direct(rows: Float64Array, vector: Float64Array, message: BitArray, n_right: int) -> Test:
    ones = int(message.sum())
    zeros = len(message) - ones
    positive, negative = int(np.sum(vector > 0)), int(np.sum(vector < 0))
    ties = vector.size - positive - negative
    positions = np.argmax(rows != 0, axis=1)
    if np.unique(positions).size == positions.size:
        # A tie is never read right; counting ties where they help the claimant keeps the tail an upper bound.
        if ones >= zeros:
            positive += ties
        else:
            negative += ties
        tail = log10_two_urn_tail(positive, negative, ones, zeros, n_right)
        return Test("two urns (direct key)", tail, "exact" if ties == 0 else "bound")
    chances = np.where(message == 1, positive, negative) / vector.size
    return Test("drawn with replacement (direct key)", log10_poisson_binomial_tail(chances, n_right), "exact")


def _nonzero_counts(rows: Float64Array) -> NDArray[np.int64]:
    return np.asarray(np.count_nonzero(rows, axis=1), dtype=np.int64)


def _is_one_hot(rows: Float64Array) -> bool:
    return bool(np.all(_nonzero_counts(rows) == 1) and np.all(rows.max(axis=1) > 0))


def _is_difference(rows: Float64Array) -> bool:
    return bool(np.all(_nonzero_counts(rows) == 2) and np.all(rows.max(axis=1) == -rows.min(axis=1)))
