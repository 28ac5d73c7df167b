"""What a file is taken for: real files of many libraries, and every way to be mistaken for a model."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.errors import ModelError
from onnxmark.model import open_model
from onnxmark.model.source import Source
from onnxmark.registry.entries import Outcome
from onnxmark.registry.formats import GRAPH_TAGS, HEAD, MODEL_TAGS, holds_graph, judged, named_like_a_model
from tests.registry.discovery.registries import data_bytes, found, model_bytes, only, parses_as_a_model, put

HOW = "scan with --convert, or convert it: onnxmark convert"


def verdict(name: str, data: bytes, graph: bool = False):
    judgement = judged(name, data[:HEAD], len(data), lambda: graph, lambda: graph)
    return None if judgement is None else str(judgement.outcome)


def reason(name: str, data: bytes) -> str:
    judgement = judged(name, data[:HEAD], len(data), lambda: False, lambda: False)
    assert judgement is not None
    assert judgement.reason is not None
    return judgement.reason


def tags_of(descriptor) -> set[int]:
    bytes_like = {descriptor.fields[0].TYPE_STRING, descriptor.fields[0].TYPE_BYTES, descriptor.fields[0].TYPE_MESSAGE}
    return {field.number << 3 | (2 if field.type in bytes_like else 0) for field in descriptor.fields}


def test_the_tags_are_those_of_onnx():
    assert tags_of(onnx.ModelProto.DESCRIPTOR) == MODEL_TAGS
    assert tags_of(onnx.GraphProto.DESCRIPTOR) == GRAPH_TAGS


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "model", "m.pb", "weights.bin"])
def test_a_model_is_one_under_any_name(tmp_path: Path, name: str):
    one = only(put(tmp_path / name).parent)
    assert (one.identity, one.outcome, one.reason) == (name, Outcome.MODEL, None)


@pytest.mark.parametrize("proto", [8, 9, 10, 11])
def test_models_of_every_way_to_be_written(tmp_path: Path, proto: int):
    made = onnx.ModelProto.FromString(model_bytes())
    made.ir_version = proto
    made.doc_string, made.domain, made.model_version = "a text", "org.example", 3
    made.metadata_props.add(key="k", value="v")
    put(tmp_path / "anything", made.SerializeToString())
    assert only(tmp_path).outcome is Outcome.MODEL


def test_two_models_one_after_the_other_are_one_that_protobuf_merges(tmp_path: Path):
    put(tmp_path / "merged", model_bytes(0) + model_bytes(1))
    assert only(tmp_path).outcome is Outcome.MODEL


def test_every_onnx_file_around_is_recognised_by_its_content_alone():
    """Hundreds of files by other hands: models of the onnx package, and the tensors that lie beside them."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    files = sorted(folder.rglob("*.onnx"))
    assert len(files) > 100
    for path in files:
        with Source(path) as source:
            head = source.upto(0, HEAD)
            judgement = judged("no-suffix", head, source.size, lambda: holds_graph(source), lambda: False)
        assert judgement is not None, path
        assert judgement.outcome is Outcome.MODEL, path
    tensors = sorted(folder.rglob("*.pb"))
    for path in tensors:
        with Source(path) as source:
            assert not holds_graph(source), path


@pytest.mark.parametrize(
    "data",
    [
        b"(1",
        b"(1(2",
        b"2\nten letters"[:-1],
        b"2\x05hello",
        b'"\x00',
        b"\x08\x09",
        b"\x08\x09\x12\x04name",
        b":\x00",
        b":\x02\x08\x01",
    ],
)
def test_bytes_that_protobuf_takes_for_a_model_but_hold_no_graph(tmp_path: Path, data: bytes):
    assert parses_as_a_model(data)
    put(tmp_path / "other", data)
    assert found(tmp_path) == []


@pytest.mark.parametrize("more", [b"\x52\x00", b"\xa2\x1f\x00", b"\x0a\x00", b"\x08\x09" * 5000])
def test_messages_of_others_that_have_a_field_where_onnx_has_its_graph(tmp_path: Path, more: bytes):
    """Fields no ONNX model has, as in a Core ML model, or more of them than one would."""
    put(tmp_path / "other", model_bytes())
    assert len(found(tmp_path)) == 1
    put(tmp_path / "other", model_bytes() + more)
    assert found(tmp_path) == []


