"""What documents say of a model: its layers, their weights, and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from onnxmark.report.documents.plain import finite
from onnxmark.report.formats import Document

if TYPE_CHECKING:
    from onnxmark.model import Folding, WeightSite
    from onnxmark.model.profile import WeightProfile
    from onnxmark.model.running.runtime import Fidelity
    from onnxmark.schemes.projection.capacity import Capacity


def site_document(site: WeightSite) -> Document:
    """A weight site as data."""
    return {
        "name": site.name,
        "nodes": list(site.nodes),
        "op": site.op,
        "position": site.position,
        "shape": list(site.shape),
        "dtype": site.dtype,
        "stored": site.stored,
        "problem": site.problem,
    }


def folding_document(folding: Folding | None) -> Document | None:
    """Whether batch normalisation is folded, as data; None for layers that are no convolutions."""
    return None if folding is None else {"state": str(folding.state), "evidence": list(folding.evidence)}


def profile_document(profile: WeightProfile) -> Document:
    """What a layer's weights look like, as data."""
    return {name: finite(value) if isinstance(value, float) else value for name, value in asdict(profile).items()}


def capacity_document(capacity: Capacity) -> Document:
    """What a layer offers to a message, as data."""
    return {
        "n_bits": capacity.n_bits,
        "entries": capacity.size,
        "ratio": capacity.load,
        "largest_margin": capacity.largest_margin,
        "margin": capacity.margin,
        "predicted_relative_change": finite(capacity.relative_change),
        "suitability": capacity.suitability,
    }


def fidelity_document(fidelity: Fidelity | None) -> Document | None:
    """What became of a model's answers, as data."""
    if fidelity is None:
        return None
    return {**asdict(fidelity), "relative_change": finite(fidelity.relative_change)}


def sites_document(sites: Sequence[WeightSite]) -> Document:
    """What a key reads: its first layer in full and all of them by name; words alone where it asks the model."""
    if not sites:
        return {**_NO_SITE, "layers": []}
    return {**site_document(sites[0]), "layers": [_layer(site) for site in sites]}


_NO_SITE: Final[Document] = {
    "name": "the model's answers",
    "nodes": [],
    "op": "",
    "position": -1,
    "shape": [],
    "dtype": "",
    "stored": "",
    "problem": None,
}


def _layer(site: WeightSite) -> Document:
    return {"name": site.name, "op": site.op, "shape": list(site.shape)}
