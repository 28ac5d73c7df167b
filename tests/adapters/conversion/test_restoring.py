"""Marked weights back in the module: the whole way round, and every refusal leaves the module as it was."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import export, load_weights
from onnxmark_torch.conversion import exported, pickles, tensors
from safetensors.torch import save_file
from torch import nn

from onnxmark.audit import audit_file
from onnxmark.conversion import Container, convert, restored_weights
from onnxmark.errors import ConversionError, ModelError
from onnxmark.marking import embed_file
from tests.adapters.conversion.subjects import (
    HERE,
    SHAPE,
    images,
    mixed_net,
    request,
    run_onnx,
    run_torch,
    save_program,
)
from tests.adapters.subjects import make_key

CONVERTERS = {
    Container.SAFETENSORS: tensors.convert,
    Container.TORCH: pickles.convert,
    Container.EXPORTED_PROGRAM: exported.convert,
}
LAYERS = {
    "plain.weight": (8, 4, 3, 3),
    "grouped.weight": (12, 2, 3, 3),
    "raised.weight": (6, 4, 2, 2),
    "head.weight": (40, 6),
}


def converted(source, container, room, **options):
    """The file ``onnxmark convert`` makes."""
    room.mkdir(exist_ok=True)
    wanted = request(source, room, container=container, **options)
    convert(wanted, CONVERTERS.__getitem__)
    return wanted.target


def key_for(name):
    return make_key(LAYERS[name], n_bits=8, name=name)


def marked(path, name):
    target = path.parent / name / "marked.onnx"
    target.parent.mkdir(exist_ok=True)
    embed_file(path, key_for(name), target, margin=1.0)
    return target


def changed(module):
    """Names of what differs from the network as it was made."""
    before = mixed_net().state_dict()
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    room = tmp_path_factory.mktemp("plain")
    save_file(mixed_net().state_dict(), room / "net.safetensors")
    source = room / "net.safetensors"
    return converted(source, Container.SAFETENSORS, room, factory=f"{HERE}:mixed_net", shapes=(("", SHAPE),))


@pytest.fixture(scope="module")
def folded_file(tmp_path_factory):
    """As torch's exporter writes it by default: normalisation folded in, and no record."""
    path = tmp_path_factory.mktemp("folded") / "net.onnx"
    export(mixed_net(), (images(),), path)
    return path


def assert_round_trip(file, name, tmp_path):
    """Mark a layer of the file, load it into the module, export that: the mark is there, and outputs agree."""
    mark = marked(file, name)
    module = mixed_net()
    set_names = load_weights(module, mark)
    assert name in set_names
    np.testing.assert_allclose(run_torch(module, images()), run_onnx(mark, images=images()), atol=2e-5)
    again = tmp_path / "again.onnx"
    export(module, (images(),), again, optimize=False)
    (finding,) = audit_file(again, [key_for(name)]).findings
    assert finding.best.evidence.n_errors == 0
    before = dict(mixed_net().named_parameters())
    for other, parameter in module.named_parameters():
        if other != name:
            torch.testing.assert_close(parameter, before[other], rtol=1e-5, atol=1e-6)
    assert not torch.equal(module.get_parameter(name), before[name])


@pytest.mark.parametrize("name", ["grouped.weight", "raised.weight"])
def test_there_and_back(plain_file, tmp_path, name):
    assert_round_trip(plain_file, name, tmp_path)


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back_through_a_folded_export(folded_file, tmp_path, name):
    """No record, and the marked weights have batch normalisation in them."""
    assert_round_trip(folded_file, name, tmp_path)


@pytest.mark.parametrize("container", [Container.TORCH, Container.EXPORTED_PROGRAM])
def test_there_and_back_from_other_containers(tmp_path, container):
    source = tmp_path / "net.pt2"
    if container is Container.TORCH:
        torch.save(mixed_net(), source)
    else:
        save_program(source)
    file = converted(source, container, tmp_path, trust=True, shapes=(("", SHAPE),))
    assert_round_trip(file, "raised.weight", tmp_path)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_without_a_graph_there_and_back(tmp_path, name):
    """Nobody knows which of them is a transposed convolution, and none comes back the wrong way round."""
    source = tmp_path / "net.safetensors"
    save_file(mixed_net().state_dict(), source)
    path = converted(source, Container.SAFETENSORS, tmp_path)
    shape = tuple(mixed_net().get_parameter(name).shape)
    embed_file(path, make_key(shape, n_bits=8, name=name), tmp_path / "marked.onnx", margin=1.0)
    module = mixed_net()
    load_weights(module, tmp_path / "marked.onnx")
    assert changed(module) == {name}
    (restored,) = [each for each in restored_weights(tmp_path / "marked.onnx") if each.name == name]
    np.testing.assert_array_equal(module.get_parameter(name).detach().numpy(), restored.values)


def test_weights_of_some_layers_only(tmp_path):
    source = tmp_path / "net.safetensors"
    save_file({name: tensor for name, tensor in mixed_net().state_dict().items() if "raised" not in name}, source)
    mark = marked(converted(source, Container.SAFETENSORS, tmp_path), "plain.weight")
    module = mixed_net()
    with pytest.raises(
        ConversionError, match="lacks weights of layer 'raised'; give the network that the file was made"
    ):
        load_weights(module, mark)
    load_weights(module, mark, strict=False)
    assert changed(module) == {"plain.weight"}


def test_an_unmarked_file_changes_nothing(plain_file, folded_file):
    module = mixed_net()
    assert set(load_weights(module, plain_file)) == set(LAYERS)
    assert changed(module) == set()
    load_weights(module, folded_file)
    torch.testing.assert_close(module.state_dict(), mixed_net().state_dict())