def test_truncated_models_are_none_unless_they_are_called_so(tmp_path: Path):
    put(tmp_path / "part", model_bytes()[:-20])
    assert found(tmp_path) == []
    put(tmp_path / "part.onnx", model_bytes()[:-20])
    one = only(tmp_path)
    assert one.outcome is Outcome.MODEL
    with pytest.raises(ModelError, match="truncated"):
        open_model(one.location)


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_as_protobuf_would(data: bytes):
    """Whatever is taken for a model by its content, onnx reads as one with a graph."""
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with Source(Path(file.name)) as source:
            if holds_graph(source):
                assert onnx.ModelProto.FromString(data).HasField("graph")


@given(st.text(max_size=60), st.binary(max_size=80))
def test_nothing_raises(name: str, data: bytes):
    for suffix in ("", ".onnx", ".pt", ".keras", ".dvc"):
        judged(name + suffix, data, len(data), lambda: False, lambda: False)
        named_like_a_model(name + suffix)


def test_external_data_are_no_models(tmp_path: Path):
    for name in ("model.onnx_data", "model.onnx.data", "w.weights", "w.bin", "w", "model.onnx.data_0"):
        put(tmp_path / name, data_bytes())
    assert found(tmp_path) == []


def torch_file(new: bool) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, out, _use_new_zipfile_serialization=new)
    return out.getvalue()


def safetensors_file() -> bytes:
    from safetensors.numpy import save

    return save({"w": np.zeros((2, 2), np.float32)})


def zipped(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return out.getvalue()


def ort_file(tmp_path: Path) -> bytes:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "made.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model_bytes(), options, providers=["CPUExecutionProvider"])
    return (tmp_path / "made.ort").read_bytes()


# As keras.saving writes it: stored, not compressed, and this member first.
KERAS = {
    "metadata.json": b'{"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}',
    "config.json": b"{}",
    "model.weights.h5": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "pytorch_model.bin", "m"])
def test_torch_files_of_both_ages(name: str):
    assert reason(name, torch_file(new=True)).startswith("PyTorch archive; opening it may run code")
    named = name.endswith((".pt", ".pth", ".ckpt"))
    assert reason(name, torch_file(new=False)).startswith("PyTorch archive" if named else "pickle")


@pytest.mark.filterwarnings("ignore")
def test_torch_script():
    import torch

    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), out)
    assert reason("model", out.getvalue()).startswith("PyTorch archive")


def test_onnx_runtime_files(tmp_path: Path):
    for name in ("m.ort", "m.onnx", "m"):
        assert reason(name, ort_file(tmp_path)).startswith(f"ONNX Runtime flatbuffer; {HOW}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"\x1c\0\0\0TFL3" + bytes(40),
            f"TensorFlow Lite; {HOW} MODEL.tflite -o MODEL.onnx",
        ),
        (
            b"\x89HDF\r\n\x1a\n" + bytes(40),
            f"HDF5 (Keras model or weights); {HOW} MODEL.h5",
        ),
        (b"GGUF\x03\0\0\0" + bytes(40), "GGUF; holds weights without a graph"),
        (
            safetensors_file(),
            f"safetensors; {HOW} MODEL.safetensors -o MODEL.onnx",
        ),
        (zipped(KERAS), f"Keras archive; {HOW} MODEL.keras"),
        *((pickle.dumps({"a": [1] * 9}, version), "pickle, which is never opened") for version in range(2, 6)),
        *((pickle.dumps([np.zeros(3)], version), "pickle, which is never opened") for version in range(2, 6)),
    ],
)
@pytest.mark.parametrize("name", ["model", "model.bin", "model.onnx"])
def test_other_formats_are_known_by_their_first_bytes(name: str, data: bytes, words: str):
    assert verdict(name, data) == "unsupported"
    assert reason(name, data).startswith(words)


