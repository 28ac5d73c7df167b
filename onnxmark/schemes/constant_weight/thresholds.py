"""How large is large: the two thresholds of the word, from the pruning it is to survive.

Pruning by magnitude takes the ``round(p N)`` smallest of a layer's N weights. The word survives exactly while that many
weights are smaller than its smallest one, so that with T1 as threshold of the ones it survives up to the rate F(T1), F
the distribution of the magnitudes in the *marked* layer. (The rate ``1 - alpha / L`` found in the literature holds
only where nothing but the chosen weights is pruned.) So T1 is read off F at the rate asked for. Our reconstruction:
Kuribayashi et al. are not known to us to derive T0 and T1 from a rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.errors import EmbeddingError

DEFAULT_MARGIN: Final = 1 / 3
"""T1 is then twice T0. At the 95 % quantile of a trained layer that keeps every symbol through rounding to 4 bits and
noise of a tenth of a standard deviation; 1/2 keeps it through noise of two tenths, for a fifth more change."""
_ABOVE: Final = np.float32(1 + 2**-7)
"""T1 over the weights to be pruned: the spacing of bfloat16, so that no storage of 16 bits makes the two equal."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Magnitudes that separate the symbols, ``0 < zero < one``.

    Args:
        zero: T0: no zero of the word is larger.
        one: T1: no one of the word is smaller.
    """

    zero: np.float32
    one: np.float32


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Weights that are pruned together, before a word is written into some of them.

    Args:
        magnitudes: Of all of them, shape (N,).
        untouched: Of those that hold no symbol, shape (N - n_zeros - n_ones,).
        n_zeros: Zeros of the word among them.
        n_ones: Ones of the word among them.
    """

    magnitudes: Float32Array
    untouched: Float32Array
    n_zeros: int = 0
    n_ones: int = 0


def thresholds(populations: Sequence[Population], rate: float, margin: float = DEFAULT_MARGIN) -> Thresholds:
    """Thresholds with which a word survives pruning each of the populations at a rate.

    T1 is the largest over the populations: small layers pay for large ones, but the word survives whether layers are
    pruned one by one or all by one threshold.

    Args:
        populations: One for each layer that holds symbols; one more for the whole model, where that is known.
        rate: Share pruned, 0 to below 1.
        margin: Distance of either threshold from the boundary midway between them, in units of that boundary, 0 to 1.

    Raises:
        EmbeddingError: No magnitude is large enough, or all that the rate leaves are zero.
        ValueError: The rate or the margin is out of range.
    """
    if not (0 <= rate < 1 and 0 < margin < 1):
        raise ValueError(f"a rate is in [0, 1) and a margin in (0, 1), not {rate} and {margin}")
    one = max(_least_one(population, rate) for population in populations)
    zero = np.float32(one * (1 - margin) / (1 + margin))
    # A hair above zero is no threshold: storage rounds it away.
    if not zero > np.finfo(np.float32).tiny:
        raise EmbeddingError(
            f"the smallest magnitude that pruning {100 * rate:g} % leaves is {one:g}, which tells no one from a zero; "
            "make a key with a higher rate than the layer's share of zeros, or mark a layer that is not pruned yet"
        )
    return Thresholds(zero, one)


def survival_rate(magnitudes: Float32Array, smallest_one: float) -> float:
    """The rate F(T1) up to which pruning leaves the word alone: the share of weights smaller than its smallest one.

    Args:
        magnitudes: Of the layer with the word in it, shape (N,).
        smallest_one: Smallest magnitude of a one of the word.
    """
    return int(np.count_nonzero(magnitudes < smallest_one)) / magnitudes.size


def _least_one(population: Population, rate: float) -> np.float32:
    size = population.magnitudes.size
    n_pruned = round(rate * size)
    if n_pruned + max(population.n_ones, 1) > size:
        raise EmbeddingError(
            f"pruning {100 * rate:g} % of {size:,} weights leaves fewer than the {population.n_ones} that are to be "
            "large; make a key with a lower rate or fewer ones, or mark a larger layer"
        )
    least = np.partition(population.magnitudes, n_pruned)[n_pruned]
    # Raised ones make the layer's distribution a little poorer below T1, lowered zeros richer: the promise is for the
    # layer that has both.
    needed = n_pruned - population.n_zeros
    if needed > 0:
        least = max(least, np.partition(population.untouched, needed - 1)[needed - 1])
    return np.float32(least * _ABOVE)
