"""Distillation: what the student learns from, and that nothing of the teacher's weights is in it."""

from __future__ import annotations

import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.attacks import Distillation, HardDistillation, carry_out
from onnxmark_torch.attacks.copies import untrained
from onnxmark_torch.attacks.distillation import NamedClasses
from onnxmark_torch.objectives import SoftLabels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train
from torch.nn import functional

from tests.adapters.attacks.subjects import means, student, task, trained_net, untrained_net
from tests.adapters.subjects import make_key

BOTH = pytest.mark.parametrize("recipe", [Distillation(3.0, epochs=1), HardDistillation(1)], ids=lambda one: one.name)


@BOTH
def test_the_student_shares_no_parameter_with_the_teacher(recipe):
    teacher = trained_net()
    pupil = carry_out(recipe, teacher, means())
    places = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert not places & {parameter.data_ptr() for parameter in pupil.parameters()}
    for name, parameter in pupil.named_parameters():
        if parameter.ndim > 1:
            both = torch.stack([parameter.flatten(), teacher.get_parameter(name).flatten()])
            assert abs(torch.corrcoef(both)[0, 1]) < 0.5, name


@BOTH
def test_the_student_does_not_depend_on_the_teacher_where_the_teacher_says_nothing(recipe):
    """Two teachers of different weights and the same answers: the students are the same, bit for bit."""
    teachers = []
    for scale in (1.0, 2.0):
        teacher = trained_net()
        with torch.no_grad():
            # Batch normalisation in evaluation mode divides by a stored deviation: both factors cancel exactly.
            teacher.conv3.weight.mul_(scale)
            teacher.norm3.running_mean.mul_(scale)
            teacher.norm3.running_var.mul_(scale**2).add_(teacher.norm3.eps * (scale**2 - 1))
        teachers.append(teacher)
    images = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(teachers[0](images), teachers[1](images), rtol=1e-4, atol=1e-4)
    first, second = (carry_out(recipe, teacher, means()).state_dict() for teacher in teachers)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_soft_distillation_is_the_loop_with_soft_labels():
    expected = untrained(trained_net(), seed=2)
    objective = SoftLabels(trained_net(), temperature=5.0, share=0.7)
    train(expected, task(), TrainingPlan(1, 64, 0.1, seed=2), objective=objective, show=False)
    pupil = carry_out(Distillation(5.0, share=0.7, epochs=1), trained_net(), means(seed=2))
    torch.testing.assert_close(pupil.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_another_architecture_is_the_one_that_the_thief_builds():
    for recipe in (Distillation(3.0, epochs=1, other_architecture=True), HardDistillation(1, other_architecture=True)):
        pupil = carry_out(recipe, trained_net(), means())
        assert pupil.state_dict().keys() == student().state_dict().keys()


def test_named_classes_are_the_teachers_and_not_the_labels():
    teacher = trained_net()
    inputs, logits = torch.randn(6, 1, 8, 8), torch.randn(6, 10, requires_grad=True)
    named = teacher(inputs).argmax(dim=1)
    loss = NamedClasses(teacher)(logits, inputs, (named + 1) % 10)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, named))
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_student_of_hard_labels_learns_the_teachers_mistakes():
    """A teacher that calls every class by the next one's number has students that do so."""
    teacher = trained_net()
    with torch.no_grad():
        for tensor in (teacher.fc.weight, teacher.fc.bias):
            tensor.copy_(tensor.roll(1, dims=0))
    pupil = carry_out(HardDistillation(8, batch_size=32), teacher, means())
    images, labels = torch.tensor(task().test.images), torch.tensor(task().test.labels)
    said = pupil(task().inputs(images)).argmax(dim=1)
    assert float((said == (labels + 1) % 10).double().mean()) > 0.5


def test_a_mark_does_not_outlive_distillation():
    """By construction; and the student's reading must look like chance, not like an inverted mark."""
    mark = Watermark(make_key((16, 16, 3, 3), n_bits=64), "conv3", strength=0.05)
    model = untrained_net()
    train(model, task(), TrainingPlan(8, 32), mark, show=False)
    assert mark.report(model).bit_error_rate == 0
    pupil = carry_out(Distillation(3.0, epochs=3), model, means())
    assert 0.25 < mark.report(pupil).bit_error_rate < 0.75
