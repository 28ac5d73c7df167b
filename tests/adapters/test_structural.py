"""Pruning PyTorch models to a key's widths: as ONNX files are pruned, and as zeros would have it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxmark_torch import TargetError, export
from onnxmark_torch.channels import called_layers
from onnxmark_torch.networks import ConvNet, LeNet, Vgg, WideResNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.structural import (
    narrow_,
    prune_channels_,
    prune_to_embed,
    structural_evidence,
    structural_key,
)
from onnxmark_torch.tasks import digits
from onnxmark_torch.training import evaluate, train
from torch import nn
from torch.nn import functional

from onnxmark.errors import KeyFileError
from onnxmark.model import open_model
from onnxmark.model.channels.eligible import eligible_layers
from onnxmark.model.channels.narrowing import narrow
from onnxmark.model.editing.editable import EditableModel
from onnxmark.schemes.structural.parameters import Options
from onnxmark.schemes.structural.scheme import StructuralScheme

IMAGES = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "LeNet": LeNet,
    "ConvNet": lambda: ConvNet(width=16),
    "WRN-16-1": lambda: WideResNet(2, 1, 1, stem_stride=2),
    "WRN-10-2": lambda: WideResNet(1, 2, 1, stem_stride=2),
    "VGG-like": lambda: Vgg(((8, 8), (16, 16), (24,)), 1),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name: str) -> nn.Module:
    """A network whose normalisation does something."""
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


def free(model: nn.Module) -> list:
    return [layer for layer in called_layers(model, (IMAGES,)) if layer.obstacle is None]


def halved(model: nn.Module) -> dict[str, int]:
    return {layer.name: layer.shape[0] // 2 for layer in free(model)}


def tensors(path) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[[str], Path]:
    """The file of a network, exported once; torch is seeded before every test."""

    @cache
    def path(name: str) -> Path:
        made = tmp_path_factory.mktemp("exported") / "model.onnx"
        torch.manual_seed(0)
        export(network(name), (IMAGES,), made, external_data=False)
        return made

    return path


@every_network
def test_what_torch_fx_finds_is_what_the_file_shows(name, exported):
    model, path = network(name), exported(name)
    found = eligible_layers(EditableModel.load(path))
    assert [(layer.name, layer.shape) for layer in free(model)] == [(layer.name, layer.shape) for layer in found]
    with open_model(path) as file:
        sites = [(site.name, site.position, site.op, site.shape) for site in file.sites()]
    layers = called_layers(model, (IMAGES,))
    assert [(layer.name, layer.position, layer.op, layer.shape) for layer in layers] == sites


@every_network
def test_both_routes_end_at_the_same_shapes(name, exported, tmp_path):
    model, (before, after) = network(name), (tmp_path / "before.onnx", tmp_path / "after.onnx")
    widths = halved(model)
    edited = EditableModel.load(exported(name))
    narrow(edited, widths)
    edited.save(before)
    export(narrow_(model, (IMAGES,), widths), (IMAGES,), after, external_data=False)
    shapes = [
        {tensor: values.shape for tensor, values in tensors(path).items() if "." in tensor} for path in (before, after)
    ]
    assert shapes[0] == shapes[1]
    assert {tensor: shapes[0][tensor][0] for tensor in widths} == widths


def test_both_routes_end_at_the_same_weights_where_nothing_is_folded(exported, tmp_path):
    """With batch normalisation the exporter folds its factors into the filters, whose norms then rank otherwise."""
    model, (before, after) = network("LeNet"), (tmp_path / "before.onnx", tmp_path / "after.onnx")
    edited = EditableModel.load(exported("LeNet"))
    narrow(edited, halved(model))
    edited.save(before)
    export(narrow_(model, (IMAGES,), halved(model)), (IMAGES,), after, external_data=False)
    one, other = tensors(before), tensors(after)
    for tensor in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight", "fc1.bias", "fc2.weight"):
        np.testing.assert_array_equal(one[tensor], other[tensor])


HEARERS = {
    "LeNet": {"conv1": ["conv2"], "conv2": ["fc1"]},
    "ConvNet": {"conv1": ["conv2"], "conv2": ["conv3"], "conv3": ["fc"]},
    "WRN-16-1": {
        f"conv{group}.{block}.conv1": [f"conv{group}.{block}.conv2"] for group in (2, 3, 4) for block in (0, 1)
    },
    "WRN-10-2": {"conv1": ["conv2.0.conv1", "conv2.0.shortcut"]}
    | {f"conv{group}.0.conv1": [f"conv{group}.0.conv2"] for group in (2, 3, 4)},
    "VGG-like": {f"convs.{place}": [f"convs.{place + 1}"] for place in range(4)} | {"convs.4": ["fc"]},
}


@every_network
def test_a_narrow_model_is_the_wide_one_with_channels_nobody_hears(name):
    model, reference = network(name), network(name)
    reference.load_state_dict(model.state_dict())
    modules = dict(reference.named_modules())
    assert [layer.module for layer in free(model)] == list(HEARERS[name])
    for maker, hearers in HEARERS[name].items():
        weight = modules[maker].weight.detach().double().flatten(1)
        dropped = weight.abs().sum(1).argsort()[: len(weight) - len(weight) // 2]
        for hearer in hearers:
            modules[hearer].register_forward_pre_hook(silencer(dropped, len(weight)))
    with torch.no_grad():
        expected, original = reference(IMAGES), model(IMAGES)
        found = narrow_(model, (IMAGES,), halved(model))(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, original, rtol=1e-2, atol=1e-2)


def silencer(dropped: torch.Tensor, size: int):
    """Zeros for some channels of what a layer is given: the second axis, in stretches behind a flattening."""

    def silence(_module, inputs):
        (values,) = inputs
        apart = values.reshape(len(values), size, -1).clone()
        apart[:, dropped] = 0
        return apart.reshape(values.shape)

    return silence


class Small(nn.Module):
    """Two convolutions and a linear layer; tests change what lies between."""

    def __init__(self, between=None, n_in: int = 6, n_flat: int = 5) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(n_in, 5, 3, padding=1)
        self.between = between or nn.ReLU()
        self.fc = nn.Linear(n_flat, 3)

    def forward(self, images):
        return self.fc(self.flat(self.second(self.middle(images))))

    def middle(self, images):
        return self.between(self.first(images))

    def flat(self, maps):
        return maps.mean((2, 3))


class Doubled(Small):
    def middle(self, images):
        maps = self.first(images)
        return torch.cat([maps, maps], 1)


class Added(Small):
    def middle(self, images):
        return self.first(images) + images


class Shared(Small):
    def middle(self, images):
        return self.between(self.first(self.first(images)[:, :1]))


class Written(Small):
    def flat(self, maps):
        return maps.mean((2, 3)).view(-1, 5)


class Functional(Small):
    def flat(self, maps):
        return functional.conv2d(maps, self.second.weight[:, :5]).mean((2, 3))


class Shown(Small):
    def forward(self, images):
        maps = self.second(self.middle(images))
        return maps, self.fc(self.flat(maps))


class Unused(Small):
    def forward(self, images):
        self.second(self.middle(images))
        return self.fc(images.mean((2, 3)).expand(-1, 5))


@pytest.mark.parametrize(
    ("model", "layer", "said"),
    [
        (Doubled(n_in=12), "first", "call_function 'cat' takes it together with other values"),
        (Added(), "first", "call_function 'add' is not followed"),
        (Shared(), "first", "module 'first', or its weights, are used more than once"),
        (Small(nn.Conv2d(6, 6, 3, groups=2)), "first", "Conv2d module 'between' is not followed"),
        (Small(nn.Conv2d(6, 6, 3, groups=2)), "between", "not a convolution of one group"),
        (Small(nn.GroupNorm(2, 6)), "first", "GroupNorm module 'between' is not followed"),
        (Small(nn.Softmax(1)), "first", "Softmax module 'between' is not followed"),
        (Written(), "second", "call_method 'view' is not followed"),
        (Functional(), "second", "call_function 'conv2d' is not followed"),
        (Shown(), "second", "output 'output' takes it together"),
        (Unused(), "second", "no layer uses its output"),
        (Small(), "fc", "not a convolution of one group"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value[:20],
)
def test_what_ties_channels_is_said(model, layer, said):
    found = {each.module: each for each in called_layers(model, (torch.zeros(2, 1, 6, 6),))}
    assert said in found[layer].obstacle
    assert found[layer].slices == ()


def test_tied_weights_are_left_alone():
    model = Small(nn.Conv2d(6, 6, 3, padding=1))
    model.second = nn.Conv2d(6, 6, 3, padding=1)
    model.second.weight, model.fc = model.between.weight, nn.Linear(6, 3)
    obstacles = [layer.obstacle for layer in called_layers(model, (torch.zeros(2, 1, 6, 6),))]
    assert all("used more than once" in obstacle for obstacle in obstacles[:3])


class Viewed(Small):
    def flat(self, maps):
        return maps.view(maps.size(0), -1)


class Reshaped(Small):
    def flat(self, maps):
        return maps.reshape(maps.size(0), -1)


class Flattened(Small):
    def flat(self, maps):
        return torch.flatten(maps, 1)


class FlattenedByModule(Small):
    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.flatten = nn.Flatten()

    def flat(self, maps):
        return functional.dropout(self.flatten(maps), 0.5, self.training)


class Averaged(Small):
    def flat(self, maps):
        return torch.mean(maps, dim=(-1, -2), keepdim=True).flatten(1)


BETWEEN = [
    *(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=bias), nn.ReLU6()) for bias in (True, False)),
    nn.Sequential(nn.BatchNorm2d(6, affine=False), nn.PReLU(6)),
    nn.Sequential(nn.BatchNorm2d(6, track_running_stats=False), nn.PReLU()),
    nn.Sequential(nn.Hardswish(), nn.Dropout2d(), nn.Identity()),
]


@pytest.mark.parametrize(
    "make", [Viewed, Reshaped, Flattened, FlattenedByModule, Averaged], ids=lambda made: made.__name__
)
@pytest.mark.parametrize("between", BETWEEN, ids=str)
def test_what_is_followed_is_silent_channels_too(make, between):
    model = make(copy.deepcopy(between), n_flat=5 if make is Averaged else 180).eval()
    images, reference = torch.randn(4, 1, 6, 6), copy.deepcopy(model)
    for layer, hearer in (("first", "second"), ("second", "fc")):
        weight = getattr(reference, layer).weight.detach().double().flatten(1)
        dropped = weight.abs().sum(1).argsort()[: len(weight) - 3]
        getattr(reference, hearer).register_forward_pre_hook(silencer(dropped, len(weight)))
    narrow_(model, (images,), {"first.weight": 3, "second.weight": 3})
    torch.testing.assert_close(model(images), reference(images), rtol=1e-4, atol=1e-5)
    # What modules say of themselves is true.
    assert (model.first.out_channels, model.second.in_channels, model.second.out_channels) == (3, 3, 3)
    assert model.fc.in_features == model.fc.weight.shape[1]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_features == 3
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            assert (module.groups, module.in_channels, module.out_channels) == (3, 3, 3)


def test_pruning_is_in_place_and_trains_on():
    model = network("ConvNet").train()
    model.conv1.weight.requires_grad_(False)
    assert narrow_(model, (IMAGES,), halved(model)) is model
    assert model.training
    assert not model.conv1.weight.requires_grad
    assert int(model.norm1.num_batches_tracked) == 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.conv2.weight.detach().clone()
    model(IMAGES).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.conv2.weight, before)


def test_looking_leaves_a_model_as_it_was():
    model = network("WRN-16-1").train()
    before = copy.deepcopy(model.state_dict())
    called_layers(model, (IMAGES,))
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)


def test_a_wrapped_model_is_pruned_inside():
    model = network("ConvNet")
    wrapped = nn.DataParallel(model)
    narrow_(wrapped, (IMAGES,), {"conv1.weight": 3})
    assert model.conv1.out_channels == 3


class Branching(nn.Module):
    def forward(self, images):
        return images if images.sum() > 0 else -images


def test_a_model_that_cannot_be_traced():
    with pytest.raises(TargetError, match=r"torch.fx cannot trace the model \(.*\); export it and prune the ONNX file"):
        called_layers(Branching(), (IMAGES,))


class TestRefusals:
    def test_a_layer_that_is_tied(self):
        model = network("WRN-16-1")
        with pytest.raises(TargetError, match=r"'conv2.0.conv2.weight' cannot be removed: .*; those that can: conv2"):
            narrow_(model, (IMAGES,), {"conv2.0.conv1.weight": 3, "conv2.0.conv2.weight": 3})
        assert model.conv2[0].conv1.out_channels == 16

    def test_a_layer_that_is_not_there(self):
        with pytest.raises(TargetError, match="the model calls no such layer; those that can: conv1"):
            narrow_(network("LeNet"), (IMAGES,), {"conv9.weight": 3})

    @pytest.mark.parametrize("width", [0, 21])
    def test_a_width_it_cannot_have(self, width):
        with pytest.raises(ValueError, match=f"1 to 20 can be kept, not {width}"):
            narrow_(network("LeNet"), (IMAGES,), {"conv1.weight": width})

    def test_too_few_layers(self):
        with pytest.raises(KeyFileError, match="the widths of 2 layers hold"):
            structural_key(network("LeNet"), (IMAGES,))

    @pytest.mark.parametrize("other", ["WRN-10-2", "VGG-like"])
    def test_a_key_of_another_model(self, other):
        key = structural_key(network("WRN-16-1"), (IMAGES,), options=Options(least=0.1))
        model = network(other)
        with pytest.raises(TargetError, match=r"the key was made for a layer '.*' of shape .*; take the model it was"):
            prune_channels_(model, (IMAGES,), key)

    def test_a_model_that_is_marked_already(self):
        model = network("WRN-16-1")
        key = structural_key(model, (IMAGES,), options=Options(least=0.1))
        prune_channels_(model, (IMAGES,), key)
        with pytest.raises(TargetError, match="take the model it was made for"):
            prune_channels_(model, (IMAGES,), key)


def test_a_key_of_a_model_is_read_in_its_file(tmp_path):
    model, scheme = network("WRN-16-1"), StructuralScheme()
    key = structural_key(model, (IMAGES,), np.uint8([1, 0, 1]), Options(least=0.1))
    assert structural_evidence(model, (IMAGES,), key).log10_p == 0
    prune_channels_(model, (IMAGES,), key)
    evidence = structural_evidence(model, (IMAGES,), key)
    assert (evidence.n_errors, evidence.n_bit_errors) == (0, 0)
    export(model, (IMAGES,), tmp_path / "marked.onnx")
    with open_model(tmp_path / "marked.onnx") as file:
        widths = {site.name: site.shape[0] for site in file.sites()}
    assert tuple(widths[carrier.name] for carrier in key.carriers) == scheme.widths(key)


def test_pruning_costs_and_training_on_brings_it_back():
    task, example = digits(), (torch.zeros(2, 1, 8, 8),)
    model = Vgg(((24, 24), (48, 48), (64, 64)), 1)
    train(model, task, TrainingPlan(epochs=4, rate=0.05), show=False)
    whole = evaluate(model, task)
    key = structural_key(model, example, options=Options(least=0.2, most=0.7))
    pruned = evaluate(prune_channels_(copy.deepcopy(model), example, key), task)
    made = prune_to_embed(model, task, key, TrainingPlan(epochs=2, rate=0.05), show=False)
    recovered = made.history.score
    assert evaluate(model, task) == whole
    assert pruned < whole - 0.1
    assert recovered > pruned + 0.1
    assert structural_evidence(made.model, example, key).bit_error_rate == 0
