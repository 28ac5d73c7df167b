"""``onnxmark attack`` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxmark
from onnxmark.cli import run
from tests.onnx_models import conv_chain, kernel

DEMO = Path(onnxmark.__file__).parent / "demo_data"
MARKED, KEY, INPUTS = (str(DEMO / name) for name in ("marked.onnx", "key.npy", "calibration.npz"))


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")


@pytest.fixture
def host(tmp_path):
    return conv_chain(tmp_path / "host.onnx", [kernel((8, 3, 3, 3), 1), kernel((16, 8, 3, 3), 2)])


def call(capsys, *arguments):
    code = run(["attack", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def weights(path, name):
    (found,) = (item for item in onnx.load(path).graph.initializer if item.name == name)
    return numpy_helper.to_array(found)


def test_attacks_compose_in_the_order_given(capsys, host, tmp_path):
    out = tmp_path / "out.onnx"
    code, text, err = call(capsys, host, "--prune", ".5", "--quantize", "4,symmetric", "-o", out)
    assert (code, err) == (0, "")
    for words in ("L1 pruning 50 %", "quantisation 4 bit", "conv1.weight", "out.onnx"):
        assert words in text
    values = weights(out, "conv1.weight")
    assert (values == 0).mean() >= 0.5
    assert np.unique(values).size <= 15


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_model_may_stand_before_or_after_the_attacks(capsys, host, tmp_path, place):
    attacks = ["--prune", "0.5", "--noise=0.1"]
    arguments = [host, *attacks] if place == "before" else [*attacks, host]
    assert call(capsys, *arguments, "-o", tmp_path / "out.onnx")[0] == 0


def test_the_model_is_not_taken_for_a_value_that_may_be_left_out(capsys, tmp_path):
    out = tmp_path / "out.onnx"
    assert call(capsys, "--permute", MARKED, "--seed", "3", "-o", out)[0] == 0
    assert call(capsys, "--permute", "0.5", MARKED, "-o", out)[0] == 0
    assert call(capsys, "--fold-bn", MARKED, "-o", out)[0] in (0, 2)


def test_negative_values_and_the_equals_sign(capsys, host, tmp_path):
    out = tmp_path / "out.onnx"
    for arguments in (["--shift-constant", "-1"], ["--shift-constant=-1"]):
        assert call(capsys, host, *arguments, "-o", out)[0] == 0
        assert weights(out, "conv1.weight").mean() < 0


def test_the_attacked_model_runs_and_can_be_audited(capsys, tmp_path):
    out = tmp_path / "out.onnx"
    code, text, _ = call(capsys, MARKED, "--prune", "0.3", "--calibration", INPUTS, "-o", out)
    assert code == 0
    assert "accuracy" in text
    session = ort.InferenceSession(out)
    assert session.run(None, {"images": np.load(INPUTS)["images"][:2]})[0].shape == (2, 10)
    assert run(["audit", str(out), "--key", KEY, "--attacks", "none"]) == 0
    capsys.readouterr()


def test_symmetries_keep_the_outputs(capsys, tmp_path):
    out = tmp_path / "out.onnx"
    code, text, _ = call(capsys, MARKED, "--permute", "--calibration", INPUTS, "-o", out, "--format", "json")
    assert code == 0
    document = json.loads(text)
    assert document["fidelity"]["relative_change"] < 1e-5
    assert document["fidelity"]["decisions_changed"] == 0
    assert document["steps"][0]["notes"]


def test_one_layer(capsys, host, tmp_path):
    out = tmp_path / "out.onnx"
    code, text, _ = call(capsys, host, "--prune", "1", "--layer", "conv1.weight", "-o", out, "--format", "json")
    assert code == 0
    assert [layer["name"] for layer in json.loads(text)["steps"][0]["layers"]] == ["conv1.weight"]
    assert not weights(out, "conv1.weight").any()
    assert weights(out, "conv0.weight").all()


def test_provenance_unless_anonymous(capsys, host, tmp_path):
    call(capsys, host, "--prune", "0.5", "-o", tmp_path / "told.onnx", "--seed", "9")
    (entry,) = onnx.load(tmp_path / "told.onnx").metadata_props
    assert entry.key == "onnxmark.attack"
    assert "MagnitudePruning(fraction=0.5)" in entry.value
    assert "seed 9" in entry.value
    call(capsys, host, "--prune", "0.5", "--anonymous", "-o", tmp_path / "silent.onnx")
    assert not onnx.load(tmp_path / "silent.onnx").metadata_props


def test_the_list_names_every_attack(capsys):
    code, text, _ = call(capsys, "--list")
    assert code == 0
    code, listed, _ = call(capsys, "--list", "--format", "json")
    document = json.loads(listed)
    assert document["schema"] == "onnxmark/attacks/v1"
    for attack in document["attacks"]:
        assert attack["problem"] is None
        assert f"--{attack['name']}" in text or attack["name"] in text


def test_reports_in_other_formats(capsys, host, tmp_path):
    arguments = [host, "--prune", "0.5", "-o", tmp_path / "out.onnx", "--report", tmp_path / "r.html"]
    assert call(capsys, *arguments, "--report", f"json={tmp_path / 'r.json'}")[0] == 0
    assert "<html" in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == "onnxmark/attack/v1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{host}", "-o", "{out}"], "give at least one attack"),
        (["--prune", "0.5", "-o", "{out}"], "give exactly one model, found none"),
        (["{host}", "{host}", "--prune", "0.5", "-o", "{out}"], "give exactly one model"),
        (["{host}", "--prune", "0.5"], "name the file to write with -o"),
        (["{host}", "--prunes", "0.5", "-o", "{out}"], "no attack 'prunes'; did you mean prune"),
        (["{host}", "--prune", "-o", "{out}"], "--prune takes a value"),
        (["{host}", "--prune", "2", "-o", "{out}"], "must be from 0 to 1"),
        (["{host}", "--soup", "0.5", "-o", "{out}"], "needs the model before it was marked; give --reference"),
        (["{host}", "--prune", "0.5", "-o", "{host}"], "is the model itself"),
        (["{host}", "--prune", "0.5", "--layer", "nothing", "-o", "{out}"], "no layer 'nothing'"),
        (["missing.onnx", "--prune", "0.5", "-o", "{out}"], "missing.onnx"),
        (["{host}", "--prune", "0.5", "-o", "{out}", "--calibration", "missing.npz"], "missing.npz"),
        (["{host}", "--prune", "0.5", "-o", "{out}", "--format", "sarif"], "sarif"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(capsys, host, tmp_path, arguments, message):
    before = host.read_bytes()
    out = tmp_path / "out" / "out.onnx"
    out.parent.mkdir()
    code, text, err = call(capsys, *(each.format(host=host, out=out) for each in arguments))
    assert code == 2
    assert text == ""
    assert message in err
    assert err.count("\n") == 1
    assert host.read_bytes() == before
    assert list(out.parent.iterdir()) == []
