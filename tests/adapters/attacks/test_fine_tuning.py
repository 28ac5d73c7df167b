"""Fine-tuning: which layers move, from where, and what becomes of a mark."""

from __future__ import annotations

import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.attacks import (
    CrossDomain,
    FineTuneAll,
    FineTuneLast,
    RetrainAll,
    RetrainLast,
    TrainingMeans,
    carry_out,
)
from onnxmark_torch.attacks.copies import new_head
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train

from onnxmark.errors import AttackError
from tests.adapters.attacks.subjects import elsewhere, means, parameters_of, task, trained_net, untrained_net
from tests.adapters.subjects import make_key

HEAD = {"fc.weight", "fc.bias"}


def moved(before, after):
    """Names of parameters that differ."""
    return {name for name, parameter in parameters_of(after).items() if not torch.equal(before[name], parameter)}


@pytest.mark.parametrize("attack", [FineTuneLast, RetrainLast])
def test_only_the_head_moves(attack):
    model = trained_net()
    attacked = carry_out(attack(1), model, means())
    assert moved(parameters_of(model), attacked) == HEAD


@pytest.mark.parametrize("attack", [FineTuneAll, RetrainAll, CrossDomain])
def test_everything_moves(attack):
    model = trained_net()
    attacked = carry_out(attack(1), model, means())
    assert moved(parameters_of(model), attacked) == set(parameters_of(model))


def test_fine_tuning_is_the_training_loop_and_nothing_else():
    expected = trained_net()
    train(expected, task(), TrainingPlan(2, 64, 0.05, seed=4), show=False)
    attacked = carry_out(FineTuneAll(2, rate=0.05), trained_net(), means(seed=4))
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_fine_tuning_the_head_is_training_with_all_else_frozen():
    expected = trained_net()
    for name, parameter in expected.named_parameters():
        parameter.requires_grad = name in HEAD
    train(expected, task(), TrainingPlan(2, 64, 0.01, seed=4), show=False)
    attacked = carry_out(FineTuneLast(2), trained_net(), means(seed=4))
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_retraining_starts_from_a_head_that_knows_nothing():
    expected = trained_net()
    expected.fc = new_head(expected.fc, 10, seed=4)
    train(expected, task(), TrainingPlan(1, 64, 0.01, seed=4), show=False)
    attacked = carry_out(RetrainAll(1), trained_net(), means(seed=4))
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_going_elsewhere_and_back_keeps_the_head_and_not_the_road():
    """Step by step by hand, with another task of fewer classes on the way."""
    there = elsewhere()
    expected = trained_net()
    head, expected.fc = expected.fc, new_head(expected.fc, there.n_classes, seed=4)
    train(expected, there, TrainingPlan(1, 64, 0.01, seed=4), show=False)
    expected.fc = head
    train(expected, task(), TrainingPlan(1, 64, 0.01, seed=4), show=False)
    attacked = carry_out(CrossDomain(1), trained_net(), means(seed=4))
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert attacked.fc.out_features == task().n_classes


def test_another_task_must_have_images_of_as_many_channels():
    class Coloured:
        n_classes = 10

        class training:  # noqa: N801 (stands for an attribute)
            images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

    with pytest.raises(AttackError, match="images of the other task have 3 channels, expected 1"):
        carry_out(CrossDomain(1), trained_net(), TrainingMeans(task(), elsewhere=Coloured()))


def test_a_mark_outlives_fine_tuning():
    """What the audit promises of fine-tuning, in small: all bits of a trained mark are still there."""
    mark = Watermark(make_key((16, 16, 3, 3), n_bits=32), "conv3", strength=0.05)
    model = untrained_net()
    train(model, task(), TrainingPlan(10, 32), mark, show=False)
    assert mark.report(model).bit_error_rate == 0
    for attack in (FineTuneLast(3), FineTuneAll(3), RetrainAll(3), CrossDomain(3)):
        assert mark.report(carry_out(attack, model, means())).bit_error_rate == 0, attack
