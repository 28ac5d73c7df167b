"""A scan in every form: matches first, nothing green that was not looked at, and ten thousand models in seconds."""

import copy
import csv
import io
import json
import time
import unicodedata
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from junitparser import Error, Failure, JUnitXml
from rich.cells import cell_len

from onnxmark.errors import ReportError
from onnxmark.registry.alarms import Alarm, raised
from onnxmark.registry.conclude import conclude
from onnxmark.registry.entries import Found, Outcome
from onnxmark.report.formats import Format, Kind
from onnxmark.report.page import Facts, Notes, Table, Tone
from onnxmark.report.pages import page_of
from onnxmark.report.pages.coverage import coverage_line
from onnxmark.report.pages.scan import LISTED
from onnxmark.report.render import render
from onnxmark.report.saved import MAX_BYTES, parse_document
from onnxmark.report.schema import schema_of, validate
from onnxmark.verdict import Policy
from tests.cli.test_hostile import NAMES
from tests.registry.synthetic import audited, commitment, doubt, failed, hit, keys, large, left, mixed, model
from tests.report.documents import HOSTILE, real_documents
from tests.report.test_html import read
from tests.report.test_pages import column, sections
from tests.report.test_pages import table as table_of


def scanned(results, policy=None, **options):
    document = conclude(results, policy or Policy(), **{"roots": ["/models"], "keys": keys(), **options})
    validate(document)
    return document


@pytest.fixture(scope="module")
def ten_thousand():
    return conclude(large(), Policy(), roots=["/registry"], keys=keys(200, ()))


def titles(page):
    return [section.title for section in page.sections]


DETECTOR = 4
"""Index of the entry of ``detector/2``, the first with a match."""


class TestSchema:
    def test_findings_are_those_of_an_audit_and_a_digest(self):
        ours, audits = (copy.deepcopy(schema_of(kind)["$defs"]) for kind in (Kind.SCAN, Kind.AUDIT))
        assert ours["finding"]["properties"].pop("digest")["pattern"] == "^[0-9a-f]{64}$"
        ours["finding"]["required"].remove("digest")
        assert ours == audits

    @pytest.mark.parametrize(
        ("path", "value", "words"),
        [
            (("verdict",), "perhaps", "verdict is 'perhaps'"),
            (("roots",), "/models", "roots is '/models'"),
            (("coverage", "found"), -1, "expected at least 0"),
            (("coverage", "skipped", 0, "outcome"), "model", "outcome is 'model'"),
            (("policy", "n_hypotheses"), 1.0, "n_hypotheses is 1.0"),
            (("policy", "fail_on"), "always", "fail_on is 'always'"),
            (("keys", "commitments", 0), "short", "does not match"),
            (("summary", "matches"), None, "matches is None"),
            (("entries", DETECTOR, "findings", 0, "digest"), "x", "does not match"),
            (("entries", DETECTOR, "findings", 0, "tests"), [], "verdict is 'match'"),
            (("entries", 0, "model", "bytes"), -5, "expected at least 0"),
            (("entries", 0, "problem"), 3, "problem is 3"),
            (("groups", "copies", 0, "places"), None, "places is None"),
            (("baseline", "gone", 0, "why"), None, "why is None"),
        ],
    )
    def test_mutated(self, path, value, words):
        document = copy.deepcopy(real_documents()["scan"])
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(ReportError, match=words):
            validate(document)


