"""Containers told by content, and by name where content does not tell."""

from __future__ import annotations

import json
import os
import struct
import zipfile

import pytest
import torch

from onnxmark.conversion import Container, container_of
from tests.onnx_models import conv_chain, kernel


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HEAD = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
PLAIN = {
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(9), Container.TFLITE),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(9), Container.ORT),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), Container.HDF5),
    "safetensors": (struct.pack("<Q", len(HEAD)) + HEAD + bytes(4), Container.SAFETENSORS),
    "text": (b"hello, world, this is a text", None),
    "nothing": (b"", None),
    "zip": (b"PK\x03\x04 torn", None),
    "pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", None),
}


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("name", ["model", "model.bin.gz", "Modell mit Ä.xyz"])
def test_first_bytes_tell_whatever_the_name(tmp_path, case, name):
    data, expected = PLAIN[case]
    (tmp_path / name).write_bytes(data)
    assert container_of(tmp_path / name) is expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("m.pt", PLAIN["pickle"][0], Container.TORCH),
        ("m.PTH", PLAIN["pickle"][0], Container.TORCH),
        ("m.pkl", PLAIN["pickle"][0], None),
        ("m.pt", b"PK\x03\x04 torn", Container.TORCH),
        ("m.pt2", b"PK\x03\x04 torn", Container.EXPORTED_PROGRAM),
        ("m.keras", b"PK\x03\x04 torn", Container.KERAS),
        ("m.safetensors", b"torn", Container.SAFETENSORS),
        ("m.safetensors.index.json", b"{}", Container.SAFETENSORS),
        ("m.onnxtxt", b"ir_version: 8", Container.ONNX_TEXT),
        ("m.onnxjson", b"{}", Container.ONNX_TEXT),
        ("m.onnx", b"\x08\x09", None),
        ("saved_model.pb", b"\x08\x01", Container.SAVED_MODEL),
    ],
)
def test_names_tell_where_content_does_not(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert container_of(tmp_path / name) is expected


def test_a_damaged_file_called_onnx_is_left_to_the_reader(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 40)
    assert container_of(tmp_path / "m.onnx") is None
    assert container_of(conv_chain(tmp_path / "c.onnx", [kernel((4, 3, 3, 3))])) is None


@pytest.mark.filterwarnings("ignore")
def test_archives_of_torch_as_torch_writes_them(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)).eval()
    example = (torch.zeros(1, 1, 5, 5),)
    torch.save(net.state_dict(), tmp_path / "weights")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.trace(net, example), tmp_path / "script")
    with (tmp_path / "program").open("wb") as file:
        torch.export.save(torch.export.export(net, example), file)
    assert container_of(tmp_path / "weights") is Container.TORCH
    assert container_of(tmp_path / "old.pt") is Container.TORCH
    assert container_of(tmp_path / "script") is Container.TORCH
    assert container_of(tmp_path / "program") is Container.EXPORTED_PROGRAM


def test_archives_of_keras_and_of_others(tmp_path):
    zipped(tmp_path / "keras", {"metadata.json": "{}", "config.json": "{}", "model.weights.h5": b""})
    zipped(tmp_path / "other.zip", {"a.txt": "a"})
    zipped(tmp_path / "arrays.npz", {"arr_0.npy": b"\x93NUMPY"})
    assert container_of(tmp_path / "keras") is Container.KERAS
    assert container_of(tmp_path / "other.zip") is None
    assert container_of(tmp_path / "arrays.npz") is None


def test_directories(tmp_path):
    assert container_of(tmp_path) is None
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert container_of(tmp_path) is Container.SAVED_MODEL


def test_what_is_no_file_is_left_to_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert container_of(tmp_path / "pipe") is None
    assert container_of(tmp_path / "absent.tflite") is None
