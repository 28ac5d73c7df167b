"""Fine-tuning: the thief goes on training, all of the network or its head only, at home or by way of another task.

The four variants and their names are those of Adi, Baum, Cissé, Pinkas, Keshet: Turning Your Weakness Into a Strength
(USENIX Security 2018, arXiv 1802.04633); Uchida et al. (ICMR 2017, arXiv 1701.04082) fine-tune across data sets. Where
only the head trains, batch normalisation still sees the thief's images, so its running statistics follow them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn

from onnxmark.errors import AttackError
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied, head_name, new_head
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import train


@dataclass(frozen=True, slots=True)
class FineTuning(TrainingAttack, Protocol):
    """What the variants share.

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start, above 0; the paper's setting is 0.01, a thief in a hurry takes more.
        batch_size: Images a step.
    """

    title: ClassVar[str]
    head_only: ClassVar[bool] = False
    fresh_head: ClassVar[bool] = False
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[int, ...]] = (1, 5, 20)

    epochs: int
    rate: float = 0.01
    batch_size: int = 64

    def __post_init__(self) -> None:
        self.plan(0)

    @property
    def label(self) -> str:
        """``fine-tuning 5 epochs``, with what differs from the default."""
        return described(self, f"{self.title} {self.epochs} {'epoch' if self.epochs == 1 else 'epochs'}")

    def plan(self, seed: int) -> TrainingPlan:
        """How the thief trains."""
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        stolen, classes = copied(model), means.task.n_classes
        if self.fresh_head or self.head_only:
            name = head_name(stolen, classes)
            if self.fresh_head:
                stolen.set_submodule(name, new_head(stolen.get_submodule(name), classes, means.seed))
            if self.head_only:
                stolen.requires_grad_(requires_grad=False)
                stolen.get_submodule(name).requires_grad_()
        train(stolen, means.task, self.plan(means.seed), show=means.show)
        return stolen.requires_grad_()


@dataclass(frozen=True, slots=True)
class FineTuneLast(FineTuning):
    """Train the head on, everything before it frozen (FTLL).

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "fine-tune-last"
    title: ClassVar[str] = "head fine-tuning"
    summary: ClassVar[str] = "train the last layer on, the others frozen; epochs, from 1"
    head_only: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class FineTuneAll(FineTuning):
    """Train all layers on (FTAL).

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "fine-tune-all"
    title: ClassVar[str] = "fine-tuning"
    summary: ClassVar[str] = "train all layers on; epochs, from 1"


@dataclass(frozen=True, slots=True)
class RetrainLast(FineTuning):
    """Train a fresh head, everything before it frozen (RTLL).

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "retrain-last"
    title: ClassVar[str] = "head retraining"
    summary: ClassVar[str] = "train a fresh last layer, the others frozen; epochs, from 1"
    head_only: ClassVar[bool] = True
    fresh_head: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RetrainAll(FineTuning):
    """Train all layers on, the last one from scratch (RTAL).

    Args:
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "retrain-all"
    title: ClassVar[str] = "retraining"
    summary: ClassVar[str] = "train all layers on, the last from scratch; epochs, from 1"
    fresh_head: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CrossDomain(FineTuning):
    """Fine-tune all layers on another task with a head for its classes, then back at home with the old head.

    Args:
        epochs: Times the images of either task are seen, at least 1.
        rate: Learning rate at the start, there and back.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "fine-tune-elsewhere"
    title: ClassVar[str] = "fine-tuning elsewhere and back"
    summary: ClassVar[str] = "train all layers on another task, then back; epochs of either, from 1"

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        elsewhere = _elsewhere(means)
        stolen, plan = copied(model), self.plan(means.seed)
        name = head_name(stolen, means.task.n_classes)
        head = stolen.get_submodule(name)
        stolen.set_submodule(name, new_head(head, elsewhere.n_classes, means.seed))
        train(stolen, elsewhere, plan, show=means.show)
        stolen.set_submodule(name, head)
        train(stolen, means.task, plan, show=means.show)
        return stolen


def _elsewhere(means: TrainingMeans) -> Task:
    if means.elsewhere is None:
        raise AttackError("fine-tuning elsewhere needs another task; give TrainingMeans(elsewhere=...)")
    here, there = means.task.training.images.shape[1], means.elsewhere.training.images.shape[1]
    if here != there:
        raise AttackError(f"images of the other task have {there} channels, expected {here} as at home")
    return means.elsewhere
