"""From raw results to one document: one correction for everything, one place for everything found, one order."""

import copy
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.audit import audit_file
from onnxmark.errors import ReportError
from onnxmark.keys import load_key
from onnxmark.registry.alarms import Alarm, raised
from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.conclude import UNFINISHED, conclude
from onnxmark.registry.entries import Outcome
from onnxmark.registry.ring import ring_folder
from onnxmark.report.documents.audit import audit_document
from onnxmark.report.documents.findings import public_key
from onnxmark.report.documents.plain import to_json
from onnxmark.report.formats import Kind
from onnxmark.report.schema import schema_of, validate
from onnxmark.report.validation import first_problem
from onnxmark.verdict import Policy
from tests.registry.synthetic import (
    DEMO,
    VERDICTS,
    audited,
    commitment,
    digest,
    doubt,
    failed,
    hit,
    keys,
    large,
    left,
    mixed,
    model,
    public,
)


def scanned(results, policy=None, **options):
    """The document of a scan, which is a valid one."""
    document = conclude(results, policy or Policy(), **{"roots": ["/models"], "keys": keys(), **options})
    validate(document)
    return document


def findings_of(document):
    return [(entry["model"]["identity"], finding) for entry in document["entries"] for finding in entry["findings"]]


def verdicts_of(document):
    return [(name, finding["key"]["commitment"], finding["verdict"]) for name, finding in findings_of(document)]


class TestCorrection:
    @pytest.mark.parametrize("others", [0, 1, 99])
    def test_the_readings_of_all_models_count(self, others):
        results = [(model("a"), audited([hit(1, -12.0)], n_hypotheses=70))]
        results += [(model(f"b{number}"), audited(n_hypotheses=30)) for number in range(others)]
        document = scanned(results)
        n_hypotheses = 70 + 30 * others
        assert document["policy"]["n_hypotheses"] == n_hypotheses
        ((_, finding),) = findings_of(document)
        assert finding["n_hypotheses"] == n_hypotheses
        assert finding["log10_p_value"] == pytest.approx(-12 + math.log10(n_hypotheses), abs=1e-12)
        assert finding["p_value"] == pytest.approx(1e-12 * n_hypotheses, rel=1e-9)

    def test_a_match_ends_where_alpha_does(self):
        """10 million hypotheses at alpha 1e-6: readings of 1e-13 are the last to match."""
        results = [
            (model("in"), audited([hit(1, -13.001)], n_hypotheses=10**7 - 40)),
            (model("out"), audited([hit(1, -12.999)])),
        ]
        assert [name for name, _, _ in verdicts_of(scanned(results))] == ["in"]
        assert scanned(results)["entries"][1]["verdict"] == "no-match"
        # One more model, and the first is no match either.
        more = [*results, (model("more"), audited(n_hypotheses=10**6))]
        assert verdicts_of(scanned(more)) == []

    def test_what_was_tried_in_failed_models_is_not_counted(self):
        results = [(model("a"), audited([hit(1)], n_hypotheses=70)), (model("b"), failed()), (model("c"), None)]
        assert scanned(results)["policy"]["n_hypotheses"] == 70

    @pytest.mark.parametrize("alpha", [1e-6, 1e-20, 0.5])
    @pytest.mark.parametrize("registered", [True, False])
    def test_a_scan_of_one_model_says_what_an_audit_says(self, alpha, registered):
        """The real thing: the audit's own finding is torn apart as a worker does it, and put together again."""
        names = ("key.npy", "other_key.npy")
        ring = [load_key(DEMO / name) for name in names]
        policy = Policy(alpha, registered)
        audit = audit_file(DEMO / "marked.onnx", ring, policy)
        whole = audit_document(audit)
        hits, n_hypotheses = [], audit.findings[0].judgement.n_hypotheses
        for found, finding in zip(audit.findings, whole["findings"], strict=True):
            read = {name: value for name, value in finding.items() if name not in VERDICTS}
            hits.append({"finding": read, "log10_p": found.best.evidence.log10_p, "digest": None})
        raw = audited(hits, n_keys=2, n_hypotheses=n_hypotheses)
        document = scanned([(model("m"), raw)], policy, keys=[public_key(key) for key in ring])
        expected = [finding for finding in whole["findings"] if finding["verdict"] == "match"]
        assert expected
        assert [{**finding} for _, finding in findings_of(document)] == [
            {**finding, "digest": None} for finding in expected
        ]

    def test_a_free_form_key_is_never_registered(self):
        document = scanned([(model("m"), audited([hit(9, origin="matrix"), hit(1)]))], Policy(registered=True))
        standings = {finding["key"]["origin"]: finding for _, finding in findings_of(document)}
        assert standings["matrix"]["standing"] == "free-form"
        assert standings["matrix"]["clears_seed_search"] is None
        assert standings["seed"]["standing"] == "registered"
        # A worker does not know the policy: what it wrote beside its finding is not taken over.
        assert "The caller vouched" in standings["seed"]["does_not_prove"][0]


