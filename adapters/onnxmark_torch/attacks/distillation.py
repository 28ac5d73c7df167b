"""Distillation: a network that never saw the owner's weights learns to answer as his does.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015, arXiv 1503.02531). The student starts from
fresh weights, so a mark in the teacher's weights cannot be in the student's: this attack removes every such mark by
construction, and only its price can be discussed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from onnxmark.errors import AttackError
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied, seeded, untrained
from onnxmark_torch.objectives import SoftLabels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train


@dataclass(frozen=True, slots=True)
class Distillation(TrainingAttack):
    """Train a fresh student on the stolen network's softened answers.

    Args:
        temperature: Divides both networks' logits, above 0; 3 to 20 are usual.
        share: Of the teacher's answers in the objective, 0 to 1 (alpha); the labels' is the rest.
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start, above 0.
        batch_size: Images a step.
        other_architecture: Whether the student is the one that the thief's means build, not a twin of the teacher.
    """

    name: ClassVar[str] = "distil"
    summary: ClassVar[str] = "train a fresh network on the stolen one's softened answers; temperature, above 0"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (3.0, 5.0, 10.0, 20.0)

    temperature: float = 3.0
    share: float = 1.0
    epochs: int = 20
    rate: float = 0.1
    batch_size: int = 64
    other_architecture: bool = False

    def __post_init__(self) -> None:
        self._plan(0)
        SoftLabels(nn.Identity().eval(), self.temperature, self.share)

    @property
    def label(self) -> str:
        """``distillation T 3``, with what differs from the default."""
        return described(self, f"distillation T {self.temperature:.10g}")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        student = _student(model, means, other=self.other_architecture)
        objective = SoftLabels(copied(model).eval(), self.temperature, self.share)
        train(student, means.task, self._plan(means.seed), objective=objective, show=means.show)
        return student

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)


@dataclass(frozen=True, slots=True)
class HardDistillation(TrainingAttack):
    """Train a fresh student on the classes the stolen network names: all that a thief behind an interface gets.

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start, above 0.
        batch_size: Images a step.
        other_architecture: Whether the student is the one that the thief's means build, not a twin of the teacher.
    """

    name: ClassVar[str] = "distil-hard"
    summary: ClassVar[str] = "train a fresh network on the classes the stolen one names; epochs, from 1"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[int, ...]] = (20, 50)

    epochs: int = 20
    rate: float = 0.1
    batch_size: int = 64
    other_architecture: bool = False

    def __post_init__(self) -> None:
        self._plan(0)

    @property
    def label(self) -> str:
        """``distillation of hard labels 20 epochs``, with what differs from the default."""
        return described(self, f"distillation of hard labels {self.epochs} {'epoch' if self.epochs == 1 else 'epochs'}")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        student = _student(model, means, other=self.other_architecture)
        objective = NamedClasses(copied(model).eval())
        train(student, means.task, self._plan(means.seed), objective=objective, show=means.show)
        return student

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class NamedClasses:
    """Cross-entropy with the class a teacher gives the largest logit.

    Args:
        teacher: Gives logits; in evaluation mode, on the student's device.
    """

    teacher: nn.Module

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch; the labels are not looked at."""
        with torch.no_grad():
            named = self.teacher(inputs).argmax(dim=1)
        return functional.cross_entropy(logits, named)


def _student(model: nn.Module, means: TrainingMeans, *, other: bool) -> nn.Module:
    if not other:
        return untrained(model, means.seed)
    if means.student is None:
        raise AttackError("a student of another architecture needs building; give TrainingMeans(student=...)")
    with seeded(means.seed):
        return means.student()