class TestHeadline:
    def test_green_is_a_match_where_everything_was_read(self):
        headline = page_of(real_documents()["scan, complete"]).headline
        assert (headline.word, headline.tone) == ("MATCH", Tone.GOOD)
        assert headline.text == "1 of 4 models audited is consistent with 1 of 10 keys"
        assert headline.notes == (
            "models: 4 found / 4 audited / 0 skipped / 0 failed",
            "keys of the matches: 1 registered",
        )

    @pytest.mark.parametrize(
        "more",
        [
            (model("b"), failed()),
            (model("b"), None),
            (model("b"), audited((), [doubt(1)], ["conv9"])),
            (Found("b", "plain", "/b", Outcome.FAILED, 0, None, "permission denied"), None),
            (left("b"), None),
            (left("b", Outcome.POINTER, "Git LFS pointer"), None),
            (left("b", Outcome.UNSUPPORTED, "TFLite"), None),
        ],
    )
    def test_nothing_is_green_without_full_coverage(self, more):
        assert page_of(scanned([(model("a"), audited([hit(1)]))])).headline.tone is Tone.GOOD
        headline = page_of(scanned([(model("a"), audited([hit(1)])), more])).headline
        assert (headline.word, headline.tone) == ("MATCH", Tone.DOUBT)
        for results in ([more], [(model("a"), audited()), more]):
            assert page_of(scanned(results)).headline.tone is not Tone.GOOD

    def test_matches_of_bare_matrices_alone_are_not_green(self):
        free = audited([hit(9, origin="matrix")])
        assert page_of(scanned([(model("a"), free)])).headline.tone is Tone.DOUBT
        both = page_of(scanned([(model("a"), free), (model("b"), audited([hit(1)]))])).headline
        assert both.tone is Tone.GOOD
        assert (
            "keys of the matches: 1 free-form (a bare matrix, never evidence of ownership), 1 unregistered"
            in both.notes
        )

    @pytest.mark.parametrize(
        ("results", "word", "tone", "text"),
        [
            ([], "INCONCLUSIVE", Tone.DOUBT, "no model was audited"),
            ([(model("a"), failed())], "INCONCLUSIVE", Tone.DOUBT, "no model was audited; 1 model not audited"),
            (
                [(model("a"), audited()), (model("b"), audited())],
                "NO MATCH", Tone.BAD, "none of 2 models audited is consistent with any of 10 keys",
            ),
            (
                [(model("a"), audited([], [doubt(1), doubt(2)])), (model("b"), None)],
                "INCONCLUSIVE", Tone.DOUBT,
                "none of 1 model audited is consistent with any of 10 keys; "
                "2 readings inconclusive; 1 model not audited",
            ),
        ],
    )  # fmt: skip
    def test_words(self, results, word, tone, text):
        headline = page_of(scanned(results)).headline
        assert (headline.word, headline.tone, headline.text) == (word, tone, text)

    def test_the_coverage_line_adds_up_and_names_the_kinds(self):
        page = page_of(real_documents()["scan"])
        expected = "models: 19 found / 11 audited / 4 skipped (1 not here, 2 left out, 1 unsupported) / 4 failed"
        assert page.headline.notes[0] == expected == coverage_line(real_documents()["scan"]["coverage"])
        assert "layers that could not be read in 1 model audited" in page.headline.notes
        assert "matches since the baseline: 1 new, 1 gone, 5 unchanged" in page.headline.notes

    def test_models_that_no_key_fits_are_mentioned(self):
        headline = page_of(scanned([(model("a"), audited(n_hypotheses=0)), (model("b"), audited())])).headline
        assert "no key fits any layer of 1 model audited" in headline.notes

    def test_nobody_is_called_an_owner_or_a_thief(self):
        words = repr(page_of(real_documents()["scan"])).lower()
        assert "stolen" not in words
        assert "owner is" not in words


