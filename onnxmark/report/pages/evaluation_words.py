"""What the pages of an evaluation call its modifications, values and counts, in every table and chart alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.pages.figures import NOTHING
from onnxmark.report.pages.phrases import LABEL, SENTENCE
from onnxmark.report.text import shortened

UNMODIFIED: Final = "none"
"""The modification that leaves the networks as they are."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a scheme at one value of a modification.

    Args:
        subject: Index of the scheme among those of the page.
        scheme: Its name.
        point: Of the document.
    """

    subject: int
    scheme: str
    point: Document


def points_of(schemes: Sequence[Document], modification: str) -> tuple[Measured, ...]:
    """Everything measured under a modification, scheme by scheme."""
    return tuple(
        Measured(index, scheme_of(scheme), point)
        for index, scheme in enumerate(schemes)
        for entry in scheme["robustness"]
        if entry["modification"] == modification
        for point in entry["points"]
    )


def scheme_of(scheme: Document) -> str:
    """What the plan calls a scheme."""
    return shortened(scheme["name"], LABEL)


def doubts_of(scheme: Document) -> tuple[str, ...]:
    """Why the figures of a scheme may mean nothing, in sentences; nothing where there is no such reason."""
    return tuple(shortened(doubt, SENTENCE) for doubt in scheme["doubts"])


def metric_of(plan: Document) -> str:
    """The task metric."""
    return shortened(plan["task"]["metric"], LABEL)


def modification_of(entry: Document) -> str:
    """What a modification is called, at the beginning of a line."""
    if entry["modification"] == UNMODIFIED:
        return "Networks as they are"
    words = shortened(entry["words"], LABEL)
    return words[:1].upper() + words[1:]


def symbol_of(entry: Document) -> str:
    """The parameter of a modification: ``S``."""
    return shortened(entry["parameter"] or "value", LABEL)


def parameter_of(entry: Document) -> str:
    """The same with its unit: ``S (standard deviations of the layer)``."""
    unit = f" ({shortened(entry['unit'], LABEL)})" if entry["unit"] else ""
    return f"{symbol_of(entry)}{unit}"


def value_of(point: Document) -> str:
    """The value of the parameter, without its unit."""
    return NOTHING if point["value"] is None else f"{point['value']:g}"


def counted_of(point: Document, errors: str) -> str:
    """``1/15``: errors of the detector over the networks that it was asked about."""
    return f"{point[errors]:,}/{max(point['n_networks'] - point['n_failed'], 0):,}"


def guessing_of(schemes: Sequence[Document]) -> str:
    """The symbol error rate of somebody who guesses."""
    rates = {f"{scheme['guessing']:.3g}" for scheme in schemes}
    if len(rates) == 1:
        return f"{rates.pop()} is guessing"
    each = ", ".join(f"{scheme['guessing']:.3g} ({scheme_of(scheme)})" for scheme in schemes)
    return f"guessing is {each}"
