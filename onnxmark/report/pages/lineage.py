"""Sections of a scan's page about models that belong together: copies, models of one key, and an older scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Part, Section, Table, Tone
from onnxmark.report.pages.phrases import PATH, SENTENCE, many
from onnxmark.report.text import shortened

_NAMED: Final = 3
"""Names of a group that stand in one cell."""

_COPIES: Final = (Column("weights"), Column("keys"), Column("places", numeric=True), Column("where"))
_KEYS: Final = (
    Column("key"),
    Column("models", numeric=True),
    Column("different weights", numeric=True),
    Column("where"),
)
_PLACES: Final = (Column("weights"), Column("model"))
_KIN: Final = (Column("key"), Column("model"))
_CHANGES: Final = (Column("change"), Column("model"), Column("key"), Column("why"))


def key_of(commitment: str) -> str:
    """The beginning of a commitment (or of another digest), enough to tell it from others."""
    return f"{commitment[:16]}…"


def names_of(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    shown = ", ".join(shortened(name, PATH // _NAMED) for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def copies_sections(document: Document) -> tuple[Section, ...]:
    """The same weights in several places, and keys in several models: groups, and in a detail all their members."""
    copies, keys = document["groups"]["copies"], document["groups"]["keys"]
    short: tuple[Part, ...] = ()
    long: tuple[Part, ...] = ()
    if copies:
        short += (Table("The same weights in several places", _COPIES, tuple(map(_copy, copies))),)
        members = [(one["digest"], one["places"]) for one in copies]
        long += (Table("Every place of the same weights", _PLACES, _members(members), sortable=True),)
    if keys:
        short += (Table("Keys that several models are consistent with", _KEYS, tuple(map(_kin, keys))),)
        members = [(one["commitment"], one["models"]) for one in keys]
        long += (Table("Every model of such a key", _KIN, _members(members), sortable=True),)
    if not short:
        return ()
    return (Section("Models that belong together", short), Section("All of them by group", long, detail=True))


def _copy(group: Document) -> tuple[Cell, ...]:
    keys, places = group["keys"], group["places"]
    return (
        Cell(key_of(group["digest"]), literal=True),
        Cell(key_of(keys[0]) if len(keys) == 1 else many(len(keys), "key")),
        Cell(f"{len(places):,}", order=len(places)),
        Cell(names_of(places)),
    )


def _kin(group: Document) -> tuple[Cell, ...]:
    return (
        Cell(key_of(group["commitment"]), literal=True),
        Cell(f"{len(group['models']):,}", order=len(group["models"])),
        Cell(f"{group['n_carriers']:,}", order=group["n_carriers"]),
        Cell(names_of(group["models"])),
    )


def _members(groups: Sequence[tuple[str, Sequence[str]]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (Cell(key_of(digest), literal=True), Cell(shortened(name, PATH), literal=True))
        for digest, names in groups
        for name in names
    )


def baseline_sections(document: Document) -> tuple[Section, ...]:
    """What changed since an older scan; matches that did not are counted."""
    baseline = document["baseline"]
    if baseline is None:
        return ()
    rows = tuple(_change(word, one) for word in ("new", "gone") for one in baseline[word])
    note = f"{many(len(baseline['unchanged']), 'match', 'matches')} unchanged."
    return (
        Section("Since the baseline", (Table("Matches that are new or gone", _CHANGES, rows, note, sortable=True),)),
    )


def _change(word: str, pair: Document) -> tuple[Cell, ...]:
    return (
        Cell(word, Tone.NEUTRAL if word == "new" else Tone.DOUBT),
        Cell(shortened(pair["identity"], PATH), literal=True),
        Cell(key_of(pair["commitment"]), literal=True),
        Cell(shortened(pair.get("why", ""), SENTENCE)),
    )
