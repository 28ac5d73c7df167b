"""Exported programs: converted without trust where nothing in them can run, and refused where something could."""

from __future__ import annotations

import copy
import io
import json
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch.conversion.exported import convert, program_weights
from onnxmark_torch.conversion.module_weights import weights_of
from onnxmark_torch.conversion.program_rules import UnsafeProgram, plain
from onnxmark_torch.exporting import silenced
from torch import nn

from onnxmark.conversion import Container
from onnxmark.errors import ConversionError, TrustRequired
from tests.adapters.conversion.subjects import (
    Payload,
    edited,
    edited_json,
    images,
    mixed_net,
    opset,
    request,
    run_onnx,
    run_torch,
    save_program,
    sites,
)

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
INPUTS = "data/sample_inputs/model.pt"
EVIL = "__import__('os').system('true')"


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    return save_program(tmp_path_factory.mktemp("program") / "net.pt2")


@pytest.fixture(scope="module")
def dynamic_file(tmp_path_factory):
    return save_program(tmp_path_factory.mktemp("program") / "dynamic.pt2", dynamic=True)


def asked(source, tmp_path, **options):
    return request(source, tmp_path, container=Container.EXPORTED_PROGRAM, **options)


def member(path, name):
    """A member of an archive that is JSON."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}"))


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_program_is_converted_without_trust(program_file, tmp_path):
    wanted = asked(program_file, tmp_path)
    converted = convert(wanted)
    assert converted.has_graph
    assert converted.notes == ()
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)
    assert not [file for file in wanted.target.parent.iterdir() if not file.name.startswith("model.onnx")]


def test_its_weights_are_the_module_s_own_and_bear_their_names(program_file, tmp_path):
    wanted = asked(program_file, tmp_path)
    converted = convert(wanted)
    found = sites(wanted.target)
    assert [weights.name for weights in converted.weights] == list(found)
    for weights in converted.weights:
        np.testing.assert_array_equal(found[weights.name], weights.values)


def test_no_path_of_the_machine_it_was_made_on_remains(program_file, tmp_path):
    """The exporter would write where each line of the network's source lies into the file."""
    with zipfile.ZipFile(program_file) as archive:
        assert b"subjects.py" in b"".join(map(archive.read, archive.namelist()))
    wanted = asked(program_file, tmp_path)
    convert(wanted)
    assert b"subjects.py" not in wanted.target.read_bytes()


def test_a_free_batch_stays_free(dynamic_file, tmp_path):
    wanted = asked(dynamic_file, tmp_path)
    convert(wanted)
    (given,) = onnx.load(wanted.target, load_external_data=False).graph.input
    assert given.type.tensor_type.shape.dim[0].dim_param
    five = torch.randn(5, 4, 8, 8)
    np.testing.assert_allclose(run_onnx(wanted.target, images=five), run_torch(mixed_net(), five), atol=1e-5)


def test_the_opset_asked_for(program_file, tmp_path):
    wanted = asked(program_file, tmp_path, opset=20)
    convert(wanted)
    assert opset(wanted.target) == 20
    with pytest.raises(ConversionError, match="writes opset 18 and later, not 13"):
        convert(asked(program_file, tmp_path, opset=13))


def exported(module, *inputs):
    with silenced():
        return torch.export.export(module, inputs)


