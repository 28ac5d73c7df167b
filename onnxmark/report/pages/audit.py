"""The page of an audit: a verdict for each key, what it rests on, what it does not prove, and how far the mark lasts.

What a verdict is called is settled in :mod:`onnxmark.report.wording`; here it is put where it cannot be misread.
"""

from __future__ import annotations

from typing import Final

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document
from onnxmark.report.page import (
    BitMap,
    Cell,
    Column,
    Fact,
    Facts,
    Headline,
    Histogram,
    Notes,
    Page,
    Part,
    Section,
    Table,
    Tone,
)
from onnxmark.report.pages.conversion import traced
from onnxmark.report.pages.phrases import (
    PATH,
    SENTENCE,
    badge_of,
    carriers_of,
    colophon,
    counted,
    name_of,
    probability,
    tone_of,
)
from onnxmark.report.pages.robustness import robustness_section
from onnxmark.report.text import byte_size, shortened
from onnxmark.report.wording import sentence_of, standing_of

_RELATION: Final = {"exact": "=", "bound": "≤", "estimate": "≈"}


def audit_page(document: Document) -> Page:
    """The page of an audit document."""
    failed = document["status"] == "failed"
    return Page(
        kind="audit",
        title=shortened(document["model"]["path"], PATH),
        subtitle=_subtitle(document["model"]),
        headline=_failure(document) if failed else _headline(document),
        sections=() if failed else _sections(document),
        colophon=colophon(document),
    )


def _subtitle(model: Document) -> str:
    facts = [byte_size(model["bytes"])] if "bytes" in model else []
    if model.get("producer"):
        facts.append(shortened(model["producer"], 40))
    if model.get("opset") is not None:
        facts.append(f"opset {model['opset']}")
    if model.get("conversion") is not None:
        facts.append(f"converted from {model['conversion']['words']}")
    return " · ".join(facts)


def _failure(document: Document) -> Headline:
    return Headline("INCONCLUSIVE", shortened(document["problem"], SENTENCE), Tone.DOUBT)


def _headline(document: Document) -> Headline:
    findings = document["findings"]
    notes = [_coverage(document)]
    if len(findings) == 1:
        text = sentence_of(findings[0], document["policy"])
        notes.insert(0, standing_of(findings[0]))
    else:
        counts = {word: sum(one["verdict"] == word for one in findings) for word in _COUNTED}
        parts = (f"{_COUNTED[word]} {count}" for word, count in counts.items() if count)
        text = f"of {counted(len(findings), 'key')}: {', '.join(parts) or 'none was tried'}"
    return Headline(badge_of(document["verdict"]).text, text, _headline_tone(document), tuple(notes))


_COUNTED: Final = {"match": "consistent with", "no-match": "not detected", "inconclusive": "inconclusive"}


def _headline_tone(document: Document) -> Tone:
    """Good only where every layer a key fits was read, and where a match can be evidence at all."""
    matched = [finding for finding in document["findings"] if finding["verdict"] == "match"]
    weak = document["status"] != "complete" or all(finding["standing"] == "free-form" for finding in matched)
    return Tone.DOUBT if document["verdict"] == "match" and weak else tone_of(document["verdict"])


def _coverage(document: Document) -> str:
    coverage = document["coverage"]
    return (
        f"layers: {coverage['found']} found / {coverage['audited']} audited / "
        f"{coverage['skipped']} skipped (no key fits their shape) / {len(coverage['failed'])} failed"
    )


def _sections(document: Document) -> tuple[Section, ...]:
    failures = document["coverage"]["failed"]
    rows = tuple(
        (Cell(name_of(one["name"]), literal=True), Cell(shortened(one["problem"], SENTENCE), Tone.DOUBT))
        for one in failures
    )
    table = Table("Layers that a key fits and that could not be read", (Column("layer"), Column("problem")), rows)
    unread = (Section("Layers that could not be read", (table,)),) if rows else ()
    return (*(_finding(one, document) for one in document["findings"]), *unread, _procedure(document))


def _finding(finding: Document, document: Document) -> Section:
    parts: tuple[Section, ...] = (Section("What this does not prove", (Notes(tuple(finding["does_not_prove"])),)),)
    if finding["notes"]:
        parts = (Section("About this reading", (Notes(tuple(finding["notes"])),)), *parts)
    if finding["margins"] is not None and finding["tests"]:
        parts += (Section("Margins", _margins(finding)),)
    if finding["robustness"]:
        parts += (robustness_section(finding, document["policy"], document.get("simulation")),)
    if finding["candidates"]:
        parts += (Section("Readings tried", (_candidates(finding["candidates"]),), detail=True),)
    return Section(
        f"Key {finding['key']['commitment'][:16]}…",
        (_facts(finding, document),),
        parts,
        badge=badge_of(finding["verdict"]),
    )


def _facts(finding: Document, document: Document) -> Facts:
    """What the verdict rests on; the result itself only where the headline has room for no single one."""
    policy, several = document["policy"], len(document["findings"]) > 1
    key = finding["key"]
    made = "grown from a seed" if key["origin"] == "seed" else f"matrix {shortened(str(key.get('file')), PATH)}"
    return Facts(
        (
            *((Fact("result", sentence_of(finding, policy), tone=tone_of(finding["verdict"])),) if several else ()),
            Fact("key", f"sha256 {key['commitment']}", f"{key['scheme']}, {made}", literal=True),
            *(_carrier(finding) if finding["carrier"] is not None else ()),
            *(_reading(finding) if finding["tests"] else ()),
            Fact("standing", standing_of(finding)),
        )
    )


