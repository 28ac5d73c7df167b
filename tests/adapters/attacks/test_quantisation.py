"""Quantisation-aware training: the same levels as the attack on a file, and a gradient that does not see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.attacks import QuantisationAwareTraining, TrainingMeans, carry_out
from onnxmark_torch.attacks.quantisation import Rounding
from onnxmark_torch.layers import host_layers
from onnxmark_torch.training import evaluate
from torch import nn

from onnxmark.attacks import Means, UniformQuantisation
from onnxmark.errors import AttackError
from tests.adapters.attacks.subjects import means, task, trained_net

BITS = pytest.mark.parametrize("bits", [2, 3, 4, 8])


def rounded_in_a_file(values, bits, *, per_channel):
    attack = UniformQuantisation(bits, per_channel, symmetric=True)
    return attack.change(values, Means(np.random.default_rng(0)))


@BITS
@pytest.mark.parametrize("channel", [None, 0])
def test_rounding_is_that_of_the_attack_on_a_file(bits, channel):
    torch.manual_seed(bits)
    weight = torch.randn(6, 4, 3, 3) * torch.logspace(-2, 1, 6).reshape(6, 1, 1, 1)
    expected = rounded_in_a_file(weight.numpy(), bits, per_channel=channel == 0)
    np.testing.assert_allclose(Rounding(bits, channel)(weight).numpy(), expected, rtol=1e-5, atol=1e-7)


@BITS
def test_the_gradient_passes_straight_through(bits):
    """Whatever comes back from the loss arrives at the weights unchanged, though the true derivative is 0."""
    torch.manual_seed(0)
    weight = torch.randn(5, 7, requires_grad=True)
    coming = torch.randn(5, 7)
    Rounding(bits, channel=0)(weight).backward(coming)
    assert torch.equal(weight.grad, coming)


def test_a_rounded_layer_learns_as_if_its_weights_were_free():
    """Gradient of a loss by hand: taken at the rounded weights, applied to the free ones."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(9, 4), torch.randn(9, 3)
    free = torch.randn(3, 4, requires_grad=True)
    rounding = Rounding(3, channel=None)
    ((inputs @ rounding(free).T - targets) ** 2).sum().backward()
    at = rounding(free).detach()
    torch.testing.assert_close(free.grad, 2 * (inputs @ at.T - targets).T @ inputs)


def test_a_channel_of_zeros_stays_finite_and_zero():
    weight = torch.zeros(2, 3, requires_grad=True)
    rounded = Rounding(4, channel=0)(weight)
    rounded.sum().backward()
    assert torch.equal(rounded, torch.zeros(2, 3))
    assert torch.equal(weight.grad, torch.ones(2, 3))


@BITS
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_weights_end_on_the_levels(bits, per_channel):
    recipe = QuantisationAwareTraining(bits, per_channel=per_channel, epochs=1)
    attacked = carry_out(recipe, trained_net(), means())
    for layer in host_layers(attacked):
        values = layer.weight.detach().numpy()
        np.testing.assert_allclose(rounded_in_a_file(values, bits, per_channel=per_channel), values, rtol=1e-6)
        rows = values.reshape(len(values), -1) if per_channel else values.reshape(1, -1)
        assert max(np.unique(row).size for row in rows) <= 2**bits - 1


def test_transposed_layers_are_rounded_by_their_outputs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10))
    attacked = carry_out(QuantisationAwareTraining(3, epochs=1), net, means())
    by_output = attacked[0].weight.detach().transpose(0, 1).reshape(6, -1).numpy()
    np.testing.assert_allclose(rounded_in_a_file(by_output, 3, per_channel=True), by_output, rtol=1e-6)


def test_the_attacked_network_is_of_the_kind_it_was():
    """No parametrisation is left: the thief passes on an ordinary network."""
    attacked = carry_out(QuantisationAwareTraining(4, epochs=1), trained_net(), means())
    assert attacked.state_dict().keys() == trained_net().state_dict().keys()
    assert [type(module) for module in attacked.modules()] == [type(module) for module in trained_net().modules()]
    assert all(isinstance(layer.weight, nn.Parameter) for layer in host_layers(attacked))


def test_training_with_rounded_weights_costs_less_than_rounding_at_once():
    at_once = trained_net()
    with torch.no_grad():
        for layer in host_layers(at_once):
            values = rounded_in_a_file(layer.weight.numpy(), 2, per_channel=True)
            layer.weight.copy_(torch.from_numpy(values))
    trained = carry_out(QuantisationAwareTraining(2, epochs=6, batch_size=32), trained_net(), means())
    assert evaluate(trained, task()) > evaluate(at_once, task()) + 0.1


def test_a_network_without_layers_is_refused():
    with pytest.raises(AttackError, match="no linear or convolution layer to quantise"):
        carry_out(QuantisationAwareTraining(4), nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), TrainingMeans(task()))
