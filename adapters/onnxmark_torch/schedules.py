"""How strongly a mark pulls as training goes on, and when it has pulled enough.

A schedule is any function from the number of optimizer steps so far to a strength; the ones here are values, so that a
recipe can print them, and they nest: ``OffAfter(WarmUp(0.01, 500), 20_000)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], float]
"""From the number of optimizer steps so far, from 0, to a strength of at least 0."""


def strength_at(strength: float | Schedule, step: int) -> float:
    """The strength at a step.

    Raises:
        ValueError: It is negative or not a number.
    """
    value = strength(step) if callable(strength) else strength
    if not 0 <= value < math.inf:
        raise ValueError(f"strength must be at least 0 and finite, not {value} (step {step})")
    return value


@dataclass(frozen=True, slots=True)
class WarmUp:
    """From strength / steps up to the strength in equal rises, and on from there.

    Args:
        strength: What is reached; a number or a schedule.
        steps: Optimizer steps until it is, at least 1.
    """

    strength: float | Schedule
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, step: int) -> float:
        """The strength at a step."""
        return strength_at(self.strength, step) * min(1.0, (step + 1) / self.steps)


@dataclass(frozen=True, slots=True)
class CosineDecay:
    """Half a cosine from the strength down to a floor, and the floor from there on.

    Loshchilov, Hutter (ICLR 2017, arXiv 1608.03983) without restarts, applied to the mark instead of the learning rate.

    Args:
        strength: Where it starts; a number or a schedule.
        steps: Optimizer steps until the floor, at least 1.
        floor: The share of the strength that stays, in [0, 1].
    """

    strength: float | Schedule
    steps: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must lie in [0, 1], not {self.floor}")

    def __call__(self, step: int) -> float:
        """The strength at a step."""
        share = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return strength_at(self.strength, step) * (self.floor + (1 - self.floor) * share)


@dataclass(frozen=True, slots=True)
class OffAfter:
    """A strength for a number of optimizer steps, then 0.

    Args:
        strength: A number or a schedule.
        steps: Optimizer steps it lasts, at least 1.
    """

    strength: float | Schedule
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, step: int) -> float:
        """The strength at a step."""
        return strength_at(self.strength, step) if step < self.steps else 0.0


@dataclass(frozen=True, slots=True)
class MarginStop:
    """Leave a layer alone while its smallest margin is large enough.

    Between two thresholds a layer stays as it is, pulled or left alone, so that it is not switched at every reading.

    Args:
        target: Margin at which the mark stops pulling, in units of a random key's standard deviation, above 0.
        resume: Margin under which it pulls again, in [0, target]; None is three quarters of the target.
        every: Optimizer steps between readings, at least 1; a reading waits for the device.
    """

    target: float
    resume: float | None = None
    every: int = 10

    def __post_init__(self) -> None:
        _check_steps(self.every)
        if not 0 < self.target < math.inf:
            raise ValueError(f"target must be above 0 and finite, not {self.target}")
        if self.resume is not None and not 0 <= self.resume <= self.target:
            raise ValueError(f"resume must lie between 0 and the target {self.target}, not {self.resume}")

    def is_enough(self, margin: float, *, stopped: bool) -> bool:
        """Whether a layer of this smallest margin is to be left alone, given whether it was so far."""
        resume = 0.75 * self.target if self.resume is None else self.resume
        return margin >= (resume if stopped else self.target)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a number of optimizer steps must be at least 1, not {steps}")
