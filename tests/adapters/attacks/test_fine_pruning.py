"""Fine-pruning: which channels are silent, that removing them is what masking does, and that they stay removed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.attacks import FinePruning, TrainingMeans, carry_out
from onnxmark_torch.attacks.fine_pruning import measured_activity, reading_mask
from onnxmark_torch.attacks.masks import Masks
from onnxmark_torch.layers import HostLayer, host_layers
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train
from torch import nn
from torch.nn import functional

from onnxmark.errors import AttackError
from tests.adapters.attacks.subjects import means, task, trained_net


def layer_of(module):
    return HostLayer(("layer",), module)


@pytest.mark.parametrize(
    ("module", "images"),
    [
        (nn.Linear(6, 4), torch.randn(3, 6)),
        (nn.Conv2d(6, 4, 3), torch.randn(3, 6, 5, 5)),
        (nn.Conv2d(6, 4, 3, groups=2), torch.randn(3, 6, 5, 5)),
        (nn.Conv1d(6, 6, 3, groups=6), torch.randn(3, 6, 5)),
        (nn.ConvTranspose2d(6, 4, 3), torch.randn(3, 6, 5, 5)),
        (nn.ConvTranspose2d(6, 4, 3, groups=2), torch.randn(3, 6, 5, 5)),
    ],
    ids=["linear", "conv", "grouped", "depthwise", "transposed", "grouped transposed"],
)
def test_masking_what_reads_a_channel_is_silencing_the_channel(module, images):
    kept = torch.tensor([True, False, True, True, True, False])  # another pattern in either half, as groups see it
    silenced = images * kept.reshape(1, -1, *[1] * (images.ndim - 2))
    expected = module(silenced)
    with torch.no_grad():
        module.weight.mul_(reading_mask(layer_of(module), kept))
    torch.testing.assert_close(module(images), expected)


def test_activity_is_the_mean_size_of_what_a_layer_receives():
    """Against the network's own parts, run one after the other."""
    model = trained_net()
    layers = host_layers(model)[1:]
    activity = measured_activity(model, layers, means())
    images = task().inputs(torch.tensor(task().training.images))
    with torch.no_grad():
        first = torch.relu(model.norm1(model.conv1(images)))
        second = torch.relu(model.norm2(model.conv2(first)))
        pooled = torch.relu(model.norm3(model.conv3(second))).mean(dim=(2, 3))
    for name, maps in (("conv2", first), ("conv3", second), ("fc", pooled[:, :, None, None])):
        found = activity[name] / activity[name].sum()
        expected = maps.abs().double().mean(dim=(0, 2, 3))
        torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-5, atol=1e-8)


def test_measuring_leaves_no_hook_behind():
    model = trained_net()
    measured_activity(model, host_layers(model), means())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_least_active_channels_are_silent_for_good():
    model = trained_net()
    activity = measured_activity(model, host_layers(model)[1:], means())
    attacked = carry_out(FinePruning(0.25, epochs=2), model, means())
    for name, loudness in activity.items():
        weight = attacked.get_parameter(f"{name}.weight")
        silent = weight.abs().transpose(0, 1).flatten(1).sum(dim=1) == 0
        expected = np.argsort(loudness.numpy(), kind="stable")[: round(0.25 * len(loudness))]
        assert sorted(torch.nonzero(silent).flatten().tolist()) == sorted(expected.tolist()), name
    assert bool((attacked.conv1.weight != 0).all())


def test_nothing_pruned_is_fine_tuning():
    expected = trained_net()
    train(expected, task(), TrainingPlan(1, 64, 0.01, seed=0), show=False)
    attacked = carry_out(FinePruning(0.0, epochs=1), trained_net(), means())
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_a_masked_step_is_the_step_of_a_network_that_never_had_the_weights():
    """Momentum and weight decay of masked weights must not leak into others: against a mask inside the network."""

    class Masked(nn.Linear):
        mask = (torch.arange(640).reshape(10, 64) % 3 > 0).float()

        def forward(self, inputs):
            return functional.linear(inputs, self.weight * self.mask, self.bias)

    torch.manual_seed(0)
    inside = nn.Sequential(nn.Flatten(), Masked(64, 10))
    outside = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    outside.load_state_dict(inside.state_dict())
    masks = Masks({"1.weight": Masked.mask.bool()})
    masks.hold(outside)
    train(inside, task(), TrainingPlan(2), show=False)
    train(outside, task(), TrainingPlan(2), hooks=masks.hooks, show=False)
    torch.testing.assert_close(outside[1].weight, inside[1].weight * Masked.mask)
    torch.testing.assert_close(outside[1].bias, inside[1].bias)
    assert torch.equal(outside[1].weight == 0, Masked.mask == 0)


def test_a_network_of_one_layer_is_refused():
    single = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(AttackError, match="a single layer at most, whose channels are the image's"):
        carry_out(FinePruning(0.5), single, TrainingMeans(task()))


def test_a_layer_that_is_never_called_is_named():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(64, 10), nn.Linear(5, 5)

        def forward(self, images):
            return self.used(images.flatten(1))

    with pytest.raises(AttackError, match="layer 'unused' is never called"):
        carry_out(FinePruning(0.5), Idle(), TrainingMeans(task()))


def test_activity_of_either_sign_is_activity():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    images = task().inputs(torch.tensor(task().training.images))
    with torch.no_grad():
        expected = net[:3](images).abs().double().sum(dim=0)
    found = measured_activity(net, host_layers(net)[1:], means())["3"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_the_first_step_is_made_without_the_pruned_channels_already():
    """Step by step by hand: masks first, then training under them."""
    expected = trained_net()
    masks = FinePruning(0.25)._masks(expected, means())
    with torch.no_grad():
        for name, alive in masks.alive.items():
            expected.get_parameter(name)[~alive] = 0
    train(expected, task(), TrainingPlan(1, 64, 0.01, seed=0), hooks=masks.hooks, show=False)
    attacked = carry_out(FinePruning(0.25, epochs=1), trained_net(), means())
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)
