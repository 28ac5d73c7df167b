"""Reading a structural mark: widths against those a key expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from onnxmark.arrays import BitArray
from onnxmark.schemes.evidence import Decoded, Evidence, Test, no_evidence
from onnxmark.schemes.structural.code import WidthCode
from onnxmark.schemes.structural.nulls import log10_code_word, log10_matches_tail, log10_remains_tail, sight

SYMBOL: Final = "width"
UNIT: Final = "bits that the layer's width can hold"
FOR_ALL_TO_SEE: Final = (
    "widths are no secret: whoever trains a network of the same widths anew shows the same mark, so a match speaks of "
    "the architecture, not of the weights"
)


def read_widths(code: WidthCode, message: BitArray, widths: Sequence[int | None]) -> Evidence:
    """Compare the widths of a suspect with those that carry a message.

    The verdict rests on how closely the widths expected lie above those found, which is the chance that all are right
    where they are, and lets a mark fade rather than go where somebody pruned further.

    Args:
        code: The key's code.
        message: The key's message, shape (T,).
        widths: Output channels of each of the key's layers; None for one that was not found.
    """
    if all(width is None for width in widths):
        lost = Decoded(code.n_bits, code.n_bits, rejected=True)
        return no_evidence(len(widths), "none of the key's layers was found", symbol=SYMBOL, message=lost)
    expected = code.widths(message)
    right = np.array([width == wanted for width, wanted in zip(widths, expected, strict=True)])
    legible = np.array([width in choices for width, choices in zip(widths, code.choices, strict=True)])
    bits = np.log2(np.array(code.radices, dtype=np.float64))
    tests = _tests(code, expected, widths)
    return Evidence(
        margins=np.where(right, bits, np.where(legible, -bits, 0.0)),
        n_errors=int((~right).sum()),
        n_erasures=int((~legible).sum()),
        log10_p=tests[0].log10_p,
        tests=tests,
        symbol=SYMBOL,
        unit=UNIT,
        message=_decoded(code, message, widths),
        notes=_notes(expected, widths),
    )


def _tests(code: WidthCode, expected: Sequence[int], widths: Sequence[int | None]) -> tuple[Test, ...]:
    compared = list(zip(widths, expected, code.choices, strict=True))
    legible = [(width == wanted, len(choices)) for width, wanted, choices in compared if width in choices]
    matches = log10_matches_tail([n for _, n in legible], sum(right for right, _ in legible))
    word = log10_code_word(code.radices, code.n_bits) if code.message(widths) is not None else 0.0
    return (
        Test("what pruning leaves", log10_remains_tail([sight(*each) for each in compared]), "exact"),
        Test("layers right", matches, "exact"),
        Test("checksum", word, "exact"),
    )


def _decoded(code: WidthCode, message: BitArray, widths: Sequence[int | None]) -> Decoded:
    found = code.message(widths)
    if found is None:
        return Decoded(code.n_bits, code.n_bits, rejected=True)
    return Decoded(code.n_bits, int(np.count_nonzero(found != message)))


def _notes(expected: Sequence[int], widths: Sequence[int | None]) -> tuple[str, ...]:
    pairs = list(zip(widths, expected, strict=True))
    right = sum(width == wanted for width, wanted in pairs)
    counts = f"{right} of {len(pairs)} layers have the width expected"
    lost = [wanted - width for width, wanted in pairs if width is not None and width < wanted]
    if lost:
        span = f"{min(lost)}" if min(lost) == max(lost) else f"{min(lost)} to {max(lost)}"
        counts += f"; channels lacking in {len(lost)} of them, as after further pruning: {span}"
    return (counts, FOR_ALL_TO_SEE) if right else (counts,)
