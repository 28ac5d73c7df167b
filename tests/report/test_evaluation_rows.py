"""An evaluation as rows and lines: every point and pair once, with the figures of the document."""

import csv
import io
import json

import pytest

from onnxmark.errors import ReportError
from onnxmark.report.csv import to_csv
from onnxmark.report.formats import Format, Kind
from onnxmark.report.jsonl import to_jsonl
from onnxmark.report.render import render
from onnxmark.report.schema import validate
from tests.report.documents import HOSTILE
from tests.report.hostile import infected
from tests.report.synthetic_evaluations import evaluation, partial, small


def rows_of(document, kind=None):
    rows = list(csv.DictReader(io.StringIO(to_csv(document)), strict=True))
    return [row for row in rows if kind in (None, row["kind"])]


def number(text):
    return float(text) if text else None


class TestCsv:
    def test_a_row_a_scheme_modification_and_value(self):
        document = partial()
        expected = [
            (scheme, entry, point)
            for scheme in document["schemes"]
            for entry in scheme["robustness"]
            for point in entry["points"]
        ]
        rows = rows_of(document, "point")
        assert len(rows) == len(expected) == 2 * (1 + 3 + 4)
        for row, (scheme, entry, point) in zip(rows, expected, strict=True):
            assert (row["name"], row["scheme"], row["embedding"]) == (
                scheme["name"], scheme["scheme"], scheme["embedding"]
            )  # fmt: skip
            assert (row["modification"], row["parameter"], row["unit"]) == (
                entry["modification"], entry["parameter"], entry["unit"]
            )  # fmt: skip
            assert row["id"] == ("" if entry["id"] is None else str(entry["id"]))
            assert number(row["value"]) == point["value"]
            for name in ("n_unmarked", "n_marked", "n_networks", "n_failed", "false_positives", "false_negatives"):
                assert int(row[name]) == point[name]
            for name in ("false_positive_rate", "false_negative_rate"):
                assert number(row[name]) == point[name]
            for name in ("symbol_error_rate", "unmarked_symbol_error_rate", "score", "unmarked_score"):
                mean = point[name] or {"mean": None, "low": None, "high": None}
                assert number(row[name]) == mean["mean"]
                assert (number(row[f"{name}_low"]), number(row[f"{name}_high"])) == (mean["low"], mean["high"])

    def test_a_row_a_pair(self):
        document = small()
        pairs = [(one["name"], pair) for one in document["schemes"] for pair in one["imperceptibility"]["cells"]]
        rows = rows_of(document, "pair")
        assert len(rows) == len(pairs) == 2 * 2 * 2
        for row, (name, pair) in zip(rows, pairs, strict=True):
            assert (row["name"], int(row["network"]), int(row["payload"])) == (name, pair["network"], pair["payload"])
            assert (float(row["unmarked"]), float(row["marked"])) == (pair["unmarked"], pair["marked"])
            assert row["modification"] == row["symbol_error_rate"] == ""

    def test_what_does_not_apply_and_what_failed(self):
        (row,) = rows_of(partial(), "not applicable")
        assert (row["name"], row["bits"]) == ("structural", "16")
        assert row["problem"].startswith("its 3 carriers hold 16 bits")
        (failed,) = (row for row in rows_of(partial(), "point") if row["problem"])
        assert failed["problem"] == "network 1, payload 0: the worker ran out of memory"
        assert failed["symbol_error_rate"] == ""

    def test_the_columns_do_not_depend_on_what_was_tried(self):
        headers = {to_csv(document).split("\n")[0] for document in (small(), partial(), evaluation(("ingrain",), ()))}
        assert len(headers) == 1

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_names(self, text):
        document = infected(partial(), text)
        document["schemes"][0]["problem"] = None
        validate(document)
        rows = list(csv.reader(io.StringIO(to_csv(document)), strict=True))
        assert len(rows) == 1 + len(rows_of(partial()))
        for cell in (cell for row in rows for cell in row if cell.startswith(tuple("=+-@＝＋－＠"))):
            float(cell)


class TestLines:
    def test_a_scheme_a_line_and_each_stands_alone(self):
        document = partial()
        lines = [json.loads(line) for line in to_jsonl(document).splitlines()]
        assert [line["scheme"] for line in lines] == document["schemes"]
        for line in lines:
            assert {name: line[name] for name in ("schema", "status", "plan", "environment", "limits")} == {
                name: document[name] for name in ("schema", "status", "plan", "environment", "limits")
            }
            assert not {"schemes", "nnt"} & line.keys()

    def test_json_keeps_everything(self):
        document = evaluation()
        assert json.loads(render(document, Format.JSON)) == document


MUTATIONS = {
    "another status": (("status",), "failed"),
    "no networks": (("plan", "networks"), 0),
    "a rate above one": (("schemes", 0, "robustness", 1, "points", 0, "false_positive_rate"), 1.01),
    "a mean error rate above one": (("schemes", 0, "robustness", 1, "points", 1, "symbol_error_rate", "mean"), 1.01),
    "a negative count": (("schemes", 0, "robustness", 1, "points", 0, "n_failed"), -1),
    "a mean of nothing": (("schemes", 0, "imperceptibility", "marked", "n"), 0),
    "negative memory": (("schemes", 0, "cost", "detection", "memory_bytes", "mean"), -1.0),
    "a payload of other digits": (("nnt", "payloads", 0, "payload"), "0120"),
    "an empty payload": (("nnt", "payloads", 0, "payload"), ""),
    "an inference without a verdict": (("nnt", "inferences", 0, "detected"), None),
    "a problem that is no text": (("schemes", 0, "problem"), False),
    "an alpha above one": (("plan", "policy", "alpha"), 2.0),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_the_schema_refuses(mutation):
    path, value = MUTATIONS[mutation]
    document = partial()
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(ReportError, match=r"does not follow onnxmark/evaluation/v1: .*" + str(last)):
        validate(document)


def test_an_error_rate_may_have_limits_beyond_its_range():
    document = small()
    document["schemes"][0]["robustness"][0]["points"][0]["symbol_error_rate"] |= {"low": -0.01, "high": 1.01}
    assert validate(document) == Kind.EVALUATION


def test_there_is_no_verdict_for_ci():
    for format_ in (Format.SARIF, Format.JUNIT):
        with pytest.raises(ReportError, match=f"no {format_} form of onnxmark/evaluation/v1; choose one of rich, json"):
            render(small(), format_)
