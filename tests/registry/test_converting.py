"""Models of other formats in a scan: left out unless they are asked for, and then what they are converted to."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxmark.cli import run
from onnxmark.conversion import Container
from onnxmark.errors import MissingExtra, TrustRequired
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.registry import auditing
from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.ring import ring_folder
from tests.conversion.adapters import converter
from tests.onnx_models import conv_chain, kernel

KERNELS = [kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2)]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A key, and a registry of a marked model as ONNX, as a flatbuffer and as text, and of an unmarked one as text."""
    room = tmp_path_factory.mktemp("converting")
    models = room / "models"
    models.mkdir()
    plain = room / "plain.onnx"
    conv_chain(plain, KERNELS)
    with open_model(plain) as model:
        key = make_key(carrier_of(model.sites()[1]), np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8))
    embed_file(plain, save_key(key, room / "key.npy"), models / "marked.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(models / "marked.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(models / "marked.onnx", options, providers=["CPUExecutionProvider"])
    onnx.save_model(onnx.load(models / "marked.onnx"), models / "marked.onnxtxt", format="textproto")
    onnx.save_model(onnx.load(plain), models / "plain.onnxtxt", format="textproto")
    return room


def scanned(room, *options):
    path = room / "scan.json"
    command = ["scan", str(room / "models"), "--key", str(room / "key.npy"), "-j", "1", "--no-progress"]
    code = run([*command, "-o", str(path), *options])
    return code, json.loads(path.read_text())


def chunk(room, *models, **options):
    with ring_folder([room / "key.npy"]) as ring:
        return audit_chunk([str(model) for model in models], ring, **options)


def test_they_are_left_out_with_the_reason_unless_asked_for(room):
    code, document = scanned(room)
    assert code == 0
    assert [entry["model"]["identity"] for entry in document["entries"]] == ["marked.onnx"]
    assert document["entries"][0]["model"]["converted_from"] is None
    reasons = {left["reason"] for left in document["coverage"]["skipped"]}
    assert len(reasons) == 2
    assert all("scan with --convert, or convert it: onnxmark convert MODEL." in reason for reason in reasons)


def test_they_are_audited_as_what_they_become(room):
    code, document = scanned(room, "--convert", "--digest")
    assert code == 0
    entries = {entry["model"]["identity"]: entry for entry in document["entries"]}
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        "marked.onnx": "match",
        "marked.onnxtxt": "match",
        "marked.ort": "match",
        "plain.onnxtxt": "no-match",
    }
    for name, entry in entries.items():
        data = (room / "models" / name).read_bytes()
        model = entry["model"]
        assert (model["bytes"], model["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert model["location"] == str(room / "models" / name)
    assert entries["marked.ort"]["model"]["converted_from"] == "an ONNX Runtime flatbuffer"
    assert entries["plain.onnxtxt"]["model"]["converted_from"] == "ONNX as text"
    # The weights are the same ones, bit by bit, so that the report knows the three as copies.
    assert [len(copies["places"]) for copies in document["groups"]["copies"]] == [3]


def test_reports_say_what_was_converted(room):
    page, table = room / "scan.html", room / "scan.csv"
    assert scanned(room, "--convert", "-o", str(page), "-o", str(table))[0] == 0
    assert "plain, converted from ONNX as text" in page.read_text()
    header, *rows = table.read_text().splitlines()
    place = header.split(",").index("converted_from")
    assert sorted({row.split(",")[place] for row in rows}) == ["", "ONNX as text", "an ONNX Runtime flatbuffer"]


def test_a_model_that_has_changed_is_converted_again(room, tmp_path):
    journal = str(tmp_path / "scan.sqlite")
    first = scanned(room, "--convert", "--db", journal)[1]
    assert scanned(room, "--convert", "--db", journal)[1] == first
    target = room / "models" / "plain.onnxtxt"
    before = target.read_bytes()
    try:
        onnx.save_model(onnx.load(room / "models" / "marked.onnx"), target, format="textproto")
        again = scanned(room, "--convert", "--db", journal)[1]
    finally:
        target.write_bytes(before)
    assert [entry["verdict"] for entry in again["entries"]] == ["match"] * 4


def test_nothing_is_left_behind(room, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (result,) = chunk(room, room / "models" / "marked.ort", convert=True)
    assert len(result["hits"]) == 1
    assert list(tmp_path.iterdir()) == []


def foreign(path: Path) -> Path:
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    return path


@pytest.mark.parametrize(
    "error",
    [
        TrustRequired("'m.tflite' holds a Lambda layer: pass --trust"),
        MissingExtra("tensorflow", "tf", "converting"),
        RuntimeError("a bug of the framework"),
    ],
)
def test_what_cannot_be_converted_says_why_and_harms_no_other(room, tmp_path, monkeypatch, error):
    def fails(request):
        raise error

    monkeypatch.setattr(auditing, "converter_of", lambda container: fails)
    bad, good = chunk(room, foreign(tmp_path / "m.tflite"), room / "models" / "marked.onnx", convert=True)
    assert (bad["status"], good["status"]) == ("failed", "audited")
    assert str(error) in bad["problem"]
    assert len(good["hits"]) == 1


def test_no_converter_trusts_a_model_of_a_registry(room, tmp_path, monkeypatch):
    asked = []
    made = converter(KERNELS, KERNELS)

    def noted(request):
        asked.append(request)
        return made(request)

    monkeypatch.setattr(auditing, "converter_of", lambda container: noted)
    (result,) = chunk(room, foreign(tmp_path / "m.tflite"), convert=True)
    assert result["status"] == "audited"
    (request,) = asked
    assert (request.container, request.trust, request.factory) == (Container.TFLITE, False, None)


def test_without_being_asked_nothing_is_converted(room, tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "converter_of", None)
    (result,) = chunk(room, foreign(tmp_path / "m.tflite"))
    assert result["status"] == "failed"
    assert "is a TensorFlow Lite model" in result["problem"]


def test_the_variables_of_a_saved_model_are_watched(room, tmp_path, monkeypatch):
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"\x08\x01")
    (saved / "variables" / "variables.index").write_bytes(b"index")
    monkeypatch.setattr(auditing, "converter_of", lambda container: converter(KERNELS, KERNELS))
    (result,) = chunk(room, saved / "saved_model.pb", convert=True)
    ((name, size, *_),) = result["companions"]
    assert (Path(name).name, size) == ("variables.index", 5)
    assert result["model"]["converted_from"] == "a TensorFlow SavedModel"


def test_one_from_elsewhere_is_converted_too(room):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    try:
        files.makedirs("/foreign", exist_ok=True)
        for name in ("marked.ort", "plain.onnxtxt"):
            files.pipe_file(f"/foreign/{name}", (room / "models" / name).read_bytes())
        marked, plain = chunk(room, "memory:///foreign/marked.ort", "memory:///foreign/plain.onnxtxt", convert=True)
    finally:
        files.rm("/foreign", recursive=True)
    assert [len(result["hits"]) for result in (marked, plain)] == [1, 0]
    assert [result["status"] for result in (marked, plain)] == ["audited"] * 2
