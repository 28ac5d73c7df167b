"""The document of a key that was made: its public side, and what its layer offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from onnxmark.report.documents.models import capacity_document
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind

if TYPE_CHECKING:
    from onnxmark.keys import Key
    from onnxmark.schemes.projection.projection import Generator
    from onnxmark.schemes.scheme import Scheme


def key_document(scheme: Scheme, key: Key, path: Path) -> Document:
    """What ``keygen`` made, as data, without its secret; ``path`` is where the key was saved."""
    return {
        **head(Kind.KEY),
        "path": str(path),
        "commitment": key.commitment,
        "scheme": key.scheme,
        "n_bits": key.n_bits,
        "facts": [{"name": name, "value": value} for name, value in scheme.facts(key).items()],
        "layers": [
            {"name": one.name, "node": one.node, "op": one.op, "shape": list(one.shape)} for one in key.carriers
        ],
        "premark_signature": key.premark is not None,
        "capacity": _capacity(key),
    }


def _capacity(key: Key) -> Document | None:
    """What the layer offers to a projection's message."""
    if key.scheme != "projection":
        return None
    from onnxmark.schemes.projection.capacity import capacity

    kind, generator = str(key.parameters["carrier"]), cast("Generator", key.parameters["generator"])
    return capacity_document(capacity(key.carrier.shape, key.n_bits, kind, generator))
