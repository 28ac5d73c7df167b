"""What a scheme hands to the policy: what it read, and how probable such a reading is by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.arrays import Float64Array, frozen

SCORE_UNIT: Final = "standard deviations of a random key's score"


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


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message behind a code, whose symbols are not its bits.

    Args:
        n_bits: Length of the message.
        n_errors: Bits decoded wrong; all of them where the code word was rejected.
        rejected: The symbols are no code word.
    """

    n_bits: int
    n_errors: int
    rejected: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a key reads in a model, symbol by symbol.

    Args:
        margins: How surely each symbol is read, shape (n_symbols,), in ``unit``: positive where right.
        n_errors: Symbols read wrong; an erasure (nothing to read) counts as wrong.
        n_erasures: Symbols of which nothing can be read (a score of exactly 0, a layer that is not there).
        log10_p: Probability that rests on exact laws or bounds, before correction.
        tests: Every probability computed, for the report; the one behind ``log10_p`` first.
        inverted: The reading is more improbable as the complement of the message than as the message.
        degenerate: Why the model cannot bear evidence (zeros, a constant, not finite), or None.
        embedding_loss: Mean binary cross-entropy of the sigmoid scores (Uchida et al. report this mean; training
            minimises the sum); None where scores are no logits.
        symbol: What a symbol is, in one word or two.
        unit: What margins are measured in.
        message: The message behind the symbols, where a code stands between them; None where symbols are its bits.
        notes: What a reader of the report should know of this reading, in sentences.
        chance: Share of the message's bits that a model without the mark has wrong, 0 to 1.
    """

    margins: Float64Array
    n_errors: int
    n_erasures: int
    log10_p: float
    tests: tuple[Test, ...]
    inverted: bool = False
    degenerate: str | None = None
    embedding_loss: float | None = None
    symbol: str = "bit"
    unit: str = SCORE_UNIT
    message: Decoded | None = None
    notes: tuple[str, ...] = ()
    chance: float = 0.5

    def __post_init__(self) -> None:
        frozen(self.margins)

    @property
    def n_symbols(self) -> int:
        """Number of symbols."""
        return int(self.margins.size)

    @property
    def symbol_error_rate(self) -> float:
        """Wrong symbols over all."""
        return self.n_errors / self.n_symbols

    @property
    def n_bits(self) -> int:
        """Length T of the message."""
        return self.n_symbols if self.message is None else self.message.n_bits

    @property
    def n_bit_errors(self) -> int:
        """Wrong bits of the message."""
        return self.n_errors if self.message is None else self.message.n_errors

    @property
    def bit_error_rate(self) -> float:
        """Wrong bits over T."""
        return self.n_bit_errors / self.n_bits


def no_evidence(n_symbols: int, reason: str, *, symbol: str = "bit", message: Decoded | None = None) -> Evidence:
    """The evidence of a model that cannot bear any: every symbol an erasure.

    Args:
        n_symbols: Number of symbols, at least 1.
        reason: Why.
        symbol: What a symbol is.
        message: The message behind them, all wrong, where a code stands between them.
    """
    return Evidence(
        margins=np.zeros(n_symbols),
        n_errors=n_symbols,
        n_erasures=n_symbols,
        log10_p=0.0,
        tests=(),
        degenerate=reason,
        symbol=symbol,
        message=message,
    )
