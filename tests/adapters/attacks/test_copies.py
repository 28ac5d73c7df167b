"""Copies, untrained twins and heads."""

from __future__ import annotations

import pytest
import torch
from onnxmark_torch.attacks.copies import copied, head_name, new_head, seeded, untrained
from onnxmark_torch.networks import LeNet, WideResNet
from torch import nn

from onnxmark.errors import AttackError
from tests.adapters.attacks.subjects import trained_net, untrained_net


def test_a_copy_trains_throughout_and_has_no_gradients():
    model = trained_net()
    model.fc.requires_grad_(requires_grad=False)
    model(torch.zeros(2, 1, 8, 8)).sum().backward()
    twin = copied(model)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in twin.parameters())
    assert model.conv1.weight.grad is not None
    assert not model.fc.weight.requires_grad


def test_a_copy_of_a_wrapped_model_is_not_wrapped():
    model = trained_net()
    assert type(copied(nn.DataParallel(model))) is type(model)


def test_an_untrained_twin_is_what_torch_would_draw():
    """Against torch itself: modules of the same kinds built one after the other."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model(torch.randn(8, 4))
    twin = untrained(model, seed=5)
    with seeded(5):
        expected = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor)


def test_a_twin_does_not_start_where_the_owner_did_though_both_took_the_same_seed():
    for seed in range(3):
        assert not torch.equal(untrained(trained_net(), seed).conv1.weight, untrained_net(seed).conv1.weight)


def test_an_untrained_twin_keeps_nothing_of_any_network_offered():
    for model in (untrained_net(), LeNet(), WideResNet(widening=1)):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(3)
        assert not any((tensor == 3).all() for tensor in untrained(model, seed=0).state_dict().values())


def test_what_cannot_be_drawn_anew_is_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(AttackError, match=r"'1' has parameters and no reset_parameters\(\); give .* a student"):
        untrained(nn.Sequential(nn.Linear(3, 3), Scaled()), seed=0)


def test_the_head_is_the_last_linear_layer_that_gives_the_classes():
    assert head_name(trained_net(), 10) == "fc"
    assert head_name(LeNet(), 10) == "fc2"
    assert head_name(nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 3)), 10) == "1"
    with pytest.raises(AttackError, match="no linear layer with 7 outputs"):
        head_name(LeNet(), 7)


def test_a_new_head_has_other_classes_and_other_weights():
    head = nn.Linear(5, 10, bias=False).double()
    fresh = new_head(head, 3, seed=1)
    assert (fresh.in_features, fresh.out_features, fresh.bias, fresh.weight.dtype) == (5, 3, None, torch.float64)
    assert torch.equal(fresh.weight, new_head(head, 3, seed=1).weight)
    assert not torch.equal(fresh.weight, new_head(head, 3, seed=2).weight)
    with pytest.raises(ValueError, match="a head is a linear layer, not Conv2d"):
        new_head(nn.Conv2d(1, 1, 1), 3, seed=1)


def test_seeded_repeats_and_gives_back_the_generator():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded(9):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(9):
        assert torch.equal(torch.rand(2), inside)
    with seeded(10):
        assert not torch.equal(torch.rand(2), inside)
