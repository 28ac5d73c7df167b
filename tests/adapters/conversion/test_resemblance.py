"""Layers recognised by what a mark leaves alone; where two come into question, a refusal."""

from __future__ import annotations

import functools
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import export
from onnxmark_torch.conversion.resemblance import FARTHEST, resembling_weights
from torch import nn

from onnxmark.errors import ConversionError
from tests.adapters.conversion.subjects import images, mixed_net

WIDTH = 12


class Twins(nn.Module):
    """Layers of one shape, told apart by their values only."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(4)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(WIDTH) for _ in range(4)])

    def forward(self, maps):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            maps = torch.relu(norm(layer(maps)))
        return maps


def twins(scale=None):
    torch.manual_seed(5)
    net = Twins().eval()
    for norm in net.norms:
        if scale is None:
            nn.init.uniform_(norm.weight, 0.5, 2)
            norm.weight.data[::3] *= -1
        else:
            nn.init.constant_(norm.weight, scale)
        nn.init.normal_(norm.running_mean)
    return net


@functools.cache
def twins_file(scale=None, optimize=True):
    """What the exporter writes of the twins, which takes it a second."""
    with tempfile.TemporaryDirectory() as room:
        return exported(twins(scale), Path(room) / "net.onnx", optimize=optimize).read_bytes()


def exported_twins(path, scale=None, *, optimize=True):
    path.write_bytes(twins_file(scale, optimize))
    return path


def exported(net, path, **options):
    export(net, (torch.randn(1, WIDTH, 6, 6),), path, external_data=False, **options)
    return path


def edited(path, change):
    """Change the arrays of a file's four-dimensional initializers, in place of a mark."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(np.float32), tensor.name))
    onnx.save(model, path)
    return path


def noisy(amount, seed=0):
    rng = np.random.default_rng(seed)

    def change(values):
        noise = rng.standard_normal(values.shape)
        return values + amount * noise * np.linalg.norm(values) / np.linalg.norm(noise)

    return change


@pytest.mark.parametrize("optimize", [True, False])
def test_layers_of_one_shape_are_told_apart_under_a_mark(tmp_path, optimize):
    """A change of 17 percent, as large marks make; folded or not, the module's own values come back with it."""
    net = twins()
    path = edited(exported_twins(tmp_path / "net.onnx", optimize=optimize), noisy(0.17))
    found = {weights.name: weights.values for weights in resembling_weights(net, path)}
    assert list(found) == [f"layers.{index}.weight" for index in range(4)]
    for name, values in found.items():
        own = net.get_parameter(name).detach().numpy()
        assert 0.05 < np.linalg.norm(values - own) / np.linalg.norm(own) < 0.4


def test_an_unmarked_folded_file_gives_the_module_s_own(tmp_path):
    net = mixed_net()
    path = tmp_path / "net.onnx"
    export(net, (images(),), path)
    for weights in resembling_weights(net, path):
        own = net.get_parameter(weights.name).detach()
        np.testing.assert_allclose(np.linalg.norm(weights.values), own.norm(), rtol=1e-5)


def test_the_older_exporter_folds_too(tmp_path):
    net = twins()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(1, WIDTH, 6, 6),), path, dynamo=False)
    for weights in resembling_weights(net, path):
        np.testing.assert_allclose(weights.values, net.get_parameter(weights.name).detach().numpy(), atol=1e-6)


def test_a_filter_that_normalisation_silences_is_lost(tmp_path):
    net = twins()
    net.norms[1].weight.data[5] = 0
    path = exported(net, tmp_path / "net.onnx")
    (_, second, *_) = resembling_weights(net, path)
    assert second.lost == (5,)
    assert not second.values[5].any()
    own = net.layers[1].weight.detach().numpy()
    np.testing.assert_allclose(np.delete(second.values, 5, 0), np.delete(own, 5, 0), atol=1e-6)
    (_, changed, *_) = resembling_weights(net, edited(path, noisy(0.05)))
    assert not changed.values[5].any()


def test_layers_of_another_network_are_none_of_the_module_s(tmp_path):
    path = exported_twins(tmp_path / "net.onnx")
    torch.manual_seed(99)
    assert resembling_weights(Twins().eval(), path) == ()


