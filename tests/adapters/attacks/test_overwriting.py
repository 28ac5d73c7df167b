"""Overwriting by training: whose keys, where, and that they really are written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.attacks import FineTuneAll, TrainedOverwriting, carry_out
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train

from onnxmark.errors import AttackError
from onnxmark.keys import Carrier, Key, Secret
from tests.adapters.attacks.subjects import means, task, trained_net


def thiefs_keys(seed, count, n_bits, shape=(16, 16, 3, 3), carrier="mean-ihw"):
    """The keys that a thief of this seed draws, drawn here once more."""
    rng = np.random.default_rng(seed)
    parameters = {"generator": "gaussian", "carrier": carrier}
    for _ in range(count):
        seed_, salt = rng.bytes(32), rng.bytes(32)
        yield Key("projection", Secret(seed_), salt, np.zeros(n_bits, np.uint8), (Carrier(shape),), parameters)


def test_the_thiefs_mark_is_in_the_model_afterwards():
    recipe = TrainedOverwriting(2, layer="conv3", n_bits=24, strength=0.1, epochs=4, rate=0.1, batch_size=32)
    model = trained_net()
    attacked = carry_out(recipe, model, means(seed=3))
    marks = [Watermark(key, "conv3") for key in thiefs_keys(3, 2, 24)]
    assert all(mark.report(model).bit_error_rate > 0.2 for mark in marks)
    assert marks[1].report(attacked).bit_error_rate == 0
    assert marks[0].report(attacked).bit_error_rate < 0.2


def test_one_mark_is_training_with_one_more_watermark():
    (key,) = thiefs_keys(3, 1, 24, carrier="full")
    expected = trained_net()
    train(expected, task(), TrainingPlan(1, 64, 0.01, seed=3), Watermark(key, "conv3", 0.5), show=False)
    recipe = TrainedOverwriting(1, "conv3", "full", n_bits=24, strength=0.5, epochs=1)
    attacked = carry_out(recipe, trained_net(), means(seed=3))
    torch.testing.assert_close(attacked.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_it_is_more_than_fine_tuning():
    tuned = carry_out(FineTuneAll(1), trained_net(), means())
    attacked = carry_out(TrainedOverwriting(1, n_bits=16, epochs=1), trained_net(), means())
    assert not torch.equal(tuned.conv3.weight, attacked.conv3.weight)


@pytest.mark.parametrize("name", ["conv2", "conv2.weight", "module.conv2"])
def test_a_layer_is_found_by_any_of_its_names(name):
    strong = TrainedOverwriting(1, layer=name, n_bits=16, strength=100.0, epochs=1, rate=0.001)
    attacked = carry_out(strong, trained_net(), means(seed=1))
    (key,) = thiefs_keys(1, 1, 16, shape=(16, 8, 3, 3))
    assert Watermark(key, "conv2").report(attacked).bit_error_rate == 0


def test_the_largest_layer_is_overwritten_where_none_is_named():
    strong = TrainedOverwriting(1, n_bits=16, strength=100.0, epochs=1, rate=0.001)
    attacked = carry_out(strong, trained_net(), means(seed=1))
    (key,) = thiefs_keys(1, 1, 16)
    assert Watermark(key, "conv3").report(attacked).bit_error_rate == 0


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(AttackError, match="the model has no layer 'conv9'"):
        carry_out(TrainedOverwriting(1, layer="conv9"), trained_net(), means())
