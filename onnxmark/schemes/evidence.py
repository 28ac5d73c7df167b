"""What a scheme hands to the policy, and what a scheme is: it extracts, the policy decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float64Array, frozen
from onnxmark.keys import AnyKey
from onnxmark.schemes.projection import Reading
from onnxmark.weights import WeightTensor


@dataclass(frozen=True, slots=True)
class Test:
    """One tail probability of a reading, before any correction.

    Args:
        name: ``sign-flip``, ``bit-count``, or the null of a foreign key.
        log10_p: Base-10 logarithm, at most 0.
        kind: ``exact``, ``bound`` (an upper bound) or ``estimate``.
    """

    name: str
    log10_p: float
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A message read from one layer in one reading.

    Args:
        margins: Signed margins in units of a random key's standard deviation, shape (T,): positive where right.
        n_errors: Bits read wrong; an erasure (score exactly 0) counts as wrong.
        n_erasures: Scores that are exactly 0.
        embedding_loss: Mean binary cross-entropy of the sigmoid scores (Uchida et al. report this mean; training
            minimises the sum).
        inverted: The reading is more improbable as the complement of the message than as the message.
        log10_p: Probability that rests on exact laws or bounds, of the better of the two signs, before correction.
        tests: Every probability computed, for the report; the one behind ``log10_p`` first.
        degenerate: Why the layer cannot bear evidence (zeros, a constant, not finite), or None.
    """

    margins: Float64Array
    n_errors: int
    n_erasures: int
    embedding_loss: float
    inverted: bool
    log10_p: float
    tests: tuple[Test, ...]
    degenerate: str | None = None

    def __post_init__(self) -> None:
        frozen(self.margins)

    @property
    def n_bits(self) -> int:
        """Length T of the message."""
        return int(self.margins.size)

    @property
    def bit_error_rate(self) -> float:
        """Wrong bits over T."""
        return self.n_errors / self.n_bits


def no_evidence(n_bits: int, reason: str) -> Evidence:
    """The evidence of a layer that cannot bear any: every bit an erasure."""
    return Evidence(
        margins=np.zeros(n_bits),
        n_errors=n_bits,
        n_erasures=n_bits,
        embedding_loss=float(np.log(2)),
        inverted=False,
        log10_p=0.0,
        tests=(),
        degenerate=reason,
    )


class Scheme(Protocol):
    """A watermarking scheme, found by its entry point in ``onnxmark.schemes``."""

    name: ClassVar[str]
    """Its name in keys, options and reports."""

    signs_tested: ClassVar[int]
    """How many hypotheses one extraction tests (2 where a complement counts as evidence, too)."""

    def readings(self, key: AnyKey, shape: tuple[int, ...]) -> tuple[Reading, ...]:
        """The ways in which ``key`` can be read from a layer of ``shape``; none where it does not fit.

        Raises:
            KeyFileError: The key's parameters make no sense.
        """
        ...

    def extract(self, key: AnyKey, weights: WeightTensor, reading: Reading) -> Evidence:
        """Read the message. A pure function of its arguments."""
        ...
