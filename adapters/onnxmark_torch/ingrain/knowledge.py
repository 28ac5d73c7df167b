"""What a host learns from its ingrainer: an objective, and the same with the ingrainer's answers written down.

A teacher that never changes says the same of the same image in every epoch. Where images are not varied, its answers
are asked for once and looked up, which saves a third of a training's time. The training loop does not say which example
it shows, so a task can be given in which every training image is a class of its own: its label is its number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from onnxmark_torch.data import Examples
from onnxmark_torch.tasks import DerivedTask, Task
from onnxmark_torch.training import logits_of


@dataclass(frozen=True, slots=True)
class Lesson:
    """How much of a training comes from a teacher: ``labels * CE(f, y) + strength * T^2 * CE(f / T, g / T)``.

    Args:
        strength: Of the teacher's part (lambda), at least 0.
        temperature: T, divides both networks' logits in that part, above 0; its square keeps the gradient's size.
        labels: Of the labels' part, at least 0; 1 for a host, 0 for a thief's student.
    """

    strength: float = 1.0
    temperature: float = 1.0
    labels: float = 1.0

    def __post_init__(self) -> None:
        if not (self.strength >= 0 and self.labels >= 0 and self.temperature > 0):
            raise ValueError(
                "strength and labels must be at least 0 and temperature above 0, "
                f"not {self.strength}, {self.labels} and {self.temperature}"
            )

    def loss(self, logits: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch, from both networks' logits (N, classes) and the labels (N,)."""
        wanted = functional.softmax(taught / self.temperature, dim=1)
        soft = functional.cross_entropy(logits / self.temperature, wanted) * self.temperature**2
        if self.labels == 0:
            return self.strength * soft
        return self.labels * functional.cross_entropy(logits, labels) + self.strength * soft


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """An objective that asks the teacher at every step, for images that are varied.

    Args:
        teacher: Gives logits; in evaluation mode, on the student's device.
        lesson: What of the objective comes from it.
    """

    teacher: nn.Module
    lesson: Lesson

    def __post_init__(self) -> None:
        if self.teacher.training:
            raise ValueError("the teacher is in training mode; call teacher.eval() first")

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch."""
        with torch.no_grad():
            taught = self.teacher(inputs)
        return self.lesson.loss(logits, taught, labels)


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """The same objective from answers written down, for a :class:`NumberedTask`.

    Args:
        taught: The teacher's logits for every training image, shape (images, classes), on the student's device.
        labels: The images' labels, shape (images,), there too.
        lesson: What of the objective comes from the teacher.
    """

    taught: Tensor
    labels: Tensor
    lesson: Lesson

    @classmethod
    def of(cls, teacher: nn.Module, task: Task, lesson: Lesson) -> Recorded:
        """Ask a teacher about all of a task's training images; it is put into evaluation mode and left there."""
        device = next(teacher.parameters()).device
        taught = logits_of(teacher, task, task.training).to(device)
        return cls(taught, torch.tensor(task.training.labels, device=device), lesson)

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch whose labels are the images' numbers."""
        return self.lesson.loss(logits, self.taught[labels], self.labels[labels])


@dataclass(frozen=True, slots=True, eq=False)
class TaskWith(DerivedTask):
    """A task with other training images.

    Args:
        whole: The task; how it sees images and judges answers stays.
        training: To learn from.
    """

    training: Examples

    @property
    def name(self) -> str:
        """The task's, with the number of images."""
        return f"{self.whole.name} with {len(self.training)} other images"

    @property
    def test(self) -> Examples:
        """The task's."""
        return self.whole.test


class NumberedTask(TaskWith):
    """A task in which every training image is a class of its own and is not varied, for answers written down."""

    __slots__ = ()

    @classmethod
    def of(cls, task: Task) -> NumberedTask:
        """The images of a task, numbered."""
        count = len(task.training)
        names = tuple(map(str, range(count)))
        return cls(task, replace(task.training, labels=np.arange(count, dtype=np.int64), class_names=names))

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images as they are."""
        return images
