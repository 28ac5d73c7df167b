"""Numbers as binary words of one length and one weight, and back: the combinatorial number system.

Kuribayashi et al. (2021, arXiv 2107.02961) enumerate ``C(alpha, L)``, the words of length L with alpha ones, so that
any ``floor(log2 binom(L, alpha))`` bits become one of them. Only integers appear, and every binomial is made from the
one before by a product and an exact quotient: a thousand bits take milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxmark.arrays import BitArray, frozen


@dataclass(frozen=True, slots=True)
class ConstantWeightCode:
    """All binary words of one length and one weight, in the order of the numbers they stand for.

    Args:
        length: Symbols of a word, L, at least 1.
        weight: Ones among them, alpha, 0 to L.
    """

    length: int
    weight: int

    def __post_init__(self) -> None:
        if not (self.length >= 1 and 0 <= self.weight <= self.length):
            raise ValueError(f"no word of length {self.length} has weight {self.weight}")

    @property
    def size(self) -> int:
        """How many words there are, ``binom(L, alpha)``."""
        return math.comb(self.length, self.weight)

    @property
    def capacity(self) -> int:
        """Bits that any word can carry, ``floor(log2 binom(L, alpha))``."""
        return self.size.bit_length() - 1

    def encode(self, number: int) -> BitArray:
        """The word ``c_0 ... c_(L-1)`` of a number, shape (L,), 0 or 1.

        Args:
            number: From 0 to below :attr:`size`.

        Raises:
            ValueError: It is not.
        """
        if not 0 <= number < self.size:
            raise ValueError(f"words of length {self.length} and weight {self.weight} end before number {number}")
        word = np.zeros(self.length, dtype=np.uint8)
        ranks = _Ranks(self.length, self.weight)
        for position in reversed(range(self.length)):
            word[position] = number >= ranks.value
            number -= ranks.value if word[position] else 0
            ranks.advance(one=bool(word[position]))
        return frozen(word)

    def decode(self, word: BitArray) -> int | None:
        """The number of a word, shape (L,); None where the word is of another weight and stands for none.

        Raises:
            ValueError: The word has another length.
        """
        if word.shape != (self.length,):
            raise ValueError(f"a word has {self.length} symbols, not {word.shape}")
        if int(np.count_nonzero(word)) != self.weight:
            return None
        ranks = _Ranks(self.length, self.weight)
        number = 0
        for symbol in reversed(word.tolist()):
            number += ranks.value if symbol else 0
            ranks.advance(one=bool(symbol))
        return number

    def encode_bits(self, message: BitArray) -> BitArray:
        """The word of a message of at most :attr:`capacity` bits, the first bit the least significant.

        Args:
            message: Shape (k,), 0 or 1.

        Raises:
            ValueError: The message has more bits.
        """
        if message.size > self.capacity:
            raise ValueError(f"words of length {self.length} and weight {self.weight} carry {self.capacity} bits")
        return self.encode(_number(message))

    def decode_bits(self, word: BitArray, n_bits: int) -> BitArray | None:
        """The message of a word, shape (n_bits,); None where no message of so many bits has this word.

        A word that an attack made out of another one still has the right weight in most cases, and then stands for a
        number that has nothing to do with the first: one wrong symbol ruins the whole message. Only ``2^n_bits`` of all
        words are messages, so that some of the wrong ones are at least recognised.

        Args:
            word: Shape (L,), 0 or 1.
            n_bits: Length of the message, k.
        """
        number = self.decode(word)
        return None if number is None or number >> n_bits else _bits(number, n_bits)


class _Ranks:
    """``binom(n, l)`` down a word from its last symbol: n symbols stand below the current one, l ones not above it."""

    def __init__(self, length: int, weight: int) -> None:
        self._below, self._ones = length - 1, weight
        self.value = math.comb(self._below, self._ones)

    def advance(self, *, one: bool) -> None:
        """Go on to the symbol below, the current one being a one or a zero."""
        if self._below == 0:
            return
        kept = self._ones if one else self._below - self._ones
        self.value = self.value * kept // self._below
        self._below -= 1
        self._ones -= one


def _number(message: BitArray) -> int:
    return int.from_bytes(np.packbits(message, bitorder="little").tobytes(), "little")


def _bits(number: int, n_bits: int) -> BitArray:
    packed = np.frombuffer(number.to_bytes(-(-n_bits // 8), "little"), dtype=np.uint8)
    return np.unpackbits(packed, count=n_bits, bitorder="little")
