"""The document of a marking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxmark.report.documents.models import fidelity_document, sites_document
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind

if TYPE_CHECKING:
    from onnxmark.marking import Marking


def marking_document(marking: Marking, output: str) -> Document:
    """What ``embed`` did, as data."""
    return {
        **head(Kind.MARKING),
        "output": output,
        "key": {"commitment": marking.key.commitment, "scheme": marking.key.scheme},
        "carrier": {**sites_document(marking.sites), "kind": marking.kind},
        "metric": marking.metric,
        "margin": {
            "asked": marking.margin_asked,
            "solved": marking.margin_solved,
            "reached": marking.margin_reached,
            "unit": marking.evidence.unit,
        },
        "relative_change": marking.relative_change,
        "std_ratio": marking.std_ratio,
        "n_bits": marking.evidence.n_bits,
        "n_errors": marking.evidence.n_bit_errors,
        "log10_p_value": marking.evidence.log10_p,
        "fidelity": fidelity_document(marking.fidelity),
    }
