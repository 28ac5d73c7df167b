"""Weights of a model, word of a key: evidence.

The ones of a model's word are its alpha largest magnitudes. Where several equal the smallest of them, all are taken or
none, whichever makes nearer alpha, and weights of zero never are: no tie is broken in anybody's favour, and a layer
pruned down to fewer than alpha of the chosen weights, or rounded to a few levels, is weighed by what it still says.
(Kuribayashi et al. take alpha of them whatever happens; ties are then broken by position.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import BitArray, Float32Array, Float64Array
from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.nulls import log10_hypergeometric_tail, log10_sum_bound
from onnxmark.schemes.evidence import Decoded, Evidence, Test, no_evidence

SYMBOL: Final = "code symbol"
UNIT: Final = "times the magnitude midway between ones and zeros"
_CAP: Final = 2.0
"""Magnitudes count up to this multiple of the smallest of the alpha largest."""
_REMARKABLE: Final = -1.0
_LARGEST_SUM: Final = 2**18
"""Magnitudes are weighed, too, where the count is remarkable and L times alpha no more than this: that takes 0.2 s."""


def read_word(values: Float32Array, code: ConstantWeightCode, message: BitArray) -> Evidence:
    """Read a word and weigh it.

    A word that is rejected, being none of the message's length, has all bits of the message wrong: nothing of it can be
    read. A wrong word that is not rejected has about half of them wrong, and is worth no more.

    Args:
        values: The chosen weights, shape (L,).
        code: The words.
        message: Bits the word should stand for, shape (k,).
    """
    lost = Decoded(message.size, message.size, rejected=True)
    if not np.isfinite(values).all():
        return no_evidence(code.length, "the chosen weights are not all finite", symbol=SYMBOL, message=lost)
    magnitudes = np.abs(values)
    if magnitudes.min() == magnitudes.max():
        reason = "the chosen weights are all of one magnitude"
        return no_evidence(code.length, reason, symbol=SYMBOL, message=lost)
    ones = largest(magnitudes, code.weight)
    return _evidence(magnitudes, ones, code, message)


def largest(magnitudes: Float32Array, count: int) -> NDArray[np.bool_]:
    """The largest, ``count`` of them where no tie and no zero stands in the way: shape (L,), bool.

    Which and how many depends on the magnitudes alone, so that the tail of the count stays exact.

    Args:
        magnitudes: Shape (L,), none below 0.
        count: 1 to L.
    """
    threshold = np.partition(magnitudes, -count)[-count]
    above, tied = magnitudes > threshold, (magnitudes >= threshold) & (magnitudes > 0)
    n_above, n_tied = int(above.sum()), int(tied.sum())
    return np.asarray(above if n_above and count - n_above < n_tied - count else tied)


def _evidence(
    magnitudes: Float32Array, ones: NDArray[np.bool_], code: ConstantWeightCode, message: BitArray
) -> Evidence:
    word = code.encode_bits(message).astype(bool)
    n_read, n_found = int(ones.sum()), int((ones & word).sum())
    log10_p = log10_hypergeometric_tail(n_found, code.length, code.weight, n_read)
    return Evidence(
        margins=_margins(magnitudes, ones, word),
        n_errors=int((ones != word).sum()),
        n_erasures=0,
        log10_p=log10_p,
        tests=(Test("ones found (hypergeometric)", log10_p, "exact"), *_soft_tests(magnitudes, word, log10_p)),
        symbol=SYMBOL,
        unit=UNIT,
        message=_decoded(ones, code, message),
        notes=_notes(code, n_read, n_found),
    )


def _soft_tests(magnitudes: Float32Array, word: NDArray[np.bool_], log10_p: float) -> tuple[Test, ...]:
    """What magnitudes say beyond their order: for the report; the verdict rests on the count, which is exact."""
    n_ones = int(word.sum())
    if log10_p > _REMARKABLE or word.size * n_ones > _LARGEST_SUM:
        return ()
    # Capped, so that a single huge weight elsewhere does not drown the word.
    cap = _CAP * float(np.partition(magnitudes, -n_ones)[-n_ones])
    sizes = np.minimum(magnitudes.astype(np.float64), cap or np.inf)
    return (Test("sum of large weights (Chernoff)", log10_sum_bound(sizes, word), "bound"),)


def _margins(magnitudes: Float32Array, ones: NDArray[np.bool_], word: NDArray[np.bool_]) -> Float64Array:
    sizes = magnitudes.astype(np.float64)
    # Halfway in double precision lies strictly between two single-precision neighbours.
    boundary = (sizes[ones].min() + sizes[~ones].max(initial=0.0)) / 2
    return np.asarray(np.where(word, sizes - boundary, boundary - sizes) / boundary)


def _decoded(ones: NDArray[np.bool_], code: ConstantWeightCode, message: BitArray) -> Decoded:
    read = code.decode_bits(ones.astype(np.uint8), message.size)
    if read is None:
        return Decoded(message.size, message.size, rejected=True)
    return Decoded(message.size, int(np.count_nonzero(read != message)))


def _notes(code: ConstantWeightCode, n_read: int, n_found: int) -> tuple[str, ...]:
    share = code.weight / code.length
    found = (
        f"{n_found} of the word's {code.weight} large weights are among the {n_read} largest of {code.length}; "
        f"{share * n_read:.1f} would be by chance, with {200 * share * (1 - share):.0f} % of the symbols wrong."
    )
    if n_read == code.weight:
        return (found,)
    return (found, f"Magnitudes tie or are zero, so that {n_read} and not {code.weight} stand out.")
