"""``onnxmark convert``, and containers wherever a command takes a model."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import typer

from onnxmark import plugins
from onnxmark.cli import run
from onnxmark.cli.sources import Opening
from onnxmark.errors import MissingExtra
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from tests.conversion.adapters import converter
from tests.onnx_models import conv_chain, kernel

KERNELS = [kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A marked model as ONNX, as .ort and as text, and its key."""
    monkeypatch.chdir(tmp_path)
    conv_chain("plain.onnx", KERNELS)
    with open_model("plain.onnx") as model:
        key = make_key(carrier_of(model.sites()[1]), np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8))
    save_key(key, "key.npy")
    embed_file(tmp_path / "plain.onnx", key, tmp_path / "marked.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = "marked.ort"
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession("marked.onnx", options, providers=["CPUExecutionProvider"])
    onnx.save_model(onnx.load("marked.onnx"), "marked.onnxjson", format="json")
    onnx.save_model(onnx.load("marked.onnx"), "marked.onnxtxt", format="textproto")
    return tmp_path


SOURCES = ["marked.ort", "marked.onnxjson", "marked.onnxtxt"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_converted_file_computes_the_same_and_keeps_its_mark(folder, source, capfd):
    assert run(["convert", source, "-o", "made.onnx", "--format", "json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == "onnxmark/conversion/v1"
    assert document["coverage"] == {"layers": 2, "traced": 0, "weights": 0, "found": 0, "missing": []}
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"]).run(None, {"input": image})[0]
        for name in ("marked.onnx", "made.onnx")
    ]
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)
    assert run(["audit", "made.onnx", "--key", "key.npy", "--attacks", "none", "-o", "json=a.json"]) == 0


@pytest.mark.parametrize("source", SOURCES)
def test_a_container_is_audited_and_inspected_as_it_is(folder, source, capfd):
    assert run(["audit", source, "--key", "key.npy", "--format", "json", "--digest"]) == 0
    shown = capfd.readouterr()
    assert f"'{source}' is " in shown.err
    assert "'onnxmark convert' keeps it" in shown.err
    document = json.loads(shown.out)
    assert (document["verdict"], document["model"]["path"]) == ("match", source)
    assert document["model"]["conversion"]["container"] in {"ort", "onnx-text"}
    assert document["model"]["sha256"] is not None
    assert run(["inspect", source, "--format", "json"]) == 0
    (model,) = json.loads(capfd.readouterr().out)["models"]
    assert (model["path"], len(model["layers"])) == (source, 2)
    assert model["conversion"]["has_graph"] is True
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("onnxmark-")) == []


def test_a_reference_may_be_in_another_container_than_the_model(folder, capfd):
    """What a soup with it leaves of the mark is the same."""
    onnx.save_model(onnx.load("plain.onnx"), "plain.onnxtxt", format="textproto")
    told = {}
    for name in ("plain.onnx", "plain.onnxtxt"):
        arguments = ["--key", "key.npy", "--attacks", "soup", "--reference", name, "--format", "json"]
        assert run(["audit", "marked.onnx", *arguments]) == 0
        shown = capfd.readouterr()
        told[name] = json.loads(shown.out)["findings"][0]["robustness"]
    assert "'plain.onnxtxt' is " in shown.err
    assert told["plain.onnxtxt"] == told["plain.onnx"] != []


def test_the_reports_say_what_was_converted(folder, capfd):
    assert run(["audit", "marked.ort", "--key", "key.npy", "--attacks", "quick", "-o", "html=a.html"]) == 0
    assert "converted from an ONNX Runtime flatbuffer" in capfd.readouterr().out.replace("\n", "")
    page = (folder / "a.html").read_text()
    assert "an ONNX Runtime flatbuffer, by onnxruntime" in page
    assert run(["inspect", "marked.ort"]) == 0
    assert "converted from an ONNX Runtime flatbuffer: 2 layers" in capfd.readouterr().out.replace("\n", " ")


def test_an_onnx_file_is_not_said_to_be_converted(folder, capfd):
    assert run(["audit", "marked.onnx", "--key", "key.npy", "--format", "json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["model"]["conversion"] is None
    assert shown.err == ""


def test_weights_of_a_framework_are_listed(folder, monkeypatch, capfd):
    (folder / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    made = converter(KERNELS, [KERNELS[0] * 2, KERNELS[1]], notes=("grouped layers were split",))
    monkeypatch.setattr(plugins, "converter", lambda container: made)
    assert run(["convert", "m.tflite", "-o", "m.onnx", "--report", "csv=m.csv", "--report", "m.html"]) == 0
    shown = capfd.readouterr().out
    for words in ("2 of 2 weight tensors of the framework found by value", "folded", "grouped layers were split"):
        assert words in shown.replace("\n", " ")
    rows = (folder / "m.csv").read_text().splitlines()
    assert rows[0] == "source,output,container,name,weights,shape,order,folded,error"
    assert rows[1].startswith("m.tflite,m.onnx,tflite,conv0.weight,net.0.kernel,16x3x3x3,OIHW,true,")
    assert rows[2] == "m.tflite,m.onnx,tflite,conv1.weight,net.1.kernel,16x16x3x3,OIHW,false,0.0"


def test_a_missing_framework_names_the_command_that_installs_it(folder, monkeypatch, capfd):
    (folder / "m.tflite").write_bytes(b"\0\0\0\0TFL3")

    def missing(container):
        raise MissingExtra("tensorflow", "tf", "converting a TensorFlow Lite model")

    monkeypatch.setattr(plugins, "converter", missing)
    for command in (["convert", "m.tflite", "-o", "m.onnx"], ["audit", "m.tflite", "--key", "key.npy"]):
        assert run(command) == 2
        assert "run: pip install 'onnxmark[tf]'" in capfd.readouterr().err
    assert not (folder / "m.onnx").exists()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("convert marked.onnx -o m.onnx", 2, "is an ONNX model already; use it as it is"),
        ("convert absent.keras -o m.onnx", 2, "does not exist; check the path"),
        ("convert . -o m.onnx", 2, "is a directory without saved_model.pb"),
        ("convert key.npy -o m.onnx", 2, "is a NumPy array"),
        ("convert torn.ort -o m.onnx", 2, "is not read by ONNX Runtime"),
        ("convert torn.onnxtxt -o m.onnx", 2, "is not ONNX as text"),
        ("convert marked.ort -o marked.ort", 2, "is the model itself"),
        ("convert marked.ort -o m.onnx --format sarif", 2, "there is no sarif form"),
        ("convert marked.ort -o m.onnx --input 1x0x3", 2, "'1x0x3' is no shape"),
        ("convert marked.ort -o m.onnx --model nothing", 2, "'nothing' is not MODULE:FUNCTION"),
        ("convert marked.ort -o m.onnx --backend theano", 2, "'theano' is none of tensorflow, torch, jax"),
        ("audit torn.ort --key key.npy", 3, "inconclusive: 'torn.ort' is not read by ONNX Runtime"),
        ("inspect torn.ort", 3, "inconclusive: 'torn.ort' is not read by ONNX Runtime"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, capfd, command, code, words):
    (folder / "torn.ort").write_bytes((folder / "marked.ort").read_bytes()[:200])
    (folder / "torn.onnxtxt").write_text("ir_version: {")
    assert run(command.split()) == code
    shown = capfd.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (folder / "m.onnx").exists()


def test_shapes_of_inputs_are_read_as_they_are_written():
    opening = Opening.of(trust=False, factory="a.b:c", shapes=["1x3x8x8", "mask=2,4"], backend=None)
    assert opening.shapes == (("", (1, 3, 8, 8)), ("mask", (2, 4)))
    with pytest.raises(typer.BadParameter, match="'1xAx3' is no shape"):
        Opening.of(trust=False, factory=None, shapes=["1xAx3"], backend=None)
