"""The page of a scan: what matches first, then what is in doubt, then what was looked at at all.

A registry may hold ten thousand models. Those that match, are in doubt or could not be audited are listed in full; the
others are counted, and only the first of them named.
"""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Section, Table, Tone
from onnxmark.report.pages.coverage import (
    coverage_line,
    coverage_section,
    doubts_sections,
    found_in,
    unread_sections,
)
from onnxmark.report.pages.lineage import baseline_sections, copies_sections, key_of, names_of
from onnxmark.report.pages.phrases import PATH, SENTENCE, badge_of, colophon, many, name_of, probability, tone_of
from onnxmark.report.text import byte_size, shortened

LISTED: Final = 500
"""Models without a match that are named."""


def scan_page(document: Document) -> Page:
    """The page of a scan document."""
    summary, keys = document["summary"], document["keys"]["count"]
    return Page(
        kind="scan",
        title=shortened(", ".join(document["roots"]), PATH) or "nothing",
        subtitle=f"{many(summary['models'], 'model')} · {byte_size(summary['bytes'])} · {many(keys, 'key')}",
        headline=_headline(document),
        sections=(
            *_matches(document),
            *baseline_sections(document),
            *doubts_sections(document),
            *unread_sections(document),
            coverage_section(document),
            *copies_sections(document),
            Section("What this does not prove", (Notes(tuple(document["does_not_prove"])),)),
            *_clean(document),
            _procedure(document),
        ),
        colophon=colophon(document),
    )


def _headline(document: Document) -> Headline:
    notes = [coverage_line(document["coverage"])]
    if document["summary"]["models_unread"]:
        unread = many(document["summary"]["models_unread"], "model audited", "models audited")
        notes.append(f"layers that could not be read in {unread}")
    if document["summary"]["models_untried"]:
        notes.append(f"no key fits any layer of {many(document['summary']['models_untried'], 'model')} audited")
    if document["verdict"] == "match":
        notes.append(_standings(document))
    if document["baseline"] is not None:
        sizes = {word: len(document["baseline"][word]) for word in ("new", "gone", "unchanged")}
        notes.append(f"matches since the baseline: {', '.join(f'{count:,} {word}' for word, count in sizes.items())}")
    return Headline(badge_of(document["verdict"]).text, _sentence(document), _tone(document), tuple(notes))


def _sentence(document: Document) -> str:
    summary, tried = document["summary"], many(document["keys"]["count"], "key")
    doubts = [f"{many(summary['inconclusive'], 'reading')} inconclusive"] if summary["inconclusive"] else []
    failed = len(document["coverage"]["failed"])
    doubts += [f"{many(failed, 'model')} not audited"] if failed else []
    if not summary["models"]:
        return "; ".join(["no model was audited", *doubts])
    of = f"of {many(summary['models'], 'model')} audited"
    if document["verdict"] == "match":
        keys = len({finding["key"]["commitment"] for _, finding in found_in(document, "match")})
        matched, verb = summary["models_matched"], "is" if summary["models_matched"] == 1 else "are"
        return "; ".join([f"{matched:,} {of} {verb} consistent with {keys:,} of {tried}", *doubts])
    return "; ".join([f"none {of} is consistent with any of {tried}", *doubts])


def _standings(document: Document) -> str:
    counts: dict[str, int] = {}
    for _, finding in found_in(document, "match"):
        counts[str(finding["standing"])] = counts.get(str(finding["standing"]), 0) + 1
    words = (f"{count:,} {_WORTH.get(standing, standing)}" for standing, count in sorted(counts.items()))
    return f"keys of the matches: {', '.join(words)}"


_WORTH: Final = {"free-form": "free-form (a bare matrix, never evidence of ownership)"}


def _tone(document: Document) -> Tone:
    """Good only where everything that was found was read, and where a match can be evidence at all."""
    if document["verdict"] != "match":
        return tone_of(document["verdict"])
    whole = document["status"] == "complete" and document["coverage"]["found"] == document["coverage"]["audited"]
    evident = any(finding["standing"] != "free-form" for _, finding in found_in(document, "match"))
    return Tone.GOOD if whole and evident else Tone.DOUBT


