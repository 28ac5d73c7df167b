"""What a structural key says beside its message, checked where a key is made and where it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.errors import KeyFileError
from onnxmark.keys import Carrier, Key
from onnxmark.schemes.structural.admissible import WidthRule
from onnxmark.schemes.structural.framing import CHECKSUMS
from onnxmark.schemes.structural.mixed_radix import whole_bits

LEAST_CAPACITY: Final = 24
"""Bits below which no key is made: all widths right are then a chance of 2^-24 = 6e-8, which leaves room for the
correction of some hypotheses at the usual level of 1e-6."""
COMFORTABLE_BITS: Final = 64
"""Bits of a message nobody asked a length for, where they fit."""
WIDEST: Final = 2**20
"""Most output channels of a layer; more are no layer anybody trains."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a key is made.

    Args:
        least: Smallest part of its channels that a layer keeps, above 0.
        most: Largest part, below 1.
        step: Widths are multiples of this number of channels.
        checksum: Bits of the checksum behind the message, 16 or 32.
    """

    least: float = 0.5
    most: float = 0.9
    step: int = 1
    checksum: int = 16

    @property
    def rule(self) -> WidthRule:
        """Which widths a layer may have.

        Raises:
            KeyFileError: The parts or the step are out of their ranges.
        """
        return _rule(self.least, self.most, self.step)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What shapes the reading of a key.

    Args:
        choices: The widths each layer may have, at least two of them.
        checksum: Bits of the checksum.
    """

    choices: tuple[range, ...]
    checksum: int

    @property
    def radices(self) -> tuple[int, ...]:
        """How many widths each layer may have."""
        return tuple(map(len, self.choices))

    @property
    def capacity(self) -> int:
        """Bits the layers hold, with the checksum's."""
        return whole_bits(self.radices)

    @property
    def room(self) -> int:
        """Bits left for the message; may be negative."""
        return self.capacity - self.checksum

    @property
    def exact_bits(self) -> float:
        """Sum of log2 of the radices: minus log2 of the chance that all layers are right."""
        return math.fsum(map(math.log2, self.radices))


def parameters_for(carriers: Sequence[Carrier], options: Options) -> Parameters:
    """The parameters of a key for layers that all have at least two widths (see :func:`useful`).

    Raises:
        KeyFileError: The layers hold too little; says how much, and what to do.
    """
    checked = Parameters(_choices(carriers, options.rule), _checksum(options.checksum))
    if checked.capacity < LEAST_CAPACITY:
        raise KeyFileError(
            f"the widths of {len(carriers)} layers hold {checked.exact_bits:.1f} bits, and {LEAST_CAPACITY} are needed "
            "to prove anything; take a network with more or wider convolutions that can be pruned, or allow more "
            f"widths: least below {options.least:g}, most above {options.most:g}"
            + (f", steps of fewer than {options.step} channels" if options.step > 1 else "")
        )
    return checked


def useful(carriers: Sequence[Carrier], options: Options) -> tuple[Carrier, ...]:
    """The layers that have at least two widths to choose from.

    Raises:
        KeyFileError: The options are out of their ranges.
    """
    rule = options.rule
    return tuple(carrier for carrier in carriers if len(rule.widths(carrier.shape[0])) > 1)


def check_message(n_bits: int, found: Parameters) -> None:
    """Refuse a message that does not fit beside the checksum.

    Raises:
        KeyFileError: Says how much fits.
    """
    if n_bits > found.room:
        raise KeyFileError(
            f"a message of {n_bits} bits and a checksum of {found.checksum} are more than the {found.capacity} bits "
            f"that the widths of {len(found.choices)} layers hold; take at most {max(found.room, 0)} bits"
        )


def parameters_of(key: Key) -> Parameters:
    """The parameters of a key, as found in a file that anybody may have written.

    Raises:
        KeyFileError: They are missing or make no sense, or do not fit the key's layers or message.
    """
    least, most, step, checksum = (key.parameters.get(name) for name in ("least", "most", "step", "checksum"))
    if not isinstance(least, (int, float)) or not isinstance(most, (int, float)) or type(step) is not int:
        raise KeyFileError(
            "a structural key states the least and the most its layers keep and the step of their widths, this one has "
            f"{least!r}, {most!r} and {step!r}; make a new key with 'onnxmark keygen'"
        )
    found = Parameters(_choices(key.carriers, _rule(least, most, step)), _checksum(checksum))
    if not found.choices or min(found.radices) < 2:
        raise KeyFileError(f"the {len(found.choices)} layers of a structural key must have two widths or more each")
    check_message(key.n_bits, found)
    return found


def _rule(least: float, most: float, step: int) -> WidthRule:
    try:
        return WidthRule(float(least), float(most), step)
    except ValueError as error:
        raise KeyFileError(str(error)) from error


def _choices(carriers: Sequence[Carrier], rule: WidthRule) -> tuple[range, ...]:
    for carrier in carriers:
        if carrier.shape[0] > WIDEST:
            raise KeyFileError(f"layer {carrier.name!r} has {carrier.shape[0]:,} channels, and {WIDEST:,} are the most")
    return tuple(rule.widths(carrier.shape[0]) for carrier in carriers)


def _checksum(bits: object) -> int:
    if type(bits) is not int or bits not in CHECKSUMS:
        raise KeyFileError(f"a checksum has {' or '.join(map(str, CHECKSUMS))} bits, not {bits!r}")
    return bits