class TestVerdicts:
    def test_every_finding_is_valid_in_an_audit(self):
        findings = [finding for _, finding in findings_of(scanned(mixed()))]
        assert {finding["verdict"] for finding in findings} == {"match", "inconclusive"}
        schema = schema_of(Kind.AUDIT)
        for finding in findings:
            wanted = {**schema["$defs"]["finding"], "$defs": schema["$defs"]}
            assert first_problem(finding, wanted) is None

    def test_a_doubt_gives_way_to_a_match_and_to_nothing_else(self):
        raw = audited([hit(1), hit(2, -6.0)], [doubt(1), doubt(2), doubt(3)])
        assert verdicts_of(scanned([(model("m"), raw)])) == [
            ("m", commitment(1), "match"),
            *(("m", one, "inconclusive") for one in sorted([commitment(2), commitment(3)])),
        ]

    def test_doubts_say_why_and_are_judged_no_further(self):
        ((_, finding),) = findings_of(scanned([(model("m"), audited([], [doubt(9, "all weights are zero")]))]))
        assert (finding["verdict"], finding["reason"]) == ("inconclusive", "all weights are zero")
        assert (finding["log10_p_value"], finding["p_value"]) == (0.0, 1.0)
        assert finding["key"] == public(9, "matrix")
        assert finding["standing"] == "free-form"
        assert finding["margins"] is None

    def test_what_is_not_listed_was_not_detected(self):
        document = scanned([(model("m"), audited([hit(1), hit(2, -3.0)], [doubt(3)], n_keys=10))])
        (entry,) = document["entries"]
        assert len(entry["findings"]) == 2
        assert entry["n_no_match"] == 8

    @pytest.mark.parametrize(
        ("raw", "verdict"),
        [
            (audited([hit(1)], [doubt(2)]), "match"),
            (audited([], [doubt(2)]), "inconclusive"),
            (audited([hit(1, -7.0)]), "no-match"),
            (failed(), "inconclusive"),
            (None, "inconclusive"),
        ],
    )
    def test_of_a_model_and_of_the_whole(self, raw, verdict):
        document = scanned([(model("m"), raw)])
        assert document["entries"][0]["verdict"] == document["verdict"] == verdict

    def test_the_best_verdict_is_that_of_the_whole(self):
        nothing, doubtful, matching = audited(), audited([], [doubt(1)]), audited([hit(1)])
        assert scanned([(model("a"), nothing), (model("b"), doubtful)])["verdict"] == "inconclusive"
        assert scanned([(model("a"), nothing), (model("b"), doubtful), (model("c"), matching)])["verdict"] == "match"
        assert scanned([])["verdict"] == "inconclusive"

    def test_a_doubt_about_a_key_that_nobody_has_is_a_mistake(self):
        with pytest.raises(ValueError, match="not among the 10 keys"):
            scanned([(model("m"), audited([], [doubt(77)]))])


