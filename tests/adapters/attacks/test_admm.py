"""ADMM: the loop against the closed form of a quadratic problem, and constraints that are met exactly at the end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.attacks import (
    AdmmClusteringTraining,
    AdmmPruningTraining,
    AdmmQuantisationTraining,
    carry_out,
)
from onnxmark_torch.attacks.admm import Splitting, projected
from onnxmark_torch.attacks.attack import TrainingMeans
from onnxmark_torch.layers import host_layers
from onnxmark_torch.networks import LeNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import Hooks, evaluate, train
from torch import nn

from onnxmark.attacks import AdmmClustering, AdmmQuantisation, MagnitudePruning
from onnxmark.attacks.admm import fit_step, project_sparse
from onnxmark.errors import AttackError
from tests.adapters.attacks.subjects import means, parameters_of, task, trained_net

QUICK = {"rounds": 2, "epochs": 1, "retraining": 2}


def closed_form(target, rho, n_kept, rounds):
    """ADMM for ``1/2 |W - A|²`` with at most ``n_kept`` non-zeros, in float64 and without any of our code.

    The W-step has the solution ``(A + rho (Z - U)) / (1 + rho)``.
    """
    weights = target.copy()
    copy_, difference = sparse(weights, n_kept), np.zeros_like(weights)
    for _ in range(rounds):
        weights = (target + rho * (copy_ - difference)) / (1 + rho)
        copy_ = sparse(weights + difference, n_kept)
        difference = difference + weights - copy_
    return weights, copy_, difference


def sparse(values, n_kept):
    kept = np.zeros_like(values)
    largest = np.argsort(-np.abs(values))[:n_kept]
    kept[largest] = values[largest]
    return kept


@pytest.mark.parametrize("rho", [0.1, 1.0, 3.0])
def test_the_loop_solves_a_quadratic_problem_as_its_closed_form_does(rho):
    target = np.random.default_rng(0).standard_normal(40)
    weight = nn.Parameter(torch.tensor(target, dtype=torch.float32))
    splitting = Splitting.start([weight], MagnitudePruning(0.75), rho)
    for rounds in range(1, 6):
        for _ in range(300):  # gradient descent to the bottom of the W-step
            weight.grad = weight.detach() - torch.tensor(target, dtype=torch.float32)
            splitting.pull(nn.Module())
            with torch.no_grad():
                weight -= weight.grad / (1 + rho) / 2
        splitting.update()
        expected = closed_form(target, rho, 10, rounds)
        for found, wanted in zip((weight, splitting.copies[0], splitting.differences[0]), expected, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), wanted, atol=1e-5)


def test_the_pull_is_the_gradient_of_the_penalty():
    """Against autograd, on top of what is in the gradient already."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 5))
    splitting = Splitting([weight], MagnitudePruning(0.5), 0.7, [torch.randn(6, 5)], [torch.randn(6, 5)])
    (weight**3).sum().backward()
    splitting.pull(nn.Module())
    found, weight.grad = weight.grad, None
    penalty = 0.7 / 2 * (weight - splitting.copies[0] + splitting.differences[0]).square().sum()
    ((weight**3).sum() + penalty).backward()
    torch.testing.assert_close(found, weight.grad)


def test_the_pull_alone_is_a_gradient_too():
    weight = nn.Parameter(torch.ones(3))
    Splitting([weight], MagnitudePruning(0.5), 2.0, [torch.zeros(3)], [torch.zeros(3)]).pull(nn.Module())
    assert torch.equal(weight.grad, torch.full((3,), 2.0))


def test_a_projection_keeps_type_and_shape():
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    found = projected(MagnitudePruning(0.5), weight)
    assert found.dtype == torch.float64
    expected = project_sparse(weight.numpy().astype(np.float32), 54)
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float64))


def test_the_attack_is_rounds_of_the_loop_and_a_projection():
    """Step by step by hand, up to the retraining, which leaves compressed weights alone."""
    recipe = AdmmClusteringTraining(0.5, rho=0.5, rounds=3, epochs=1, retraining=1, rate=0.02, bits=3)
    expected = trained_net()
    weights = [layer.weight for layer in host_layers(expected)]
    splitting = Splitting.start(weights, AdmmClustering(0.5, 3), 0.5)
    for round_ in range(3):
        plan = TrainingPlan(1, 64, 0.02, milestones=(), seed=4 + round_)
        train(expected, task(), plan, hooks=Hooks(before_step=splitting.pull), show=False)
        splitting.update()
    attacked = carry_out(recipe, trained_net(), means(seed=4))
    for layer, weight in zip(host_layers(attacked), weights, strict=True):
        assert torch.equal(layer.weight, projected(AdmmClustering(0.5, 3), weight)), layer.name


def test_pruning_leaves_exactly_the_weights_it_says():
    recipe = AdmmPruningTraining(0.7, **QUICK)
    attacked = carry_out(recipe, trained_net(), means())
    for layer in host_layers(attacked):
        n_weights = layer.weight.numel()
        assert int((layer.weight != 0).sum()) == n_weights - round(0.7 * n_weights), layer.name


