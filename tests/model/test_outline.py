"""A model that begins like something else is a model: ONNX Runtime loads it, so it is read, audited and scanned."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.cli import run
from onnxmark.conversion import container_of
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.model.outline import begins_like_a_message, has_outline
from onnxmark.model.source import Source
from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.discovery import discover
from onnxmark.registry.entries import Outcome
from onnxmark.registry.ring import ring_folder
from tests.onnx_models import conv_chain, kernel

KERNELS = [kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2)]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A marked model and its key."""
    room = tmp_path_factory.mktemp("outline")
    conv_chain(room / "plain.onnx", KERNELS)
    with open_model(room / "plain.onnx") as model:
        key = make_key(carrier_of(model.sites()[1]), np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8))
    embed_file(room / "plain.onnx", save_key(key, room / "key.npy"), room / "marked.onnx")
    return room


def produced_by(data, name):
    model = onnx.ModelProto.FromString(data)
    model.producer_name = name
    return model.SerializeToString()


def begun_with(prefix):
    """Bytes that are a field nobody knows, and the beginning of something else."""
    return lambda data: prefix + data


DISGUISES = {
    "TensorFlow Lite": lambda data: produced_by(data, "TFL3"),
    "ONNX Runtime flatbuffer": lambda data: produced_by(data, "ORTM"),
    "HDF5": begun_with(b"\x89HDF\r\n\x1a\n\0\0"),
    "PNG": begun_with(b"\x89PNG\r\n\x1a\n\0\0"),
    "PDF": begun_with(b"%PDF-"),
    "pickle, version 2": begun_with(b"\x80\x02}"),
    "pickle, version 4": begun_with(b"\x80\x04\x95\x01"),
    # A producer whose name holds NULs, so that the eight bytes before the brace are the length of a header.
    "safetensors": lambda data: b'\x08\x09\x12\x0e\0\0\0\0{"dtype":1' + onnx_without_ir_version(data),
}


def onnx_without_ir_version(data):
    model = onnx.ModelProto.FromString(data)
    model.ClearField("ir_version")
    model.ClearField("producer_name")
    return model.SerializeToString()


@pytest.fixture(params=DISGUISES)
def disguised(request, room, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(DISGUISES[request.param]((room / "marked.onnx").read_bytes()))
    return path


def test_onnx_runtime_takes_it(disguised, room):
    """What makes it a model, and the reason for all of this."""
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": image})[0]
        for path in (disguised, room / "marked.onnx")
    ]
    np.testing.assert_array_equal(*answers)


def test_it_is_read_and_never_taken_for_a_container(disguised):
    assert container_of(disguised) is None
    with open_model(disguised) as model:
        assert [site.shape for site in model.sites()] == [(16, 3, 3, 3), (16, 16, 3, 3)]


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "weights.h5", "model.safetensors", "model.pt", "blob"])
def test_it_is_audited_under_any_name(disguised, room, name):
    path = disguised.rename(disguised.with_name(name))
    assert run(["audit", str(path), "--key", str(room / "key.npy"), "--no-progress", "-o", str(path) + ".json"]) == 0


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "blob", "saved_model.pb"])
def test_a_scan_does_not_pass_it_over(disguised, room, name):
    path, told = disguised.rename(disguised.with_name(name)), disguised.with_name("told.json")
    command = ["scan", str(path.parent), "--key", str(room / "key.npy"), "-j", "1", "--no-progress", "-o", str(told)]
    assert run(command) == 0
    (entry,) = json.loads(told.read_text())["entries"]
    assert (entry["model"]["identity"], entry["verdict"]) == (name, "match")


def test_a_fetched_one_is_not_passed_over_either(disguised, room):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    try:
        files.pipe_file("/disguised/model.onnx", disguised.read_bytes())
        (found,) = discover(["memory://disguised"])
        with ring_folder([room / "key.npy"]) as ring:
            (result,) = audit_chunk([found.location], ring)
    finally:
        files.rm("/disguised", recursive=True)
    assert found.outcome is Outcome.MODEL
    assert (result["status"], len(result["hits"])) == ("audited", 1)


def hdf5():
    """What every file of HDF5 begins with: its signature, and a superblock of version 0."""
    return b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(80)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    return file.getvalue()


REAL = {
    "TensorFlow Lite": b"\x1c\0\0\0TFL3" + bytes(40),
    "HDF5": hdf5(),
    "zip": zipped(),
    "pickle": pickle.dumps({"weights": list(range(1000))}, 4),
    "safetensors": (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_off' + bytes(40),
    "SavedModel": b"\x08\x01\x12\x04\x0a\x02\x08\x01",
    "text": b'ir_version: 9\nproducer_name: "x"\ngraph { node { } }\n' * 20,
    "nothing": b"",
}


@pytest.mark.parametrize("data", REAL.values(), ids=REAL)
def test_what_is_something_else_stays_that(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    with Source(tmp_path / "file") as source:
        assert not has_outline(source)


def test_every_model_has_an_outline_and_begins_like_a_message(room):
    for path in (room / "plain.onnx", room / "marked.onnx"):
        data = path.read_bytes()
        with Source(path) as source:
            assert has_outline(source)
        for size in range(1, 600, 7):
            assert begins_like_a_message(data[:size], len(data))


def encoded(number):
    """A varint."""
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


NUMBERS = st.integers(1, 2**29 - 1)
FIELDS = st.one_of(
    st.builds(lambda number, value: encoded(number << 3) + encoded(value), NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(lambda number, data: encoded(number << 3 | 1) + data, NUMBERS, st.binary(min_size=8, max_size=8)),
    st.builds(lambda number, data: encoded(number << 3 | 2) + encoded(len(data)) + data, NUMBERS, st.binary()),
    st.builds(lambda number: encoded(number << 3 | 3) + encoded(number << 3 | 4), NUMBERS),
    st.builds(lambda number, data: encoded(number << 3 | 5) + data, NUMBERS, st.binary(min_size=4, max_size=4)),
)


@given(st.lists(FIELDS, max_size=20).map(b"".join), st.integers(0, 300))
def test_every_beginning_of_a_message_is_taken_for_one(data, cut):
    """Fields that nobody knows included; field 3000 and others that ONNX has are as good as any."""
    assert begins_like_a_message(data[:cut], len(data))


@pytest.mark.parametrize("data", [data for data in REAL.values() if data and not data.startswith(b"\x08")])
def test_what_is_something_else_does_not_even_begin_like_one(data):
    assert not begins_like_a_message(data, len(data))
