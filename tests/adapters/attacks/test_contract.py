"""Every training-time attack against the duties that all have, and the one place that checks them."""

from __future__ import annotations

import copy
import dataclasses
import inspect

import pytest
import torch
from onnxmark_torch import attacks
from onnxmark_torch.attacks import TrainingMeans, carry_out, is_training_attack
from onnxmark_torch.attacks.attack import TrainingAttack
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import evaluate

from onnxmark.attacks import QUICK
from onnxmark.errors import AttackError, PluginError
from tests.adapters.attacks.subjects import RECIPES, means, student, task, trained_net

BY_NAME = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def test_every_attack_has_a_row():
    offered = {one for _, one in inspect.getmembers(attacks, inspect.isclass) if dataclasses.is_dataclass(one)}
    offered -= {attacks.TrainingMeans, attacks.TrialBench}
    assert offered == {type(recipe) for recipe in RECIPES}


def test_names_are_unlike_each_other_and_unlike_those_of_attacks_on_files():
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names)
    assert not set(names) & {recipe.name for recipe in QUICK}


@BY_NAME
def test_an_attack_says_what_it_is(recipe):
    assert is_training_attack(recipe)
    assert recipe.summary
    assert len(recipe.summary) < 100
    assert recipe.random
    assert recipe.parameter == getattr(recipe, dataclasses.fields(recipe)[0].name)
    assert list(recipe.strengths)
    assert eval(repr(recipe), vars(attacks)) == recipe
    first = dataclasses.fields(recipe)[0].name
    labels = {dataclasses.replace(recipe, **{first: strength}).label for strength in recipe.strengths}
    assert len(labels) == len(recipe.strengths)


@BY_NAME
def test_recipes_that_differ_have_labels_that_differ(recipe):
    others = [recipe]
    for field in dataclasses.fields(recipe)[1:]:
        value = getattr(recipe, field.name)
        changed = {bool: lambda old: not old, str: lambda _: "full", type(None): lambda _: "conv1"}
        change = changed.get(type(value), lambda old: old / 2 if isinstance(old, float) else old + 1)
        others.append(dataclasses.replace(recipe, **{field.name: change(value)}))
    assert len({other.label for other in others}) == len(others)


def test_a_label_leaves_defaults_out():
    assert attacks.FineTuneAll(1).label == "fine-tuning 1 epoch"
    assert attacks.FineTuneAll(5, rate=0.1).label == "fine-tuning 5 epochs, rate 0.1"
    assert attacks.Distillation(3.0, other_architecture=True).label == "distillation T 3, other architecture"
    assert (
        attacks.QuantisationAwareTraining(4, per_channel=False).label
        == "quantisation-aware training 4 bit, not per channel"
    )


@BY_NAME
def test_the_stolen_network_stays_and_the_attacked_one_is_another(recipe):
    model = trained_net()
    model.conv2.weight.requires_grad = False  # what the owner froze is the owner's affair
    model.train()
    model.norm1.eval()
    before = copy.deepcopy(model.state_dict())
    attacked = carry_out(recipe, model, means())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()].count(False) == 1
    assert not model.conv2.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in attacked.modules())
    assert all(parameter.requires_grad for parameter in attacked.parameters())
    assert any(not torch.equal(before[name], tensor) for name, tensor in attacked.state_dict().items())


@BY_NAME
def test_a_seed_repeats_an_attack_and_another_does_not(recipe):
    first, again, other = (carry_out(recipe, trained_net(), means(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], tensor) for name, tensor in again.items())
    assert not all(torch.equal(first[name], tensor) for name, tensor in other.items())


@BY_NAME
def test_an_attack_leaves_the_global_generator_alone(recipe):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model = trained_net_without_drawing()
    carry_out(recipe, model, means())
    assert torch.equal(torch.rand(3), expected)


def trained_net_without_drawing():
    with torch.random.fork_rng([]):
        return trained_net()


