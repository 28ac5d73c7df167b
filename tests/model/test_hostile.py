"""Whatever the bytes: a result or one typed error, soon; never another exception, never memory without end."""

from __future__ import annotations

import os
import re
import struct
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxmark.errors import MalformedModel, ModelError, ModelLimitError, ModelUnavailable, NotAModel
from onnxmark.model import limits, open_model
from tests.model.models import block, constant, conv, model, number, save, tensor, varint, weights

W = weights(6, 4, 3, 3)


def rich_model() -> onnx.ModelProto:
    """A bit of everything, small."""
    then = helper.make_graph([constant("k", weights(2, 3, 1, 1)), conv("k", out="t")], "t", [], [])
    other = helper.make_graph([conv("w2", out="e")], "e", [], [], [tensor("w2", weights(2, 3, 1, 1))])
    function = helper.make_function("f", "F", ["a", "b"], ["o"], [conv("b", "a", "o")], [helper.make_opsetid("", 17)])
    return model(
        [
            helper.make_node("Transpose", ["w"], ["v"], perm=[3, 2, 0, 1]), conv("v", out="a"),
            helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=0), conv("d", "a", "b"),
            helper.make_node("Reshape", ["r", "shape"], ["rr"]), conv("rr", "b", "bb"),
            helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
            helper.make_node("F", ["i", "w"], ["y"], domain="f"),
            helper.make_node("MatMul", ["y", "m"], ["z"]),
        ],
        [
            tensor("w", weights(2, 2, 3, 3)), tensor("q", np.ones((3, 2, 1, 1), np.int8)),
            helper.make_tensor("s", T.FLOAT, [3], [1, 2, 3]), tensor("r", weights(18)),
            helper.make_tensor("shape", T.INT64, [4], [2, -1, 3, 3]),
            helper.make_tensor("m", T.FLOAT16, [2, 2], [1, 2, 3, 4]),
        ],
        functions=[function],
        sparse=[helper.make_sparse_tensor(tensor("sp", np.float32([1])), tensor("si", np.int64([0])), [4])],
    )  # fmt: skip


def attempt(path: Path) -> str:
    """Open, list and read everything; what came out of it, in a word."""
    errors: list[ModelError] = []
    outcome = "read"
    try:
        with open_model(path, limit=1 << 24) as opened:
            _ = (opened.metadata, opened.producer, opened.opset)
            for site in opened.sites():
                try:
                    opened.read(site)
                except ModelError as error:
                    errors.append(error)
    except ModelError as error:
        errors.append(error)
        outcome = type(error).__name__
    assert all(str(error) and "\n" not in str(error) for error in errors)
    return outcome


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = rich_model().SerializeToString()
    path = tmp_path / "m.onnx"
    outcomes = set()
    for end in np.linspace(1, len(data) - 1, 300).astype(int):
        path.write_bytes(data[:end])
        outcomes.add(attempt(path))
    assert outcomes <= {"read", "MalformedModel", "NotAModel"}
    graph = data.index(b"Transpose")
    path.write_bytes(data[: graph + 40])
    with pytest.raises(MalformedModel, match=r"m\.onnx.*truncated: field 7 needs \d+ bytes, \d+ are left at byte \d+"):
        open_model(path)


def test_flipped_bytes(tmp_path: Path) -> None:
    data = rich_model().SerializeToString()
    rng = np.random.default_rng(7)
    path = tmp_path / "m.onnx"
    began = time.process_time()
    outcomes: dict[str, int] = {}
    for _ in range(2000):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        outcome = attempt(path)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["read"] > 300
    assert outcomes["MalformedModel"] > 300
    assert time.process_time() - began < 60


def test_random_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    path = tmp_path / "m.onnx"
    for size in range(1, 600):
        path.write_bytes(rng.bytes(size))
        assert attempt(path) in ("MalformedModel", "NotAModel", "ModelLimitError")


def graph_of(*fields: bytes) -> bytes:
    return number(1, 8) + block(7, b"".join(fields))


def tensor_of(dims: list[int], data: bytes = b"", code: int = T.FLOAT) -> bytes:
    return block(5, b"".join(number(1, d) for d in dims) + number(2, code) + block(8, b"w") + block(9, data))


CONV = block(1, block(1, b"x") + block(1, b"w") + block(2, b"y") + block(4, b"Conv"))

