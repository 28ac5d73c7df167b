"""A registry of Keras, TensorFlow and PyTorch models, scanned as it is by workers that know no framework."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onnxmark.cli import run
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from tests.adapters_tf.nets import keras, layers, tf
from tests.onnx_models import conv_chain, kernel


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels of a marked model, out of ONNX, and the file of its key."""
    room = tmp_path_factory.mktemp("marked")
    conv_chain(room / "plain.onnx", [kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2)])
    with open_model(room / "plain.onnx") as model:
        key = make_key(carrier_of(model.sites()[1]), np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8))
    embed_file(room / "plain.onnx", save_key(key, room / "key.npy"), room / "marked.onnx")
    with open_model(room / "marked.onnx") as model:
        return [model.read(site).values for site in model.sites()], room / "key.npy"


def network(kernels=None):
    made = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(16, 3)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *made])
    for layer, values in zip(made, kernels or (), strict=False):
        layer.set_weights([values.transpose(2, 3, 1, 0), np.zeros(16)])
    return model


def test_every_container_is_judged_by_what_is_in_it(kernels, tmp_path):
    """Each of four containers that carry the mark, one that does not, one that is broken, one that holds code."""
    marked, key = kernels
    root = tmp_path / "models"
    root.mkdir()
    model = network(marked)
    model.save(root / "marked.keras")
    model.save(root / "marked.h5")
    model.export(root / "saved", verbose=False)
    (root / "marked.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(root / "saved")).convert())
    network().save(root / "unmarked.keras")
    (root / "torn.keras").write_bytes((root / "marked.keras").read_bytes()[:3000])
    code = keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda x: x * 2.0), layers.Conv2D(16, 3)])
    code.save(root / "code.keras")
    told = tmp_path / "scan.json"
    command = ["scan", str(root), "--key", str(key), "--convert", "-j", "1", "--no-progress", "-o", str(told)]
    assert run(command) == 3
    document = json.loads(told.read_text())
    entries = {entry["model"]["identity"]: entry for entry in document["entries"]}
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        "code.keras": "inconclusive",
        "marked.h5": "match",
        "marked.keras": "match",
        "marked.tflite": "match",
        "saved/saved_model.pb": "match",
        "torn.keras": "inconclusive",
        "unmarked.keras": "no-match",
    }
    assert "a Lambda layer" in entries["code.keras"]["problem"]
    assert "--trust" in entries["code.keras"]["problem"]
    assert "torn.keras" in entries["torn.keras"]["problem"]
    assert [len(copies["places"]) for copies in document["groups"]["copies"]] == [4]


def test_pytorch_beside_it(kernels, tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    marked, key = kernels
    root = tmp_path / "models"
    root.mkdir()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3))
    safetensors.save_file(net.state_dict(), root / "plain.safetensors")
    with torch.no_grad():
        for layer, values in zip((net[0], net[2]), marked, strict=True):
            layer.weight.copy_(torch.tensor(values))
    safetensors.save_file(net.state_dict(), root / "marked.safetensors")
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), root / "marked.pt2")
    torch.save(net.state_dict(), root / "pickled.pt")
    told = tmp_path / "scan.json"
    command = ["scan", str(root), "--key", str(key), "--convert", "-j", "1", "--no-progress", "-o", str(told)]
    assert run(command) == 0
    document = json.loads(told.read_text())
    assert {entry["model"]["identity"]: entry["verdict"] for entry in document["entries"]} == {
        "marked.pt2": "match",
        "marked.safetensors": "match",
        "plain.safetensors": "no-match",
    }
    (left,) = document["coverage"]["skipped"]
    assert (left["outcome"], left["examples"]) == ("unsupported", ["pickled.pt"])
    assert "may run code" in left["reason"]
