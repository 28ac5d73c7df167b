"""The page of a marking: what ``embed`` changed, how well the mark reads, and what that did to the outputs."""

from __future__ import annotations

from onnxmark.report.formats import Document
from onnxmark.report.page import Fact, Facts, Headline, Page, Section, Tone
from onnxmark.report.pages.phrases import (
    PATH,
    carriers_of,
    colophon,
    counted,
    fidelity_sentences,
    layer_of,
    probability,
)
from onnxmark.report.text import shortened

_UNMEASURED = "not measured; give --calibration inputs.npz to measure (and to spare) the outputs"


def marking_page(document: Document) -> Page:
    """The page of a marking document."""
    n_bits, n_errors = document["n_bits"], document["n_errors"]
    found = f"{n_bits} bits, {n_errors} wrong; p ≤ {probability(document['log10_p_value'])}"
    return Page(
        kind="marking",
        title=shortened(document["output"], PATH),
        subtitle=f"{counted(n_bits, 'bit')} in {layer_of(document['carrier'])}",
        headline=Headline("MARK EMBEDDED", f"read back from the written file: {found}", Tone.GOOD),
        sections=(
            Section("Mark", (_mark(document),)),
            Section("What it did to the outputs", (_outputs(document["fidelity"]),)),
        ),
        colophon=colophon(document),
    )


def _mark(document: Document) -> Facts:
    carrier = document["carrier"]
    return Facts(
        (
            Fact("key", f"sha256 {document['key']['commitment']}", document["key"]["scheme"], literal=True),
            *carriers_of(carrier, f", {carrier['kind']}"),
            Fact("metric", document["metric"]),
            *_degree(document),
        )
    )


def _degree(document: Document) -> tuple[Fact, ...]:
    """How firmly the mark sits and what it changed, where that is a matter of degree."""
    margin, change, facts = document["margin"], document["relative_change"], []
    if margin["reached"] is not None:
        reached = f"{margin['reached']:.2f} {margin['unit']} in the written file"
        facts.append(Fact("margin", reached, f"{margin['asked']:g} asked"))
    if change is not None:
        facts.append(Fact("change", f"{change:.2%} of the layers' norm"))
    return tuple(facts)


def _outputs(fidelity: Document | None) -> Facts:
    lines = [_UNMEASURED] if fidelity is None else fidelity_sentences(fidelity)
    return Facts(tuple(Fact("outputs", line) for line in lines))
