"""SARIF 2.1.0 (OASIS, 2020): audits and scans for code scanning, where results of many tools come together.

A result answers the rule ``OM001``, *the model carries the key's mark*, in SARIF's own words. They follow the exit
code of the audit, for which a mark that is found is the policy satisfied:

    match                          kind ``pass``
    match of a free-form key       kind ``review``: a fitted matrix matches anything, a person has to judge
    no match                       kind ``fail``, level ``warning``: not ``error``, for absence proves nothing either
    inconclusive                   kind ``open``: SARIF's word for too little information to decide

In a scan, where the operator says what is to be an alarm, ``fail`` is what was asked to be one: a match, a doubt, or a
model that matches no key; models of which nothing is to be said have no result.

Simulated attacks answer ``OM002`` in one ``informational`` result a finding. A layer or model that could not be read is
a notification of the invocation and never silence. There is no time stamp: the same document gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from onnxmark.report.formats import Document
from onnxmark.report.subjects import Subject, absence_of, alarm_of, subjects_of
from onnxmark.report.text import plain
from onnxmark.report.wording import sentence_of, standing_of, survived_of

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT: Final = "onnxmark/keyAndCarrier/v1"
OF_MODEL: Final = "onnxmark/keyCarrierAndModel/v1"
"""In a scan the same key may be found in the same layer of many models."""

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
            "independent. open: nothing could be decided; the message says why. In a scan, fail is what its operator "
            "asked to be alarmed by, be it a match or the lack of one."
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
    {
        "id": "OM103",
        "name": "FilesNotAudited",
        "shortDescription": {"text": "Files were left out of a scan."},
        "help": {"text": "Nothing is known about these files; the message says how many and why."},
    },
)


def to_sarif(document: Document) -> str:
    """An audit or scan document as a SARIF 2.1.0 log, ASCII JSON, indented."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(document)]}
    return json.dumps(log, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _run(document: Document) -> Document:
    driver = {
        "name": document["tool"]["name"],
        "version": document["tool"]["version"],
        "rules": list(_RULES),
        "notifications": list(_NOTIFICATIONS),
    }
    # A scan of ten thousand models names those of which there is something to say.
    subjects = [subject for subject in subjects_of(document) if subject.remarkable or alarm_of(document) == "no-match"]
    return {
        "tool": {"driver": driver},
        "invocations": [_invocation(document, subjects)],
        "artifacts": [_artifact(subject, index) for index, subject in enumerate(subjects)],
        "results": [result for index, subject in enumerate(subjects) for result in _results(subject, index, document)],
        "properties": {name: document[name] for name in _PROPERTIES if name in document},
    }


_PROPERTIES: Final = ("schema", "status", "verdict", "policy", "roots", "summary", "coverage", "simulation")


def _artifact(subject: Subject, index: int) -> Document:
    artifact: Document = {"location": _location(subject, index), "roles": ["analysisTarget"]}
    if subject.name != subject.location:
        artifact["description"] = {"text": _literal(subject.name, _SENTENCE)}
    if "bytes" in subject.model:
        artifact["length"] = subject.model["bytes"]
    if subject.model.get("sha256") is not None:
        artifact["hashes"] = {"sha-256": subject.model["sha256"]}
    return artifact


def _location(subject: Subject, index: int) -> Document:
    return {"uri": _uri(subject.location), "index": index}


def _uri(path: str) -> str:
    # Names in a file system are bytes: one that is no UTF-8 arrives here with surrogates, which must not stop a report.
    scheme, address = path.split("://", 1) if _SCHEME.match(path) else ("", path)
    quoted = quote(address, safe="/", errors="surrogatepass")
    if scheme:
        return f"{scheme}://{quoted}"
    return f"file://{quoted}" if path.startswith("/") else quoted


_SCHEME: Final = re.compile(r"(abfss?|az|ftp|gc?s|hdfs|hf|https?|memory|s3|sftp)://")
"""Where a scan can read from; a file may be called ``javascript:`` something."""


def _results(subject: Subject, index: int, document: Document) -> list[Document]:
    if subject.clean and alarm_of(document) == "no-match":
        return [_result(0, ("fail", "warning"), absence_of(document), subject, index)]
    return [result for finding in subject.findings for result in _answers(finding, subject, index, document)]


def _answers(finding: Document, subject: Subject, index: int, document: Document) -> list[Document]:
    name = OF_MODEL if "entries" in document else FINGERPRINT
    fingerprint = {name: _fingerprint(finding, subject.name if name == OF_MODEL else None)}
    text = _verdict_text(finding, document["policy"])
    about = {"partialFingerprints": fingerprint, "properties": _figures(finding)}
    answer = _result(0, _kind(finding, alarm_of(document)), text, subject, index, finding["carrier"]) | about
    if not finding["robustness"]:
        return [answer]
    text = f"The mark is still found after {survived_of(finding)}."
    attacked = _result(1, ("informational", "none"), text, subject, index, finding["carrier"])
    about = {"partialFingerprints": fingerprint, "properties": {"trials": finding["robustness"]}}
    return [answer, attacked | about]


def _kind(finding: Document, alarm: str) -> tuple[str, str]:
    """Kind and level of an answer."""
    if finding["verdict"] in (alarm, "no-match"):
        return "fail", "warning"
    if finding["verdict"] == "inconclusive":
        return "open", "none"
    return "review" if finding["standing"] == "free-form" else "pass", "none"


def _result(
    rule: int, kind: tuple[str, str], text: str, subject: Subject, index: int, carrier: Document | None = None
) -> Document:
    where: Document = {"physicalLocation": {"artifactLocation": _location(subject, index)}}
    if carrier is not None:
        where["logicalLocations"] = [{"fullyQualifiedName": _literal(carrier["name"], _NAME)}]
    return {
        "ruleId": _RULES[rule]["id"],
        "ruleIndex": rule,
        "kind": kind[0],
        "level": kind[1],
        "message": {"text": text},
        "locations": [where],
    }


def _verdict_text(finding: Document, policy: Document) -> str:
    sentence = _literal(sentence_of(finding, policy), _SENTENCE)
    carrier = finding["carrier"]
    where = "" if carrier is None else f" Read from {_literal(carrier['name'], _NAME)}."
    return f"{sentence[:1].upper()}{sentence[1:]}.{where} Key: {standing_of(finding)}."


def _literal(text: str, limit: int) -> str:
    """Text that shows as it is: SARIF makes a link of ``[text](target)`` in a message."""
    return plain(text, limit).replace("](", "] (")


def _fingerprint(finding: Document, model: str | None) -> str:
    carrier = finding["carrier"]["name"] if finding["carrier"] is not None else ""
    parts = json.dumps([finding["key"]["commitment"], carrier, *([] if model is None else [model])])
    return hashlib.sha256(parts.encode()).hexdigest()


_FIGURES: Final = (
    *("verdict", "reason", "standing", "clears_seed_search", "key", "n_bits", "n_errors", "n_erasures"),
    *("bit_error_rate", "inverted", "tests", "p_value", "log10_p_value", "n_hypotheses", "does_not_prove"),
)


def _figures(finding: Document) -> Document:
    return {name: finding[name] for name in _FIGURES}


def _invocation(document: Document, subjects: Sequence[Subject]) -> Document:
    notifications = [one for index, subject in enumerate(subjects) for one in _unread(subject, index)]
    for left in document.get("coverage", {}).get("skipped", ()) if "entries" in document else ():
        words = f"{left['count']:,} {left['outcome']}: {left['reason']}"
        notifications.append(_notification(2, "note", words))
    return {"executionSuccessful": document["status"] != "failed", "toolExecutionNotifications": notifications}


def _unread(subject: Subject, index: int) -> list[Document]:
    where = [{"physicalLocation": {"artifactLocation": _location(subject, index)}}]
    if subject.problem is not None:
        return [_notification(1, "error", subject.problem) | {"locations": where}]
    problems = (f"{failure['name']}: {failure['problem']}" for failure in subject.unread)
    return [_notification(0, "warning", problem) | {"locations": where} for problem in problems]


def _notification(index: int, level: str, text: str) -> Document:
    return {
        "descriptor": {"id": _NOTIFICATIONS[index]["id"], "index": index},
        "level": level,
        "message": {"text": _literal(text, _SENTENCE)},
    }
