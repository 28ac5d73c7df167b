"""The page of a key that was made: where it is, what to publish, and what it reads."""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Fact, Facts, Headline, Notes, Page, Section
from onnxmark.report.pages.phrases import PATH, SENTENCE, colophon, layer_of, name_of, room, shape_of
from onnxmark.report.text import shortened

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
    kept = "kept in the key" if document["premark_signature"] else "none (made without the model)"
    capacity = document["capacity"]
    return Facts(
        (
            Fact("commitment", f"sha256 {document['commitment']}", literal=True),
            *(_layer(layer) for layer in document["layers"][:_SHOWN]),
            *((Fact("layers", f"{len(document['layers'])} in all"),) if len(document["layers"]) > _SHOWN else ()),
            *(Fact(fact["name"], shortened(fact["value"], SENTENCE)) for fact in document["facts"]),
            *((Fact("pre-mark record", kept), _room(capacity)) if capacity is not None else ()),
        )
    )


_SHOWN: Final = 8


def _layer(layer: Document) -> Fact:
    named = bool(layer["name"])
    words = layer_of(layer) if layer["op"] else f"shape {shape_of(layer['shape'])}"
    return Fact("layer", name_of(layer["name"]) if named else "any layer of the shape", words, literal=named)


def _room(capacity: Document) -> Fact:
    suits = room(capacity)
    return Fact("capacity", suits.text, tone=suits.tone)
