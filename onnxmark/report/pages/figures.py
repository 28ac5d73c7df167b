"""Figures for people: a mean beside its 95 % limits, in a unit that suits all three."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from onnxmark.report.formats import Document

Unit = tuple[str, float]
"""A name, and how much of the base unit it is."""

NOTHING: Final = "–"

SECONDS: Final[Sequence[Unit]] = (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3), ("µs", 1e-6))
BYTES: Final[Sequence[Unit]] = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))

_PLAIN: Final = 1e4
"""Up to here four decimals are read more easily than powers of ten."""


def rate(value: float) -> str:
    """A share in [0, 1], or a limit of one, which may lie beyond: ``0.125``."""
    return _minus(f"{value:.3f}")


def score(value: float) -> str:
    """A metric of any scale: ``0.9012``."""
    return _minus(f"{value:.4f}" if abs(value) < _PLAIN else f"{value:.4g}")


def change(value: float) -> str:
    """A difference of such metrics, with its sign: ``−0.0031``, ``+0.0004``; ``0.0000`` where it rounds to that."""
    text = f"{value:+.4f}" if abs(value) < _PLAIN else f"{value:+.4g}"
    return text[1:] if not float(text) else _minus(text)


def plain_number(value: float) -> str:
    """Three digits: ``12.3``, ``1,234``, ``0.00123``."""
    return _minus(f"{value:,.0f}" if 100 <= abs(value) < _PLAIN**2 else f"{value:.3g}")


def interval(mean: Document | None, text: Callable[[float], str]) -> str:
    """``0.125 [0.110, 0.140]``; the mean alone where nothing is known of its spread.

    Args:
        mean: Mean, lower and upper 95 % limit, or None where nothing was measured.
        text: Writes one of the three.
    """
    if mean is None:
        return NOTHING
    if mean["low"] is None or mean["high"] is None:
        return text(mean["mean"])
    return f"{text(mean['mean'])} [{text(mean['low'])}, {text(mean['high'])}]"


def measured(mean: Document | None, units: Sequence[Unit]) -> str:
    """The same in the largest unit of which the mean is at least one: ``12.3 ms [12.0, 12.6]``."""
    if mean is None:
        return NOTHING
    name, size = next((unit for unit in units if abs(mean["mean"]) >= unit[1]), units[-1])
    first, _, limits = interval(mean, lambda value: plain_number(value / size)).partition(" ")
    return f"{first} {name} {limits}".rstrip()


def _minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "−")