class TestPage:
    def test_matches_come_first_then_doubts_then_coverage(self):
        page = page_of(real_documents()["scan"])
        assert titles(page) == [
            "Matches", "Since the baseline", "Inconclusive", "Not read", "Coverage", "Models that belong together",
            "All of them by group", "What this does not prove", "4 models without a match", "How it was done",
        ]  # fmt: skip
        assert [section.title for section in page.sections if section.detail] == [
            "All of them by group", "4 models without a match", "How it was done",
        ]  # fmt: skip

    def test_copies_share_a_line_that_names_every_place(self):
        part = table_of(page_of(real_documents()["scan"]), "Models consistent with a key")
        rows = {(row[0].text, row[1].text): row for row in part.rows}
        assert len(rows) == 4
        key = f"{commitment(3)[:16]}…"
        together = rows["org/net@0123456789ab/onnx/model.onnx", key]
        assert together[-1].text == "zoo/copy of resnet18.onnx, zoo/resnet18.onnx"
        assert rows["detector/2", key][-1].text == ""
        assert "440 hypotheses of the whole scan; alpha 1e-06" in part.note

    def test_probabilities_are_those_of_the_document(self):
        document = real_documents()["scan"]
        part = table_of(page_of(document), "Models consistent with a key")
        logarithms = {
            finding["log10_p_value"]
            for entry in document["entries"]
            for finding in entry["findings"]
            if finding["verdict"] == "match"
        }
        assert {cell.order for cell in column(part, "p")} == logarithms
        assert "4.4e-75" in [cell.text for cell in column(part, "p")]

    def test_many_keys_in_doubt_for_one_reason_are_one_line(self):
        part = table_of(page_of(real_documents()["scan"]), "Keys about which nothing can be said")
        assert [[cell.text for cell in row[:2]] for row in part.rows] == [
            ["detector/2", "2 keys"],
            ["half.onnx", "10 keys"],
            ["zeros.onnx", f"{commitment(7)[:16]}…"],
        ]

    def test_what_was_not_read_is_named(self):
        page = page_of(real_documents()["scan"])
        failures = table_of(page, "Models that could not be audited")
        assert [cell.text for cell in column(failures, "model")] == [
            "broken.onnx", "hung.onnx", "locked.onnx", "waiting.onnx",
        ]  # fmt: skip
        layers = table_of(page, "Layers that a key fits and that could not be read")
        assert [cell.text for cell in column(layers, "layer")] == ["conv9", "conv10"]
        reasons = table_of(page, "Not audited, by reason")
        assert [cell.text for cell in column(reasons, "files")] == ["2", "1", "1"]

    def test_groups_and_their_members(self):
        page = page_of(real_documents()["scan"])
        (copies,) = table_of(page, "The same weights in several places").rows
        assert copies[2].text == "3"
        assert len(table_of(page, "Every place of the same weights").rows) == 3
        (kin,) = table_of(page, "Keys that several models are consistent with").rows
        assert [cell.text for cell in kin[1:3]] == ["4", "2"]
        assert kin[3].text.endswith(" and 1 more")
        assert len(table_of(page, "Every model of such a key").rows) == 4

    def test_what_changed_since_the_baseline(self):
        part = table_of(page_of(real_documents()["scan"]), "Matches that are new or gone")
        assert [[cell.text for cell in row][::3] for row in part.rows] == [
            ["new", ""],
            ["gone", "the model was not found"],
        ]
        assert part.note == "5 matches unchanged."

    def test_what_it_does_not_prove_is_said_once(self):
        page = page_of(real_documents()["scan"])
        (notes,) = (part for one in sections(page) for part in one.parts if isinstance(part, Notes))
        assert len(notes.sentences) == len(set(notes.sentences)) == 3
        assert any("No match does not show" in sentence for sentence in notes.sentences)

    @pytest.mark.parametrize("alarm", Alarm)
    def test_how_it_was_done(self, alarm):
        page = page_of(scanned(mixed(), fail_on=alarm))
        facts = {fact.name: fact.text for part in page.sections[-1].parts for fact in part.rows}
        assert isinstance(page.sections[-1].parts[0], Facts)
        assert facts["alarm"] == ("never" if alarm is Alarm.NEVER else f"on {alarm}")

    def test_nothing_at_all(self):
        page = page_of(real_documents()["scan, nothing there"])
        assert titles(page) == ["Coverage", "What this does not prove", "How it was done"]


class TestTenThousand:
    @pytest.mark.parametrize("format_", Format)
    def test_every_form_within_seconds(self, ten_thousand, format_):
        start = time.process_time()
        text = render(ten_thousand, format_)
        assert time.process_time() - start < 10
        assert text

    def test_the_web_report_names_what_matters_and_counts_the_rest(self, ten_thousand):
        html = render(ten_thousand, Format.HTML)
        assert len(html) < 400_000
        text = "".join(read(html).text)
        for entry in ten_thousand["entries"]:
            name = entry["model"]["identity"]
            assert (name in text) or entry["verdict"] == "no-match", name
        clean = sum(entry["verdict"] == "no-match" for entry in ten_thousand["entries"])
        assert f"{clean:,} models without a match" in text
        assert f"{clean - LISTED:,} more models without a match" in text

    def test_the_page_lists_no_more_clean_models_than_it_says(self, ten_thousand):
        part = table_of(page_of(ten_thousand), "Consistent with no key")
        assert len(part.rows) == LISTED
        assert part.sortable

    def test_a_terminal_shows_the_matches(self, ten_thousand):
        lines = render(ten_thousand, Format.RICH).splitlines()
        assert max(map(cell_len, lines)) <= 110
        assert len(lines) < 600

    def test_it_can_be_saved_and_read_again(self, ten_thousand):
        saved = render(ten_thousand, Format.JSON).encode()
        assert len(saved) < MAX_BYTES / 4
        assert parse_document(saved, "scan.json") == ten_thousand

    def test_json_lines_do_not_repeat_long_lists(self, ten_thousand):
        lines = render(ten_thousand, Format.JSONL).splitlines()
        assert len(lines) == 10_000
        clean = [line for line in lines if json.loads(line)["entry"]["verdict"] == "no-match"]
        assert max(map(len, clean)) < 1500


def rows_of(document):
    return list(csv.DictReader(io.StringIO(render(document, Format.CSV)), strict=True))


