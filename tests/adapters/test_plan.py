"""A plan's schedule is the paper's, epoch by epoch, and its randomness belongs to an epoch alone."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_torch.plan import FINE_TUNING, TrainingPlan


class TestSchedule:
    def test_the_papers_rates(self):
        rates = [TrainingPlan().rate_at(epoch / 200) for epoch in range(200)]
        expected = [0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40
        assert rates == pytest.approx(expected, rel=1e-12)

    @given(epochs=st.integers(1, 300), n_steps=st.integers(1, 500), data=st.data())
    def test_rates_fall_at_the_very_step(self, epochs, n_steps, data):
        step = data.draw(st.integers(0, epochs * n_steps))
        exact = Fraction(step, epochs * n_steps)
        passed = sum(exact >= Fraction(share, 10) for share in (3, 6, 8))
        assert TrainingPlan().rate_at(step / (epochs * n_steps)) == pytest.approx(0.1 * 0.2**passed, rel=1e-12)

    def test_without_milestones_the_rate_stays(self):
        plan = TrainingPlan(milestones=())
        assert {plan.rate_at(done / 10) for done in range(11)} == {0.1}

    @pytest.mark.parametrize(("n_images", "steps"), [(640, 10), (703, 10), (64, 1), (5, 1)])
    def test_only_full_batches_unless_there_is_none(self, n_images, steps):
        assert TrainingPlan(batch_size=64).steps(n_images) == steps


class TestRandomness:
    def draws(self, plan: TrainingPlan, epoch: int) -> list[int]:
        return torch.randint(2**40, (8,), generator=plan.generator(epoch)).tolist()

    def test_an_epoch_can_be_repeated(self):
        assert self.draws(TrainingPlan(seed=3), 5) == self.draws(TrainingPlan(seed=3, epochs=9), 5)

    def test_epochs_and_seeds_differ(self):
        found = {tuple(self.draws(TrainingPlan(seed=seed), epoch)) for seed in range(20) for epoch in range(20)}
        assert len(found) == 400


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"epochs": 0}, "epochs must be at least 1"),
            ({"batch_size": 1}, "batch_size at least 2"),
            ({"rate": 0.0}, "rate and fall must be above 0"),
            ({"rate": float("nan")}, "rate and fall must be above 0"),
            ({"fall": 0.0}, "rate and fall must be above 0"),
            ({"weight_decay": -1.0}, "weight_decay at least 0"),
            ({"momentum": 1.0}, "momentum from 0 to below 1"),
            ({"milestones": (0.5, 60.0)}, "milestones are shares"),
        ],
    )
    def test_they_are_named(self, change, says):
        with pytest.raises(ValueError, match=says):
            TrainingPlan(**change)

    def test_a_plan_is_a_value(self):
        assert replace(FINE_TUNING, epochs=200, rate=0.1) == TrainingPlan()
        with pytest.raises(FrozenInstanceError, match="cannot assign"):
            TrainingPlan().epochs = 3
