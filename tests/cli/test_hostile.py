"""A model whose names are made to harm whoever looks at it, through every command and every form of the result."""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from onnxmark.cli import run
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.report.formats import Kind
from tests.onnx_models import kernel

NAMES = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>",
    "\x1b[31mred\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\r\n\x00\u202egnp.exe",
    "[bold red]markup[/] [link=http://evil.example]x[/link] |cell| `code` ](http://evil.example) =cmd|'/c calc'!A1",
    "w" * 10_000,
)


@pytest.fixture
def folder(tmp_path):
    """A marked model of hostile names, its key, and inputs."""
    nodes, initializers, value = [], [], "input"
    for index, name in enumerate(NAMES):
        shape = (16, 8, 3, 3) if index == 1 else (8, 3, 3, 3) if index == 0 else (16, 16, 3, 3)
        initializers.append(numpy_helper.from_array(kernel(shape, index), name))
        nodes.append(helper.make_node("Conv", [value, name], [f"v{index}"], name=f"node {name}", pads=[1] * 4))
        value = f"v{index}"
    graph = helper.make_graph(
        nodes,
        NAMES[0],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name=NAMES[1])
    onnx.save(model, tmp_path / "plain.onnx")
    with open_model(tmp_path / "plain.onnx") as opened:
        key = make_key(carrier_of(opened.sites()[1]), np.zeros(64, np.uint8))
    save_key(key, tmp_path / "key.npy")
    embed_file(tmp_path / "plain.onnx", key, tmp_path / "marked.onnx")
    weights = {f"{name}.weight": kernel((4, 3, 3, 3), index) for index, name in enumerate(NAMES)}
    safetensors.numpy.save_file(weights, tmp_path / "weights.safetensors")
    np.savez(tmp_path / "inputs.npz", input=np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32))
    return tmp_path


COMMANDS = {
    Kind.AUDIT: "audit marked.onnx --key key.npy --attacks quick,permute,prune-global --calibration inputs.npz",
    Kind.INSPECT: "inspect marked.onnx --detail",
    Kind.ATTACK: "attack marked.onnx --prune .5 --permute -o attacked.onnx",
    Kind.KEY: "keygen --model plain.onnx --bits 64 -o fresh.npy",
    Kind.MARKING: "embed plain.onnx --key key.npy -o again.onnx --calibration inputs.npz",
    Kind.SCAN: "scan marked.onnx plain.onnx --key key.npy --no-progress -j 1",
    Kind.CONVERSION: "convert weights.safetensors -o converted.onnx",
}


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.name)
def test_every_form_of_every_result_is_harmless(folder, kind, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    option = "-o" if kind in (Kind.AUDIT, Kind.INSPECT, Kind.SCAN) else "--report"
    outputs = [word for form in kind.formats for word in (option, f"{form}=out.{form}")]
    assert run([*COMMANDS[kind].split(), *outputs]) == 0
    shown = capfd.readouterr()
    _check_terminal(shown.out, colours=True)
    assert shown.err == ""
    _check_terminal((folder / "out.rich").read_text(encoding="utf-8"), colours=False)
    _check_html((folder / "out.html").read_text(encoding="utf-8"), scripts={"script"} if kind is Kind.SCAN else set())
    json.loads((folder / "out.json").read_text(encoding="utf-8"))
    if "junit" in kind.formats:
        ElementTree.parse(folder / "out.junit")


def _check_terminal(text, *, colours):
    """No control character beyond line ends and, where colours were forced, rich's own SGR sequences."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if colours else text
    bad = {c for c in plain if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"}
    assert bad == set()
    assert "evil.example\x07" not in text
    assert max(map(len, plain.splitlines())) <= 200


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs


def _check_html(text, scripts=frozenset()):
    reader = _Reader()
    reader.feed(text)
    assert not (reader.tags - scripts) & {"script", "img", "a", "iframe", "object", "link", "form", "base", "embed"}
    assert text.count("<script") <= 1
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("href", "src", "style")]
    policy = next(value for name, value in reader.attributes if name == "content" and "default-src" in (value or ""))
    assert "default-src 'none'" in policy
    assert len(text) < 400_000