_MATCHES: Final = (
    Column("model"),
    Column("key"),
    Column("p", numeric=True),
    Column("BER", numeric=True),
    Column("layer"),
    Column("read as", detail=True),
    Column("standing", detail=True),
    Column("also in"),
)


def _matches(document: Document) -> tuple[Section, ...]:
    """A line for each key and carrier: the copies of a carrier share one."""
    lines: dict[tuple[str, str], list[tuple[Document, Document]]] = {}
    for entry, finding in found_in(document, "match"):
        carrier = finding["digest"] or f"of {entry['model']['identity']}"
        lines.setdefault((finding["key"]["commitment"], carrier), []).append((entry, finding))
    if not lines:
        return ()
    policy = document["policy"]
    note = (
        f"p ≤ what is given, after correction for {many(policy['n_hypotheses'], 'hypothesis', 'hypotheses')} of the "
        f"whole scan; alpha {policy['alpha']:g}. Copies of the same weights share a line."
    )
    rows = tuple(_match([entry["model"] for entry, _ in found], found[0][1]) for found in lines.values())
    return (Section("Matches", (Table("Models consistent with a key", _MATCHES, rows, note, sortable=True),)),)


def _match(models: list[Document], finding: Document) -> tuple[Cell, ...]:
    model, places = models[0], [model["identity"] for model in models]
    carrier, rate, log10_p = finding["carrier"], finding["bit_error_rate"], finding["log10_p_value"]
    view = "" if carrier["view"] == "as stored" else f", {carrier['view']}"
    return (
        Cell(shortened(places[0], PATH), literal=True),
        Cell(key_of(finding["key"]["commitment"]), literal=True),
        Cell(probability(log10_p), order=log10_p),
        Cell(f"{rate:.3f}", order=rate),
        Cell(name_of(carrier["name"]), literal=True),
        Cell(f"{carrier['reading']}{view}{_origin(model)}"),
        Cell(finding["standing"], Tone.DOUBT if finding["standing"] == "free-form" else Tone.NEUTRAL),
        Cell(names_of(places[1:]), order=len(places) - 1),
    )


def _origin(model: Document) -> str:
    found = model["converted_from"]
    return "" if found is None else f", converted from {shortened(found, SENTENCE)}"


_CLEAN: Final = (
    Column("model"),
    Column("layout"),
    Column("size", numeric=True),
    Column("keys not detected", numeric=True),
    Column("readings tried", numeric=True),
)


def _clean(document: Document) -> tuple[Section, ...]:
    clean = [entry for entry in document["entries"] if entry["verdict"] == "no-match"]
    if not clean:
        return ()
    rows = tuple(
        (
            Cell(shortened(entry["model"]["identity"], PATH), literal=True),
            Cell(shortened(entry["model"]["layout"], SENTENCE) + _origin(entry["model"])),
            Cell(byte_size(entry["model"]["bytes"]), order=entry["model"]["bytes"]),
            Cell(f"{entry['n_no_match']:,}", order=entry["n_no_match"]),
            Cell(f"{entry['n_tried']:,}", order=entry["n_tried"]),
        )
        for entry in clean[:LISTED]
    )
    left = len(clean) - len(rows)
    note = (
        f"{many(left, 'more model', 'more models')} without a match: the JSON and CSV reports name all." if left else ""
    )
    table = Table("Consistent with no key", _CLEAN, rows, note, sortable=True)
    return (Section(f"{many(len(clean), 'model')} without a match", (table,), detail=True),)


def _procedure(document: Document) -> Section:
    """What another party needs to come to the same figures."""
    policy = document["policy"]
    tried = f"correction: {policy['correction']}, {many(policy['n_hypotheses'], 'hypothesis', 'hypotheses')}"
    rows = (
        *(Fact("root", shortened(root, PATH), literal=True) for root in document["roots"]),
        Fact("keys", f"{document['keys']['count']:,}", "their commitments are in the JSON report"),
        Fact("false-positive rate", f"{policy['alpha']:g}", f"of the whole scan; {tried}"),
        Fact("registration of the keys", "vouched for by the caller" if policy["registered"] else "not claimed"),
        Fact("alarm", "never" if policy["fail_on"] == "never" else f"on {policy['fail_on']}"),
    )
    return Section("How it was done", (Facts(rows),), detail=True)