class Functional(nn.Module):
    """Layers called as functions, one weight twice, one computed, one transposed with other arguments."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 4, 3))
        self.raising = nn.Parameter(torch.randn(4, 3, 2))
        self.matrix = nn.Parameter(torch.randn(5, 6))
        self.spare = nn.Parameter(torch.randn(5, 6))

    def forward(self, maps):
        maps = nn.functional.conv1d(maps, self.kernel, padding=1)
        maps = nn.functional.conv1d(maps, self.kernel, padding=1)
        maps = nn.functional.conv_transpose1d(maps, self.raising, stride=2, groups=2)
        return nn.functional.linear(maps.mean(2), self.matrix) + nn.functional.linear(maps.mean(2), self.spare * 2)


def test_weights_as_operators_use_them():
    module = Functional()
    weights = list(program_weights(exported(module, torch.randn(1, 4, 6))))
    found = {each.name: each for each in weights}
    assert len(found) == len(weights)
    assert {name: (weights.order, weights.group) for name, weights in found.items()} == {
        "kernel": ("OIHW", 1),
        "raising": ("IOHW", 2),
        "matrix": ("OI", 1),
    }
    layer = nn.ConvTranspose1d(4, 6, 2, groups=2, bias=False)
    layer.weight = module.raising
    np.testing.assert_array_equal(found["raising"].values, weights_of(layer)[0].values)


def test_weights_after_decomposition():
    with silenced():
        program = exported(mixed_net(), images()).run_decompositions()
    found = {weights.name: weights for weights in program_weights(program)}
    assert found["raised.weight"].order == "IOHW"
    assert found["grouped.weight"].group == 4
    assert found["raised.weight"].group == 3


def first_size(program, text):
    """Put a symbolic size where the first tensor has one."""
    tensors = program["graph_module"]["graph"]["tensor_values"]
    tensors[next(iter(tensors))]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}


def first_node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def pickle_first(config):
    next(iter(config["config"].values()))["use_pickle"] = True


def custom_object(config):
    config["config"]["thing"] = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }


def hostile(trace):
    """Archives that run code when torch.export.load opens them, by how."""
    evil = f"__import__('pathlib').Path({str(trace)!r}).mkdir()"
    payload = pickled({"weight": Payload(trace)})
    return {
        "size": {MODEL: edited_json(lambda program: first_size(program, evil))},
        "name": {MODEL: lambda text: text.replace(b'"images"', json.dumps(f"images={evil}").encode())},
        "pickled weight": {WEIGHTS: edited_json(pickle_first), "data/weights/weight_0": payload},
        "pickled constant": {CONSTANTS: edited_json(custom_object), "data/constants/opaque_obj_0": payload},
        "weights of 2.8": {"data/weights/model.pt": payload},
        "compiled library": {"data/aotinductor/model/model.so": b"\x7fELF"},
        "function": {MODEL: edited_json(lambda program: first_node(program).update(target="torch.os.system"))},
        "text nobody reads": {MODEL: edited_json(lambda program: program.update(unheard_of="text"))},
    }


@pytest.mark.parametrize("way", hostile("trace"))
def test_what_could_run_code_needs_trust(program_file, tmp_path, way):
    trace = tmp_path / "trace"
    path = edited(program_file, tmp_path / "hostile.pt2", hostile(trace)[way])
    with pytest.raises(TrustRequired, match=r"loading the program could run code of the file, because .*--trust") as e:
        convert(asked(path, tmp_path))
    assert "\n" not in str(e.value)
    assert not trace.exists()


@pytest.mark.parametrize("way", ["size", "name", "pickled weight", "weights of 2.8"])
def test_it_would_have_run(program_file, tmp_path, way):
    """Loaded on the user's word, the code runs: what the rules keep out is real. What comes of it does not matter."""
    trace = tmp_path / "trace"
    path = edited(program_file, tmp_path / "hostile.pt2", hostile(trace)[way])
    with pytest.raises(ConversionError, match="cannot load it"):
        convert(asked(path, tmp_path, trust=True))
    assert trace.exists()


def test_guards_are_left_behind(program_file, tmp_path):
    """PyTorch runs them when it decomposes a program; the exporter writes none of them."""
    trace = tmp_path / "trace"
    guards = {"guards_code": [f"__import__('pathlib').Path({str(trace)!r}).mkdir()"]}
    path = edited(program_file, tmp_path / "hostile.pt2", {MODEL: edited_json(lambda program: program.update(guards))})
    convert(asked(path, tmp_path))
    assert not trace.exists()
    with silenced(), pytest.raises(AssertionError, match="Guard failed"):
        torch.export.load(path).run_decompositions()
    assert trace.exists()


