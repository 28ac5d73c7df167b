r"""Comma-separated values: a result for spreadsheets, data frames and statistics.

An audit gives a row a finding and a row a simulated attack, told apart by the column ``kind``: ``finding``, ``trial``,
``unread`` (a layer that could not be read) and ``failed`` (a model that could not be audited). An inspection gives a
row a layer, a conversion a row a layer that was traced, an attack a row a step and layer, the list of attacks a row an
attack. A scan gives a row a model and finding (``finding``), a row a model without any (``none``), and rows for what
was not read: ``unread``, ``failed`` and, with their count, ``skipped``. An evaluation gives a row a scheme,
modification and value (``point``), a row a network and payload (``pair``), and a row a scheme that does not apply. The
columns of a kind of document are always the same, in the same order; an empty cell is a figure that there is not.

Names in a model are the attacker's to choose, and a spreadsheet computes text that looks like a formula. So a cell *of
text* that starts with ``= + - @``, their full-width forms, a tab or a line break gets an apostrophe in front, which
spreadsheets take for "text" and other readers must strip; control characters are shown as ``\xNN``. Numbers are never
touched.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any, Final

from onnxmark.report.formats import Kind
from onnxmark.report.text import plain

Document = dict[str, Any]
Row = dict[str, Any]

MAX_CELL: Final = 32_000
"""Characters of a cell of text; a spreadsheet holds 32,767."""

_FORMULA: Final = tuple("=+-@＝＋－＠\t\r\n")


def to_csv(document: Document) -> str:
    """A document as a table with one header line, comma-separated, lines ending in a newline."""
    columns, rows = _TABLES[document["schema"]]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows(document):
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    guard = "'" if value.startswith(_FORMULA) else ""
    return guard + plain(value, MAX_CELL)


_AUDIT: Final = (
    "kind",
    "model",
    "sha256",
    "key",
    "scheme",
    "standing",
    "carrier",
    "reading",
    "verdict",
    "reason",
    "n_bits",
    "n_errors",
    "bit_error_rate",
    "bit_error_rate_low",
    "bit_error_rate_high",
    "log10_p_value",
    "n_hypotheses",
    "attack",
    "parameter",
    "recipe",
    "n_draws",
    "n_survived",
    "relative_change",
    "coded_ratio",
    "outputs_relative_change",
    "decisions_changed",
    "n_inputs",
    "accuracy_before",
    "accuracy_after",
    "problem",
)


def _audit(document: Document) -> Iterator[Row]:
    model = {"model": document["model"]["path"], "sha256": document["model"].get("sha256")}
    if document["status"] == "failed":
        yield {**model, "kind": "failed", "verdict": document["verdict"], "problem": document["problem"]}
        return
    for finding in document["findings"]:
        yield {**finding, **model, **_subject(finding), "kind": "finding"}
        for trial in finding["robustness"]:
            yield {**model, **_subject(finding), **_trial(trial), "n_hypotheses": finding["n_hypotheses"]}
    for failure in document["coverage"]["failed"]:
        yield {**model, "kind": "unread", "carrier": failure["name"], "problem": failure["problem"]}


def _subject(finding: Document) -> Row:
    """What was looked for, and where it was read."""
    key, carrier = finding["key"], finding["carrier"] or {}
    return {
        "key": key["commitment"],
        "scheme": key["scheme"],
        "standing": finding["standing"],
        "carrier": carrier.get("name"),
        "reading": carrier.get("reading"),
    }


def _trial(trial: Document) -> Row:
    low, high = trial["bit_error_rate_interval"] or (None, None)
    ends = {"bit_error_rate_low": low, "bit_error_rate_high": high}
    return {**trial, **ends, **_fidelity(trial["fidelity"]), "kind": "trial"}


def _fidelity(fidelity: Document | None) -> Row:
    if fidelity is None:
        return {}
    return {
        "outputs_relative_change": fidelity["relative_change"],
        **{name: fidelity[name] for name in ("decisions_changed", "n_inputs", "accuracy_before", "accuracy_after")},
    }


_SCAN: Final = (
    *("kind", "model", "layout", "location", "bytes", "sha256", "key", "scheme", "standing", "carrier", "reading"),
    *("verdict", "reason", "n_bits", "n_errors", "bit_error_rate", "log10_p_value", "n_hypotheses", "digest"),
    *("n_no_match", "n_tried", "problem", "count"),
)


def _scan(document: Document) -> Iterator[Row]:
    for entry in document["entries"]:
        model = {**entry["model"], "model": entry["model"]["identity"]}
        about = {**model, **{name: entry[name] for name in ("verdict", "problem", "n_no_match", "n_tried")}}
        for finding in entry["findings"]:
            yield {**finding, **model, **_subject(finding), "kind": "finding"}
        if not entry["findings"]:
            yield {**about, "kind": "none" if entry["problem"] is None else "failed"}
        for layer in entry["unread"]:
            yield {**model, "kind": "unread", "carrier": layer["name"], "problem": layer["problem"]}
    for left in document["coverage"]["skipped"]:
        yield {"kind": "skipped", "reason": left["outcome"], "problem": left["reason"], "count": left["count"]}


_INSPECT: Final = (
    "model",
    "producer",
    "opset",
    "position",
    "name",
    "op",
    "shape",
    "dtype",
    "stored",
    "folding",
    "sparsity",
    "std",
    "low",
    "high",
    "n_levels",
    "mean_filter_ratio",
    "n_bits",
    "entries",
    "ratio",
    "largest_margin",
    "predicted_relative_change",
    "suitability",
    "problem",
)


def _inspect(document: Document) -> Iterator[Row]:
    for model in document["models"]:
        around = {"model": model["path"], "producer": model.get("producer"), "opset": model.get("opset")}
        if model["problem"] is not None:
            yield {**around, "problem": model["problem"]}
        for layer in model["layers"]:
            folding = layer["folding"]
            yield {
                **(layer["profile"] or {}),
                **(layer["capacity"] or {}),
                **layer,
                **around,
                "shape": _shape(layer["shape"]),
                "folding": None if folding is None else folding["state"],
            }


_ATTACK: Final = (
    "source",
    "output",
    "step",
    "attack",
    "parameter",
    "recipe",
    "layer",
    "shape",
    "relative_change",
    "sparsity",
    "problem",
)


def _attack(document: Document) -> Iterator[Row]:
    files = {"source": document["source"], "output": document["output"]}
    for count, step in enumerate(document["steps"], start=1):
        what = {**files, "step": count, **{name: step[name] for name in ("attack", "parameter", "recipe")}}
        for layer in step["layers"]:
            yield {**layer, **what, "layer": layer["name"], "shape": _shape(layer["shape"])}
        if not step["layers"]:
            yield what


_ATTACKS: Final = ("name", "summary", "kind", "random", "needs", "strengths", "fields", "problem")


def _attacks(document: Document) -> Iterator[Row]:
    for attack in document["attacks"]:
        lists = {
            "needs": " ".join(attack["needs"]),
            "strengths": " ".join(map(str, attack["strengths"])),
            "fields": ", ".join(f"{field['name']}: {field['type']}" for field in attack["fields"]),
        }
        yield {**attack, **lists}


_EVALUATION: Final = (
    *("kind", "name", "scheme", "embedding", "bits", "id", "modification", "parameter", "unit", "value"),
    *("n_unmarked", "n_marked", "n_networks", "n_failed"),
    *("false_positives", "false_negatives", "false_positive_rate", "false_negative_rate"),
    *("symbol_error_rate", "symbol_error_rate_low", "symbol_error_rate_high"),
    *("unmarked_symbol_error_rate", "unmarked_symbol_error_rate_low", "unmarked_symbol_error_rate_high"),
    *("score", "score_low", "score_high", "unmarked_score", "unmarked_score_low", "unmarked_score_high"),
    *("network", "payload", "unmarked", "marked", "problem"),
)
_MEANS: Final = ("symbol_error_rate", "unmarked_symbol_error_rate", "score", "unmarked_score")


def _evaluation(document: Document) -> Iterator[Row]:
    for scheme in document["schemes"]:
        named = {name: scheme[name] for name in ("name", "scheme", "embedding", "bits")}
        if scheme["problem"] is not None:
            yield {**named, "kind": "not applicable", "problem": scheme["problem"]}
        for pair in (scheme["imperceptibility"] or {"cells": ()})["cells"]:
            yield {**pair, **named, "kind": "pair"}
        for modified in scheme["robustness"]:
            for point in modified["points"]:
                means = {name: value for mean in _MEANS for name, value in _mean(mean, point[mean])}
                problems = "; ".join(point["problems"]) or None
                yield {**modified, **point, **means, **named, "kind": "point", "problem": problems}


def _mean(name: str, mean: Document | None) -> Iterator[tuple[str, float | None]]:
    """A mean and its limits, each in a column."""
    for column, field in ((name, "mean"), (f"{name}_low", "low"), (f"{name}_high", "high")):
        yield column, None if mean is None else mean[field]


_CONVERSION: Final = ("source", "output", "container", "name", "weights", "shape", "order", "folded", "error")


def _conversion(document: Document) -> Iterator[Row]:
    for layer in document["layers"]:
        yield {**document, **layer, "shape": _shape(layer["shape"])}


def _shape(sizes: list[int] | None) -> str | None:
    return None if sizes is None else "x".join(map(str, sizes))


_TABLES: Final[dict[str, tuple[tuple[str, ...], Callable[[Document], Iterator[Row]]]]] = {
    Kind.AUDIT: (_AUDIT, _audit),
    Kind.ATTACK: (_ATTACK, _attack),
    Kind.ATTACKS: (_ATTACKS, _attacks),
    Kind.INSPECT: (_INSPECT, _inspect),
    Kind.SCAN: (_SCAN, _scan),
    Kind.CONVERSION: (_CONVERSION, _conversion),
    Kind.EVALUATION: (_EVALUATION, _evaluation),
}
