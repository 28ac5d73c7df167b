"""``onnxmark report``, and the forms and files of every other command."""

import io
import json
import subprocess
import sys

import pytest

from onnxmark.cli import run
from onnxmark.report.formats import Format, Kind
from tests.report.documents import KEY, MARKED, OTHER, UNMARKED, output_of, real_documents

FORMATS = [format_.value for format_ in Format]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(real_documents()["match, registered"]))
    return path


def failure(capsys, *arguments):
    """Exit code and the one line on standard error."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return code, line


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_bytes_as_directly(format_, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    audit = ("audit", MARKED, "--key", KEY, "--key", OTHER, "--attacks", "noise", "--draws", "2", "--digest")
    files = [tmp_path / name for name in ("direct", "saved.json", "again")]
    code, direct = output_of([*audit, "--format", format_, "-o", f"{format_}={files[0]}", "-o", f"json={files[1]}"])
    assert code == 0
    code, again = output_of(["report", files[1], "--format", format_, "-o", f"{format_}={files[2]}"])
    assert code == 0
    assert again == direct
    assert files[2].read_bytes() == files[0].read_bytes()
    # A terminal report on standard output may differ from the file in width and in colour only.
    assert format_ == "rich" or files[0].read_bytes() == direct


@pytest.mark.parametrize("situation", ["match", "no match", "model unreadable", "inspect", "attack", "attacks"])
def test_rendered_is_done_whatever_the_verdict(situation, tmp_path):
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(real_documents()[situation]))
    code, out = output_of(["report", path])
    assert code == 0
    assert out.strip()


def test_from_a_pipe(monkeypatch):
    document = real_documents()["match"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(document).encode())))
    code, out = output_of(["report", "-", "--format", "json"])
    assert (code, json.loads(out)) == (0, document)


@pytest.mark.parametrize("kind", Kind)
def test_schemas(kind):
    code, out = output_of(["report", "--schema", kind.word])
    assert code == 0
    assert json.loads(out)["properties"]["schema"]["const"] == kind.value


def test_a_suffix_is_enough(saved, tmp_path):
    names = ("a.html", "a.sarif", "a.xml", "a.csv", "a.md", "a.jsonl", "a.txt", "a.json")
    code, _ = output_of(["report", saved, *(word for name in names for word in ("-o", tmp_path / name))])
    assert code == 0
    starts = {name: (tmp_path / name).read_text()[:15].lstrip().lower() for name in names}
    assert starts["a.html"].startswith("<!doctype html")
    assert starts["a.xml"].startswith("<?xml")
    assert starts["a.csv"].startswith("kind,model")
    assert json.loads((tmp_path / "a.sarif").read_text())["version"] == "2.1.0"
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(saved.read_text())


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("nothing.json",), "cannot read 'nothing.json': No such file"),
            ((KEY,), "not JSON"),
            ((MARKED,), "not JSON"),
            ((), "name a saved result"),
            (
                ("--schema", "audits"),
                "no schema 'audits'; choose one of audit, attack, attacks, marking, inspect, scan, key",
            ),
        ],
    )
    def test_one_line_and_code_two(self, capsys, arguments, words):
        code, line = failure(capsys, "report", *arguments)
        assert code == 2
        assert words in line

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("a.onnx", "nor a PATH that tells"),
            ("jsn=a.json", "is not FMT=PATH with FMT one of rich, json, jsonl, csv, md, html, sarif, junit"),
            ("html=", "is not FMT=PATH"),
            ("no/such/directory/a.html", "cannot write"),
        ],
    )
    def test_outputs(self, capsys, saved, output, words):
        code, line = failure(capsys, "report", saved, "-o", output)
        assert code == 2
        assert words in line

    def test_a_form_that_does_not_fit_writes_nothing(self, capsys, tmp_path):
        (tmp_path / "inspect.json").write_text(json.dumps(real_documents()["inspect"]))
        arguments = ("-o", tmp_path / "a.html", "-o", tmp_path / "a.sarif")
        code, line = failure(capsys, "report", tmp_path / "inspect.json", *arguments)
        assert code == 2
        assert "no sarif form of onnxmark/inspect/v1; choose one of rich, json, jsonl, csv, md, html" in line
        assert not (tmp_path / "a.html").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ("inspect", MARKED, "--format", "sarif"),
            ("inspect", MARKED, "-o", "a.sarif"),
            ("keygen", "--shape", "64,32,3,3", "-o", "KEPT", "--format", "csv"),
            ("embed", UNMARKED, "--key", KEY, "-o", "KEPT", "--report", "junit=a.xml"),
        ],
    )
    def test_refused_before_the_work(self, capsys, tmp_path, arguments):
        kept = tmp_path / "kept"
        code, line = failure(capsys, *(kept if word == "KEPT" else word for word in arguments))
        assert code == 2
        assert "choose one of" in line
        assert not kept.exists()


def test_keygen_and_embed_write_reports_too(tmp_path):
    key, marked = tmp_path / "key.npy", tmp_path / "marked.onnx"
    output_of(["keygen", "--model", UNMARKED, "--bits", "16", "-o", key, "--report", tmp_path / "key.html"])
    output_of(["embed", UNMARKED, "--key", key, "-o", marked, "--report", f"md={tmp_path / 'marking'}"])
    assert "<!doctype html" in (tmp_path / "key.html").read_text().lower()
    assert (tmp_path / "marking").read_text().startswith("#")


def test_standard_output_is_utf8_whatever_the_locale(saved):
    command = [sys.executable, "-m", "onnxmark", "report", str(saved), "--format", "html"]
    result = subprocess.run(command, capture_output=True, check=True, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert result.stdout == output_of(["report", saved, "--format", "html"])[1]


def test_reading_a_saved_result_needs_neither_onnx_nor_a_framework(saved):
    code = (
        f"import sys; from onnxmark.cli import run; code = run(['report', {str(saved)!r}, '--format', 'sarif']); "
        "print([m for m in ('onnx', 'onnxruntime', 'torch', 'rich') if m in sys.modules], code, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[] 0"


def test_help_has_examples_and_loads_nothing_heavy():
    code = (
        "import sys; from onnxmark.cli import run; run(['report', '--help']); "
        "print([m for m in ('numpy', 'onnx') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Examples:" in result.stdout
    assert "Exit code 0" in result.stdout
    assert result.stderr == "[]\n"
