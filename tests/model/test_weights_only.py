"""Files of weights without a graph: legal, found by the reader, and refused wherever a graph is needed."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from onnxmark.attacker import Attacker
from onnxmark.attacking import attack_file
from onnxmark.audit import audit_file
from onnxmark.errors import AttackError, CalibrationError
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import Key
from onnxmark.marking import embed_file
from onnxmark.model import open_model, weights_only
from onnxmark.model.running.runtime import open_session
from onnxmark.model.weights_only import is_weights_only, write_weights_only
from onnxmark.recipes import recipe
from tests.onnx_models import conv_chain, kernel

SHAPES = {
    "conv1d": ((8, 4, 5), 1),
    "features/0/conv.weight": ((32, 16, 3, 3), 1),
    "depthwise": ((12, 1, 3, 3), 12),
    "conv3d": ((6, 2, 3, 3, 3), 2),
    "linear": ((10, 64), 1),
    "größe": ((16, 32, 1, 1), 1),
}


def layers():
    return [
        SimpleNamespace(name=name, values=kernel(shape, seed), group=group)
        for seed, (name, (shape, group)) in enumerate(SHAPES.items())
    ]


@pytest.fixture
def path(tmp_path):
    write_weights_only(tmp_path / "w.onnx", layers())
    return tmp_path / "w.onnx"


@dataclass
class Marked:
    path: object
    key: Key


@pytest.fixture
def marked(path, tmp_path):
    with open_model(path) as model:
        site = model.site("features/0/conv.weight")
    key = make_key(carrier_of(site), np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8))
    embed_file(path, key, tmp_path / "marked.onnx")
    return Marked(tmp_path / "marked.onnx", key)


def test_onnx_finds_nothing_wrong_and_the_reader_finds_all_of_it(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    with open_model(path) as opened:
        assert is_weights_only(opened.metadata)
        assert [site.name for site in opened.sites()] == list(SHAPES)
        for site, layer in zip(opened.sites(), layers(), strict=True):
            assert site.problem is None
            assert site.group == layer.group
            np.testing.assert_array_equal(opened.read(site).values, layer.values)


def test_a_model_with_a_graph_is_no_such_file(tmp_path):
    with open_model(conv_chain(tmp_path / "m.onnx", [kernel((4, 3, 3, 3))])) as model:
        assert not is_weights_only(model.metadata)


def test_large_weights_lie_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_only, "_MOST_INLINE", 1000)
    write_weights_only(tmp_path / "w.onnx", layers())
    assert (tmp_path / "w.onnx.data").stat().st_size > 1000
    assert (tmp_path / "w.onnx").stat().st_size < 10_000
    with open_model(tmp_path / "w.onnx") as model:
        np.testing.assert_array_equal(model.read(model.site("linear")).values, layers()[4].values)


def test_a_mark_is_embedded_and_found(marked):
    assert audit_file(marked.path, [marked.key]).verdict == "match"


def test_attacks_on_weights_work_and_those_through_the_graph_say_why_not(marked, tmp_path):
    attack_file(marked.path, [recipe("prune", "0.3")], tmp_path / "pruned.onnx")
    assert audit_file(tmp_path / "pruned.onnx", [marked.key]).verdict == "match"
    for name in ("permute", "ort-dynamic", "fold-bn", "onnxslim"):
        assert "needs the model's graph" in (Attacker(marked.path).lacks(recipe(name, None)) or "")
        with pytest.raises(AttackError, match=f"attack '{name}' needs the model's graph, and this file holds weights"):
            attack_file(marked.path, [recipe(name, None)], tmp_path / "attacked.onnx")
    assert Attacker(marked.path).lacks(recipe("prune", "0.3")) is None


def test_there_is_nothing_to_run(path):
    with pytest.raises(CalibrationError, match="holds weights without the graph they belong to, so there is nothing"):
        open_session(path)
    with pytest.raises(CalibrationError, match="holds weights without the graph"):
        open_session(path.read_bytes())


def test_calibration_is_refused(path, marked, tmp_path):
    np.savez(tmp_path / "inputs.npz", x=np.zeros((2, 3), np.float32))
    with pytest.raises(CalibrationError, match="holds weights without the graph"):
        embed_file(path, marked.key, tmp_path / "again.onnx", calibration=tmp_path / "inputs.npz")


def test_layers_need_names_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="found 0"):
        write_weights_only(tmp_path / "w.onnx", [])
    with pytest.raises(ValueError, match="names of their own, found 2"):
        write_weights_only(tmp_path / "w.onnx", layers()[:1] * 2)
