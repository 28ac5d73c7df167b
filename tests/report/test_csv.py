"""CSV as the standard reader sees it, and as a spreadsheet must not."""

import csv
import io

import pytest

from onnxmark.report.csv import MAX_CELL, to_csv
from onnxmark.report.schema import validate
from tests.report.documents import HOSTILE, SITUATIONS, real_documents
from tests.report.hostile import infected

TABLES = [name for name in SITUATIONS if not name.startswith(("key of", "marking"))]


def rows_of(document):
    return list(csv.DictReader(io.StringIO(to_csv(document)), strict=True))


@pytest.mark.parametrize("situation", TABLES)
def test_a_header_and_as_many_cells_in_every_row(situation):
    header, *rows = csv.reader(io.StringIO(to_csv(real_documents()[situation])), strict=True)
    assert len(set(header)) == len(header)
    assert bool(rows) == (situation != "scan, nothing there")
    assert {len(row) for row in rows} <= {len(header)}


def test_an_audit_has_a_row_a_finding_and_a_row_a_trial():
    document = real_documents()["match, answers measured"]
    first, *trials = rows_of(document)
    (finding,) = document["findings"]
    assert (first["kind"], first["verdict"], first["carrier"]) == ("finding", "match", "conv3.weight")
    assert float(first["log10_p_value"]) == finding["log10_p_value"]
    assert (first["n_bits"], first["n_errors"], first["attack"]) == ("256", "0", "")
    assert first["sha256"] == document["model"]["sha256"]
    assert len(trials) == len(finding["robustness"])
    for row, trial in zip(trials, finding["robustness"], strict=True):
        assert row["kind"] == "trial"
        assert row["key"] == finding["key"]["commitment"]
        assert float(row["bit_error_rate"]) == trial["bit_error_rate"]
        for name in ("attack", "recipe", "parameter", "n_draws", "n_survived", "log10_p_value", "verdict"):
            assert row[name] == str(trial[name])
        assert int(row["decisions_changed"]) == trial["fidelity"]["decisions_changed"]
        assert float(row["outputs_relative_change"]) == trial["fidelity"]["relative_change"]
        assert float(row["relative_change"]) == trial["relative_change"]
        interval = trial["bit_error_rate_interval"]
        ends = [row["bit_error_rate_low"], row["bit_error_rate_high"]]
        assert ends == (["", ""] if interval is None else [repr(end) for end in interval])


def test_the_verdict_of_a_trial_is_its_own():
    document = real_documents()["match, answers measured"]
    verdicts = [row["verdict"] for row in rows_of(document) if row["kind"] == "trial"]
    assert verdicts == [trial["verdict"] for trial in document["findings"][0]["robustness"]]
    assert set(verdicts) == {"match", "no-match"}


def test_what_was_not_read_has_rows_of_its_own():
    finding, unread = rows_of(real_documents()["layer unreadable"])
    assert (finding["kind"], finding["verdict"]) == ("finding", "inconclusive")
    assert (unread["kind"], unread["carrier"], unread["verdict"]) == ("unread", "conv0.weight", "")
    assert "lost.data" in unread["problem"]
    (failed,) = rows_of(real_documents()["model unreadable"])
    assert (failed["kind"], failed["verdict"]) == ("failed", "inconclusive")
    assert "truncated" in failed["problem"]


def test_the_columns_of_a_kind_are_always_the_same():
    for prefix in ("inspect", "attack,"):
        assert len({to_csv(real_documents()[name]).split("\n")[0] for name in TABLES if name.startswith(prefix)}) == 1
    audits = [name for name in TABLES if real_documents()[name]["schema"] == "onnxmark/audit/v1"]
    assert len({to_csv(real_documents()[name]).split("\n")[0] for name in audits}) == 1


def test_layers():
    document = real_documents()["inspect"]
    rows = rows_of(document)
    layers = [(model, layer) for model in document["models"] for layer in model["layers"]]
    assert len(rows) == len(layers)
    for row, (model, layer) in zip(rows, layers, strict=True):
        assert (row["model"], row["name"]) == (model["path"], layer["name"])
        assert row["shape"] == "x".join(map(str, layer["shape"]))
        assert float(row["sparsity"]) == layer["profile"]["sparsity"]
        assert int(row["entries"]) == layer["capacity"]["entries"]
        assert row["folding"] == ("" if layer["folding"] is None else layer["folding"]["state"])
    broken, *_ = rows_of(real_documents()["inspect, one unreadable"])
    assert "truncated" in broken["problem"]
    assert broken["name"] == ""


def test_attacks():
    document = real_documents()["attack"]
    rows = rows_of(document)
    assert [(row["step"], row["attack"]) for row in rows] == [
        (str(count), step["attack"]) for count, step in enumerate(document["steps"], start=1) for _ in step["layers"]
    ]
    listed = {row["name"]: row for row in rows_of(real_documents()["attacks"])}
    assert listed["prune"]["fields"] == "fraction: float"
    assert listed["noise"]["random"] == "true"


def test_a_step_without_layers_is_a_row():
    document = dict(real_documents()["attack"])
    document["steps"] = [{**document["steps"][0], "layers": []}]
    (row,) = rows_of(document)
    assert (row["attack"], row["layer"]) == ("prune", "")


@pytest.mark.parametrize(
    "situation", ["match", "layer unreadable", "model unreadable", "inspect", "attack", "attacks", "scan"]
)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(text, situation):
    document = infected(real_documents()[situation], text)
    validate(document)
    written = to_csv(document)
    written.encode()
    rows = list(csv.reader(io.StringIO(written), strict=True))
    assert len(rows) == len(list(csv.reader(io.StringIO(to_csv(real_documents()[situation])))))
    for cell in (cell for row in rows for cell in row):
        assert cell.isprintable()
        assert len(cell) <= MAX_CELL + 1
        if cell.startswith(tuple("=+-@＝＋－＠")):
            float(cell)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n"])
def test_what_looks_like_a_formula_gets_an_apostrophe(start):
    document = infected(real_documents()["match, registered"], f"{start}1+1")
    (row,) = rows_of(document)
    assert row["carrier"].startswith("'")
    assert row["carrier"].endswith("1+1")
    assert row["log10_p_value"].startswith("-")


def test_an_innocent_name_is_left_as_it_is():
    name = "block.0/conv=1 + 'x', \"y\";z"
    (row,) = rows_of(infected(real_documents()["match, registered"], name))
    assert row["carrier"] == name
