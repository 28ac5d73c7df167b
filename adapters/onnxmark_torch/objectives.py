"""What a training minimises: the labels' cross-entropy, or a teacher's opinion in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits (N, classes), the inputs they are for, and labels (N,) to a scalar to minimise."""


def hard_labels(logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy with the labels."""
    return functional.cross_entropy(logits, labels)


@dataclass(frozen=True, slots=True, eq=False)
class SoftLabels:
    """Cross-entropy with a teacher's softmax outputs, mixed with the labels' where ``share`` is below 1.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015, arXiv 1503.02531). The soft part is
    multiplied by the square of the temperature, which keeps its gradient's size. Uchida et al. (ICMR 2017, arXiv
    1701.04082) distil with the teacher's outputs alone: the defaults.

    Args:
        teacher: Gives logits; in evaluation mode, on the student's device.
        temperature: Divides both networks' logits, above 0.
        share: Of the soft labels in the sum, 0 to 1.
    """

    teacher: nn.Module
    temperature: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.teacher.training:
            raise ValueError("the teacher is in training mode; call teacher.eval() first")
        if not self.temperature > 0 or not 0 <= self.share <= 1:
            raise ValueError(
                f"temperature must be above 0 and share from 0 to 1, not {self.temperature} and {self.share}"
            )

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mixed loss of a batch."""
        with torch.no_grad():
            wanted = functional.softmax(self.teacher(inputs) / self.temperature, dim=1)
        soft = functional.cross_entropy(logits / self.temperature, wanted) * self.temperature**2
        if self.share == 1:
            return soft
        return self.share * soft + (1 - self.share) * hard_labels(logits, inputs, labels)
