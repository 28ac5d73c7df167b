"""JUnit XML: audits and scans for continuous integration, where a mark that got lost should turn the build red.

A test case is one key in one model. In an audit a match passes and no match is a ``failure`` (the policy is not
satisfied). In a scan the failure is what its operator asked to be alarmed by, a match or a model that matches no key;
models of which nothing is to be said have no case. In both, an inconclusive answer, a layer that could not be read and
a model that could not be audited are an ``error``: nothing was decided. JUnit has no standard; this is what Jenkins,
GitLab and GitHub's actions read: suites, cases, properties. There is no time stamp and no duration: the same document
gives the same bytes.
"""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

from onnxmark.report.formats import Document
from onnxmark.report.subjects import Subject, absence_of, alarm_of, subjects_of
from onnxmark.report.text import plain
from onnxmark.report.wording import sentence_of, standing_of, survived_of

_PATH: Final = 400
_SENTENCE: Final = 1000


def to_junit(document: Document) -> str:
    """An audit or scan document as JUnit XML, UTF-8 without a byte-order mark, indented."""
    cases = [case for subject in subjects_of(document) for case in _cases(subject, document)]
    suites = ET.Element("testsuites", _counts(cases))
    name = "onnxmark scan" if "entries" in document else "onnxmark audit"
    suite = ET.SubElement(suites, "testsuite", {"name": name, **_counts(cases)})
    coverage = _coverage(document) if "entries" in document else {}
    _properties(suite, {"onnxmark": document["tool"]["version"], "status": document["status"], **coverage})
    suite.extend(cases)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _coverage(document: Document) -> dict[str, str]:
    """How much of a registry the cases speak for."""
    coverage = document["coverage"]
    skipped = {
        f"skipped {number}": f"{one['count']:,} {one['outcome']}: {one['reason']}"
        for number, one in enumerate(coverage["skipped"], start=1)
    }
    counts = {"found": coverage["found"], "audited": coverage["audited"], "failed": len(coverage["failed"])}
    return {name: str(count) for name, count in counts.items()} | skipped


def _cases(subject: Subject, document: Document) -> list[ET.Element]:
    if subject.problem is not None:
        return [_unread("model", subject.problem, subject)]
    cases = [_case(finding, subject, document) for finding in subject.findings]
    if subject.clean and alarm_of(document) == "no-match":
        cases.append(_named("keys", subject))
        _outcome(cases[-1], "failure", "no-match", absence_of(document))
    return cases + [_unread(f"layer {one['name']}", one["problem"], subject) for one in subject.unread]


def _counts(cases: list[ET.Element]) -> dict[str, str]:
    failures, errors = (sum(case.find(outcome) is not None for case in cases) for outcome in ("failure", "error"))
    return {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "skipped": "0"}


def _case(finding: Document, subject: Subject, document: Document) -> ET.Element:
    case = _named(f"key sha256:{finding['key']['commitment']}", subject)
    _properties(case, _facts(finding))
    sentence = sentence_of(finding, document["policy"])
    if finding["verdict"] == "inconclusive":
        _outcome(case, "error", "inconclusive", sentence)
    elif finding["verdict"] in (alarm_of(document), "no-match"):
        _outcome(case, "failure", finding["verdict"], sentence)
    else:
        ET.SubElement(case, "system-out").text = plain(sentence, _SENTENCE)
    return case


def _unread(name: str, problem: str, subject: Subject) -> ET.Element:
    case = _named(name, subject)
    _outcome(case, "error", "unread", problem)
    return case


def _named(name: str, subject: Subject) -> ET.Element:
    return ET.Element("testcase", {"classname": plain(subject.name, _PATH), "name": plain(name, _PATH)})


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