@BY_NAME
def test_the_attacked_network_still_knows_its_task(recipe):
    """Where something starts from nothing it gets more than an epoch; the rest goes on from a network that knows."""
    if recipe.name.startswith(("distil", "retrain")):
        recipe = dataclasses.replace(recipe, epochs=8, rate=0.1)
    assert evaluate(trained_net(), task()) > 0.8
    assert evaluate(carry_out(recipe, trained_net(), means()), task()) > 0.5


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: attacks.FineTuneAll(0), "epochs must be at least 1"),
        (lambda: attacks.CrossDomain(1, rate=0.0), "rate and fall must be above 0"),
        (lambda: attacks.Distillation(0.0), "temperature must be above 0"),
        (lambda: attacks.Distillation(3.0, share=1.5), "share from 0 to 1"),
        (lambda: attacks.HardDistillation(0), "epochs must be at least 1"),
        (lambda: attacks.TrainedOverwriting(0), "marks must be a whole number from 1, found 0"),
        (lambda: attacks.TrainedOverwriting(1, n_bits=0), "n_bits must be a whole number from 1"),
        (lambda: attacks.TrainedOverwriting(1, strength=0.0), "finite and positive, found 0.0"),
        (lambda: attacks.TrainedOverwriting(1, carrier="nowhere"), "overwriting: .*nowhere"),
        (lambda: attacks.AdmmPruningTraining(1.5), "fraction to prune must be from 0 to 1"),
        (lambda: attacks.AdmmPruningTraining(0.5, rho=0.0), "rho must be finite and above 0"),
        (lambda: attacks.AdmmPruningTraining(0.5, rounds=0), "rounds must be a whole number from 1"),
        (lambda: attacks.AdmmPruningTraining(0.5, retraining=0), "epochs must be at least 1"),
        (lambda: attacks.AdmmClusteringTraining(0.5, bits=17), "bits must be a whole number from 1 to 16"),
        (lambda: attacks.AdmmQuantisationTraining(0.5, bits=0), "bits must be a whole number from 1 to 16"),
        (lambda: attacks.FinePruning(-0.1), "fraction to prune must be from 0 to 1"),
        (lambda: attacks.QuantisationAwareTraining(1), "bits must be a whole number from 2 to 16, found 1"),
    ],
)
def test_parameters_out_of_range_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        (attacks.CrossDomain(1), r"needs another task; give TrainingMeans\(elsewhere"),
        (attacks.Distillation(3.0, other_architecture=True), r"give TrainingMeans\(student"),
        (attacks.HardDistillation(1, other_architecture=True), r"give TrainingMeans\(student"),
    ],
)
def test_what_the_thief_lacks_is_named(recipe, match):
    with pytest.raises(AttackError, match=match):
        carry_out(recipe, trained_net(), TrainingMeans(task()))


@dataclasses.dataclass(frozen=True)
class Faulty(TrainingAttack):
    """An attack that breaks its promise in one way."""

    name = "faulty"
    summary = "breaks its promise"
    fault: str = ""

    @property
    def label(self):
        return f"fault {self.fault}"

    def run(self, model, means):
        twin = copy.deepcopy(model)
        if self.fault == "weights":
            with torch.no_grad():
                model.conv1.weight[0, 0, 0, 0] += 1
        elif self.fault == "mode":
            model.train()
        elif self.fault == "frozen":
            model.fc.bias.requires_grad = False
        elif self.fault == "same":
            return model
        elif self.fault == "shared":
            twin.fc.weight = model.fc.weight
        elif self.fault == "training":
            twin.train()
        elif self.fault == "infinite":
            twin.fc.bias.data[0] = torch.inf
        return twin


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("weights", "changed the model it was given"),
        ("mode", "changed the model it was given"),
        ("frozen", "changed the model it was given"),
        ("same", "shares memory with the one it was given"),
        ("shared", "shares memory with the one it was given"),
        ("infinite", "returned weights that are not finite"),
    ],
)
def test_a_broken_promise_is_noticed(fault, match):
    with pytest.raises(PluginError, match=match):
        carry_out(Faulty(fault), trained_net(), means())


def test_a_kept_promise_is_not():
    model = trained_net()
    torch.testing.assert_close(carry_out(Faulty(), model, means()).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_what_comes_back_is_ready_for_use_whatever_mode_the_attack_left_it_in():
    attacked = carry_out(Faulty("training"), trained_net(), means())
    assert not any(module.training for module in attacked.modules())


def test_the_plan_is_what_the_recipe_says():
    assert attacks.FineTuneAll(7, rate=0.05, batch_size=16).plan(3) == TrainingPlan(7, 16, 0.05, seed=3)


def test_students_of_the_tests_are_another_architecture():
    assert student().state_dict().keys() != trained_net().state_dict().keys()
