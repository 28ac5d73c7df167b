"""From a key's message to the widths of its layers, and back.

What a layer shows is not a digit of the message but that digit plus an offset of the key, modulo the layer's number of
widths. Over the key's seed every layer then has each of its widths with the same chance, independently of the others,
whatever the message and whatever the architecture it is compared with: that is what makes p-values exact. A whitened
*message* would not do: the digits of a random number of whole bits are not uniform in mixed radix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from onnxmark.arrays import BitArray
from onnxmark.keys import Key, Secret
from onnxmark.keys.derivation import stream
from onnxmark.schemes.structural.framing import framed, unframed
from onnxmark.schemes.structural.mixed_radix import to_digits, to_number
from onnxmark.schemes.structural.parameters import parameters_of

OFFSET_BYTES: Final = 16
"""A word of 128 bits modulo at most 2^20 widths is uniform to within 2^-108."""


@dataclass(frozen=True, slots=True, eq=False)
class WidthCode:
    """How a key writes messages in the widths of its layers.

    Args:
        choices: The widths each layer may have, ascending.
        offsets: What is added to each layer's digit.
        n_bits: Length T of the message.
        checksum: Bits of the checksum behind it.
    """

    choices: tuple[range, ...]
    offsets: tuple[int, ...] = field(repr=False)
    n_bits: int
    checksum: int

    @property
    def radices(self) -> tuple[int, ...]:
        """How many widths each layer may have."""
        return tuple(map(len, self.choices))

    def widths(self, message: BitArray) -> tuple[int, ...]:
        """The width of each layer for a message of shape (T,)."""
        digits = to_digits(framed(message, self.checksum), self.radices)
        return tuple(
            widths[(digit + offset) % len(widths)]
            for digit, offset, widths in zip(digits, self.offsets, self.choices, strict=True)
        )

    def message(self, widths: Sequence[int | None]) -> BitArray | None:
        """The message in the widths of all layers, shape (T,).

        Args:
            widths: One for each layer; None where it is not known.

        Returns:
            None where a layer has no width of the code, or the checksum is wrong.
        """
        digits = []
        for width, offset, choices in zip(widths, self.offsets, self.choices, strict=True):
            if width is None or width not in choices:
                return None
            digits.append((choices.index(width) - offset) % len(choices))
        return unframed(to_number(digits, self.radices), self.n_bits, self.checksum)


def code_of(key: Key) -> WidthCode:
    """The code of a key.

    Raises:
        KeyFileError: The key's parameters make no sense.
    """
    found = parameters_of(key)
    offsets = tuple(offset(key.master, layer, radix) for layer, radix in enumerate(found.radices))
    return WidthCode(found.choices, offsets, key.n_bits, found.checksum)


def offset(secret: Secret, layer: int, radix: int) -> int:
    """What a key adds to the digit of a layer: uniform from 0 to below ``radix``."""
    return int.from_bytes(stream(secret, "digit", layer, OFFSET_BYTES), "little") % radix
