"""Axes: where a value lies on the paper, and at which round values to draw a tick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ROUND: Final = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Linear:
    """Values from ``low`` to ``high`` on the stretch from ``start`` to ``end``, both in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value; outside the range it stays at the end."""
        span = self.high - self.low
        share = (value - self.low) / span if 0 < span < math.inf else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, most: int = 6) -> tuple[float, ...]:
        """At most ``most`` multiples of 1, 2 or 5 times a power of ten."""
        span = self.high - self.low
        if not 0 < span < math.inf:
            return (self.low,)
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next((power * unit for unit in (*_ROUND, 10.0) if span / (power * unit) <= most - 1), power * 20)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(index * step for index in range(first, last + 1))


@dataclass(frozen=True, slots=True)
class SquareRoot:
    """Values from 0 to ``high``, stretched near 0, where a verdict turns."""

    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value; outside the range it stays at the end."""
        share = math.sqrt(min(max(value / self.high, 0.0), 1.0))
        return self.start + share * (self.end - self.start)

    def ticks(self, apart: float = 20.0) -> tuple[float, ...]:
        """0 and round values at least ``apart`` pixels from each other."""
        kept = [0.0]
        power = math.floor(math.log10(self.high)) - 2
        for value in (unit * 10.0**exponent for exponent in range(power, power + 3) for unit in _ROUND):
            if value <= self.high and abs(self(value) - self(kept[-1])) >= apart:
                kept.append(value)
        return tuple(kept)


def spread(values: Sequence[float], least: float) -> tuple[float, float]:
    """Smallest and largest of values and 0, at least ``least`` apart."""
    low, high = min(0.0, *values), max(0.0, *values)
    return low, max(high, low + least)