class TestCoverage:
    def test_found_is_audited_skipped_and_failed(self):
        coverage = scanned(mixed())["coverage"]
        skipped = sum(one["count"] for one in coverage["skipped"])
        assert coverage["found"] == len(mixed()) == coverage["audited"] + skipped + len(coverage["failed"])
        assert (coverage["audited"], skipped, len(coverage["failed"])) == (11, 4, 4)

    def test_reasons_are_counted_and_named(self):
        reasons = {(one["outcome"], one["reason"]): one for one in scanned(mixed())["coverage"]["skipped"]}
        excluded = reasons["skipped", "excluded by --exclude '*.bak'"]
        assert (excluded["count"], excluded["examples"]) == (2, ["old.onnx.bak", "older.onnx.bak"])
        assert {outcome for outcome, _ in reasons} == {"skipped", "unsupported", "pointer"}

    def test_of_many_files_only_the_first_are_named(self):
        (one,) = scanned([(left(f"m{number:03d}.bak"), None) for number in range(200)])["coverage"]["skipped"]
        assert (one["count"], one["examples"]) == (200, [f"m00{number}.bak" for number in range(5)])

    def test_every_way_to_fail_is_named(self):
        problems = {one["name"]: one["problem"] for one in scanned(mixed())["coverage"]["failed"]}
        assert problems == {
            "broken.onnx": "'m.onnx': truncated at byte 7",
            "hung.onnx": "worker-killed: no answer within 300 s",
            "locked.onnx": "permission denied",
            "waiting.onnx": UNFINISHED,
        }

    @pytest.mark.parametrize(
        ("results", "status"),
        [
            ([], "complete"),
            ([(model("a"), audited())], "complete"),
            ([(model("a"), audited()), (left("b"), None)], "complete"),
            ([(model("a"), audited()), (model("b"), failed())], "partial"),
            ([(model("a"), audited()), (model("b"), None)], "partial"),
            ([(model("a"), audited((), [doubt(1)], ["conv9"]))], "partial"),
            ([(model("a"), failed())], "failed"),
        ],
    )
    def test_status(self, results, status):
        assert scanned(results)["status"] == status

    def test_the_summary_adds_up(self):
        document = scanned(mixed())
        verdicts = [verdict for _, _, verdict in verdicts_of(document)]
        assert document["summary"] == {
            "models": 11,
            "matches": verdicts.count("match"),
            "models_matched": len({name for name, _, verdict in verdicts_of(document) if verdict == "match"}),
            "inconclusive": verdicts.count("inconclusive"),
            "models_unread": 1,
            "models_untried": 0,
            "bytes": 10 * 1_500_000 + 23_000_000,
        }
        assert verdicts.count("match") == 6

    def test_models_that_no_key_fits_are_told_from_those_that_were_tried(self):
        document = scanned([(model("a"), audited(n_hypotheses=0)), (model("b"), audited()), (model("c"), failed())])
        assert [entry["n_tried"] for entry in document["entries"]] == [0, 40, 0]
        assert document["summary"]["models_untried"] == 1


class TestOrder:
    @settings(max_examples=25, deadline=None)
    @given(st.randoms(use_true_random=False))
    def test_whatever_order_results_come_in(self, chance: random.Random):
        results, ring = mixed(), keys()
        chance.shuffle(results)
        chance.shuffle(ring)
        for _, raw in results:
            for found in ("hits", "doubts"):
                chance.shuffle(raw[found] if raw is not None else [])
        assert to_json(scanned(results, keys=ring)) == to_json(scanned(mixed()))

    def test_results_are_left_alone(self):
        results = mixed()
        before = copy.deepcopy(results)
        scanned(results)
        assert results == before

    def test_results_that_were_saved_give_the_same_document(self):
        saved = [(found, json.loads(json.dumps(raw))) for found, raw in mixed()]
        assert to_json(scanned(saved)) == to_json(scanned(mixed()))

    def test_models_of_the_same_name_are_told_apart(self):
        names = [entry["model"]["identity"] for entry in scanned(mixed())["entries"]]
        assert len(set(names)) == len(names)
        assert {"alike.onnx (/a/alike.onnx)", "alike.onnx (/b/alike.onnx)"} <= set(names)
        assert not any(name.startswith("clean.onnx (") for name in names)

    def test_what_a_url_may_hold_is_not_told(self):
        secret = "s3://user:password@bucket/m.onnx?X-Amz-Signature=secret#secret"
        found = model("m.onnx")
        results = [(type(found)("m.onnx", "plain", secret, Outcome.MODEL), audited())]
        document = scanned(results, roots=[secret, "/a?b#c@d://e"])
        assert document["entries"][0]["model"]["location"] == "s3://bucket/m.onnx"
        assert document["roots"] == ["s3://bucket/m.onnx", "/a?b#c@d://e"]


class TestGroups:
    def test_copies_are_named_with_all_their_places(self):
        document = scanned(mixed())
        places = ["org/net@0123456789ab/onnx/model.onnx", "zoo/copy of resnet18.onnx", "zoo/resnet18.onnx"]
        assert document["groups"]["copies"] == [{"digest": digest("stem"), "keys": [commitment(3)], "places": places}]

    def test_a_layer_read_by_two_keys_is_one_group(self):
        both = [hit(1, weights="w"), hit(2, weights="w")]
        (group,) = scanned([(model("a"), audited(both)), (model("b"), audited(both))])["groups"]["copies"]
        assert group["keys"] == sorted([commitment(1), commitment(2)])
        assert group["places"] == ["a", "b"]

    def test_no_match_no_copy(self):
        weak = audited([hit(1, -5.0, weights="w")])
        assert scanned([(model("a"), weak), (model("b"), weak)])["groups"] == {"copies": [], "keys": []}

    def test_weights_that_are_not_known_are_nobodys_copy(self):
        groups = scanned([(model("a"), audited([hit(1)])), (model("b"), audited([hit(1)]))])["groups"]
        assert groups["copies"] == []
        assert groups["keys"] == [{"commitment": commitment(1), "models": ["a", "b"], "n_carriers": 2}]

    def test_keys_of_several_models_tell_how_many_weights_there_are(self):
        (group,) = scanned(mixed())["groups"]["keys"]
        assert group["commitment"] == commitment(3)
        assert len(group["models"]) == 4
        assert group["n_carriers"] == 2


