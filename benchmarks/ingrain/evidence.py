"""What a suspect's answers on the carriers are worth: three statistics with exact laws or bounds, chosen beforehand.

Under the null the coins are fair and independent of the suspect, whatever it answers, because the carriers, their pairs
and the references are fixed without them. That is all that the three laws use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxmark.arrays import BitArray, Float64Array, Int64Array
from onnxmark.statistics import log10_binomial_tail, sign_flip_test


@dataclass(frozen=True, slots=True)
class Evidence:
    """One suspect against one key.

    Args:
        agreement: Share of all carriers that are answered as the key says, 0 to 1.
        argmax: log10 p of hits among answers within the pair (ARG; exact where every carrier has its own coin, else the
            sign-flip test's bound of each neighbourhood's votes); needs labels only.
        signs: log10 p of the signs of differences to the references (SGN; exact).
        z: Sum of signed differences over the root of the sum of their squares; standard under the null, for many.
        hoeffding: log10 of ``exp(-z^2 / 2)``, an upper bound.
        flips: log10 of the sign-flip test's Chernoff bound of the same sum, never above Hoeffding's.
    """

    agreement: float
    argmax: float
    signs: float
    z: float
    hoeffding: float
    flips: float


def evidence(votes: Float64Array, leanings: Float64Array, coins: BitArray, agreement: float) -> Evidence:
    """All three statistics.

    Args:
        votes: Carriers that the suspect answers with the second class less those it answers with the first, shape
            (coins,): -1, 0 or 1 where every carrier has a coin of its own.
        leanings: How far the suspect leans to the second class, compared with the references, shape (coins,).
        coins: Shape (coins,): which of the pair the key wants.
        agreement: Share of all carriers that are answered as the key says.
    """
    margins, z = signed(leanings, coins), standardised(signed(leanings, coins))
    return Evidence(
        agreement=agreement,
        argmax=_votes_tail(signed(votes, coins)),
        signs=_signs_tail(margins),
        z=z,
        hoeffding=-(max(z, 0.0) ** 2) / 2 / math.log(10),
        flips=sign_flip_test(margins).log10_bound,
    )


def votes_of(answers: Int64Array, pairs: Int64Array) -> Float64Array:
    """1 for a carrier answered with its second class, -1 with its first, 0 with any other; shape (n,)."""
    first, second = (answers == pairs[:, side] for side in (0, 1))
    votes: Float64Array = second.astype(np.float64) - first
    return votes


def pooled(figures: Float64Array, groups: Int64Array) -> Float64Array:
    """Sums over carriers that share a coin: figures (..., n) to (..., coins)."""
    sums: Float64Array = figures @ (groups[:, None] == np.arange(groups.max() + 1))
    return sums


def signed(leanings: Float64Array, coins: BitArray) -> Float64Array:
    """Leanings as margins: positive where they go where the coin says."""
    return np.where(coins == 1, leanings, -leanings)


def standardised(margins: Float64Array) -> float:
    """Sum over the root of the sum of squares; 0 where all are 0."""
    size = math.sqrt(float(np.sum(margins**2)))
    return float(np.sum(margins)) / size if size else 0.0


def _votes_tail(votes: Float64Array) -> float:
    """Exact where votes are single ones; else the sign-flip test's bound."""
    return _signs_tail(votes) if np.abs(votes).max(initial=0) <= 1 else sign_flip_test(votes).log10_bound


def _signs_tail(margins: Float64Array) -> float:
    return log10_binomial_tail(int(np.count_nonzero(margins > 0)), int(np.count_nonzero(margins)))