def test_filters_that_a_folded_normalisation_silences_stay(tmp_path):
    """The file has zeros for them, which tell nothing of what they were."""
    module = mixed_net()
    module.norm.weight.data[3] = 0
    export(module, (images(),), tmp_path / "net.onnx", external_data=False)
    before = module.plain.weight.detach().clone()
    load_weights(module, tmp_path / "net.onnx")
    assert torch.equal(module.plain.weight[3], before[3])
    torch.testing.assert_close(module.plain.weight.detach(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(plain_file, dtype):
    module = mixed_net().to(dtype)
    parameter = module.plain.weight
    load_weights(module, marked(plain_file, "plain.weight"))
    assert module.plain.weight is parameter
    assert parameter.dtype is dtype
    (restored,) = [r for r in restored_weights(marked(plain_file, "plain.weight")) if r.name == "plain.weight"]
    torch.testing.assert_close(parameter.detach(), torch.from_numpy(restored.values.copy()).to(dtype))


def test_a_wrapped_module_is_recognised(plain_file):
    module = mixed_net()
    load_weights(nn.DataParallel(module), marked(plain_file, "head.weight"))
    assert changed(module) == {"head.weight"}


def test_a_module_that_is_a_layer_itself(tmp_path):
    save_file({"weight": torch.eye(3)}, tmp_path / "layer.safetensors")
    layer = nn.Linear(3, 3)
    load_weights(layer, converted(tmp_path / "layer.safetensors", Container.SAFETENSORS, tmp_path))
    torch.testing.assert_close(layer.weight.detach(), torch.eye(3))


def test_gradients_still_flow(plain_file):
    module = mixed_net()
    load_weights(module, plain_file)
    module(images()).sum().backward()
    assert module.plain.weight.grad is not None


def refused(module, path, words, **options):
    """A refusal in one line, after which the module is what it was."""
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ConversionError, match=words) as caught:
        load_weights(module, path, **options)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


class Extended(nn.Module):
    """The network in another module's hands, or with more than it had."""

    def __init__(self, **more):
        super().__init__()
        for name, child in [*mixed_net().named_children(), *more.items()]:
            self.add_module(name, child)


def test_another_network(plain_file):
    refused(nn.Linear(3, 3), plain_file, "lacks weights of layer ''")
    refused(Extended(more=nn.Linear(2, 2)), plain_file, r"lacks weights of layer 'more'; .* or pass strict=False")
    refused(Extended(head=nn.Linear(6, 4)), plain_file, r"parameter 'head\.weight' is \(4, 6\), and \(40, 6\) in")
    refused(Extended(head=nn.Identity()), plain_file, r"holds 'head\.weight', which the module does not have")
    refused(nn.ReLU(), plain_file, "holds none of the module's weights", strict=False)


def test_a_module_of_another_kind_under_the_name(plain_file):
    refused(
        Extended(plain=nn.BatchNorm2d(8)), plain_file, r"'plain\.weight' is \(8,\), and \(8, 4, 3, 3\)", strict=False
    )
    words = r"'raised\.weight' belongs to Conv2d, no transposed convolution"
    refused(Extended(raised=nn.Conv2d(2, 12, 2)), plain_file, words)


def test_what_both_have_without_strictness(plain_file):
    module = Extended(more=nn.Linear(2, 2), head=nn.Identity())
    assert load_weights(module, plain_file, strict=False) == ("plain.weight", "grouped.weight", "raised.weight")


def test_weights_that_are_computed(plain_file):
    module = mixed_net()
    nn.utils.parametrizations.weight_norm(module.plain)
    refused(module, plain_file, r"weights of 'plain' are computed from other parameters .*remove_parametrizations")


def test_parameters_without_values(plain_file):
    module = mixed_net().to("meta")
    with pytest.raises(
        ConversionError, match=r"parameter 'plain\.weight' is torch\.float32 on meta; load weights into"
    ):
        load_weights(module, plain_file)


class Tied(nn.Module):
    """One parameter under two layers of the file."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(16, 16)
        self.two = nn.Linear(16, 16)
        self.two.weight = self.one.weight

    def forward(self, given):
        return self.two(torch.relu(self.one(given)))


class Untied(Tied):
    """The same network before anybody tied it."""

    def __init__(self):
        super().__init__()
        self.two.weight = nn.Parameter(self.one.weight.detach() + 1)


def test_tied_weights(tmp_path):
    torch.manual_seed(3)
    save_file({f"{name}.weight": torch.eye(16) for name in ("one", "two")}, tmp_path / "tied.safetensors")
    module = Tied()
    load_weights(module, converted(tmp_path / "tied.safetensors", Container.SAFETENSORS, tmp_path))
    torch.testing.assert_close(module.two.weight.detach(), torch.eye(16))


def test_tied_weights_that_were_marked_apart(tmp_path):
    state = Untied().state_dict()
    save_file(state, tmp_path / "untied.safetensors")
    file = converted(tmp_path / "untied.safetensors", Container.SAFETENSORS, tmp_path)
    refused(Tied(), file, r"'one\.weight' and 'two\.weight' are one parameter in the module and differ")


def test_weights_that_are_not_finite(plain_file, tmp_path):
    model = onnx.load(plain_file)
    (weights,) = [each for each in model.graph.initializer if each.name == "head.weight"]
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full((40, 6), np.nan, np.float32), "head.weight"))
    onnx.save(model, tmp_path / "nan.onnx")
    refused(mixed_net(), tmp_path / "nan.onnx", r"the weights 'head\.weight' are not finite; mark the original anew")


def test_no_model_at_all(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="text file, not an ONNX model"):
        load_weights(mixed_net(), tmp_path / "no.onnx")
