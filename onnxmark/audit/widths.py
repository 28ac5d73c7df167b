"""Keys that read how many channels layers have: shapes alone, no weight is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.audit.findings import Candidate
from onnxmark.keys import Key
from onnxmark.model import WeightSite
from onnxmark.schemes.scheme import PlainReading, WidthScheme
from onnxmark.schemes.structural.matching import Alignment, alignments
from onnxmark.views import View

_READING: Final = PlainReading("widths")


def read_widths(key: Key, sites: Sequence[WeightSite], scheme: WidthScheme) -> tuple[Candidate, ...]:
    """Every way of pairing the key's layers with the suspect's, read.

    Args:
        key: The key.
        sites: The suspect's layers.
        scheme: The key's scheme.
    """
    shaped = [site for site in sites if site.shape]
    paired = (found for found in alignments(key.carriers, shaped) if any(index is not None for index in found))
    return tuple(_candidate(key, shaped, found, scheme) for found in paired)


def _candidate(key: Key, sites: Sequence[WeightSite], paired: Alignment, scheme: WidthScheme) -> Candidate:
    layers = tuple(sites[index] for index in paired if index is not None)
    widths = tuple(None if index is None else sites[index].shape[0] for index in paired)
    why = f"{len(layers)} of {len(paired)} layers found"
    return Candidate(layers, View.STORED, _READING, why, scheme.extract(key, widths))
