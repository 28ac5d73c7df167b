"""The tasks and networks that a plan names, ours by a word and anybody's as ``module:function``.

A plan is its user's own file: what it names as ``module:function`` is imported and called.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.modifications import Scalar
from onnxmark.evaluation.plan import Architecture, TaskPlan, as_table
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.networks import ConvNet, LeNet, Vgg, WideResNet
from onnxmark_torch.tasks import DerivedTask, ImageTask, Task, cifar10, digits, fashion_mnist

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, eq=False)
class Portion(DerivedTask):
    """A task on some of its images, seen as the whole task sees them.

    Args:
        whole: The task.
        training: To learn from.
        test: To judge by.
        pool: Nobody learns from these; None where none are kept apart.
    """

    training: Examples
    test: Examples
    pool: Examples | None

    @property
    def name(self) -> str:
        """The task's."""
        return self.whole.name

    @property
    def metric(self) -> str:
        """Name of the figure of merit."""
        return str(getattr(getattr(self.whole, "metric", None), "__name__", "score"))


def portion(plan: TaskPlan) -> Portion:
    """The task of a plan.

    Raises:
        LaboratoryError: There is no such task, or it has not so many images.
        DataError: Its files cannot be used.
        MissingExtra: A package that holds its data is not installed.
    """
    task = _task(plan)
    n_training = len(task.training) - plan.n_pool if plan.n_training is None else plan.n_training
    n_test = len(task.test) if plan.n_test is None else plan.n_test
    if not (0 < n_training <= len(task.training) - plan.n_pool and n_test <= len(task.test)):
        raise LaboratoryError(
            f"task {plan.name!r} has {len(task.training):,} training and {len(task.test):,} test images, and the plan "
            f"asks for {n_training:,} with {plan.n_pool:,} kept apart and {n_test:,}; take fewer"
        )
    pool = _slice(task.training, n_training, n_training + plan.n_pool) if plan.n_pool else None
    return Portion(task, task.training.first(n_training), task.test.first(n_test), pool)


def elsewhere(plan: TaskPlan, home: Task) -> ImageTask:
    """Another task for the networks of one: images of the size, channels and number that they have at home.

    Args:
        plan: Its name, and where its files are.
        home: The task of the networks.

    Raises:
        LaboratoryError: There is no such task, or it is the same one.
        DataError: Its files cannot be used.
        MissingExtra: A package that holds its data is not installed.
    """
    task = _task(plan)
    if task.name == home.name:
        raise LaboratoryError(f"transfer learning to {task.name!r} leads nowhere: the networks are for that task")
    shape = home.training.images.shape[1:]
    training, test = task.training, task.test
    few = training.first(min(len(training), len(home.training)))
    data = DataSet(_resized(few, shape), _resized(test.first(min(len(test), len(home.test))), shape))
    return ImageTask.of(task.name, data)


def _resized(examples: Examples, shape: tuple[int, ...]) -> Examples:
    """The examples with images of another shape (C, H, W): interpolated, colours averaged or one used for all."""
    n_channels, *sizes = shape
    images = torch.tensor(examples.images).float()
    if images.shape[1] != n_channels:
        images = images.mean(dim=1, keepdim=True).expand(-1, n_channels, -1, -1)
    if list(images.shape[2:]) != sizes:
        images = functional.interpolate(images, size=sizes, mode="bilinear", align_corners=False)
    return replace(examples, images=images.round().clamp(0, 255).to(torch.uint8).numpy())


def untrained(architecture: Architecture, task: Task, seed: int) -> nn.Module:
    """A network of an architecture for a task, with initial weights that a seed decides.

    Raises:
        LaboratoryError: There is no such architecture, or it does not take the settings or the task's images.
    """
    build = _found(_NETWORKS, architecture.name, "architecture")
    settings = as_table(architecture.settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _called(build, f"architecture {architecture.name!r}", task, **settings)


def conv_net(task: Task, width: int = 64) -> nn.Module:
    """Three convolutions with batch normalisation."""
    return ConvNet(_channels(task), task.n_classes, width)


def lenet(task: Task) -> nn.Module:
    """Two convolutions and two linear layers, for images of 16x16 pixels or more."""
    return LeNet(_channels(task), task.n_classes, task.training.images.shape[2])


def wide_resnet(task: Task, n_blocks: int = 1, widening: int = 1, stem_stride: int = 1) -> nn.Module:
    """WRN-(6 n_blocks + 4)-widening."""
    return WideResNet(n_blocks, widening, _channels(task), task.n_classes, stem_stride)


def vgg(task: Task, width: int = 16, stages: int = 3, depth: int = 2, stem_stride: int = 1) -> nn.Module:
    """Stages of ``depth`` convolutions, whose widths double from stage to stage."""
    widths = tuple((width * 2**stage,) * depth for stage in range(stages))
    return Vgg(widths, _channels(task), task.n_classes, stem_stride)


_NETWORKS: Final[Mapping[str, Callable[..., nn.Module]]] = MappingProxyType(
    {"conv-net": conv_net, "lenet": lenet, "wrn": wide_resnet, "vgg": vgg}
)
_TASKS: Final[Mapping[str, Callable[..., Task]]] = MappingProxyType(
    {"fashion-mnist": fashion_mnist, "digits": digits, "cifar10": cifar10}
)


def _task(plan: TaskPlan) -> Task:
    given: dict[str, Scalar] = {} if plan.path is None else {_PATHS.get(plan.name, "path"): plan.path}
    return _called(_found(_TASKS, plan.name, "task"), f"task {plan.name!r}", **given)


_PATHS: Final = {"fashion-mnist": "directory"}
"""What tasks call the place of their files, where it is not ``path``."""


def _channels(task: Task) -> int:
    return int(task.training.images.shape[1])


def _slice(examples: Examples, start: int, stop: int) -> Examples:
    return replace(examples, images=examples.images[start:stop], labels=examples.labels[start:stop])


def _found(table: Mapping[str, Callable[..., _Made]], name: str, kind: str) -> Callable[..., _Made]:
    """What a name stands for: ours, or a function of anybody's."""
    if name in table:
        return table[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise LaboratoryError(f"there is no {kind} {name!r}; there are {', '.join(table)}, and module:function")
    try:
        return cast("Callable[..., _Made]", getattr(importlib.import_module(module), function))
    except (AttributeError, ImportError) as error:
        raise LaboratoryError(f"{kind} {name!r} cannot be imported: {error}") from error


def _called(make: Callable[..., _Made], what: str, *given: Any, **settings: Any) -> _Made:
    signature = inspect.signature(make)
    try:
        signature.bind(*given, **settings)
    except TypeError as error:
        raise LaboratoryError(
            f"{what}: {error}; it takes {', '.join(signature.parameters) or 'no settings'}"
        ) from error
    try:
        return make(*given, **settings)
    except (TypeError, ValueError) as error:
        raise LaboratoryError(f"{what}: {error}") from error