class TestBaseline:
    def test_what_is_new_gone_and_unchanged(self):
        before = scanned([(model("a"), audited([hit(1)])), (model("b"), audited([hit(2)]))])
        after = scanned([(model("a"), audited([hit(1), hit(3)])), (model("b"), audited())], baseline=before)
        assert after["baseline"] == {
            "new": [{"identity": "a", "commitment": commitment(3)}],
            "gone": [{"identity": "b", "commitment": commitment(2), "why": "no match any more"}],
            "unchanged": [{"identity": "a", "commitment": commitment(1)}],
        }
        assert before["baseline"] is None

    @pytest.mark.parametrize(
        ("results", "options", "why"),
        [
            ([], {}, "the model was not found"),
            ([(model("m"), audited())], {"keys": [public(2)]}, "the key was not tried"),
            ([(model("m"), failed())], {}, "the model could not be audited"),
            ([(model("m"), audited([], [doubt(1)]))], {}, "inconclusive now"),
            ([(model("m"), audited([hit(1, -7.0)]))], {}, "no match any more"),
        ],
    )
    def test_why_a_match_is_gone(self, results, options, why):
        before = scanned([(model("m"), audited([hit(1)]))])
        (gone,) = scanned(results, baseline=before, **options)["baseline"]["gone"]
        assert gone["why"] == why

    def test_nothing_changed(self):
        changes = scanned(mixed(), baseline=scanned(mixed()))["baseline"]
        assert (changes["new"], changes["gone"], len(changes["unchanged"])) == ([], [], 6)

    def test_another_document_is_no_baseline(self):
        with pytest.raises(ReportError, match="baseline is a document of onnxmark/audit/v1, expected onnxmark/scan/v1"):
            scanned(mixed(), baseline={"schema": "onnxmark/audit/v1"})


class TestAlarms:
    @pytest.mark.parametrize(
        ("results", "alarms"),
        [
            ([], set()),
            ([(model("a"), audited([hit(1)]))], {"match"}),
            ([(model("a"), audited())], {"no-match"}),
            ([(model("a"), audited([], [doubt(1)]))], {"inconclusive"}),
            ([(model("a"), audited([hit(1)], [doubt(2)]))], {"match", "inconclusive"}),
            ([(model("a"), failed())], {"inconclusive"}),
            ([(model("a"), None), (model("b"), audited())], {"inconclusive", "no-match"}),
            ([(left("a"), None)], set()),
        ],
    )
    def test_who_is_woken_up(self, results, alarms):
        document = scanned(results)
        assert {alarm for alarm in Alarm if raised(document, alarm)} == alarms

    @pytest.mark.parametrize("alarm", Alarm)
    def test_the_document_says_what_was_asked(self, alarm):
        assert scanned([], fail_on=alarm)["policy"]["fail_on"] == alarm


def test_ten_thousand_models():
    document = conclude(large(), Policy(), roots=["/registry"], keys=keys(200, ()))
    assert document["policy"]["n_hypotheses"] == 8 * 200 * (10_000 - 40)
    assert document["summary"]["matches"] == 50
    assert document["summary"]["inconclusive"] == 30 * 200
    assert [len(group["places"]) for group in document["groups"]["copies"]] == [2] * 25
    assert document["coverage"]["found"] == 10_000


def test_what_workers_hand_over_makes_a_document(tmp_path):
    """The marked model of the demo and the unmarked one, as a scan reads them, against an audit of both."""
    paths = [DEMO / name for name in ("key.npy", "other_key.npy")]
    places = [str(DEMO / name) for name in ("marked.onnx", "unmarked.onnx")]
    with ring_folder(paths) as folder:
        raw = audit_chunk(places, folder)
    results = [(model(name), one) for name, one in zip(("marked", "unmarked"), raw, strict=True)]
    ring = [load_key(path) for path in paths]
    document = scanned(results, keys=[public_key(key) for key in ring])
    assert [(name, key) for name, key, _ in verdicts_of(document)] == [("marked", ring[0].commitment)]
    (expected,) = audit_file(places[0], ring[:1]).findings
    ((_, finding),) = findings_of(document)
    assert finding["carrier"]["name"] == expected.best.name
    raw_p = expected.judgement.log10_p_value - math.log10(expected.judgement.n_hypotheses)
    assert finding["log10_p_value"] == pytest.approx(raw_p + math.log10(document["policy"]["n_hypotheses"]))
    assert document["status"] == "complete"
