"""Many layers against many keys: one matrix product a key, over all layers of a chunk of models at once.

Making the rows of a key takes as long as its product with twenty vectors, so layers of many models are read first and
every key's rows are made once. Products are in single precision and only *screen*: what looks as if it might be a mark
is read again by the code of an audit, in double precision. What stays within the bounds below, by the sum of its
margins and by their count, is not weighed at all: at the levels a scan asks for (1e-5, before correction) it is no
match.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float32Array, Float64Array, frozen
from onnxmark.keys import Key
from onnxmark.keys.derivation import GAUSSIAN_SCALE, distinct_positions, gaussian, stream
from onnxmark.schemes.projection.carriers import CarrierMap, FoldedCarrier
from onnxmark.statistics import sign_flip_test

LOOK_TWICE: Final = 2.5
"""Standard deviations from which on a sum or a count of margins is weighed."""


def suspicious(key: Key, vectors: Float32Array, level: float) -> list[int]:
    """The columns in which a key, or its complement, reads its message at a probability of at most ``level``.

    Args:
        key: An own projection key.
        vectors: What its rows read, shape (size, n), float32, finite.
        level: Two-sided, in (0, 1).
    """
    scores = scores_of(key, vectors)
    signs = np.where(key.message == 1, 1.0, -1.0).astype(np.float32)
    signed = scores * signs[:, np.newaxis]
    spread = np.sqrt(np.sum(signed**2, axis=0))
    sums = np.abs(signed.sum(axis=0)) / np.where(spread > 0, spread, 1)
    counts = np.abs(np.sum(np.sign(signed), axis=0)) / np.sqrt(key.n_bits)
    looked = np.flatnonzero((sums >= LOOK_TWICE) | (counts >= LOOK_TWICE))
    limit = np.log10(level / 2)
    return [int(column) for column in looked if _least_log10(signed[:, column].astype(np.float64)) <= limit]


def _least_log10(margins: Float64Array) -> float:
    """Of the message and its complement, the more improbable."""
    return min(sign_flip_test(margins).log10_bound, sign_flip_test(-margins).log10_bound)


def scores_of(key: Key, vectors: Float32Array) -> Float32Array:
    """Scores of a key in many vectors: (size, n) to (n_bits, n), float32."""
    generator, size = str(key.parameters["generator"]), len(vectors)
    if generator == "direct":
        return vectors[distinct_positions(key.master, key.n_bits, size)]
    if generator == "diff":
        plus, minus = distinct_positions(key.master, 2 * key.n_bits, size).reshape(2, -1)
        difference: Float32Array = vectors[plus] - vectors[minus]
        return difference
    rows = _rademacher(key, size) if generator == "rademacher" else _gaussian(key, size)
    product: Float32Array = rows @ vectors
    return product


def _rademacher(key: Key, size: int) -> Float32Array:
    """All rows of a key as float32, eight signs a byte from a table; the next call overwrites them."""
    n_bytes = -(-size // 8)
    packed = b"".join(stream(key.master, "row", index, n_bytes) for index in range(key.n_bits))
    rows = _room(key.n_bits * n_bytes)
    # Into memory that is there already, and in the widest elements there are: a tenth of the time of plain indexing.
    np.take(_sign_table(), np.frombuffer(packed, dtype=np.uint8), axis=0, out=rows, mode="clip")
    return rows.view(np.float32).reshape(key.n_bits, 8 * n_bytes)[:, :size]


@lru_cache(maxsize=1)
def _sign_table() -> NDArray[np.complex128]:
    """Eight signs for each byte, shape (256, 8) as float32, seen as (256, 2) elements of 16 bytes."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little")
    return frozen(2 * bits.astype(np.float32) - 1).view(np.complex128)


@lru_cache(maxsize=4)
def _room(n_bytes: int) -> NDArray[np.complex128]:
    return np.empty((n_bytes, 2), dtype=np.complex128)


def _gaussian(key: Key, size: int) -> Float32Array:
    rows = np.empty((key.n_bits, size), dtype=np.float32)
    for index in range(key.n_bits):
        rows[index] = gaussian(key.master, "row", index, size)
    rows /= GAUSSIAN_SCALE
    return rows


def folded(carrier: CarrierMap, layers: Sequence[Float32Array]) -> Float32Array:
    """What a carrier that all keys of a group share makes of some layers, shape (size, n), float32."""
    vectors = np.empty((carrier.size, len(layers)), dtype=np.float32)
    for column, values in enumerate(layers):
        vectors[:, column] = carrier.fold(values)
    return vectors


def centred(layers: Sequence[Float32Array]) -> Float32Array:
    """Some layers of one shape as columns, each minus its mean, shape (weights, n), float32."""
    weights = np.stack([values.reshape(-1) for values in layers], axis=1)
    weights -= weights.mean(axis=0, dtype=np.float64).astype(np.float32)
    return weights


def keyed_fold(carrier: FoldedCarrier, weights: Float32Array) -> Float32Array:
    """The signed sums of all buckets of all columns of :func:`centred`, shape (size, n), float32.

    Buckets are taken in the order of their fullness: the k-th elements of those that have as many then lie in a row,
    and are added in one operation.
    """
    elements = np.argsort(carrier.buckets, kind="stable")
    counts = np.bincount(carrier.buckets, minlength=carrier.size)
    fullest = np.argsort(-counts, kind="stable")
    starts = (np.cumsum(counts) - counts)[fullest]
    sums = np.zeros((carrier.size, weights.shape[1]), dtype=np.float32)
    for level in range(int(counts.max(initial=0))):
        n_buckets = int(np.sum(counts > level))
        chosen = elements[starts[:n_buckets] + level]
        part = weights[chosen]
        part *= carrier.signs[chosen, np.newaxis]
        sums[:n_buckets] += part
    vectors = np.empty_like(sums)
    vectors[fullest] = sums
    return vectors