def _carrier(finding: Document) -> tuple[Fact, ...]:
    carrier = finding["carrier"]
    view = "" if carrier["view"] == "as stored" else f", {carrier['view']}"
    tried = counted(len(finding["candidates"]), "candidate reading")
    return (
        *carriers_of(carrier),
        Fact("read as", f"{carrier['reading']}{view}", f"{shortened(carrier['why'], PATH)}; {tried} tried"),
        *((Fact("stored as", shortened(carrier["stored"], SENTENCE)),) if carrier["stored"] else ()),
    )


def _reading(finding: Document) -> tuple[Fact, ...]:
    symbols, loss = _symbols(finding), finding["embedding_loss"]
    erased = f", {finding['n_erasures']} of them erased" if finding["n_erasures"] else ""
    read = f"{counted(symbols['count'], symbols['name'])}, {symbols['n_errors']} wrong{erased}"
    bits = f"{counted(finding['n_bits'], 'bit')}, {finding['n_errors']} wrong"
    rate = f"BER {finding['bit_error_rate']:.3f}"
    coded = (symbols["count"], symbols["n_errors"]) != (finding["n_bits"], finding["n_errors"])
    return (
        *(
            (Fact(f"{symbols['name']}s", read), Fact("message", f"{bits}: {rate}"))
            if coded
            else (Fact(f"{symbols['name']}s", f"{read}: {rate}"),)
        ),
        *((Fact("embedding loss", f"{loss:.4g}", "mean over bits"),) if loss is not None else ()),
        *(
            Fact(test["name"], f"p {_RELATION[test['kind']]} {probability(test['log10_p'])}", test["kind"])
            for test in finding["tests"]
        ),
    )


def _symbols(finding: Document) -> Document:
    """What the message was read from: its bits, where nothing else is said."""
    known = finding["symbols"] or {"name": "bit", "count": finding["n_bits"], "n_errors": finding["n_errors"]}
    return {**known, "name": shortened(known["name"], _SYMBOL)}


_SYMBOL: Final = 30


def _margins(finding: Document) -> tuple[Part, ...]:
    margins, symbols = finding["margins"], _symbols(finding)
    symbol = symbols["name"]
    counts, edges = margins["histogram"]["counts"], margins["histogram"]["edges"]
    if len(edges) != len(counts) + 1:
        raise ReportError(
            f"a histogram has {len(counts)} bins and {len(edges)} edges, expected one edge more than bins"
        )
    spread = f"smallest {margins['min']:.2f}, mean {margins['mean']:.2f}, largest {margins['max']:.2f}"
    histogram = Histogram(
        f"How surely the {symbol}s are read",
        tuple(edges),
        tuple(counts),
        f"margin ({shortened(margins['unit'], PATH)})",
        "wrong",
        "right",
        f"{spread} {shortened(margins['unit'], PATH)}",
    )
    if not margins.get("values"):
        return (histogram,)
    wrong = f"{symbols['n_errors']} of {counted(symbols['count'], symbol)} wrong"
    return histogram, BitMap(f"The {symbol}s in order", tuple(margins["values"]), wrong)


_CANDIDATES: Final = (
    Column("layer"),
    Column("read as"),
    Column("view"),
    Column("why"),
    Column("BER", numeric=True),
    Column("p before correction", numeric=True),
    Column("problem"),
)


def _candidates(candidates: list[Document]) -> Table:
    caption = "Readings tried, all of them counted in the correction"
    return Table(caption, _CANDIDATES, tuple(_candidate(one) for one in candidates))


def _candidate(one: Document) -> tuple[Cell, ...]:
    rate = one["bit_error_rate"]
    return (
        Cell(name_of(one["name"]), literal=True),
        Cell(one["reading"]),
        Cell(one["view"]),
        Cell(shortened(one["why"], PATH)),
        Cell("–" if rate is None else f"{rate:.3f}"),
        Cell("–" if rate is None else probability(one["log10_p"])),
        Cell(shortened(one["problem"] or "", SENTENCE), Tone.DOUBT if one["problem"] else Tone.NEUTRAL),
    )


def _procedure(document: Document) -> Section:
    """What another party needs to come to the same figures."""
    policy, simulation = document["policy"], document.get("simulation")
    vouched = "vouched for by the caller" if policy["registered"] else "not claimed"
    rows = [
        Fact("false-positive rate", f"{policy['alpha']:g}", f"of the whole audit; correction: {policy['correction']}"),
        Fact("registration of the keys", vouched),
    ]
    if document["model"].get("sha256"):
        rows.append(Fact("model", f"sha256 {document['model']['sha256']}", literal=True))
    conversion = document["model"].get("conversion")
    if conversion is not None:
        route = shortened(conversion["route"], SENTENCE)
        notes = " ".join((f"{traced(conversion)}.", *(shortened(note, SENTENCE) for note in conversion["notes"])))
        rows.append(Fact("conversion", f"{conversion['words']}, by {route}", notes))
    if simulation is not None:
        draws = f"seed {simulation['seed']}, {counted(simulation['n_draws'], 'draw')} of each random attack"
        rows.append(Fact("simulated attacks", shortened(simulation["attacks"], SENTENCE), draws))
    return Section("How it was done", (Facts(tuple(rows)),), detail=True)
