"""Reading a saved document that may be anybody's: one error of one type, and soon."""

import io
import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.errors import ReportError
from onnxmark.report.render import kind_of, render
from onnxmark.report.saved import MAX_BYTES, MAX_DEPTH, STDIN, load_document, parse_document
from tests.report.documents import SITUATIONS, audit, real_documents
from tests.report.test_schema import at, json_values, places_of


def text_of(document):
    return json.dumps(document)


def with_extra(text):
    """A valid document with one more field, whose value is given as text."""
    return (text_of(audit("match, registered"))[:-1] + f', "extra": {text}}}').encode()


def test_read_from_a_file(tmp_path):
    (tmp_path / "a.json").write_text(text_of(audit()))
    assert load_document(tmp_path / "a.json") == audit()


def test_read_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text_of(audit()).encode())))
    assert load_document(STDIN) == audit()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding):
    assert parse_document(text_of(audit()).encode(encoding), "a.json") == audit()


@pytest.mark.parametrize("text", ["9223372036854775807", "-9223372036854775808", "1e308", "1e-999", "-0.0", "[[{}]]"])
def test_harmless(text):
    assert parse_document(with_extra(text), "a.json")["extra"] == json.loads(text)


DEEP = 100_000
REFUSED = {
    "empty": (b"", "not JSON: .*; give a file made with --format json"),
    "text": (b"hello", "not JSON"),
    "cut": (text_of({"schema": "onnxmark/audit/v1"})[:-1].encode(), "not JSON"),
    "a model": (b"\x08\x07\x12\x07pytorch\xff\xfe\x80", "not JSON"),
    "a list": (b"[]", "JSON, but not an object"),
    "a number": (b"1", "JSON, but not an object"),
    "another document": (b'{"version": "2.1.0", "runs": []}', "names no schema"),
    "newer": (b'{"schema": "onnxmark/audit/v2"}', "newer than this onnxmark reads"),
    "NaN": (with_extra("NaN"), "holds NaN, which is no JSON"),
    "infinity": (with_extra("-Infinity"), "holds -Infinity, which is no JSON"),
    "huge float": (with_extra("1e999"), "holds the number 1e999, larger than a double"),
    "huge integer": (with_extra("9" * 19), "larger than 64 bits"),
    "monstrous integer": (with_extra("9" * 1_000_000), "larger than 64 bits"),
    "just above": (with_extra("9223372036854775808"), "larger than 64 bits"),
    "twice": (b'{"schema": "onnxmark/audit/v1", "schema": "onnxmark/key/v1"}', "field 'schema' occurs twice"),
    "twice, within": (with_extra('{"a\\u001b": 1, "a\\u001b": 1}'), r"field 'a\\+x1b' occurs twice"),
    "deep lists": (with_extra("[" * DEEP + "]" * DEEP), f"nested more than {MAX_DEPTH} levels"),
    "deep objects": (with_extra('{"a":' * DEEP + "1" + "}" * DEEP), f"nested more than {MAX_DEPTH} levels"),
    "a little too deep": (with_extra("[" * MAX_DEPTH + "]" * MAX_DEPTH), f"nested more than {MAX_DEPTH} levels"),
    "too large": (b" " * (MAX_BYTES + 1), f"larger than {MAX_BYTES} bytes"),
    "byte order mark twice": (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON"),
    "lone bytes": (b'{"schema": "\xff"}', "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    content, words = REFUSED[name]
    began = time.process_time()
    with pytest.raises(ReportError, match=words) as caught:
        parse_document(content, "saved.json")
    assert time.process_time() - began < 5
    assert str(caught.value).startswith("'saved.json'")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_file(tmp_path):
    for path, words in ((tmp_path / "no.json", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ReportError, match=f"cannot read .*{words}"):
            load_document(path)


def test_a_file_without_end():
    with pytest.raises(ReportError, match="larger than"):
        load_document(Path("/dev/zero"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_broken_document_is_refused_or_rendered(data):
    """Nothing in between: what passes the check can be drawn in every form."""
    document = json.loads(text_of(real_documents()[data.draw(st.sampled_from(SITUATIONS))]))
    places = [path for path in places_of(document) if path]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places))
        words = ["match", "no-match", "inconclusive", "partial", "free-form", "", None, 0, 1, 2**62, 1e308, -1e308, []]
        try:
            at(document, path[:-1])[path[-1]] = data.draw(json_values | st.sampled_from(words))
        except (KeyError, IndexError, TypeError):
            continue
    try:
        saved = parse_document(text_of(document).encode(), "saved.json")
    except ReportError:
        return
    for format_ in kind_of(saved).formats:
        render(saved, format_).encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(content):
    with pytest.raises(ReportError, match=r"saved\.json"):
        parse_document(content, "saved.json")