@pytest.mark.parametrize("suffix", [".tflite", ".ort", ".keras", ".h5", ".safetensors", ".gguf"])
def test_a_name_that_the_content_belies(suffix: str):
    assert verdict(f"m{suffix}", b"\xff" * 100) == "failed"
    assert "does not begin like it" in reason(f"m{suffix}", b"\xff" * 100)


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.onnxtxt", "m.mlmodel", "m.engine", "m.pdmodel", "m.pt"])
def test_a_name_is_enough_where_the_content_may_be_anything(name: str):
    assert verdict(name, b"\xff" * 100) == "unsupported"


def test_pickles_and_onnx_may_be_text():
    assert verdict("m.pkl", pickle.dumps({"a": 1}, 0)) == "unsupported"
    assert verdict("m.onnxtxt", b'<ir_version: 9, opset_import: ["" : 18]>\nagraph (float[N] x)') == "unsupported"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("distutils-precedence.pth", b"import os; enabled = True\n"),
        ("a.npz", zipped({"arr_0.npy": b"\x93NUMPY"})),
        ("a.npy", b"\x93NUMPY\x01\x00"),
        ("a.jar", zipped({"META-INF/MANIFEST.MF": b""})),
        ("metadata.zip", zipped({"metadata.json": b"{}"})),
        ("a.txt", b"plain text"),
        ("a.py", b"print(1)"),
        ("config.json", b"{}"),
        ("a.png", b"\x89PNG\r\n"),
        ("raw", b"\x80\x02\x00\x00" * 10),
        ("raw", b"\x80\x04\x00\x00" * 10),
        ("raw", b"\xff\xff\x00\x00\x00\x00\x00\x00" + b'{"no header of that length"'),
        ("empty", b""),
        ("image.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    ],
)
def test_other_files_are_no_models(name: str, data: bytes):
    assert verdict(name, data) is None


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.pt", "saved_model.pb"])
def test_empty_files_called_like_models(name: str):
    assert verdict(name, b"") == "failed"
    assert reason(name, b"").startswith("is empty")


@pytest.mark.parametrize(
    ("data", "outcome", "words"),
    [
        (b"<!DOCTYPE html><html>", "failed", "HTML page"),
        (b'{"error": "no such model"}', "failed", "JSON text"),
        (b"hello\n", "failed", "a text file"),
        (b"\x1f\x8b\x08\x00", "unsupported", "gzip-compressed data"),
        (zipped({"model.onnx": b""}), "unsupported", "a zip archive"),
        (b"\x93NUMPY\x01\x00", "unsupported", "a NumPy array"),
    ],
)
def test_other_things_called_onnx(data: bytes, outcome: str, words: str):
    assert verdict("m.onnx", data) == outcome
    assert words in reason("m.onnx", data)


def test_packed_models_are_not_passed_in_silence():
    assert verdict("m.onnx.gz", b"\x1f\x8b\x08\x00") == "unsupported"
    assert verdict("m.tar.gz", b"\x1f\x8b\x08\x00") is None


def test_text_that_is_a_model_is_one():
    """A protobuf of printable bytes is possible: what it holds decides, not how it looks."""
    assert verdict("m.onnx", b"2\x20" + b" " * 32, graph=True) == "model"
    assert verdict("m.onnx", b"2  " + b" " * 32, graph=False) == "failed"


def test_a_saved_model_is_its_directory(tmp_path: Path):
    put(tmp_path / "net" / "saved_model.pb", b"\x08\x01\x12\x00")
    put(tmp_path / "net" / "variables" / "variables.data-00000-of-00001", data_bytes())
    put(tmp_path / "net" / "variables" / "variables.index", b"\x00\x00")
    one = only(tmp_path)
    assert (one.identity, one.outcome) == ("net/", Outcome.UNSUPPORTED)
    assert one.location == str(tmp_path / "net")
    assert "onnxmark convert SAVED_MODEL_DIR" in (one.reason or "")


def test_reasons_do_not_tell_paths_so_that_they_can_be_counted(tmp_path: Path):
    for name in ("a.tflite", "b.tflite", "sub/c.tflite"):
        put(tmp_path / name, b"\x1c\0\0\0TFL3")
    assert len({each.reason for each in found(tmp_path)}) == 1