def test_a_change_beyond_any_mark_is_another_layer(tmp_path):
    net = twins()
    path = edited(exported_twins(tmp_path / "net.onnx"), noisy(2 * FARTHEST))
    assert resembling_weights(net, path) == ()


def test_two_layers_that_are_alike_are_refused(tmp_path):
    net = twins()
    with torch.no_grad():
        net.layers[2].weight.copy_(net.layers[0].weight)
        net.norms[2].weight.copy_(net.norms[0].weight)
    path = edited(exported(net, tmp_path / "net.onnx"), noisy(0.05))
    with pytest.raises(
        ConversionError, match=r"is like 'layers\.0' and 'layers\.2' both; export with 'onnxmark convert'"
    ):
        resembling_weights(net, path)


class Twice(nn.Module):
    """One layer used before two normalisations, which the older exporter writes twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)

    def forward(self, maps):
        return self.layer(torch.relu(self.layer(maps)))


def with_a_copy(path, change):
    """The second use of a shared weight given a tensor of its own, as optimisers do."""
    model = onnx.load(path)
    (tensor,) = [each for each in model.graph.initializer if len(each.dims) == 4]
    values = change(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "copy"))
    node = [node for node in model.graph.node if node.op_type == "Conv"][1]
    node.input[1] = "copy"
    onnx.save(model, path)
    return path


def test_copies_that_agree(tmp_path):
    torch.manual_seed(2)
    net = Twice()
    path = with_a_copy(exported(net, tmp_path / "net.onnx", optimize=False), np.copy)
    (weights,) = resembling_weights(net, path)
    np.testing.assert_array_equal(weights.values, net.layer.weight.detach().numpy())


def test_copies_that_differ_are_refused(tmp_path):
    torch.manual_seed(2)
    net = Twice()
    path = with_a_copy(exported(net, tmp_path / "net.onnx", optimize=False), noisy(0.05))
    with pytest.raises(ConversionError, match="two layers that differ are like 'layer'"):
        resembling_weights(net, path)


def anonymous(path):
    """Without what says that batch normalisation was folded in."""
    model = onnx.load(path)
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)
    return path


def test_where_a_file_hides_whether_it_is_folded_distance_tells(tmp_path):
    net = twins()
    path = anonymous(edited(exported_twins(tmp_path / "net.onnx"), noisy(0.05)))
    for weights in resembling_weights(net, path):
        own = net.get_parameter(weights.name).detach().numpy()
        assert np.linalg.norm(weights.values - own) < 0.15 * np.linalg.norm(own)


def test_where_distance_does_not_tell_either_it_is_refused(tmp_path):
    net = twins(scale=1.05)
    path = anonymous(edited(exported(net, tmp_path / "net.onnx"), noisy(0.1)))
    with pytest.raises(ConversionError, match=r"whether batch normalisation is folded into .* cannot be told"):
        resembling_weights(net, path)


def test_where_it_makes_no_difference_it_need_not_be_told(tmp_path):
    """A network fresh from its constructor: normalisation multiplies by a whisker less than 1."""
    net = twins(scale=1)
    path = anonymous(edited(exported(net, tmp_path / "net.onnx"), noisy(0.1)))
    assert len(resembling_weights(net, path)) == 4


@pytest.mark.parametrize(("optimize", "factor"), [(True, 1.4), (False, 0.7)])
def test_what_a_file_says_of_its_folding_decides(tmp_path, optimize, factor):
    """Normalisation multiplies by 0.7, and the change makes each kind of file look like the other."""
    net = twins(scale=0.7)
    path = edited(exported_twins(tmp_path / "net.onnx", 0.7, optimize=optimize), lambda values: values * factor)
    found = resembling_weights(net, path)
    assert len(found) == 4
    for weights in found:
        own = net.get_parameter(weights.name).detach().numpy()
        np.testing.assert_allclose(weights.values, factor * own, rtol=1e-4)


class Untraceable(Twins):
    """A network whose graph depends on its input."""

    def forward(self, maps):
        return super().forward(maps) if maps.sum() == maps.sum() else maps


def test_a_module_that_does_not_trace_is_recognised_unfolded(tmp_path):
    net = twins()
    path = edited(exported_twins(tmp_path / "net.onnx", optimize=False), noisy(0.1))
    other = Untraceable().eval()
    other.load_state_dict(net.state_dict())
    assert len(resembling_weights(other, path)) == 4
