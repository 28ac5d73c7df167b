"""What a host learns: the objective against SciPy, written-down answers against asked ones, and numbered tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.augmentation import CropAndFlip
from onnxmark_torch.ingrain.knowledge import Lesson, NumberedTask, Recorded, TaskWith, Taught
from onnxmark_torch.objectives import SoftLabels, hard_labels
from onnxmark_torch.tasks import ImageTask
from scipy.special import log_softmax, softmax

from tests.adapters.ingrain.subjects import NAMES, examples, net, task

LESSONS = pytest.mark.parametrize(
    "lesson",
    [Lesson(), Lesson(5.0, 20.0), Lesson(0.1, 2.0), Lesson(0.0), Lesson(1.0, 3.0, labels=0.0), Lesson(2.0, labels=0.5)],
    ids=repr,
)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits, taught = (torch.tensor(rng.normal(0, 2, (9, 4)), requires_grad=True) for _ in range(2))
    return logits, taught, torch.tensor(rng.integers(0, 4, 9))


class TestLesson:
    @LESSONS
    def test_the_loss_is_scipys(self, lesson):
        logits, taught, labels = batch()
        said, wanted = logits.detach().numpy(), taught.detach().numpy()
        hard = -log_softmax(said, axis=1)[np.arange(9), labels.numpy()].mean()
        t = lesson.temperature
        soft = -(softmax(wanted / t, axis=1) * log_softmax(said / t, axis=1)).sum(axis=1).mean() * t**2
        expected = lesson.labels * hard + lesson.strength * soft
        assert float(lesson.loss(logits, taught, labels).detach()) == pytest.approx(expected, rel=1e-12)

    def test_without_labels_it_is_distillation(self):
        logits, _, labels = batch()
        inputs = torch.randn(9, 1, 6, 6)
        teacher = net().eval()
        expected = SoftLabels(teacher, temperature=3.0)(logits.float(), inputs, labels)
        found = Lesson(1.0, 3.0, labels=0.0).loss(logits.float(), teacher(inputs), labels)
        torch.testing.assert_close(found, expected)

    def test_without_strength_it_is_the_labels(self):
        logits, taught, labels = batch()
        both = (Lesson(0.0).loss(logits, taught, labels), hard_labels(logits, logits, labels))
        torch.testing.assert_close(*both, rtol=0, atol=0)

    def test_a_host_that_says_what_it_is_taught_is_at_rest(self):
        logits, _, labels = batch()
        Lesson(1.0, 3.0, labels=0.0).loss(logits, logits.detach().clone(), labels).backward()
        torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"temperature": 0.0}, {"labels": -0.5}])
    def test_what_cannot_be_is_refused(self, wrong):
        with pytest.raises(ValueError, match="strength and labels must be at least 0 and temperature above 0"):
            Lesson(**wrong)


class TestTaught:
    def test_the_teacher_is_asked_about_the_batch_and_learns_nothing(self):
        teacher, (logits, _, labels) = net().eval(), batch()
        inputs = torch.randn(9, 1, 6, 6)
        found = Taught(teacher, Lesson(2.0, 5.0))(logits.float(), inputs, labels)
        torch.testing.assert_close(found, Lesson(2.0, 5.0).loss(logits.float(), teacher(inputs), labels))
        found.backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())

    def test_a_teacher_in_training_mode_is_refused(self):
        with pytest.raises(ValueError, match=r"the teacher is in training mode; call teacher\.eval\(\) first"):
            Taught(net(), Lesson())


class TestRecorded:
    @LESSONS
    def test_it_is_what_the_teacher_would_say_if_asked(self, lesson):
        teacher, logits = net(), torch.randn(5, 4)
        objective = Recorded.of(teacher, task(), lesson)
        numbers = torch.tensor([3, 90, 4, 4, 0])
        shown = torch.tensor(task().training.images)[numbers]
        inputs, labels = task().inputs(shown), torch.tensor(task().training.labels)[numbers]
        found = objective(logits, inputs, numbers)
        torch.testing.assert_close(found, Taught(teacher, lesson)(logits, inputs, labels))


class TestTasks:
    def test_a_task_with_other_images_is_otherwise_the_task(self):
        augmenting = ImageTask.of("noise", task().data, CropAndFlip(2))
        other = TaskWith(augmenting, examples(5, 9))
        assert other.training.images.shape == (5, 1, 6, 6)
        assert other.name == "noise with 5 other images"
        assert (other.test, other.n_classes) == (augmenting.test, 4)
        shown = torch.tensor(examples(5).images)
        torch.testing.assert_close(other.inputs(shown), augmenting.inputs(shown))
        generators = (torch.Generator().manual_seed(1) for _ in range(2))
        varied_ones = [each.augmented(shown, one) for each, one in zip((other, augmenting), generators, strict=True)]
        assert torch.equal(*varied_ones)
        logits, labels = torch.eye(4), torch.tensor([0, 1, 2, 0])
        assert other.score(logits, labels) == 0.75

    def test_numbered_images_are_the_tasks_and_are_not_varied(self):
        augmenting = ImageTask.of("noise", task().data, CropAndFlip(2))
        numbered = NumberedTask.of(augmenting)
        assert numbered.training.labels.tolist() == list(range(96))
        assert numbered.training.images is augmenting.training.images
        shown = torch.tensor(examples(5).images)
        assert torch.equal(numbered.augmented(shown, torch.Generator()), shown)
        assert numbered.test.class_names == NAMES
