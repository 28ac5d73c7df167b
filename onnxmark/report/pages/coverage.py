"""Sections of a scan's page about what was not read: keys in doubt, models and layers that failed, files left out.

A scan that finds nothing says as much as it has looked at, so every doubt and every failure is listed.
"""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Part, Section, Table, Tone
from onnxmark.report.pages.lineage import key_of
from onnxmark.report.pages.phrases import PATH, SENTENCE, many, name_of
from onnxmark.report.text import byte_size, shortened

_OUTCOMES: Final = {"unsupported": "unsupported", "pointer": "not here", "skipped": "left out"}


def found_in(document: Document, verdict: str) -> list[tuple[Document, Document]]:
    """Entries and their findings of a verdict."""
    return [
        (entry, finding)
        for entry in document["entries"]
        for finding in entry["findings"]
        if finding["verdict"] == verdict
    ]


def coverage_line(coverage: Document) -> str:
    """Found, audited, skipped and failed, with the kinds of what was skipped."""
    kinds: dict[str, int] = {}
    for one in coverage["skipped"]:
        kinds[one["outcome"]] = kinds.get(one["outcome"], 0) + one["count"]
    why = ", ".join(f"{count:,} {_OUTCOMES[kind]}" for kind, count in sorted(kinds.items()))
    return (
        f"models: {coverage['found']:,} found / {coverage['audited']:,} audited / "
        f"{sum(kinds.values()):,} skipped{f' ({why})' if why else ''} / {len(coverage['failed']):,} failed"
    )


def doubts_sections(document: Document) -> tuple[Section, ...]:
    """Keys in doubt, a line for each model and reason: a layer that cannot be read casts doubt on all keys that fit."""
    keys: dict[tuple[str, str], list[str]] = {}
    for entry, finding in found_in(document, "inconclusive"):
        keys.setdefault((entry["model"]["identity"], finding["reason"] or ""), []).append(finding["key"]["commitment"])
    rows = tuple(
        (
            Cell(shortened(name, PATH), literal=True),
            _keys(found),
            Cell(shortened(reason, SENTENCE), Tone.DOUBT),
        )
        for (name, reason), found in keys.items()
    )
    columns = (Column("model"), Column("key"), Column("why"))
    table = Table("Keys about which nothing can be said", columns, rows, sortable=True)
    return (Section("Inconclusive", (table,)),) if rows else ()


def _keys(commitments: list[str]) -> Cell:
    """One key by its commitment, several by their number."""
    one = len(commitments) == 1
    return Cell(key_of(commitments[0]) if one else many(len(commitments), "key"), literal=one)


def unread_sections(document: Document) -> tuple[Section, ...]:
    """Models and layers that could not be read, all of them."""
    failed = tuple(
        (Cell(shortened(one["name"], PATH), literal=True), Cell(shortened(one["problem"], SENTENCE), Tone.DOUBT))
        for one in document["coverage"]["failed"]
    )
    unread = tuple(
        (
            Cell(shortened(entry["model"]["identity"], PATH), literal=True),
            Cell(name_of(one["name"]), literal=True),
            Cell(shortened(one["problem"], SENTENCE), Tone.DOUBT),
        )
        for entry in document["entries"]
        for one in entry["unread"]
    )
    columns = (Column("model"), Column("layer"), Column("problem"))
    parts: tuple[Part, ...] = ()
    if failed:
        parts += (Table("Models that could not be audited", (columns[0], columns[2]), failed, sortable=True),)
    if unread:
        parts += (Table("Layers that a key fits and that could not be read", columns, unread, sortable=True),)
    return (Section("Not read", parts),) if parts else ()


_SKIPPED: Final = (Column("files", numeric=True), Column("what"), Column("why"), Column("for example"))


def coverage_section(document: Document) -> Section:
    """How much of what was found was audited, and why the rest was not."""
    coverage = document["coverage"]
    rows = tuple(
        (
            Cell(f"{one['count']:,}", order=one["count"]),
            Cell(_OUTCOMES[one["outcome"]], Tone.NEUTRAL if one["outcome"] == "skipped" else Tone.DOUBT),
            Cell(shortened(one["reason"], SENTENCE)),
            Cell(shortened(", ".join(one["examples"][:2]), PATH), literal=True),
        )
        for one in coverage["skipped"]
    )
    facts = Facts(
        (
            Fact("found", f"{coverage['found']:,}", "files that are, or might be, models"),
            Fact("audited", many(coverage["audited"], "model"), byte_size(document["summary"]["bytes"])),
            Fact("skipped", f"{sum(one['count'] for one in coverage['skipped']):,}"),
            Fact("failed", f"{len(coverage['failed']):,}", tone=Tone.DOUBT if coverage["failed"] else Tone.NEUTRAL),
        )
    )
    return Section("Coverage", (facts, *((Table("Not audited, by reason", _SKIPPED, rows),) if rows else ())))
