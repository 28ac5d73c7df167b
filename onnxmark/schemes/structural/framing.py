"""Message and checksum as one number, so that a width misread is noticed and not taken for another message."""

from __future__ import annotations

import binascii
import zlib
from typing import Final

import numpy as np

from onnxmark.arrays import BitArray, frozen

CHECKSUMS: Final = (16, 32)
"""Bits of the checksums there are: CRC-16 (polynomial 0x1021) and CRC-32 (zlib's)."""


def framed(message: BitArray, checksum_bits: int) -> int:
    """The number that stands for a message: below ``2 ** (message.size + checksum_bits)``, the checksum on top.

    Args:
        message: Shape (T,), 0 or 1; bit t has the weight ``2 ** t``.
        checksum_bits: One of :data:`CHECKSUMS`.
    """
    packed = np.packbits(message, bitorder="little").tobytes()
    return int.from_bytes(packed, "little") | _checksum(packed, checksum_bits) << message.size


def unframed(number: int, n_bits: int, checksum_bits: int) -> BitArray | None:
    """The message of ``n_bits`` bits that a number stands for, shape (T,); None where the number stands for none."""
    message = number & (1 << n_bits) - 1
    packed = message.to_bytes(-(-n_bits // 8), "little")
    if number >> n_bits != _checksum(packed, checksum_bits):
        return None
    return frozen(np.unpackbits(np.frombuffer(packed, np.uint8), count=n_bits, bitorder="little"))


def _checksum(packed: bytes, checksum_bits: int) -> int:
    if checksum_bits not in CHECKSUMS:
        raise ValueError(f"checksums have {' or '.join(map(str, CHECKSUMS))} bits, not {checksum_bits}")
    return binascii.crc_hqx(packed, 0xFFFF) if checksum_bits == 16 else zlib.crc32(packed)