def strings(value, path=()):
    """Where strings stand in JSON."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from strings(part, (*path, key))
    if isinstance(value, str):
        yield path


def put(value, path, text):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = text


@pytest.mark.parametrize("text", [EVIL, f"x={EVIL}", f"x: {EVIL}", "a.b c", "name\n"])
def test_every_string_of_a_real_program_has_a_rule(dynamic_file, text):
    """Whatever is put wherever a string stands is refused, dropped, or a place that nothing is made of."""
    original = member(dynamic_file, MODEL)
    places = list(strings(original))
    assert len(places) > 100
    for path in places:
        program = copy.deepcopy(original)
        put(program, path, text)
        if path[-1] == "torch_version":
            assert plain(program)["torch_version"] == text
        elif {"metadata", "guards_code"} & set(path):
            assert text not in json.dumps(plain(program))
        else:
            with pytest.raises(UnsafeProgram, match="says"):
                plain(program)


def test_pickled_inputs_are_never_opened(program_file, tmp_path):
    """torch.export.load falls back to the unrestricted unpickler for them; nobody needs them."""
    trace = tmp_path / "trace"
    path = edited(program_file, tmp_path / "hostile.pt2", {INPUTS: pickled(((Payload(trace),), {}))})
    convert(asked(path, tmp_path))
    assert not trace.exists()
    with silenced():
        torch.export.load(path)
    assert trace.exists()


def test_a_program_loaded_on_the_user_s_word_says_so(program_file, tmp_path):
    extra = {"data/weights/model.pt": pickled(dict(mixed_net().state_dict(keep_vars=True)))}
    path = edited(program_file, tmp_path / "old.pt2", extra)
    wanted = asked(path, tmp_path, trust=True)
    converted = convert(wanted)
    assert converted.notes == (
        "loaded as it is, on your word, because PyTorch before 2.9 wrote it and pickled the weights",
    )
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)


def test_an_archive_of_before_2_8(tmp_path):
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(
        TrustRequired, match=r"because PyTorch before 2.8 wrote it and pickled the weights; export it anew"
    ):
        convert(asked(path, tmp_path))


def no_bytes(config):
    next(iter(config["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": 2**40}]


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"archive_version": None}, "cannot load it"),
        ({"archive_version": b"99"}, "Saved archive version 99 does not match"),
        ({WEIGHTS: None}, "it lacks 'data/weights/model_weights_config.json'"),
        ({WEIGHTS: b"[]"}, "its list of weights is damaged"),
        ({WEIGHTS: b'{"config": {"a": {}}}'}, "its list of weights is damaged"),
        ({WEIGHTS: b"{"}, "it is no sound archive: JSONDecodeError"),
        ({WEIGHTS: edited_json(no_bytes), "data/weights/weight_0": b""}, "has no bytes for its shape"),
        ({"data/weights/weight_0": None}, "has no bytes for its shape"),
        ({"data/weights/weight_0": b"\0" * 16}, "cannot load it"),
        ({MODEL: b"{}"}, "cannot load it"),
        ({MODEL: b"[" * 100_000}, "it is no sound archive: RecursionError"),
        ({MODEL: edited_json(lambda p: p["graph_module"]["graph"]["nodes"].reverse())}, "cannot load it"),
    ],
)
def test_a_damaged_archive(program_file, tmp_path, edits, words):
    path = edited(program_file, tmp_path / "damaged.pt2", edits)
    with pytest.raises(ConversionError, match=words) as caught:
        convert(asked(path, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_archive(program_file, tmp_path, part):
    path = tmp_path / "torn.pt2"
    content = program_file.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ConversionError, match="it is no sound archive: "):
        convert(asked(path, tmp_path))


def test_a_compressed_archive(program_file, tmp_path):
    """Zeros by the gigabyte fit in a kilobyte."""
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(program_file) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    with pytest.raises(TrustRequired, match="is compressed, which PyTorch's archives are not"):
        convert(asked(path, tmp_path))


def test_what_is_left_of_the_program_is_what_torch_wrote(program_file):
    """The plain copy loses descriptions only."""
    program = member(program_file, MODEL)
    cleaned = plain(program)
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    program["guards_code"] = []
    program["graph_module"]["metadata"] = {}
    assert cleaned == program


class Spectral(nn.Module):
    """A layer and an operation that the ONNX exporter has no rule for."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, maps):
        return torch.linalg.eigvals(self.head(maps)[..., :3, :])


def test_an_operation_that_onnx_lacks(tmp_path):
    path = save_program(tmp_path / "net.pt2", module=Spectral())
    with pytest.raises(ConversionError, match=r"PyTorch cannot export it: .*linalg_eig.*see --debug") as caught:
        convert(asked(path, tmp_path))
    assert "\n" not in str(caught.value)
