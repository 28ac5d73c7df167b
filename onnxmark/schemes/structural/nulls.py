"""How probable it is that widths agree with a key that had nothing to do with them.

Over the key's seed the width it expects of a layer is any of the layer's widths with the same chance, whatever the
suspect has there, and layers are independent. So every law here is exact for every architecture, also for one that was
pruned by somebody else, and for one chosen in knowledge of everything but the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from onnxmark.arrays import Float64Array
from onnxmark.statistics import LOG10_2, log10_poisson_binomial_tail

_STEPS_A_BIT: Final = 32
"""Scores are whole numbers of this part of a bit, so that their law is a finite sum. Any number is right."""
_FLOOR: Final = 1e-290


class Sight(NamedTuple):
    """What one layer of a suspect shows to a key.

    Args:
        choices: Number of widths the key may expect there, n >= 1.
        reachable: How many of these are not below the width found: those that pruning can have led here from.
        passed: How many of them are not above the width expected either; 0 where that is below the width found.
            1 of them is the width found itself if it is among the choices.
    """

    choices: int
    reachable: int
    passed: int


def sight(width: int | None, expected: int, choices: range) -> Sight:
    """Compare the width of a layer with the one expected; None and widths above all choices reach none."""
    if width is None:
        return Sight(len(choices), 0, 0)
    above = range(max(0, -(-(width - choices.start) // choices.step)), len(choices))
    return Sight(len(choices), len(above), max(0, choices.index(expected) + 1 - above.start))


def log10_remains_tail(sights: Sequence[Sight]) -> float:
    """log10 of the chance that a key's widths lie so closely above those found.

    A layer scores log2(n / j) bits where the width expected is the j-th of its n choices from the one found upwards,
    and 0 where it lies below: what a further pruning of few channels leaves of a mark. The statistic is the sum of the
    scores, in whole 32nds of a bit. Where every width is exactly the one expected, the chance is the product of all
    1 / n.

    Args:
        sights: One for each layer.

    Returns:
        At least -290: a smaller chance is reported as that.
    """
    observed = sum(_score(each.choices, each.passed) for each in sights)
    law = np.ones(1)
    for each in sights:
        law = np.convolve(law, _law(each))
    return min(0.0, math.log10(max(float(law[observed:].sum()), _FLOOR)))


def log10_matches_tail(radices: Sequence[int], matches: int) -> float:
    """log10 of the chance that at least ``matches`` layers have exactly the width expected.

    Args:
        radices: Number of widths of each layer whose width is one of them; others cannot match.
        matches: How many do.
    """
    if 0 < matches == len(radices):
        return -math.fsum(math.log10(radix) for radix in radices)
    return log10_poisson_binomial_tail(1 / np.array(radices, dtype=np.float64), matches)


def log10_code_word(radices: Sequence[int], n_bits: int) -> float:
    """log10 of the chance that widths of an architecture decode to a message with the right checksum: 2^T words."""
    return n_bits * LOG10_2 - math.fsum(math.log10(radix) for radix in radices)


def _score(choices: int, passed: int) -> int:
    return round(_STEPS_A_BIT * math.log2(choices / passed)) if passed else 0


def _law(each: Sight) -> Float64Array:
    """Chances of the scores 0, 1, 2, ... of a layer."""
    scores = [_score(each.choices, passed) for passed in range(1, each.reachable + 1)]
    law = np.bincount([*scores, 0], weights=[*([1.0] * len(scores)), each.choices - each.reachable])
    return np.asarray(law / each.choices, dtype=np.float64)
