"""Numbers written with a radix of its own for each digit: how a message spreads over layers of different widths.

Rounding each layer down to whole bits would waste half a bit a layer; a number in mixed radix wastes less than one bit
in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def to_digits(number: int, radices: Sequence[int]) -> tuple[int, ...]:
    """The digits of a number, the least significant first.

    Args:
        number: From 0 to below the product of the radices.
        radices: Number of values of each digit, each at least 1.

    Returns:
        One digit a radix, ``0 <= digit < radix``; a bijection.

    Raises:
        ValueError: The number does not fit, or a radix is below 1.
    """
    if min(radices, default=1) < 1:
        raise ValueError(f"a digit has at least one value, not {min(radices)}")
    rest, digits = number, []
    for radix in radices:
        rest, digit = divmod(rest, radix)
        digits.append(digit)
    if rest:
        raise ValueError(f"digits with the radices {tuple(radices)} hold 0 to {math.prod(radices) - 1}, not {number}")
    return tuple(digits)


def to_number(digits: Sequence[int], radices: Sequence[int]) -> int:
    """The number that :func:`to_digits` writes as ``digits``.

    Raises:
        ValueError: There are more or fewer digits than radices, or a digit is none of its radix.
    """
    number = 0
    for digit, radix in reversed(list(zip(digits, radices, strict=True))):
        if not 0 <= digit < radix:
            raise ValueError(f"a digit of radix {radix} is 0 to {radix - 1}, not {digit}")
        number = number * radix + digit
    return number


def whole_bits(radices: Sequence[int]) -> int:
    """Bits that fit whatever they are: ``floor(log2(product of the radices))``, exact (integer arithmetic)."""
    return math.prod(radices).bit_length() - 1
