"""What a key of the constant weight code says beside its message, checked where a key is made and where it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from onnxmark.errors import KeyFileError
from onnxmark.keys import Carrier, Key
from onnxmark.keys.key import MAX_BITS, Parameter
from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.lengths import fewest_ones, shortest_code, shortest_length

MAX_LENGTH: Final = 2**18
"""Longest word: the 65,536 bits a key may have take 139,760 symbols at the default share of ones."""
_ENTROPY_SLACK: Final = 64
MAX_WEIGHTS: Final = 2**26
"""Weights of all carriers together. Choosing among N of them takes about 24 N bytes for a moment: 1.6 GB here."""
DEFAULT_RATE: Final = 0.95
"""Beyond it few networks survive being pruned."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a key is made.

    Args:
        length: Symbols of a word, L; by default as few as carry the message.
        weight: Ones among them, alpha; by default as few as carry the message, or a tenth where the length is open too.
        rate: Share of a layer's weights that pruning may take before the mark goes, 0 to below 1.
    """

    length: int | None = None
    weight: int | None = None
    rate: float = DEFAULT_RATE


@dataclass(frozen=True, slots=True)
class Parameters:
    """What shapes the reading of a key, and the pruning it is embedded against.

    Args:
        code: The words.
        rate: See :class:`Options`.
    """

    code: ConstantWeightCode
    rate: float

    def stored(self) -> dict[str, Parameter]:
        """As a key keeps them."""
        return {"length": self.code.length, "weight": self.code.weight, "rate": self.rate}


def chosen_code(n_bits: int, options: Options) -> ConstantWeightCode:
    """The code for a message: what the options say; what they leave open makes the word short, or few weights large.

    Raises:
        KeyFileError: No such words exist, or they carry less; says what would do.
    """
    length, weight = options.length, options.weight
    if weight is None:
        if length is None:
            return shortest_code(n_bits)
        _check_word(length, 1)
        weight = fewest_ones(n_bits, length)
    elif length is None:
        _check_word(max(2 * weight, 2), weight)
        length = shortest_length(n_bits, weight)
    _check_word(length, weight)
    return _carrying(ConstantWeightCode(length, weight), n_bits)


@lru_cache(maxsize=16)
def parameters_of(key: Key) -> Parameters:
    """The parameters of a key, as found in a file that anybody may have written.

    Raises:
        KeyFileError: They are missing or make no sense, or do not fit the key's layers or message.
    """
    length, weight, rate = (key.parameters.get(name) for name in ("length", "weight", "rate"))
    if type(length) is not int or type(weight) is not int or not isinstance(rate, (int, float)):
        raise KeyFileError(
            "a key of the constant weight code states its length, weight and rate, "
            f"this one has {length!r}, {weight!r} and {rate!r}; make a new key with 'onnxmark keygen'"
        )
    _check_word(length, weight)
    parameters = Parameters(_carrying(ConstantWeightCode(length, weight), key.n_bits), checked_rate(rate))
    check_room(key.carriers, parameters)
    return parameters


def check_room(carriers: Sequence[Carrier], parameters: Parameters) -> None:
    """Refuse layers with too few weights to choose from or to leave after pruning, or with too many.

    Raises:
        KeyFileError: Says how many there are, and how many it takes.
    """
    size, code = sum(math.prod(carrier.shape) for carrier in carriers), parameters.code
    if not code.length <= size <= MAX_WEIGHTS:
        raise KeyFileError(
            f"a word of {code.length:,} symbols is put into layers of at least as many weights and at most "
            f"{MAX_WEIGHTS:,}, and there are {size:,}; name other layers, or take fewer bits"
        )
    if round(parameters.rate * size) + code.weight > size:
        raise KeyFileError(
            f"pruning {100 * parameters.rate:g} % of {size:,} weights leaves fewer than the {code.weight:,} that are "
            "to be large; take a lower rate, fewer bits, or a larger layer"
        )


def checked_rate(rate: float) -> float:
    """The rate, if pruning at it leaves anything.

    Raises:
        KeyFileError: It is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise KeyFileError(f"a rate of pruning to survive is from 0 to below 1, not {rate}; 0.95 is 95 %")
    return rate


def _check_word(length: int, weight: int) -> None:
    if not 1 <= weight < length <= MAX_LENGTH:
        raise KeyFileError(
            f"there are no words of length {length:,} and weight {weight:,} to be had: a length is at most "
            f"{MAX_LENGTH:,}, a weight at least 1 and below the length"
        )
    # Integers of a million bits would keep an audit busy for minutes.
    if _entropy(length, weight) > MAX_BITS + _ENTROPY_SLACK:
        raise KeyFileError(
            f"words of length {length:,} and weight {weight:,} carry more than the {MAX_BITS:,} bits a message may "
            "have; take a smaller length or weight"
        )


def _entropy(length: int, weight: int) -> float:
    """``L H(alpha / L)`` in bits: above ``log2 binom(L, alpha)`` by half its logarithm, and quick."""
    return -sum(count * math.log2(count / length) for count in (weight, length - weight))


def _carrying(code: ConstantWeightCode, n_bits: int) -> ConstantWeightCode:
    if code.capacity < n_bits:
        usual = shortest_code(n_bits, min(code.weight / code.length, 0.5))
        raise KeyFileError(
            f"words of length {code.length:,} and weight {code.weight:,} carry {code.capacity:,} bits and the message "
            f"has {n_bits:,}; take length {usual.length:,} and weight {usual.weight:,}, or fewer bits"
        )
    return code
