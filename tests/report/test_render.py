"""Every document in every form that fits it: made, the same each time, and harmless whatever names it holds."""

import copy
import json
import os
import subprocess
import sys
from pathlib import PurePath

import pytest

from onnxmark.errors import ReportError
from onnxmark.report.formats import Format, Kind, format_of, require_fit
from onnxmark.report.render import kind_of, render
from onnxmark.report.saved import parse_document
from tests.report.documents import HOSTILE, SITUATIONS, audit, real_documents
from tests.report.hostile import infected

VERDICTS_ONLY = {Format.SARIF, Format.JUNIT}
EVERYWHERE = {Format.RICH, Format.JSON, Format.JSONL, Format.MD, Format.HTML}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_form_that_fits(situation):
    document = real_documents()[situation]
    before = copy.deepcopy(document)
    for format_ in kind_of(document).formats:
        text = render(document, format_)
        assert text.endswith("\n"), format_
        assert text.encode().decode() == text
        assert render(json.loads(json.dumps(document)), format_) == text, format_
    assert document == before


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_saved_document_gives_the_same_bytes(situation):
    document = real_documents()[situation]
    saved = parse_document(render(document, Format.JSON).encode(), "saved.json")
    for format_ in kind_of(document).formats:
        assert render(saved, format_) == render(document, format_), format_


def test_which_forms_fit():
    for kind in Kind:
        assert set(kind.formats) >= EVERYWHERE
        assert (set(kind.formats) >= VERDICTS_ONLY) == (kind in (Kind.AUDIT, Kind.SCAN))
    assert {kind for kind in Kind if Format.CSV not in kind.formats} == {Kind.KEY, Kind.MARKING}


@pytest.mark.parametrize(
    ("situation", "format_"),
    [("inspect", "sarif"), ("attack", "junit"), ("marking", "csv"), ("key of a shape", "csv"), ("attacks", "sarif")],
)
def test_a_form_that_does_not_fit_names_those_that_do(situation, format_):
    document = real_documents()[situation]
    schema = document["schema"]
    with pytest.raises(ReportError, match=f"no {format_} form of {schema}; choose one of rich, json, jsonl"):
        render(document, Format(format_))
    with pytest.raises(ReportError, match=f"no {format_} form"):
        require_fit(schema, Format(format_))


def test_an_unknown_document_has_no_form():
    with pytest.raises(ReportError, match="names schema 'mine'"):
        render({"schema": "mine"}, Format.JSON)


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.json", "json"),
        ("a.JSONL", "jsonl"),
        ("a.csv", "csv"),
        ("a.md", "md"),
        ("a.htm", "html"),
        ("dir.json/a.html", "html"),
        ("a.sarif", "sarif"),
        ("a.sarif.json", "sarif"),
        ("a.xml", "junit"),
        ("a.txt", "rich"),
        ("a", None),
        ("a.json/b", None),
        ("a.onnx", None),
    ],
)
def test_a_suffix_tells(name, format_):
    assert format_of(PurePath(name)) == format_


class TestJsonLines:
    def test_a_line_a_finding_that_stands_alone(self):
        document = real_documents()["several keys"]
        lines = [json.loads(line) for line in render(document, Format.JSONL).splitlines()]
        assert [line["finding"] for line in lines] == document["findings"]
        for line in lines:
            assert line.keys() == (document.keys() - {"findings"}) | {"finding"}
            assert (line["model"], line["policy"]) == (document["model"], document["policy"])

    @pytest.mark.parametrize(
        ("situation", "entries", "entry"),
        [
            ("inspect", "models", "model"),
            ("attack", "steps", "step"),
            ("attacks", "attacks", "attack"),
            ("scan", "entries", "entry"),
        ],
    )
    def test_the_other_lists(self, situation, entries, entry):
        document = real_documents()[situation]
        lines = [json.loads(line) for line in render(document, Format.JSONL).splitlines()]
        assert [line[entry] for line in lines] == document[entries]

    def test_a_line_of_a_scan_has_the_lengths_of_its_other_lists(self):
        document = real_documents()["scan"]
        for line in render(document, Format.JSONL).splitlines():
            around = json.loads(line)
            assert around["coverage"] == {"found": 19, "audited": 11, "skipped": 4, "failed": 4}
            assert (around["policy"], around["summary"]) == (document["policy"], document["summary"])
            assert not {"groups", "keys", "baseline"} & around.keys()

    @pytest.mark.parametrize("situation", ["model unreadable", "key of a shape", "marking", "scan, nothing there"])
    def test_without_entries_the_document_is_one_line(self, situation):
        document = real_documents()[situation]
        (line,) = render(document, Format.JSONL).splitlines()
        assert json.loads(line) == document


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(text, format_):
    for situation in ("match, answers measured", "layer unreadable", "inspect", "attack", "scan"):
        document = infected(real_documents()[situation], text)
        if format_ not in kind_of(document).formats:
            continue
        written = render(document, format_)
        written.encode()
        # Markdown separates what would become a mention or an address with word joiners of its own.
        ours = "\n\u2060" if format_ is Format.MD else "\n"
        assert all(character.isprintable() or character in ours for character in written)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_survive_saving(text):
    document = infected(audit("match, registered"), text)
    assert parse_document(render(document, Format.JSON).encode(), "saved.json") == document


def test_colour_is_for_terminals():
    document = real_documents()["match, registered"]
    code = (
        "import json, sys; from onnxmark.report.render import Format, render;"
        "sys.stdout.buffer.write(render(json.load(sys.stdin), Format.RICH).encode())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(document).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "20", "PYTHONHASHSEED": "7"},
    )
    assert result.stdout.decode() == render(document, Format.RICH)


def test_a_terminal_report_does_not_pay_for_the_other_forms():
    code = (
        "import json, sys; from onnxmark.report.render import Format, render;"
        "render(json.load(sys.stdin), Format.RICH);"
        "print([name for name in ('html', 'csv', 'sarif', 'junit', 'svg') if f'onnxmark.report.{name}' in sys.modules])"
    )
    document = json.dumps(real_documents()["match"])
    result = subprocess.run([sys.executable, "-c", code], input=document, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
