"""How long a word must be: the choice between many symbols of which few are large, and few of which many are.

The lower the share of ones, the fewer weights have to be made large and the longer the word. The published examples
for 256 bits are lengths 269, 560, 920 and 3290 at shares of .4, .1, .05 and .01.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from onnxmark.schemes.constant_weight.code import ConstantWeightCode

DEFAULT_SHARE: Final = 0.1
"""Ones among the symbols: 560 weights for 256 bits, of which 56 are made large."""

SHARES: Final = (0.4, 0.1, 0.05, 0.01)
"""The shares of the published examples, for tables."""


def shortest_code(n_bits: int, share: float = DEFAULT_SHARE) -> ConstantWeightCode:
    """The shortest code for ``n_bits`` among those with ``floor(share * L)`` ones.

    Args:
        n_bits: Bits to carry, at least 1.
        share: Ones among the symbols, above 0, at most 1/2: words with more ones say no more and take more large
            weights.

    Raises:
        ValueError: No bits, or a share outside its range.
    """
    if n_bits < 1 or not 0 < share <= 0.5:
        raise ValueError(f"a code takes at least one bit and a share in (0, 1/2], not {n_bits} and {share}")
    # 0.05 * 920 is 46 in the decimals that were meant, whatever binary floating point makes of it.
    exact = Fraction(str(share))
    return _shortest(n_bits, lambda length: int(exact * length))


def shortest_codes(n_bits: int) -> dict[float, ConstantWeightCode]:
    """What a message of ``n_bits`` takes at each of :data:`SHARES`; a code says how many bits it carries itself.

    Raises:
        ValueError: No bits.
    """
    return {share: shortest_code(n_bits, share) for share in SHARES}


def shortest_length(n_bits: int, weight: int) -> int:
    """The smallest length at which words of ``weight`` ones carry ``n_bits`` bits.

    Raises:
        ValueError: No bits or no ones.
    """
    if n_bits < 1 or weight < 1:
        raise ValueError(f"a word carries at least one bit in at least one symbol, not {n_bits} in {weight}")
    return _shortest(n_bits, lambda length: min(weight, length)).length


def fewest_ones(n_bits: int, length: int) -> int:
    """The smallest weight at which words of ``length`` symbols carry ``n_bits`` bits, or half the length.

    Half the length carries most; whether it is enough is the caller's question.
    """
    weights = range(1, length // 2)
    found = bisect_left(weights, n_bits, key=lambda weight: ConstantWeightCode(length, weight).capacity)
    return found + 1


def _shortest(n_bits: int, ones: Callable[[int], int]) -> ConstantWeightCode:
    """By bisection: with a number of ones that grows no faster than half the length, capacity grows with the length."""

    def code(length: int) -> ConstantWeightCode:
        return ConstantWeightCode(length, ones(length))

    high = 1
    while code(high).capacity < n_bits:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if code(middle).capacity >= n_bits else (middle, high)
    return code(high)


def roomiest(n_weights: int, rate: float) -> int:
    """Bits that the weights of a layer could carry at most, to within one, and still be whole after pruning.

    Args:
        n_weights: Weights of the layer, at least 2.
        rate: Share of them that pruning takes, 0 to below 1: no more than the rest can be large.
    """
    ones = min(n_weights // 2, n_weights - round(rate * n_weights))
    natural = math.lgamma(n_weights + 1) - math.lgamma(ones + 1) - math.lgamma(n_weights - ones + 1)
    return max(0, math.floor(natural / math.log(2)))
