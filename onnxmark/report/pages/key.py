"""The page of a key that was made: where it is, what to publish, and what it reads."""

from __future__ import annotations

from typing import Any

from onnxmark.report.page import Fact, Facts, Headline, Notes, Page, Section
from onnxmark.report.pages.phrases import PATH, colophon, layer_of, name_of, room, shape_of
from onnxmark.report.text import shortened

Document = dict[str, Any]

_ADVICE = "Publish or time-stamp the commitment before the model: a registered key needs 2^-64 less to convince."


def key_page(document: Document) -> Page:
    """The page of a key document."""
    path = shortened(document["path"], PATH)
    secrecy = "keep it secret; without it the mark cannot be found"
    return Page(
        kind="key",
        title=path,
        subtitle=f"{document['scheme']}, {document['n_bits']} bits",
        headline=Headline("KEY MADE", secrecy),
        sections=(Section("Key", (_facts(document),)), Section("What to do next", (Notes((_ADVICE,)),))),
        colophon=colophon(document),
    )


def _facts(document: Document) -> Facts:
    carrier, suits = document["carrier"], room(document["capacity"])
    named = bool(carrier["name"])
    layer = layer_of(carrier) if carrier["op"] else f"shape {shape_of(carrier['shape'])}"
    return Facts(
        (
            Fact("commitment", f"sha256 {document['commitment']}", literal=True),
            Fact("layer", name_of(carrier["name"]) if named else "any layer of the shape", layer, literal=named),
            Fact(
                "reads",
                f"{document['n_bits']} bits from carrier {carrier['kind']}, {document['generator']} rows",
            ),
            Fact("capacity", suits.text, tone=suits.tone),
            Fact(
                "pre-mark record",
                "kept in the key" if document["premark_signature"] else "none (made without the model)",
            ),
        )
    )