def test_what_is_left_of_pruning_was_retrained():
    model = trained_net()
    short, long = (
        carry_out(AdmmPruningTraining(0.7, rounds=1, epochs=1, retraining=n), model, means()) for n in (1, 3)
    )
    zeros = short.conv3.weight == 0
    assert torch.equal(zeros, long.conv3.weight == 0)
    assert not torch.equal(short.conv3.weight[~zeros], long.conv3.weight[~zeros])


def test_clustering_leaves_a_codebook_of_the_size_it_says():
    attacked = carry_out(AdmmClusteringTraining(0.5, **QUICK, bits=3), trained_net(), means())
    for layer in host_layers(attacked):
        values = layer.weight.detach().numpy()
        n_kept = values.size - round(0.5 * values.size)
        assert np.count_nonzero(values) <= n_kept
        assert 1 < np.unique(values[values != 0]).size <= 8, layer.name


def test_quantisation_leaves_the_levels_it_says():
    attacked = carry_out(AdmmQuantisationTraining(0.5, **QUICK, bits=3), trained_net(), means())
    for layer in host_layers(attacked):
        values = layer.weight.detach().numpy().astype(np.float64)
        assert np.count_nonzero(values) == values.size - round(0.5 * values.size), layer.name
        levels = np.unique(np.abs(values[values != 0]))
        # Some level may be empty, so the step is the largest that has all of them for multiples up to the fourth.
        steps = [levels[-1] / top for top in (1, 2, 3, 4)]
        assert any(np.allclose(levels / step, np.rint(levels / step), atol=1e-4) for step in steps), layer.name


def test_compressed_weights_are_a_projection_and_all_else_was_retrained():
    """After the last projection the weights stay, to the bit; biases and normalisation go on."""
    before = trained_net()
    short, long = (
        carry_out(AdmmClusteringTraining(0.5, rounds=1, epochs=1, retraining=n, bits=3), before, means())
        for n in (1, 3)
    )
    weights = {f"{layer.name}.weight" for layer in host_layers(before)}
    second = parameters_of(long)
    for name, parameter in parameters_of(short).items():
        assert torch.equal(parameter, second[name]) == (name in weights), name


@pytest.mark.parametrize(
    ("recipe", "projection"),
    [
        (AdmmPruningTraining(0.8), MagnitudePruning(0.8)),
        (AdmmClusteringTraining(0.8, bits=4), AdmmClustering(0.8, 4)),
        (AdmmQuantisationTraining(0.8, bits=4), AdmmQuantisation(0.8, 4)),
    ],
)
def test_the_projection_is_the_attack_on_one_layer_of_the_same_strength(recipe, projection):
    assert recipe.projection == projection


def test_led_to_a_sparse_copy_a_network_loses_less_than_cut_down_at_once():
    """Why anybody does this: the same zeros by projection alone cost more."""
    model = trained_net()
    at_once = trained_net()
    with torch.no_grad():
        for layer in host_layers(at_once):
            layer.weight.copy_(projected(MagnitudePruning(0.8), layer.weight))
    led = carry_out(AdmmPruningTraining(0.8, rho=0.1, rounds=4, epochs=2, retraining=4, batch_size=32), model, means())
    assert evaluate(led, task()) > evaluate(at_once, task()) + 0.1


def test_rounds_bring_weights_and_copies_together():
    """The distance that the projection at the end has to bridge shrinks with the rounds."""
    gaps = {}
    for rounds in (1, 6):
        weight = trained_net().conv3.weight
        splitting = Splitting.start([weight], MagnitudePruning(0.8), 1.0)
        for _ in range(20 * rounds):
            weight.grad = None
            splitting.pull(nn.Module())
            with torch.no_grad():
                weight -= 0.1 * weight.grad
        splitting.update()
        gaps[rounds] = float((weight.detach() - splitting.copies[0]).norm())
    assert gaps[6] < 0.2 * gaps[1]


def test_a_network_without_normalisation_is_compressed_as_well():
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    attacked = carry_out(AdmmClusteringTraining(0.5, **QUICK, bits=2), bare, means())
    assert np.unique(attacked[1].weight.detach().numpy()).size <= 5
    assert len(host_layers(LeNet())) == 4


def test_a_network_without_layers_is_refused():
    with pytest.raises(AttackError, match="no linear or convolution layer to compress"):
        carry_out(AdmmPruningTraining(0.5), nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), TrainingMeans(task()))


def test_steps_of_the_quantisation_are_even():
    """A layer's levels are whole multiples of the step that was fitted, none beyond the largest allowed."""
    values = trained_net().conv3.weight.detach()
    found = projected(AdmmQuantisation(0.5, 3), values).double().numpy()
    kept = project_sparse(values.numpy(), values.numel() // 2)
    multiples = found / fit_step(kept, 4)
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-5)
    assert np.abs(multiples).max() == pytest.approx(4, abs=1e-5)
