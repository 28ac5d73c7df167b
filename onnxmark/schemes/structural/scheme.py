"""The structural scheme as keys, audits and commands know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from onnxmark.arrays import BitArray
from onnxmark.keys import Key, check_bits, draw_secret_parts
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Layer, Reads
from onnxmark.schemes.structural.code import code_of
from onnxmark.schemes.structural.extraction import read_widths
from onnxmark.schemes.structural.parameters import (
    COMFORTABLE_BITS,
    Options,
    check_message,
    parameters_for,
    parameters_of,
    useful,
)


class StructuralScheme:
    """A message in the widths that channel pruning leaves: Zhao et al. (WIFS 2021), with a mapping of our own."""

    name: ClassVar[str] = "structural"
    summary: ClassVar[str] = "Zhao's structural mark: the message is in how many channels pruning leaves each layer"
    reads: ClassVar[Reads] = Reads.WIDTHS
    signs_tested: ClassVar[int] = 1
    options: ClassVar[type[Options]] = Options

    def make_key(self, layers: Sequence[Layer], payload: BitArray | None, options: Options) -> Key:
        """See :class:`onnxmark.schemes.scheme.WidthScheme`; layers with fewer than two widths are left out."""
        carriers = useful([layer.carrier for layer in layers], options)
        found = parameters_for(carriers, options)
        bits = np.zeros(min(COMFORTABLE_BITS, max(found.room, 1)), np.uint8) if payload is None else payload
        check_bits(bits.size)
        check_message(bits.size, found)
        seed, salt = draw_secret_parts()
        return Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=bits,
            carriers=carriers,
            parameters={**options.rule.parameters, "checksum": options.checksum},
        )

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        found = parameters_of(key)
        return {
            "capacity": f"{found.capacity} bits, {found.checksum} of them a checksum",
            "widths": f"{float(key.parameters['least']):g} to {float(key.parameters['most']):g} of the channels"
            f" in steps of {key.parameters['step']}",
        }

    def widths(self, key: Key) -> tuple[int, ...]:
        """See :class:`onnxmark.schemes.scheme.WidthScheme`.

        Raises:
            KeyFileError: The key's parameters make no sense.
        """
        return code_of(key).widths(key.message)

    def extract(self, key: Key, widths: tuple[int | None, ...]) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.WidthScheme`.

        Raises:
            KeyFileError: The key's parameters make no sense.
        """
        return read_widths(code_of(key), key.message, widths)
