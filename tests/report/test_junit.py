"""JUnit XML as the standard parser and the package junitparser read it."""

from xml.etree import ElementTree as ET

import pytest
from junitparser import Error, Failure, JUnitXml

from onnxmark.report.junit import to_junit
from onnxmark.report.schema import validate
from tests.report.documents import HOSTILE, audit, real_documents
from tests.report.hostile import hostile_audit


def cases_of(document):
    """The test cases as junitparser sees them: (name, class of the outcome, message)."""
    found = []
    for suite in JUnitXml.fromstring(to_junit(document).encode()):
        for case in suite:
            outcome = case.result[0] if case.result else None
            found.append((case.name, type(outcome), getattr(outcome, "message", None)))
    return found


def counts_of(document):
    suites = JUnitXml.fromstring(to_junit(document).encode())
    return suites.tests, suites.failures, suites.errors, suites.skipped


@pytest.mark.parametrize(
    ("situation", "outcomes"),
    [
        ("match", [type(None)]),
        ("no match", [Failure]),
        ("foreign key", [Failure]),
        ("several keys", [type(None), Failure]),
        ("no layer fits", [Error]),
        ("degenerate", [Error]),
        ("layer unreadable", [Error, Error]),
        ("model unreadable", [Error]),
    ],
)
def test_outcomes(situation, outcomes):
    document = real_documents()[situation]
    assert [outcome for _, outcome, _ in cases_of(document)] == outcomes
    assert counts_of(document) == (len(outcomes), outcomes.count(Failure), outcomes.count(Error), 0)


def test_a_case_is_a_key_in_a_model():
    document = real_documents()["several keys"]
    names = [name for name, _, _ in cases_of(document)]
    assert names == [f"key sha256:{finding['key']['commitment']}" for finding in document["findings"]]
    root = ET.fromstring(to_junit(document))
    assert {case.get("classname") for case in root.iter("testcase")} == {document["model"]["path"]}


def test_messages_say_why():
    (_, _, message), *_ = cases_of(real_documents()["no match"])
    assert "not detected: p = " in message
    assert "alpha 1e-06" in message
    for situation in ("no layer fits", "degenerate"):
        document = real_documents()[situation]
        assert cases_of(document)[0][2] == document["findings"][0]["reason"]
    assert "lost.data" in cases_of(real_documents()["layer unreadable"])[1][2]
    assert "truncated" in cases_of(real_documents()["model unreadable"])[0][2]


def test_properties_carry_the_figures():
    document = real_documents()["match"]
    root = ET.fromstring(to_junit(document))
    case = root.find("testsuite/testcase")
    values = {one.get("name"): one.get("value") for one in case.iter("property")}
    (finding,) = document["findings"]
    assert float(values["log10_p_value"]) == finding["log10_p_value"]
    assert values["carrier"] == finding["carrier"]["name"]
    assert values["survived"].endswith(f"of {len(finding['robustness'])} simulated attacks")
    assert "consistent with key" in case.findtext("system-out")
    suite = {one.get("name"): one.get("value") for one in root.findall("testsuite/properties/property")}
    assert suite == {"onnxmark": document["tool"]["version"], "status": "complete"}


def test_figures_that_there_are_not_are_left_out():
    root = ET.fromstring(to_junit(real_documents()["no layer fits"]))
    names = {one.get("name") for one in root.find("testsuite/testcase").iter("property")}
    assert names == {"verdict", "standing", "log10_p_value", "n_hypotheses"}


@pytest.mark.parametrize("situation", ["match", "no layer fits", "layer unreadable", "model unreadable", "scan"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(text, situation):
    document = hostile_audit(text, situation)
    validate(document)
    written = to_junit(document)
    benign = to_junit(audit(situation))
    tags = [element.tag for element in ET.fromstring(written.encode()).iter()]
    assert tags == [element.tag for element in ET.fromstring(benign.encode()).iter()]
    assert len(written) < len(benign) + max(20_000, 2_500 * counts_of(document)[0])
    assert all(character.isprintable() or character == "\n" for character in written)
    assert counts_of(document) == counts_of(audit(situation))
