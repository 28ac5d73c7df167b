"""The document of a conversion, and what an audit says of a model that was converted first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind

if TYPE_CHECKING:
    from onnxmark.conversion import Conversion
    from onnxmark.conversion.origins import WeightOrigin


def conversion_document(conversion: Conversion) -> Document:
    """The document of a conversion."""
    return {
        **head(Kind.CONVERSION),
        "source": str(conversion.source),
        "output": str(conversion.output),
        **conversion_facts(conversion),
        "layers": [_layer(origin) for origin in conversion.origins],
    }


def conversion_facts(conversion: Conversion) -> Document:
    """How a model was converted; also beside the model in the report of an audit or an inspection."""
    return {
        "container": str(conversion.container),
        "words": conversion.container.words,
        "route": conversion.route,
        "has_graph": conversion.has_graph,
        "notes": list(conversion.notes),
        "coverage": {
            "layers": conversion.n_layers,
            "traced": len(conversion.origins),
            "weights": conversion.n_weights,
            "found": conversion.n_found,
            "missing": list(conversion.missing),
        },
    }


def _layer(origin: WeightOrigin) -> Document:
    return {
        "name": origin.site,
        "weights": origin.weights,
        "shape": list(origin.shape),
        "order": origin.order,
        "folded": origin.factors is not None,
        "error": origin.error,
    }
