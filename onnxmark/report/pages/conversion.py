"""The page of a conversion: through what it went, and which layer holds which weights of the framework."""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Section, Table, Tone
from onnxmark.report.pages.phrases import PATH, SENTENCE, colophon, counted, name_of, shape_of
from onnxmark.report.text import shortened

_COLUMNS: Final = (
    Column("weights in the framework"),
    Column("shape"),
    Column("kept there as"),
    Column("weights in the ONNX file"),
    Column("how they are there"),
)
_NAMED: Final = 8
_NOTE: Final = (
    "Found by value. folded: a batch normalisation multiplies each output filter; the factors are kept in the file, so "
    "that marked weights can be put back."
)


def conversion_page(document: Document) -> Page:
    """The page of a conversion document."""
    notes = tuple(shortened(note, SENTENCE) for note in (*_lost(document["coverage"]), *document["notes"]))
    return Page(
        kind="conversion",
        title=shortened(document["output"], PATH),
        subtitle=f"from {shortened(document['source'], PATH)}",
        headline=Headline("CONVERTED", traced(document), tone_of_conversion(document), notes),
        sections=(
            Section("How", (Facts((Fact("source", document["words"]), Fact("route", document["route"]))),)),
            Section("Layers", (_table(document["layers"]),)),
        ),
        colophon=colophon(document),
    )


def traced(facts: Document) -> str:
    """What came through, in a sentence.

    Args:
        facts: A conversion document, or what :func:`onnxmark.report.documents.conversion.conversion_facts` gives.
    """
    coverage = facts["coverage"]
    graph = "" if facts["has_graph"] else "; the file holds weights without a graph"
    if not coverage["weights"]:
        return f"{counted(coverage['layers'], 'layer')}{graph}"
    found = f"{coverage['found']} of {counted(coverage['weights'], 'weight tensor')} of the framework found by value"
    return f"{found}, in {counted(coverage['layers'], 'layer')}{graph}"


def _lost(coverage: Document) -> tuple[str, ...]:
    """Which weights of the framework are in no layer, in a sentence; nothing where all are."""
    missing = coverage.get("missing", [])
    if not missing:
        return ()
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (f"Found in no layer: {', '.join(name_of(name) for name in missing[:_NAMED])}{more}.",)


def tone_of_conversion(facts: Document) -> Tone:
    """Doubt where weights of the framework were lost on the way, or no graph could be had."""
    whole = facts["coverage"]["found"] == facts["coverage"]["weights"]
    return Tone.GOOD if whole and facts["has_graph"] else Tone.DOUBT


def _table(layers: list[Document]) -> Table | Notes:
    if not layers:
        return Notes(("The framework's own weights were not compared.",))
    return Table("Where the framework's weights are", _COLUMNS, tuple(_row(layer) for layer in layers), _NOTE)


def _row(layer: Document) -> tuple[Cell, ...]:
    how = "folded" if layer["folded"] else "equal" if layer["error"] == 0 else "close"
    error = f", off by {layer['error']:.2g}" if layer["error"] > 1e-6 else ""
    return (
        Cell(name_of(layer["weights"]), literal=True),
        Cell(shape_of(layer["shape"])),
        Cell(layer["order"]),
        Cell(name_of(layer["name"]), literal=True),
        Cell(f"{how}{error}"),
    )
