"""Does the evaluation hold? What a decoder reads in networks without a mark says whether its figures mean anything.

Messages are whitened, so that a sound decoder reads every symbol of an unmarked network wrong with the probability of
chance exactly (one half for bits), whatever the network has learnt, and different payloads from different keys. One
that reads better, worse, or always the same knows what it must not know, or nothing at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from onnxmark.evaluation.cells import changes
from onnxmark.evaluation.concluding import Book, Record
from onnxmark.evaluation.laboratory import Laboratory
from onnxmark.evaluation.modifications import DISTILLATION, TRANSFER
from onnxmark.evaluation.plan import Plan, as_table

_DEVIATIONS: Final = 5.0
"""Standard deviations that chance does not reach: once in 1.7 million sound decoders."""
_SURE_BITS: Final = 40
"""Bits that different keys do not agree in by chance: once in 10^12."""


def broken(book: Book, scheme: int) -> Iterator[str]:
    """What is wrong with a scheme's detector or decoder, in sentences; nothing where they are sound.

    Args:
        book: The records.
        scheme: Number of the scheme.
    """
    name = book.plan.schemes[scheme].name
    looks = book.readings(book.unmarked_looks(scheme, None), scheme)
    readings = [reading for each in looks for reading in each]
    read = [reading for reading in readings if reading["n_errors"] is not None]
    n_symbols = sum(reading["n_symbols"] for reading in read)
    n_errors = sum(reading["n_errors"] for reading in read)
    expected = sum(reading["n_symbols"] * reading["chance"] for reading in read)
    variance = sum(reading["n_symbols"] * reading["chance"] * (1 - reading["chance"]) for reading in read)
    if n_symbols and abs(n_errors - expected) > _DEVIATIONS * math.sqrt(variance):
        share = "half" if 2 * expected == n_symbols else f"{expected / n_symbols:.0%}"
        yield (
            f"{name}: the decoder is broken: in unmarked networks it reads {n_errors:,} of {n_symbols:,} symbols "
            f"wrong, and {share} of them would be by chance; none of its figures means anything."
        )
    if _same(read):
        yield (
            f"{name}: the decoder is broken: it reads one payload with all keys in all unmarked networks; none of its "
            "figures means anything."
        )
    if false := sum(reading["detected"] for reading in readings):
        yield (
            f"{name}: the detector found a mark {false} times in {len(looks)} networks that have none, which happens "
            f"by chance less often than {book.plan.policy.alpha:g} each time."
        )


def limits(book: Book, laboratory: Laboratory) -> Iterator[str]:
    """What a reader must know of the figures, in sentences."""
    plan, task = book.plan, laboratory.task
    for scheme in range(len(plan.schemes)):
        yield from broken(book, scheme)
        yield from _unmarkable(book, scheme)
    for architecture in plan.architectures:
        n_parameters = laboratory.n_parameters(architecture)
        if task.n_training < 10 * n_parameters:
            yield (
                f"The standard asks for ten times as many data as parameters: {architecture.words} has "
                f"{n_parameters:,} parameters and would take {10 * n_parameters:,} images; there are "
                f"{task.n_training:,}."
            )
    for row in plan.modifications:
        if excess := row.excess(plan.training.epochs):
            yield (
                f"{row.words.capitalize()} of {', '.join(map(str, excess))} epochs is more than the standard has for "
                f"networks trained for {plan.training.epochs}."
            )
    yield from _usual(plan)


def _usual(plan: Plan) -> Iterator[str]:
    """What is true of every evaluation."""
    yield (
        "Confidence limits treat all marked networks as independent, as the standard does; networks that were marked "
        "from the same unmarked one are not entirely."
    )
    yield (
        "Keys and payloads are drawn from the plan's seed, so that the evaluation can be repeated; whoever has the "
        "plan has its keys."
    )
    yield (
        "Memory is the peak of the whole process, framework included; times of detection and decoding leave out the "
        "derivation of the key's secret, a tenth of a second."
    )
    yield (
        "Where a decoder reads no payload (a code word is rejected, a layer is gone), its symbols count as if they had "
        "been guessed."
    )
    if any(row.trains for row in plan.modifications):
        yield "Thieves train on the owner's own images, which is the most they can have."
    if any(row.name == TRANSFER for row in plan.modifications):
        yield (
            "Transfer learning leads to another task and back, with the old head; a thief who stays there has trained "
            "less on the network."
        )
    if any(row.name == DISTILLATION and "student" not in as_table(row.settings) for row in plan.modifications):
        yield (
            "Distilled students have their teacher's architecture, channel by channel, and with it any mark in widths; "
            "a thief who takes another one does not keep it."
        )
    if not list(changes(plan))[1:]:
        yield "No modification was carried out: nothing is said of robustness."


def _unmarkable(book: Book, scheme: int) -> Iterator[str]:
    obstacles, n_pairs = book.obstacles(scheme), len(list(book.pairs()))
    if 0 < len(obstacles) < n_pairs:
        yield (
            f"{book.plan.schemes[scheme].name}: {len(obstacles)} of {n_pairs} marks could not be embedded, and those "
            f"networks are in no figure: {obstacles[0]}."
        )


def _same(read: Sequence[Record]) -> bool:
    """Whether one payload is read by several keys, where chance cannot explain it."""
    payloads = [reading["decoded"] for reading in read if reading["decoded"] is not None]
    return len(set(payloads)) == 1 and len(payloads[0]) * (len(payloads) - 1) >= _SURE_BITS