MALFORMED = {
    "negative dimension": (graph_of(tensor_of([-1, 2])), "tensor 'w' with the negative dimension -1"),
    "length beyond the graph": (number(1, 8) + block(7, varint(5 << 3 | 2) + varint(99) + b"abc"), "needs 99 bytes"),
    "length beyond the tensor": (
        graph_of(block(5, varint(8 << 3 | 2) + varint(9) + b"w"), tensor_of([1], bytes(4))),
        "field 8 needs 9 bytes, 1 are left",
    ),
    "varint of eleven bytes": (graph_of(block(5, b"\x08" + b"\xff" * 10 + b"\x01")), "a varint of more than ten bytes"),
    "wire type 6": (graph_of(block(5, varint(1 << 3 | 6) + b"\0")), "unknown wire type 6"),
    "wire type 7": (graph_of(block(5, varint(1 << 3 | 7) + b"\0")), "unknown wire type 7"),
    "field number 0": (graph_of(block(5, b"\x00\x00")), "a field numbered 0"),
    "group without an end": (graph_of(varint(9 << 3 | 3)), "a group that does not end"),
    "end of no group": (graph_of(varint(9 << 3 | 4)), "the end of a group that never began"),
    "fixed field cut": (graph_of(block(5, varint(9 << 3 | 5) + b"\0")), "needs 4 bytes, 1 are left"),
    "sparse without values": (graph_of(block(15, b"")), "a sparse tensor without values"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str) -> None:
    data, why = MALFORMED[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(MalformedModel, match=re.escape(why) + r".* at byte \d+"):
        open_model(path)


TENSORS = {
    "too few bytes": (tensor_of([2, 2, 1], bytes(15)), "needs 16 bytes, has 15 of raw data"),
    "too many bytes": (tensor_of([2, 2, 1], bytes(17)), "needs 16 bytes, has 17 of raw data"),
    "huge dims": (tensor_of([2**62, 2**62, 2**62], bytes(4)), "needs more than 2^64 bytes, has 4"),
    "dims whose product wraps to the size": (tensor_of([2**32, 2**32, 1], b""), "needs more than 2^64 bytes, has 0"),
    "no data": (block(5, number(1, 3) * 3 + number(2, T.FLOAT) + block(8, b"w")), "needs 108 bytes, has 0 of no data"),
    "float data as int8": (
        block(5, number(1, 1) * 3 + number(2, T.INT8) + block(8, b"w") + block(4, bytes(4))),
        "keeps int8 in float_data",
    ),
    "too few integers": (
        block(5, number(1, 1) * 2 + number(1, 4) + number(2, T.INT32)
              + block(5, b"\xff\xff\xff\x01\x02") + block(8, b"w")),
        "needs 4 integers, has 2",
    ),
    "integers cut short": (
        block(5, number(1, 1) * 3 + number(2, T.INT32) + block(8, b"w") + block(5, b"\xff\xff")),
        "needs 1 integers, has 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensor_that_contradicts_itself(tmp_path: Path, case: str) -> None:
    data, why = TENSORS[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of(data, CONV))
    with open_model(path) as opened:
        (site,) = opened.sites()
        with pytest.raises(MalformedModel, match=r"tensor 'w' of shape .*" + re.escape(why)):
            opened.read(site)


def test_too_many_axes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for dims in ([1] * 65, [2**62] * 100_000):
        path.write_bytes(graph_of(tensor_of(dims)))
        with pytest.raises(ModelLimitError, match="axes, more than 64"):
            open_model(path)


def test_deep_nesting(tmp_path: Path) -> None:
    graph = block(1, block(4, b"Relu"))
    for _ in range(3000):
        attribute = block(1, b"then_branch") + number(20, 5) + block(6, graph)
        graph = block(1, block(4, b"If") + block(5, attribute))
    path = tmp_path / "m.onnx"
    path.write_bytes(number(1, 8) + block(7, graph))
    with open_model(path) as opened, pytest.raises(ModelLimitError, match="nested more than 64"):
        opened.sites()
    path.write_bytes(graph_of((varint(9 << 3 | 3)) * 5000))
    with pytest.raises(ModelLimitError, match="groups nested more than 64"):
        open_model(path)


def bomb(levels: int, fan: int, leaf: list) -> onnx.ModelProto:
    functions = [helper.make_function("f", "F0", ["a", "w"], ["o"], leaf, [helper.make_opsetid("", 17)])]
    for level in range(1, levels):
        names = ["a"] + [f"t{i}" for i in range(fan - 1)] + ["o"]
        calls = [
            helper.make_node(f"F{level - 1}", [names[i], "w"], [names[i + 1]], domain="f", name=f"c{i}")
            for i in range(fan)
        ]
        functions.append(helper.make_function("f", f"F{level}", ["a", "w"], ["o"], calls, []))
    call = helper.make_node(f"F{levels - 1}", ["x", "w"], ["y"], domain="f", name="call")
    return model([call], [tensor("w", W)], functions=functions)


def test_function_bomb(tmp_path: Path) -> None:
    """Ten functions that each call the one before ten times: 10^10 convolutions."""
    path = save(bomb(11, 10, [conv("w", "a", "o")]), tmp_path / "m.onnx")
    began = time.process_time()
    with open_model(path) as opened, pytest.raises(ModelLimitError, match="expanding functions visits more than"):
        opened.sites()
    assert time.process_time() - began < 60


def test_function_bomb_without_layers_is_nothing(tmp_path: Path) -> None:
    path = save(bomb(11, 10, [helper.make_node("Relu", ["a"], ["o"])]), tmp_path / "m.onnx")
    with open_model(path) as opened:
        assert opened.sites() == ()


def test_functions_called_too_deep_or_by_themselves(tmp_path: Path) -> None:
    with (
        open_model(save(bomb(40, 1, [conv("w", "a", "o")]), tmp_path / "m.onnx")) as opened,
        pytest.raises(ModelLimitError, match="more than 32 deep"),
    ):
        opened.sites()
    own = helper.make_function(
        "f", "F", ["a"], ["o"], [helper.make_node("F", ["a"], ["o"], domain="f"), conv("a", "a", "b")], []
    )
    made = model([helper.make_node("F", ["x"], ["y"], domain="f"), conv("y", out="z")], functions=[own])
    with open_model(save(made, tmp_path / "m.onnx")) as opened, pytest.raises(ModelLimitError, match="calls itself"):
        opened.sites()


def test_a_recursive_function_as_weights(tmp_path: Path) -> None:
    """No layer inside, so it is met only when its result is asked for."""
    own = helper.make_function("f", "F", ["a"], ["o"], [helper.make_node("F", ["a"], ["o"], domain="f")], [])
    made = model([helper.make_node("F", ["w"], ["k"], domain="f"), conv("k")], [tensor("w", W)], functions=[own])
    with open_model(save(made, tmp_path / "m.onnx")) as opened, pytest.raises(ModelLimitError, match="calls itself"):
        opened.sites()


def test_many_layers_on_one_long_chain(tmp_path: Path) -> None:
    """Each layer's weights are one step further down: a quadratic amount of work is refused, not done."""
    nodes = []
    for i in range(2500):
        nodes += [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]), conv(f"v{i + 1}", out=f"y{i}")]
    began = time.process_time()
    path = save(model(nodes, [tensor("v0", W)]), tmp_path / "m.onnx")
    with open_model(path) as opened, pytest.raises(ModelLimitError, match="computed in more than 2000000 steps"):
        opened.sites()
    assert time.process_time() - began < 30


def test_more_nodes_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxmark.model.decode.MAX_ITEMS", 10)
    path = save(model([helper.make_node("Relu", ["x"], ["y"])] * 11), tmp_path / "m.onnx")
    with pytest.raises(ModelLimitError, match="more than 10 nodes and tensors"):
        open_model(path)


def test_a_message_of_millions_of_fields(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of(block(1, block(1, b"") * (limits.MAX_MESSAGE_FIELDS + 70_000))))
    with pytest.raises(ModelLimitError, match=r"a message with more than \d+ fields"):
        open_model(path)


def test_a_name_of_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of(block(1, block(3, b"n" * (limits.MAX_TEXT + 1)))))
    with pytest.raises(ModelLimitError, match="a name or value of 1048577 bytes"):
        open_model(path)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    odd = block(1, block(1, b"x") + block(1, b"\xff\x1b[31m\n") + block(2, b"y") + block(4, b"Conv"))
    path.write_bytes(graph_of(odd))
    with open_model(path) as opened:
        (site,) = opened.sites()
        assert site.name == "\\xff\x1b[31m\n"
        with pytest.raises(ModelError, match=r"named '\\\\xff\\x1b\[31m\\n'") as caught:
            opened.read(site)
    assert "\x1b" not in str(caught.value)


FOREIGN = {
    "empty": (b"", "is empty"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite.*onnxmark convert"),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(50), "ONNX Runtime flatbuffer"),
    "safetensors": (struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "safetensors"),
    "zip": (b"PK\x03\x04" + bytes(50), "zip archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "gguf": (b"GGUF" + bytes(50), "GGUF"),
    "pickle": (b"\x80\x04\x95\x10" + bytes(20), "pickle"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(20), "NumPy array"),
    "html": (b"<!DOCTYPE html><html><head></head>", "HTML page.*download it again"),
    "json": (b'{"model": [1, 2]}', "JSON text"),
    "text": (b"hello there, this is no model at all", "a text file"),
    "utf-8 text": ("Größe: eins, zwei, drei".encode(), "a text file"),
    "binary": (bytes(range(128, 256)), "unknown binary format"),
    "no graph": (number(1, 8) + block(2, b"maker"), "holds no graph"),
    "empty graph": (number(1, 8) + block(7, block(2, b"name")), "no nodes and no initializers"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_files_are_named(tmp_path: Path, case: str) -> None:
    data, why = FOREIGN[case]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(NotAModel, match=why):
        open_model(path)


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="No such file"):
        open_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelUnavailable, match="is a directory"):
        open_model(tmp_path)
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        open_model("a\0b")
    with pytest.raises(ModelUnavailable, match="is a device"):
        open_model("/dev/null")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ModelUnavailable, match="is a pipe"):
        open_model(fifo)


def test_a_failed_open_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"hello")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        with pytest.raises(NotAModel, match="text file"):
            open_model(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
