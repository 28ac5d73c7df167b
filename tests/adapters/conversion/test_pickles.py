"""PyTorch's pickles: never opened without trust, and then whatever people keep in them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from onnxmark_torch.conversion.module_weights import weights_of
from onnxmark_torch.conversion.pickles import convert

from onnxmark.errors import ConversionError, TrustRequired
from tests.adapters.conversion.subjects import (
    HERE,
    SHAPE,
    Payload,
    edited,
    images,
    mixed_net,
    opset,
    request,
    run_onnx,
    run_torch,
    sites,
)

SHAPES = (("", SHAPE),)


def saved(tmp_path, content, **options):
    path = tmp_path / "net.pt"
    torch.save(content, path, **options)
    return path


def test_a_payload_is_never_run_without_trust(tmp_path):
    trace = tmp_path / "trace"
    path = saved(tmp_path, {"weight": torch.ones(2, 2), "payload": Payload(trace)})
    with pytest.raises(TrustRequired, match=r"runs the code that it names.*CVE-2025-32434.*safetensors.*--trust"):
        convert(request(path, tmp_path))
    assert not trace.exists()


def test_with_trust_it_runs(tmp_path):
    """What the refusal is about; were it not so, the test above would prove nothing."""
    trace = tmp_path / "trace"
    path = saved(tmp_path, {"w.weight": torch.ones(2, 2), "payload": Payload(trace)})
    convert(request(path, tmp_path, trust=True))
    assert trace.exists()


def test_a_missing_trust_comes_before_anything_is_read(tmp_path):
    with pytest.raises(TrustRequired, match="--trust"):
        convert(request(tmp_path / "not there.pt", tmp_path))


@pytest.mark.parametrize("nested", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_state_as_weights_alone(tmp_path, nested, prefix):
    state = {prefix + name: tensor for name, tensor in mixed_net().state_dict().items()}
    wanted = request(saved(tmp_path, nested(state)), tmp_path, trust=True)
    converted = convert(wanted)
    assert not converted.has_graph
    assert "restricted unpickler" in converted.route
    assert list(sites(wanted.target)) == ["plain.weight", "grouped.weight", "raised.weight", "head.weight"]


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_state_with_its_network(tmp_path, options):
    path = saved(tmp_path, mixed_net().state_dict(), **options)
    wanted = request(path, tmp_path, trust=True, factory=f"{HERE}:mixed_net", shapes=SHAPES)
    converted = convert(wanted)
    assert converted.has_graph
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)


def test_a_whole_module(tmp_path):
    wanted = request(saved(tmp_path, mixed_net().train()), tmp_path, trust=True, shapes=SHAPES)
    converted = convert(wanted)
    assert converted.route.startswith("unpickler, ")
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)
    for weights in converted.weights:
        np.testing.assert_array_equal(sites(wanted.target)[weights.name], weights.values)


def test_a_whole_module_below_a_name(tmp_path):
    wanted = request(saved(tmp_path, {"model": mixed_net(), "ema": None}), tmp_path, trust=True, shapes=SHAPES)
    assert convert(wanted).has_graph


def test_a_wrapped_module_has_the_names_of_the_one_inside(tmp_path):
    path = saved(tmp_path, torch.nn.DataParallel(mixed_net()))
    converted = convert(request(path, tmp_path, trust=True, shapes=SHAPES))
    assert converted.weights[0].name == "plain.weight"


def test_a_whole_module_without_shapes(tmp_path):
    with pytest.raises(ConversionError, match="give them: --input 1x3x224x224"):
        convert(request(saved(tmp_path, mixed_net()), tmp_path, trust=True))


def scripted():
    return torch.jit.script(mixed_net())


def traced():
    return torch.jit.trace(mixed_net(), images())


def compiled(make, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make().save(path)
    return path


@pytest.fixture(scope="module")
def script_file(tmp_path_factory):
    return compiled(scripted, tmp_path_factory.mktemp("script") / "script.pt")


@pytest.mark.parametrize("make", [scripted, traced])
def test_torchscript(tmp_path, make):
    script_file = compiled(make, tmp_path / "script.pt")
    wanted = request(script_file, tmp_path, trust=True, shapes=SHAPES, opset=17)
    converted = convert(wanted)
    assert converted.has_graph
    assert "TorchScript" in converted.route
    assert opset(wanted.target) == 17
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)
    assert converted.notes == ()
    expected = {weights.name: weights for weights in weights_of(mixed_net())}
    assert [weights.name for weights in converted.weights] == list(expected)
    for weights, values in zip(converted.weights, sites(wanted.target).values(), strict=True):
        assert weights.order == expected[weights.name].order
        np.testing.assert_array_equal(weights.values, expected[weights.name].values)
        np.testing.assert_array_equal(values, weights.values)


def test_torchscript_needs_trust_too(script_file, tmp_path):
    with pytest.raises(TrustRequired, match="--trust"):
        convert(request(script_file, tmp_path, shapes=SHAPES))


def test_torchscript_without_shapes(script_file, tmp_path):
    with pytest.raises(ConversionError, match="give them: --input"):
        convert(request(script_file, tmp_path, trust=True))


def test_torchscript_that_is_torn(script_file, tmp_path):
    path = edited(script_file, tmp_path / "torn.pt", {"data.pkl": b"\x80\x02"})
    with pytest.raises(ConversionError, match=r"TorchScript cannot load it: .*; get the file again"):
        convert(request(path, tmp_path, trust=True, shapes=SHAPES))


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {"epoch": 3}, "weights"])
def test_what_holds_no_network(tmp_path, content):
    with pytest.raises(
        ConversionError, match=r"it holds \w+, neither tensors by name nor a module; save model\.state_"
    ):
        convert(request(saved(tmp_path, content), tmp_path, trust=True))


class NotHere(torch.nn.Linear):
    """Stands for a class of somebody's own code."""


def test_a_module_whose_class_is_not_importable(tmp_path, monkeypatch):
    path = saved(tmp_path, NotHere(2, 2))
    monkeypatch.delitem(globals(), "NotHere")
    with pytest.raises(
        ConversionError, match=r"AttributeError: .*NotHere.*needs its classes importable, so save model"
    ) as e:
        convert(request(path, tmp_path, trust=True, shapes=(("", (1, 2)),)))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("length", [0, 1, 30, 200, 2000])
def test_a_truncated_file(tmp_path, length):
    path = saved(tmp_path, mixed_net().state_dict())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ConversionError, match=r"PyTorch cannot load it: .*; get the file again") as caught:
        convert(request(path, tmp_path, trust=True))
    assert "\n" not in str(caught.value)
