"""How probable a reading is by chance: drawing without replacement.

The order of the symbols is random and the word is drawn apart from it, so in a model that knows nothing of the key the
``n`` symbols that look large are any ``n`` of L with equal probability. How many of them are among the word's alpha
ones is hypergeometric, whatever the weights are; n may depend on the weights in any way, the order does not.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float64Array
from onnxmark.statistics import log10_ratio

_TILTS: Final = np.geomspace(0.4, 24, 8)
"""Tilts tried, over the standard deviation of the sizes: any is rigorous, and a finer grid would gain a decade."""


def log10_hypergeometric_tail(successes: int, size: int, marked: int, drawn: int) -> float:
    """log10 P(at least ``successes`` marked ones among ``drawn`` out of ``size``), exact (integer arithmetic).

    Args:
        successes: Marked ones found.
        size: Symbols, L.
        marked: Ones of the word, alpha, 0 to L.
        drawn: Symbols read as ones, n, 0 to L.

    Raises:
        ValueError: More are marked or drawn than there are.
    """
    if not (0 <= marked <= size and 0 <= drawn <= size):
        raise ValueError(f"{marked} marked and {drawn} drawn out of {size} are impossible")
    least, most = max(0, marked + drawn - size), min(marked, drawn)
    if successes <= least:
        return 0.0
    if successes > most:
        return -math.inf
    term = total = math.comb(marked, successes) * math.comb(size - marked, drawn - successes)
    for found in range(successes, most):
        rest = size - marked - drawn + found + 1
        term = term * (marked - found) * (drawn - found) // ((found + 1) * rest)
        total += term
    return min(0.0, log10_ratio(total, math.comb(size, drawn)))


def log10_sum_bound(sizes: Float64Array, drawn: NDArray[np.bool_]) -> float:
    """log10 of an upper bound of P(sum of sizes drawn at least as large as here), the draw being any of its number.

    Chernoff's bound ``E exp(t S) / exp(t s)`` holds for every ``t >= 0``, and the expectation is exact: the mean of
    ``exp(t S)`` over all sets is an elementary symmetric mean of the ``exp(t sizes)``. How surely each symbol is large
    counts here, and not only how many are: under noise it finds more than the tail of a count does, at the edge of what
    can be found it loses a constant factor.

    Args:
        sizes: Of every symbol, shape (L,), none below 0.
        drawn: Which of them the word's ones are, shape (L,), bool.

    Returns:
        At most 0; 0 where all sizes are equal.
    """
    spread = float(sizes.std())
    if spread == 0:
        return 0.0
    scaled = (sizes - sizes.max()) / spread
    log_moments = _log_moments(np.outer(_TILTS, scaled), int(drawn.sum()))
    return min(0.0, float(np.min(log_moments - _TILTS * scaled[drawn].sum())) / math.log(10))


def _log_moments(exponents: Float64Array, count: int) -> Float64Array:
    """Logarithms of E exp(sum of ``count`` exponents drawn without replacement), by row: shape (rows, L) to (rows,).

    The mean over sets of j among the first n splits by whether the n-th belongs to the set; its terms are positive, so
    that nothing cancels.
    """
    rows, size = exponents.shape
    means = np.full((rows, count + 1), -np.inf)
    means[:, 0] = 0.0
    for n in range(1, size + 1):
        chosen = np.arange(1, min(n, count) + 1)
        with np.errstate(divide="ignore"):
            without, within = np.log((n - chosen) / n), np.log(chosen / n)
        means[:, chosen] = np.logaddexp(
            without + means[:, chosen], within + exponents[:, n - 1 : n] + means[:, chosen - 1]
        )
    return means[:, count]
