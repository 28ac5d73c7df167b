"""SARIF 2.1.0 (OASIS, 2020): an audit for code scanning, where results of many tools are collected and compared.

A result answers the rule ``OM001``, *the model carries the key's mark*, in SARIF's own words. They follow the exit
code of the audit, for which a mark that is found is the policy satisfied:

    match                          kind ``pass``
    match of a free-form key       kind ``review``: a fitted matrix matches anything, a person has to judge
    no match                       kind ``fail``, level ``warning``: not ``error``, for absence proves nothing either
    inconclusive                   kind ``open``: SARIF's word for too little information to decide

Simulated attacks answer ``OM002`` in one ``informational`` result a finding. A layer or model that could not be read is
a notification of the invocation and never silence. There is no time stamp: the same document gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final
from urllib.parse import quote

from onnxmark.report.text import plain
from onnxmark.report.wording import sentence_of, standing_of, survived_of

Document = dict[str, Any]

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT: Final = "onnxmark/keyAndCarrier/v1"

_NAME: Final = 120
_SENTENCE: Final = 1000

_RULES: Final = (
    {
        "id": "OM001",
        "name": "ModelCarriesMark",
        "shortDescription": {"text": "The model carries the key's mark."},
        "fullDescription": {
            "text": "The bits read from a layer with the key agree with the key's message more often than chance "
            "explains, after correction for everything that was tried."
        },
        "help": {
            "text": "pass: the mark was found at the false-positive rate asked for. review: found, but with a "
            "free-form key, which is no evidence of ownership. fail: not found; distillation, permuted or pruned "
            "channels and other attacks destroy the reading of a mark, so this does not show that the model is "
            "independent. open: nothing could be decided; the message says why."
        },
        "defaultConfiguration": {"level": "warning"},
    },
    {
        "id": "OM002",
        "name": "MarkUnderSimulatedAttack",
        "shortDescription": {"text": "How far the mark survives simulated attacks."},
        "fullDescription": {
            "text": "Each attack was tried on the layer that carries the mark, and the result judged as the model was."
        },
        "help": {
            "text": "For information. The properties of the result list every attack with its bit error rate, "
            "probability and verdict, and where it was measured what became of the model's answers."
        },
        "defaultConfiguration": {"level": "none"},
    },
)
_NOTIFICATIONS: Final = (
    {
        "id": "OM101",
        "name": "LayerNotRead",
        "shortDescription": {"text": "A layer that a key fits could not be read."},
        "help": {"text": "The audit is incomplete: a mark in this layer would not have been found."},
    },
    {
        "id": "OM102",
        "name": "ModelNotAudited",
        "shortDescription": {"text": "The model could not be audited."},
        "help": {"text": "Nothing is known about this model; the message says what was wrong with the file."},
    },
)
_ANSWERS: Final = {"match": ("pass", "none"), "no-match": ("fail", "warning"), "inconclusive": ("open", "none")}


def to_sarif(document: Document) -> str:
    """An audit document as a SARIF 2.1.0 log, ASCII JSON, indented."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(document)]}
    return json.dumps(log, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _run(document: Document) -> Document:
    driver = {
        "name": document["tool"]["name"],
        "version": document["tool"]["version"],
        "rules": list(_RULES),
        "notifications": list(_NOTIFICATIONS),
    }
    return {
        "tool": {"driver": driver},
        "invocations": [_invocation(document)],
        "artifacts": [_artifact(document["model"])],
        "results": [result for finding in document["findings"] for result in _results(finding, document)],
        "properties": {
            name: document[name]
            for name in ("schema", "status", "verdict", "policy", "coverage", "simulation")
            if name in document
        },
    }


def _artifact(model: Document) -> Document:
    artifact: Document = {"location": _location(model), "roles": ["analysisTarget"]}
    if "bytes" in model:
        artifact["length"] = model["bytes"]
    if model.get("sha256") is not None:
        artifact["hashes"] = {"sha-256": model["sha256"]}
    return artifact


def _location(model: Document) -> Document:
    return {"uri": _uri(model["path"]), "index": 0}


def _uri(path: str) -> str:
    # Names in a file system are bytes: one that is no UTF-8 arrives here with surrogates, which must not stop a report.
    quoted = quote(path, safe="/", errors="surrogatepass")
    return f"file://{quoted}" if path.startswith("/") else quoted


def _results(finding: Document, document: Document) -> list[Document]:
    kind, level = _ANSWERS[finding["verdict"]]
    if finding["verdict"] == "match" and finding["standing"] == "free-form":
        kind = "review"
    answer = _result(0, kind, level, _verdict_text(finding, document["policy"]), finding, document)
    answer["properties"] = _figures(finding)
    if not finding["robustness"]:
        return [answer]
    text = f"The mark is still found after {survived_of(finding)}."
    attacked = _result(1, "informational", "none", text, finding, document)
    attacked["properties"] = {"trials": finding["robustness"]}
    return [answer, attacked]


def _result(rule: int, kind: str, level: str, text: str, finding: Document, document: Document) -> Document:
    where: Document = {"physicalLocation": {"artifactLocation": _location(document["model"])}}
    if finding["carrier"] is not None:
        where["logicalLocations"] = [{"fullyQualifiedName": _literal(finding["carrier"]["name"], _NAME)}]
    return {
        "ruleId": _RULES[rule]["id"],
        "ruleIndex": rule,
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [where],
        "partialFingerprints": {FINGERPRINT: _fingerprint(finding)},
    }


def _verdict_text(finding: Document, policy: Document) -> str:
    sentence = _literal(sentence_of(finding, policy), _SENTENCE)
    carrier = finding["carrier"]
    where = "" if carrier is None else f" Read from {_literal(carrier['name'], _NAME)}."
    return f"{sentence[:1].upper()}{sentence[1:]}.{where} Key: {standing_of(finding)}."


def _literal(text: str, limit: int) -> str:
    """Text that shows as it is: SARIF makes a link of ``[text](target)`` in a message."""
    return plain(text, limit).replace("](", "] (")


def _fingerprint(finding: Document) -> str:
    carrier = finding["carrier"]["name"] if finding["carrier"] is not None else ""
    parts = json.dumps([finding["key"]["commitment"], carrier])
    return hashlib.sha256(parts.encode()).hexdigest()


_FIGURES: Final = (
    *("verdict", "reason", "standing", "clears_seed_search", "key", "n_bits", "n_errors", "n_erasures"),
    *("bit_error_rate", "inverted", "tests", "p_value", "log10_p_value", "n_hypotheses", "does_not_prove"),
)


def _figures(finding: Document) -> Document:
    return {name: finding[name] for name in _FIGURES}


def _invocation(document: Document) -> Document:
    failed = document["status"] == "failed"
    notifications = (
        [_notification(1, "error", document["problem"], document["model"])]
        if failed
        else [
            _notification(0, "warning", f"{failure['name']}: {failure['problem']}", document["model"])
            for failure in document["coverage"]["failed"]
        ]
    )
    return {"executionSuccessful": not failed, "toolExecutionNotifications": notifications}


def _notification(index: int, level: str, text: str, model: Document) -> Document:
    return {
        "descriptor": {"id": _NOTIFICATIONS[index]["id"], "index": index},
        "level": level,
        "message": {"text": _literal(text, _SENTENCE)},
        "locations": [{"physicalLocation": {"artifactLocation": _location(model)}}],
    }