class TestCsv:
    def test_a_row_a_model_and_finding_and_a_row_a_model_without(self):
        document = real_documents()["scan"]
        rows = rows_of(document)
        found = [(row["model"], row["key"], row["verdict"]) for row in rows if row["kind"] == "finding"]
        assert found == [
            (entry["model"]["identity"], finding["key"]["commitment"], finding["verdict"])
            for entry in document["entries"]
            for finding in entry["findings"]
        ]
        assert {row["model"] for row in rows if row["kind"] == "none"} == {
            "clean.onnx", "near.onnx", "alike.onnx (/a/alike.onnx)", "alike.onnx (/b/alike.onnx)",
        }  # fmt: skip
        assert {row["model"] for row in rows} - {""} == {entry["model"]["identity"] for entry in document["entries"]}

    def test_figures(self):
        row = next(row for row in rows_of(real_documents()["scan"]) if row["model"] == "detector/2")
        assert (row["kind"], row["layout"], row["carrier"], row["n_bits"]) == (
            "finding",
            "triton",
            "conv3.weight",
            "256",
        )
        assert float(row["log10_p_value"]) == pytest.approx(-30.25 + np.log10(440))
        assert row["n_hypotheses"] == "440"

    def test_what_was_not_read(self):
        rows = rows_of(real_documents()["scan"])
        assert {row["model"] for row in rows if row["kind"] == "failed"} == {
            "broken.onnx", "hung.onnx", "locked.onnx", "waiting.onnx",
        }  # fmt: skip
        assert [row["carrier"] for row in rows if row["kind"] == "unread"] == ["conv9", "conv10"]
        assert sum(int(row["count"]) for row in rows if row["kind"] == "skipped") == 4


def run_of(document):
    (run,) = json.loads(render(document, Format.SARIF))["runs"]
    return run


class TestSarif:
    @pytest.mark.parametrize(
        ("alarm", "kinds"),
        [
            (Alarm.MATCH, {"match": "fail", "free": "fail", "doubt": "open"}),
            (Alarm.NO_MATCH, {"match": "pass", "free": "review", "doubt": "open", "clean": "fail"}),
            (Alarm.INCONCLUSIVE, {"match": "pass", "free": "review", "doubt": "fail"}),
            (Alarm.NEVER, {"match": "pass", "free": "review", "doubt": "open"}),
        ],
    )
    def test_what_fails_is_what_the_operator_asked_for(self, alarm, kinds):
        results = [
            (model("match"), audited([hit(1)])),
            (model("free"), audited([hit(9, origin="matrix")])),
            (model("doubt"), audited([], [doubt(1)])),
            (model("clean"), audited()),
        ]
        run = run_of(scanned(results, fail_on=alarm))
        names = [urlsplit(artifact["location"]["uri"]).path.rpartition("/")[2] for artifact in run["artifacts"]]
        found = {
            names[one["locations"][0]["physicalLocation"]["artifactLocation"]["index"]]: (one["kind"], one["level"])
            for one in run["results"]
        }
        assert found == {name: (kind, "warning" if kind == "fail" else "none") for name, kind in kinds.items()}

    def test_every_location_is_that_of_its_artifact(self):
        run = run_of(real_documents()["scan"])
        places = [one["locations"][0]["physicalLocation"]["artifactLocation"] for one in run["results"]]
        places += [
            one["locations"][0]["physicalLocation"]["artifactLocation"]
            for one in run["invocations"][0]["toolExecutionNotifications"]
            if "locations" in one
        ]
        assert len(places) == 19 + 2 + 4
        for place in places:
            assert run["artifacts"][place["index"]]["location"] == place

    def test_copies_do_not_share_a_fingerprint(self):
        results = run_of(real_documents()["scan"])["results"]
        prints = [one["partialFingerprints"]["onnxmark/keyCarrierAndModel/v1"] for one in results]
        assert len(set(prints)) == len(prints) == 19

    def test_what_was_not_looked_at_is_a_notification(self):
        (invocation,) = run_of(real_documents()["scan"])["invocations"]
        notes = [one["descriptor"]["id"] for one in invocation["toolExecutionNotifications"]]
        assert [notes.count(name) for name in ("OM101", "OM102", "OM103")] == [2, 4, 3]
        assert invocation["executionSuccessful"] is True
        assert run_of(scanned([(model("a"), failed())]))["invocations"][0]["executionSuccessful"] is False

    def test_an_unread_layer_is_told_of_a_model_that_is_otherwise_clean(self):
        run = run_of(scanned([(model("a"), audited((), (), ["conv9"]))]))
        (note,) = run["invocations"][0]["toolExecutionNotifications"]
        assert note["descriptor"]["id"] == "OM101"
        assert len(run["artifacts"]) == 1

    @pytest.mark.parametrize(
        ("location", "uri"),
        [
            ("s3://bucket/a b/m.onnx", "s3://bucket/a%20b/m.onnx"),
            ("hf://org/net/m.onnx", "hf://org/net/m.onnx"),
            ("javascript://alert(1)", "javascript%3A//alert%281%29"),
            ("/models/m.onnx", "file:///models/m.onnx"),
        ],
    )
    def test_addresses(self, location, uri):
        results = [(Found("m", "plain", location, Outcome.MODEL), audited([hit(1)]))]
        (artifact,) = run_of(scanned(results))["artifacts"]
        assert artifact["location"]["uri"] == uri
        assert artifact["description"] == {"text": "m"}


