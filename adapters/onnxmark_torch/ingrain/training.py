"""The two trainings of an ingrained watermark: of a network that knows the carriers, and of the host it teaches.

Yang, Dang, Chang: Effectiveness of Distillation Attack and Countermeasure on Neural Network Watermarking (2019, arXiv
1906.06046). Reconstruction: the equations are ours. A distilled student learns nothing but its teacher's answers on
ordinary images; so the host is made to learn the mark in the very same way, from the answers of an *ingrainer* on the
task's own images, and what got in by that door should get out by it, too.

What we measured says less: the kind of carrier decides, and a host that is simply trained on the same carriers, the
plain backdoor, hands them on about as well (``benchmarks/README.md``). What the ingrainer adds is that a host which
never sees a carrier is marked at all.

Every recipe works on a copy and draws nothing that its plan's seed does not decide.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final, Unpack

from torch import nn

from onnxmark_torch.data import Examples
from onnxmark_torch.history import History
from onnxmark_torch.ingrain.carriers import joined
from onnxmark_torch.ingrain.knowledge import Lesson, NumberedTask, Recorded, TaskWith, Taught
from onnxmark_torch.objectives import Objective, hard_labels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.recipes import Watching
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import train

_PLAN: Final = TrainingPlan()
_LESSON: Final = Lesson()


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a recipe gives.

    Args:
        model: A new model, in evaluation mode.
        history: How it was trained, with its score.
    """

    model: nn.Module
    history: History


def train_ingrainer(
    model: nn.Module, task: Task, carriers: Examples, plan: TrainingPlan = _PLAN, **watching: Unpack[Watching]
) -> Trained:
    """Train a network on the task's images and the carriers, by their labels alone.

    As a host, what this gives is the plain backdoor that an ingrained watermark must be compared with (lambda 0).

    Args:
        model: The network with its initial weights, on the device to train on; left as it is.
        task: What it is for.
        carriers: Labelled by the key's coins, and varied (:func:`onnxmark_torch.ingrain.carriers.varied`).
        plan: How to train.
        **watching: See :class:`onnxmark_torch.recipes.Watching`.
    """
    return _trained(model, with_carriers(task, carriers), plan, hard_labels, watching)


def train_host(
    model: nn.Module,
    ingrainer: nn.Module,
    task: Task,
    plan: TrainingPlan = _PLAN,
    *,
    lesson: Lesson = _LESSON,
    carriers: Examples | None = None,
    recorded: bool = False,
    **watching: Unpack[Watching],
) -> Trained:
    """Train the network to publish: on the labels, and on what the ingrainer says of the same images.

    Args:
        model: The network with its initial weights, on the ingrainer's device; left as it is.
        ingrainer: From :func:`train_ingrainer`; left as it is.
        task: What the network is for.
        plan: How to train.
        lesson: Strength and temperature of the ingrainer's part.
        carriers: Carriers to train on besides, with their labels and the ingrainer's answers; None leaves it to the
            ingrainer's answers on the task's own images.
        recorded: Ask the ingrainer once about every image and write the answers down, for two thirds of the time; the
            task's images are then not varied.
        **watching: See :class:`onnxmark_torch.recipes.Watching`.
    """
    whole = task if carriers is None else with_carriers(task, carriers)
    return distilled(model, ingrainer, whole, plan, lesson, recorded=recorded, **watching)


def distilled(
    model: nn.Module,
    teacher: nn.Module,
    task: Task,
    plan: TrainingPlan,
    lesson: Lesson,
    *,
    recorded: bool = False,
    **watching: Unpack[Watching],
) -> Trained:
    """Train a network on a teacher's answers and the labels, as a lesson mixes them; arguments as above."""
    still = copy.deepcopy(teacher).eval()
    if recorded:
        return _trained(model, NumberedTask.of(task), plan, Recorded.of(still, task, lesson), watching)
    return _trained(model, task, plan, Taught(still, lesson), watching)


def with_carriers(task: Task, carriers: Examples) -> TaskWith:
    """A task that is trained on carriers, too."""
    return TaskWith(task, joined([task.training, carriers]))


def _trained(model: nn.Module, task: Task, plan: TrainingPlan, objective: Objective, watching: Watching) -> Trained:
    trained = copy.deepcopy(model)
    history = train(trained, task, plan, objective=objective, **watching)
    return Trained(trained, history)
