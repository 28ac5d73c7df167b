"""safetensors files: sound ones in every shape they come in, and hostile ones refused in a line."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from onnxmark_torch.conversion.tensors import convert
from safetensors.torch import save_file

from onnxmark.conversion import Container
from onnxmark.errors import ConversionError, MissingExtra
from tests.adapters.conversion.subjects import (
    HERE,
    SHAPE,
    images,
    mixed_net,
    request,
    run_onnx,
    run_torch,
    sites,
    two_inputs,
)


def asked(source, tmp_path, **options):
    return request(source, tmp_path, container=Container.SAFETENSORS, **options)


def saved(tmp_path, state=None, name="net.safetensors"):
    path = tmp_path / name
    save_file(mixed_net().state_dict() if state is None else state, path)
    return path


def sharded(tmp_path, files=None):
    state = list(mixed_net().state_dict().items())
    parts = {"a.safetensors": dict(state[:6]), "b.safetensors": dict(state[6:])}
    for name, part in parts.items():
        save_file(part, tmp_path / name)
    places = {name: file for file, part in parts.items() for name in part}
    path = tmp_path / "net.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places | (files or {})}))
    return path


def test_without_a_network_the_weights_alone(tmp_path):
    wanted = asked(saved(tmp_path), tmp_path)
    converted = convert(wanted)
    assert not converted.has_graph
    assert converted.route.startswith("safetensors ")
    assert "does not run" in converted.notes[0]
    assert [weights.name for weights in converted.weights] == list(sites(wanted.target))
    for weights in converted.weights:
        np.testing.assert_array_equal(sites(wanted.target)[weights.name], weights.values)


@pytest.mark.parametrize("make", [saved, sharded])
def test_with_its_network_the_graph_too(tmp_path, make):
    wanted = asked(make(tmp_path), tmp_path, factory=f"{HERE}:mixed_net", shapes=(("", SHAPE),))
    converted = convert(wanted)
    assert converted.has_graph
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)
    for weights in converted.weights:
        np.testing.assert_array_equal(sites(wanted.target)[weights.name], weights.values)


def test_the_weights_of_the_file_go_into_the_network(tmp_path):
    net = mixed_net()
    with torch.no_grad():
        net.head.bias.fill_(3)
    path = saved(tmp_path, net.state_dict())
    wanted = asked(path, tmp_path, factory=f"{HERE}:mixed_net", shapes=(("", SHAPE),))
    convert(wanted)
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(net, images()), atol=1e-5)


def test_several_inputs_by_name(tmp_path):
    path = saved(tmp_path, two_inputs().state_dict())
    wanted = asked(path, tmp_path, factory=f"{HERE}:two_inputs", shapes=(("two", (3, 4)), ("one", (3, 6))))
    convert(wanted)
    one, two = torch.randn(3, 6), torch.randn(3, 4)
    expected = run_torch(two_inputs(), one, two)
    np.testing.assert_allclose(run_onnx(wanted.target, one=one, two=two), expected, atol=1e-6)


def test_names_below_a_wrapper(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in mixed_net().state_dict().items()}
    converted = convert(asked(saved(tmp_path, state), tmp_path))
    assert {weights.name.partition(".")[0] for weights in converted.weights} == {"plain", "grouped", "raised", "head"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_short_floats_are_read_exactly(tmp_path, dtype):
    values = torch.randn(8, 5).to(dtype)
    converted = convert(asked(saved(tmp_path, {"head.weight": values}), tmp_path))
    np.testing.assert_array_equal(converted.weights[0].values, values.float().numpy())


def test_no_weights_no_file(tmp_path):
    with pytest.raises(ConversionError, match="none of its 1 tensors can be the weights of a layer"):
        convert(asked(saved(tmp_path, {"bias": torch.ones(3)}), tmp_path))


def test_a_network_without_shapes_says_how_to_give_them(tmp_path):
    with pytest.raises(
        ConversionError, match=r"does not know the shapes of its inputs; give them: --input 1x3x224x224"
    ):
        convert(asked(saved(tmp_path), tmp_path, factory=f"{HERE}:mixed_net"))


def test_weights_of_another_network(tmp_path):
    path = saved(tmp_path, {"plain.weight": torch.ones(8, 4, 3, 3)})
    with pytest.raises(ConversionError, match=r"does not fit the network: it lacks 'norm\.weight'"):
        convert(asked(path, tmp_path, factory=f"{HERE}:mixed_net", shapes=(("", SHAPE),)))


def test_without_the_library_the_cure_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(MissingExtra, match=r"needs safetensors.*pip install 'onnxmark\[torch\]'"):
        convert(asked(path, tmp_path))


def built(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


F32 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
TWICE = (
    b'{"w.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},'
    b'"w.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}'
)

HOSTILE = {
    "empty": b"",
    "length only": struct.pack("<Q", 64),
    "huge header": built({"w.weight": F32}, bytes(16), length=2**63),
    "header of a gigabyte": built({"w.weight": F32}, bytes(16), length=2**30),
    "no JSON": built(b"{'w'", bytes(16)),
    "not UTF-8": built(b"\xff\xfe{}", bytes(16)),
    "overlapping": built({"a.weight": F32, "b.weight": F32 | {"data_offsets": [8, 24]}}, bytes(24)),
    "a gap": built({"a.weight": F32, "b.weight": F32 | {"data_offsets": [32, 48]}}, bytes(48)),
    "backwards": built({"a.weight": F32 | {"data_offsets": [16, 0]}}, bytes(16)),
    "beyond the end": built({"a.weight": F32}, bytes(8)),
    "unused bytes": built({"a.weight": F32}, bytes(32)),
    "unknown type": built({"a.weight": F32 | {"dtype": "F31"}}, bytes(16)),
    "type and offsets differ": built({"a.weight": F32 | {"dtype": "F64"}}, bytes(16)),
    "overflowing shape": built({"a.weight": F32 | {"shape": [2**62, 2**62]}}, bytes(16)),
    "negative shape": built({"a.weight": F32 | {"shape": [-2, -2]}}, bytes(16)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        ConversionError, match=r"'net\.safetensors' is no sound safetensors file: .*; get the file"
    ) as e:
        convert(asked(path, tmp_path))
    assert "\n" not in str(e.value)


def test_a_name_twice(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(built(TWICE, np.arange(4, dtype="<f4").tobytes()))
    with pytest.raises(ConversionError, match=r"'w\.weight', 'w\.weight': one name stands twice"):
        convert(asked(path, tmp_path))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 2000])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ConversionError, match="is no sound safetensors file"):
        convert(asked(path, tmp_path))


@pytest.mark.parametrize(
    "file", ["../a.safetensors", "/etc/passwd", "", ".", "..", "x/../a.safetensors", "..\\a", "a\0b"]
)
def test_an_index_names_files_beside_it_only(tmp_path, file):
    with pytest.raises(ConversionError, match="which is no file beside it; get the model again"):
        convert(asked(sharded(tmp_path, {"head.weight": file}), tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"head.weight": "c.safetensors"}, "'c.safetensors' is no sound safetensors file: FileNotFoundError"),
        ({"head.weight": "a.safetensors"}, r"'a\.safetensors' lacks 'head\.weight', which the index names"),
        ({"tail.weight": "a.safetensors"}, r"'a\.safetensors' lacks 'tail\.weight', which the index names"),
        ({"head.weight": 3}, "has no 'weight_map' of tensors and files"),
    ],
)
def test_an_index_that_does_not_fit_its_files(tmp_path, files, words):
    with pytest.raises(ConversionError, match=words):
        convert(asked(sharded(tmp_path, files), tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"weight_map": {}}', '{"weight_map": []}', "[" * 100_000])
def test_a_damaged_index(tmp_path, text):
    path = tmp_path / "net.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(ConversionError, match=r"the index (cannot be read|has no 'weight_map')"):
        convert(asked(path, tmp_path))
