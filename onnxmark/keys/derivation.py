"""From a 32-byte seed to everything a key needs, bit for bit the same on every platform for ever.

scrypt makes each seed cost a tenth of a second, which an owner pays once and a forger pays for every seed tried;
SHAKE-256 then expands the master secret into as many independent streams as there are labels and indices. Only integers
leave this module: NumPy promises its random streams for one build only, and a floating-point library may differ in the
last place.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import BitArray, Int8Array, Int64Array, frozen
from onnxmark.keys.secret import Secret

SEED_BYTES: Final = 32
SCRYPT_N: Final = 2**15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1

GAUSSIAN_SCALE: Final = 4096
"""Gaussian entries are integers in units of 1/4096: the 16-bit quantile table below, rounded."""

Stream = Literal["row", "message", "fold", "permutation", "sketch", "digit"]
_LABELS: Final[dict[Stream, bytes]] = {
    "row": b"row\0",
    "message": b"mesg",
    "fold": b"fold",
    "permutation": b"perm",
    "sketch": b"sket",
    "digit": b"digt",
}


@lru_cache(maxsize=4096)
def master_secret(seed: Secret, salt: bytes, context: str) -> Secret:
    """Stretch a seed into the secret that all streams start from.

    Args:
        seed: 32 secret bytes.
        salt: Random bytes stored beside the seed.
        context: Everything else in the key; binding it here means that a changed payload or parameter is a new key,
            not a second reading of the same one.

    Returns:
        32 bytes: ``scrypt(seed, "onnxmark/2|" + context + "|" + salt, n=2^15, r=8, p=1)``.
    """
    stretched = hashlib.scrypt(
        seed.reveal(),
        salt=b"onnxmark/2|" + context.encode() + b"|" + salt,
        n=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        maxmem=2**26,
        dklen=32,
    )
    return Secret(stretched)


def stream(secret: Secret, label: Stream, index: int, n_bytes: int) -> bytes:
    """``n_bytes`` of SHAKE-256(secret, label, index): random access by index, every index independent."""
    return hashlib.shake_256(secret.reveal() + _LABELS[label] + index.to_bytes(4, "little")).digest(n_bytes)


def bits(secret: Secret, label: Stream, index: int, count: int) -> BitArray:
    """``count`` fair bits, shape (count,), uint8; bit i is bit i % 8 (little-endian) of byte i // 8."""
    packed = np.frombuffer(stream(secret, label, index, -(-count // 8)), dtype=np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little")


def signs(secret: Secret, label: Stream, index: int, count: int) -> Int8Array:
    """``count`` fair signs, shape (count,), int8: +1 where :func:`bits` has a one, -1 where it has a zero."""
    fair = bits(secret, label, index, count).view(np.int8)
    return 2 * fair - 1


@lru_cache(maxsize=1)
def _gaussian_quantiles() -> NDArray[np.int16]:
    # Rounded to 1/4096, an error in the last place of a platform's logarithm cannot change an entry; a golden test
    # holds the table's digest.
    normal = NormalDist()
    upper = [round(GAUSSIAN_SCALE * normal.inv_cdf((index + 0.5) / 65536)) for index in range(32768, 65536)]
    half = np.array(upper, dtype=np.int16)
    return frozen(np.concatenate([-half[::-1], half]))


def gaussian(secret: Secret, label: Stream, index: int, count: int) -> NDArray[np.int16]:
    """``count`` independent standard normal values in units of 1/4096, quantised to 65,536 levels (|z| <= 4.3)."""
    words = np.frombuffer(stream(secret, label, index, 2 * count), dtype="<u2")
    quantiles: NDArray[np.int16] = _gaussian_quantiles()[words]
    return quantiles


def distinct_positions(secret: Secret, count: int, size: int) -> Int64Array:
    """``count`` distinct positions in ``range(size)``, in random order, shape (count,), int64.

    Raises:
        ValueError: ``count`` exceeds ``size``.
    """
    if count > size:
        raise ValueError(f"{count} distinct positions do not exist among {size}")
    words = np.frombuffer(stream(secret, "permutation", 0, 8 * size), dtype="<u8")
    return np.argsort(words, kind="stable")[:count].astype(np.int64)


_FOLD_BLOCK: Final = 2**16


def signed_buckets(secret: Secret, count: int, n_buckets: int) -> tuple[NDArray[np.int32], Int8Array]:
    """A keyed signed fold of ``count`` elements onto ``n_buckets``.

    Each element takes one 32-bit word of the fold stream: its low bits are the bucket, its top bit the sign.

    Args:
        secret: The master secret.
        count: Number of elements.
        n_buckets: A power of two, at most 2^24.

    Returns:
        ``buckets`` in [0, n_buckets) and ``signs`` in {-1, +1}, each of shape (count,).
    """
    if n_buckets & (n_buckets - 1) or not 1 <= n_buckets <= 2**24:
        raise ValueError(f"the number of buckets must be a power of two up to 2^24, not {n_buckets}")
    buckets = np.empty(count, dtype=np.int32)
    fold_signs = np.empty(count, dtype=np.int8)
    for block, start in enumerate(range(0, count, _FOLD_BLOCK)):
        stop = min(start + _FOLD_BLOCK, count)
        words = np.frombuffer(stream(secret, "fold", block, 4 * (stop - start)), dtype="<u4")
        buckets[start:stop] = (words & np.uint32(n_buckets - 1)).astype(np.int32)
        fold_signs[start:stop] = np.where(words >> np.uint32(31), 1, -1)
    return buckets, fold_signs
