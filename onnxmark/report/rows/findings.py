"""Rows of audits and scans: what keys read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.rows import Row, Table

_AUDIT: Final = (
    *("kind", "model", "sha256", "key", "scheme", "standing", "carrier", "reading", "verdict", "reason"),
    *("n_bits", "n_errors", "bit_error_rate", "bit_error_rate_low", "bit_error_rate_high", "log10_p_value"),
    *("n_hypotheses", "attack", "parameter", "recipe", "n_draws", "n_survived", "relative_change"),
    *("coded_ratio", "outputs_relative_change", "decisions_changed", "n_inputs", "accuracy_before"),
    *("accuracy_after", "problem"),
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


_SCAN: Final = (
    *("kind", "model", "layout", "location", "bytes", "sha256", "converted_from"),
    *("key", "scheme", "standing", "carrier", "reading"),
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


AUDIT: Final = Table(_AUDIT, _audit)
"""A finding each, with its simulated attacks, and what could not be read."""
SCAN: Final = Table(_SCAN, _scan)
"""A finding each, models without one, and what was not read."""