def cases_of(document):
    suites = JUnitXml.fromstring(render(document, Format.JUNIT).encode())
    return [(case.classname, type(case.result[0]) if case.result else None) for suite in suites for case in suite]


class TestJUnit:
    @pytest.mark.parametrize("alarm", Alarm)
    def test_a_case_a_finding_and_a_case_a_failed_model(self, alarm):
        document = scanned(mixed(), fail_on=alarm)
        cases = cases_of(document)
        errors = [name for name, outcome in cases if outcome is Error]
        assert len(errors) == 13 + 2 + 4
        assert {"broken.onnx", "hung.onnx", "locked.onnx", "waiting.onnx"} <= set(errors)
        failures = {name for name, outcome in cases if outcome is Failure}
        expected = {
            entry["model"]["identity"]
            for entry in document["entries"]
            if entry["verdict"] == alarm and alarm is not Alarm.INCONCLUSIVE
        }
        assert failures == expected
        assert bool(failures) == (raised(document, alarm) and alarm is not Alarm.INCONCLUSIVE)

    def test_the_suite_tells_how_much_it_speaks_for(self):
        root = ET.fromstring(render(real_documents()["scan"], Format.JUNIT))
        values = {one.get("name"): one.get("value") for one in root.findall("testsuite/properties/property")}
        assert root.find("testsuite").get("name") == "onnxmark scan"
        assert (values["found"], values["audited"], values["failed"], values["status"]) == ("19", "11", "4", "partial")
        assert values["skipped 1"] == "2 skipped: excluded by --exclude '*.bak'"


class TestHostileNames:
    """Beyond the fields of a saved document: names as a file system and a model really bring them."""

    @pytest.mark.parametrize("format_", Format)
    @pytest.mark.parametrize("name", [*NAMES, *HOSTILE, "\udcff\udc80.onnx"], ids=range(len(NAMES) + len(HOSTILE) + 1))
    def test_every_form_is_harmless(self, name, format_):
        raw = audited([hit(1, weights="w")], [doubt(2, f"{name!r}: {name}")], [name])
        raw["hits"][0]["finding"]["carrier"]["name"] = name
        raw["hits"][0]["finding"]["carrier"]["layers"][0]["name"] = name
        results = [(model(f"{name}/{copy}"), copy_of(raw)) for copy in "ab"]
        results += [(model(f"{name}/c"), failed(name)), (left(name, reason=name), None)]
        document = scanned(results, roots=[name], baseline=scanned(results[:1]))
        written = render(document, format_)
        written.encode()
        if format_ in (Format.JSON, Format.JSONL, Format.SARIF):
            assert written.isascii()
            return
        ours = "\n\u2060" if format_ is Format.MD else "\n"
        bad = {
            one for one in written if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in ours
        }
        assert bad == set()
        if format_ is Format.HTML:
            reader = read(written)
            assert (len(reader.scripts), len(reader.styles)) == (1, 1)
        if format_ is Format.JUNIT:
            ET.fromstring(written)
        if format_ is Format.RICH:
            assert max(map(cell_len, written.splitlines())) <= 110

    def test_structure_does_not_depend_on_names(self):
        pages = []
        for name in ("m", NAMES[0]):
            results = [(model(name), audited([hit(1)], [doubt(2, name)], [name])), (model(f"{name}2"), failed(name))]
            pages.append([tag for tag, _ in read(render(scanned(results, roots=[name]), Format.HTML)).tags])
        assert pages[0] == pages[1]


def copy_of(raw):
    return copy.deepcopy(raw)


def test_tables_of_a_scan_can_be_sorted_by_figures():
    for part in (part for one in sections(page_of(real_documents()["scan"])) for part in one.parts):
        if isinstance(part, Table) and part.sortable:
            for index, title in enumerate(part.columns):
                if title.numeric:
                    assert all(row[index].order is not None for row in part.rows), (part.caption, title)
