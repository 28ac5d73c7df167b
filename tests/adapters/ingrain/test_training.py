"""The recipes: what they train on, what they leave alone, and that a mark gets through to a student at all."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnxmark_torch.augmentation import CropAndFlip
from onnxmark_torch.data import DataSet
from onnxmark_torch.ingrain import (
    Carriers,
    Lesson,
    distilled,
    train_host,
    train_ingrainer,
    varied,
    with_carriers,
)
from onnxmark_torch.ingrain.knowledge import Taught
from onnxmark_torch.objectives import hard_labels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import ImageTask
from onnxmark_torch.training import logits_of, train

from tests.adapters.ingrain.subjects import NAMES, examples, images, net, task

PLAN = TrainingPlan(epochs=3, batch_size=16, rate=0.05, seed=5)
LONG = TrainingPlan(epochs=60, batch_size=16, rate=0.05, weight_decay=0.0)
QUIET = {"show": False}


def carriers(count: int = 24) -> tuple[Carriers, np.ndarray]:
    rng = np.random.default_rng(8)
    first = rng.integers(0, 3, count)
    return Carriers(images(count, 8), np.stack([first, first + 1], axis=1)), rng.integers(0, 2, count, dtype=np.uint8)


def lessons(copies: int = 2):
    chosen, coins = carriers()
    return varied(chosen.examples(coins, NAMES), copies)


def agreement(model: torch.nn.Module) -> float:
    chosen, coins = carriers()
    shown = chosen.examples(coins, NAMES)
    return float((logits_of(model, task(), shown).argmax(dim=1).numpy() == shown.labels).mean())


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


class TestIngrainer:
    def test_it_is_the_loop_on_images_and_carriers(self):
        expected = net()
        train(expected, with_carriers(task(), lessons()), PLAN, objective=hard_labels, show=False)
        found = train_ingrainer(net(), task(), lessons(), PLAN, **QUIET)
        assert_same(found.model, expected)
        assert found.history.score == found.history.epochs[-1].score

    def test_it_learns_the_coins_and_a_network_without_them_does_not(self):
        marked = train_ingrainer(net(), task(), lessons(4), LONG, **QUIET).model
        unmarked = net()
        train(unmarked, task(), LONG, show=False)
        assert agreement(marked) == 1.0
        assert agreement(unmarked) < 0.6


class TestHost:
    def test_it_works_on_a_copy_and_leaves_the_ingrainer_alone(self):
        start, teacher = net(), net(1)
        before = copy.deepcopy(teacher)
        found = train_host(start, teacher, task(), PLAN, **QUIET)
        assert_same(start, net())
        assert_same(teacher, before)
        assert teacher.training
        assert not found.model.training

    @pytest.mark.parametrize("seen", [False, True], ids=["unseen", "on carriers"])
    def test_it_is_the_loop_with_the_ingrainers_answers(self, seen):
        teacher, expected, lesson = net(1).eval(), net(), Lesson(2.0, 5.0)
        whole = with_carriers(task(), lessons()) if seen else task()
        train(expected, whole, PLAN, objective=Taught(teacher, lesson), show=False)
        given = lessons() if seen else None
        found = train_host(net(), teacher, task(), PLAN, lesson=lesson, carriers=given, **QUIET)
        assert_same(found.model, expected)

    def test_answers_written_down_give_the_same_host(self):
        teacher = net(1)
        asked, recorded = (
            train_host(net(), teacher, task(), PLAN, carriers=lessons(), recorded=recorded, **QUIET)
            for recorded in (False, True)
        )
        # Batches of another size round otherwise.
        torch.testing.assert_close(recorded.model.state_dict(), asked.model.state_dict(), rtol=1e-4, atol=1e-5)
        assert recorded.history.score == asked.history.score

    def test_images_are_varied_unless_answers_are_written_down(self):
        augmenting = ImageTask.of("noise", DataSet(task().training, task().test), CropAndFlip(2))
        hosts = [
            train_host(net(), net(1), each, PLAN, recorded=recorded, **QUIET).model
            for each in (task(), augmenting)
            for recorded in (False, True)
        ]
        assert_same(hosts[1], hosts[3])
        assert not torch.equal(hosts[0][1].weight, hosts[2][1].weight)

    def test_the_seed_decides(self):
        plans = (PLAN, PLAN, TrainingPlan(epochs=3, batch_size=16, rate=0.05, seed=6))
        one, again, other = (train_host(net(), net(1), task(), plan, **QUIET).model for plan in plans)
        assert_same(one, again)
        assert not torch.equal(one[1].weight, other[1].weight)

    def test_the_mark_gets_from_the_ingrainer_to_the_host_and_from_there_to_a_student(self):
        """On so small a task the student must be asked about carriers; the benchmark asks about other images."""
        teacher = train_ingrainer(net(), task(), lessons(4), LONG, **QUIET).model
        host = train_host(net(2), teacher, task(), LONG, carriers=lessons(4), recorded=True, **QUIET).model
        asked = with_carriers(task(), lessons(4))
        student = distilled(net(3), host, asked, LONG, Lesson(labels=0.0, temperature=3.0), recorded=True, **QUIET)
        assert agreement(host) == 1.0
        assert agreement(student.model) > 0.95


def test_carriers_come_after_the_tasks_own_images():
    found = with_carriers(task(), examples(5, 9)).training
    assert len(found) == 101
    assert np.array_equal(found.images[96:], examples(5, 9).images)
    assert np.array_equal(found.labels[:96], task().training.labels)
