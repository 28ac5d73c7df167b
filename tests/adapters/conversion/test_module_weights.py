"""Weights of a module: what its checkpoint calls them, in the order an ONNX file is read in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.conversion.module_weights import array, is_floating, weights_of
from torch import nn

from tests.adapters.conversion.subjects import mixed_net


def test_every_host_layer_by_its_checkpoint_name():
    net = mixed_net()
    found = weights_of(net)
    assert [weights.name for weights in found] == ["plain.weight", "grouped.weight", "raised.weight", "head.weight"]
    assert [weights.order for weights in found] == ["OIHW", "OIHW", "IOHW", "OI"]
    assert [weights.group for weights in found] == [1, 4, 3, 1]
    for weights in found:
        assert weights.name in net.state_dict()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions_have_their_outputs_first(dimensions, group):
    """An impulse in one input channel comes out as the kernels of the outputs of its group."""
    kind = getattr(nn, f"ConvTranspose{dimensions}d")
    layer = kind(4, 6, 3, groups=group, bias=False)
    (weights,) = weights_of(layer)
    assert weights.values.shape == (6, 4 // group, *[3] * dimensions)
    for channel in range(4):
        impulse = torch.zeros(1, 4, *[1] * dimensions)
        impulse[0, channel] = 1
        outputs = layer(impulse)[0].detach().numpy()
        block, place = divmod(channel, 4 // group)
        mine = slice(block * 6 // group, (block + 1) * 6 // group)
        np.testing.assert_allclose(outputs[mine], weights.values[mine, place], rtol=1e-6)
        assert not np.delete(outputs, mine, axis=0).any()


@pytest.mark.parametrize("dimensions", [1, 3])
def test_convolutions_of_other_dimensions(dimensions):
    layer = getattr(nn, f"Conv{dimensions}d")(4, 6, 3, groups=2)
    (weights,) = weights_of(layer)
    assert weights.name == "weight"
    np.testing.assert_array_equal(weights.values, layer.weight.detach().numpy())


def test_a_shared_module_comes_once():
    layer = nn.Linear(3, 3)
    assert [weights.name for weights in weights_of(nn.Sequential(layer, nn.ReLU(), layer))] == ["0.weight"]


def test_a_parametrised_weight_as_it_is_computed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)
    (weights,) = weights_of(layer)
    np.testing.assert_array_equal(weights.values, layer.weight.detach().numpy())


def test_half_precision_becomes_float32():
    (weights,) = weights_of(nn.Linear(3, 4).bfloat16())
    assert weights.values.dtype == np.float32


def test_arrays_are_in_c_order_whatever_the_memory_format():
    layer = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    assert not layer.weight.is_contiguous()
    (weights,) = weights_of(layer)
    assert weights.values.flags.c_contiguous
    np.testing.assert_array_equal(weights.values, layer.weight.detach().numpy())


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.zeros(2), True),
        (torch.zeros(2, dtype=torch.float8_e4m3fn), True),
        (torch.zeros(2, dtype=torch.int8), False),
        (torch.zeros(2, dtype=torch.complex64), False),
        (torch.zeros(2, device="meta"), False),
        (torch.zeros(2, 2).to_sparse(), False),
        ("weights", False),
    ],
)
def test_what_can_be_had_as_floats(tensor, expected):
    assert is_floating(tensor) is expected


def test_eight_bit_floats_are_exact():
    values = torch.tensor([0.5, -448.0, 0.001953125]).to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(array(values), np.array([0.5, -448.0, 0.001953125], np.float32))


def test_layers_on_the_meta_device_are_left_out():
    assert weights_of(nn.Linear(3, 4, device="meta")) == ()
