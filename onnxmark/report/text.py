"""Make text from a model fit to be shown: names in a file are the attacker's to choose."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_NAME: Final = 120
MAX_TEXT: Final = 1000
"""Characters of one string in a report; our own sentences are shorter."""

_HIDDEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def plain(text: str, limit: int = MAX_NAME) -> str:
    r"""Text without control, format or surrogate characters (shown as ``\xNN``), cut in the middle to ``limit``."""
    # Nothing that is shown is made of what lies behind 2 * limit characters at either end.
    safe = "".join(
        character if unicodedata.category(character) not in _HIDDEN else f"\\x{ord(character):02x}"
        for character in shortened(text, 2 * limit)
    )
    return shortened(safe, limit)


def shortened(text: str, limit: int) -> str:
    """Text cut in the middle to ``limit`` characters: both ends of a name tell it from its neighbours."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def byte_size(count: int) -> str:
    """A number of bytes for people: ``585 kB``, ``1.8 GB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def power_of_ten(log10_p: float) -> str:
    """A probability for people, rounded up: ``1.3e-77``, ``0.52``; never smaller than it is."""
    if log10_p >= -2:
        return f"{10 ** min(0.0, log10_p):.2g}"
    exponent = int(log10_p // 1)
    mantissa = 10 ** (log10_p - exponent)
    rounded = -(-int(mantissa * 1000) // 100) / 10
    if rounded >= 10:
        rounded, exponent = 1.0, exponent + 1
    return f"{rounded:.1f}e{exponent}"
