"""JUnit XML: an audit for continuous integration, where a mark that got lost should turn the build red.

A test case is one key in one model. A match passes; no match is a ``failure`` (the policy is not satisfied); an
inconclusive answer, a layer that could not be read and a model that could not be audited are an ``error``: nothing was
decided. JUnit has no standard; this is what Jenkins, GitLab and GitHub's actions read: suites, cases, properties. There
is no time stamp and no duration: the same document gives the same bytes.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree import ElementTree as ET

from onnxmark.report.text import plain
from onnxmark.report.wording import sentence_of, standing_of, survived_of

Document = dict[str, Any]

_PATH: Final = 400
_SENTENCE: Final = 1000


def to_junit(document: Document) -> str:
    """An audit document as JUnit XML, UTF-8 without a byte-order mark, indented."""
    cases = [_case(finding, document) for finding in document["findings"]]
    if document["status"] == "failed":
        cases.append(_unread("model", document["problem"], document))
    else:
        cases += [
            _unread(f"layer {failure['name']}", failure["problem"], document)
            for failure in document["coverage"]["failed"]
        ]
    suites = ET.Element("testsuites", _counts(cases))
    suite = ET.SubElement(suites, "testsuite", {"name": "onnxmark audit", **_counts(cases)})
    _properties(suite, {"onnxmark": document["tool"]["version"], "status": document["status"]})
    suite.extend(cases)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _counts(cases: list[ET.Element]) -> dict[str, str]:
    failures, errors = (sum(case.find(outcome) is not None for case in cases) for outcome in ("failure", "error"))
    return {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "skipped": "0"}


def _case(finding: Document, document: Document) -> ET.Element:
    case = _named(f"key sha256:{finding['key']['commitment']}", document)
    _properties(case, _facts(finding))
    sentence = sentence_of(finding, document["policy"])
    if finding["verdict"] == "no-match":
        _outcome(case, "failure", "no-match", sentence)
    elif finding["verdict"] == "inconclusive":
        _outcome(case, "error", "inconclusive", sentence)
    else:
        ET.SubElement(case, "system-out").text = plain(sentence, _SENTENCE)
    return case


def _unread(name: str, problem: str, document: Document) -> ET.Element:
    case = _named(name, document)
    _outcome(case, "error", "unread", problem)
    return case


def _named(name: str, document: Document) -> ET.Element:
    return ET.Element("testcase", {"classname": plain(document["model"]["path"], _PATH), "name": plain(name, _PATH)})


def _outcome(case: ET.Element, outcome: str, kind: str, text: str) -> None:
    safe = plain(text, _SENTENCE)
    ET.SubElement(case, outcome, {"type": kind, "message": safe}).text = safe


def _facts(finding: Document) -> dict[str, str]:
    """Figures of a finding as properties; those that there are not are left out."""
    carrier = finding["carrier"]
    facts = {
        "verdict": finding["verdict"],
        "standing": standing_of(finding),
        "carrier": None if carrier is None else carrier["name"],
        **{name: finding[name] for name in ("n_bits", "n_errors", "bit_error_rate", "log10_p_value", "n_hypotheses")},
    }
    if finding["robustness"]:
        facts["survived"] = survived_of(finding)
    return {name: str(value) for name, value in facts.items() if value is not None}


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": plain(value, _PATH)})
