"""How the marks of each scheme are trained in: what is minimised besides, and what happens at each step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from torch import nn

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.laboratory import Order
from onnxmark.evaluation.loads import TAUGHT
from onnxmark.evaluation.modifications import Scalar
from onnxmark.evaluation.plan import Embedding, SchemePlan, Training, as_table, setting
from onnxmark.keys import Key
from onnxmark.schemes.answers.ingrain import IngrainOptions
from onnxmark_torch.constant_weight import ConstantWeightMark
from onnxmark_torch.evaluation.supplies import Portion
from onnxmark_torch.history import History
from onnxmark_torch.ingrain import Lesson, keyed_carriers, train_host, train_ingrainer, varied
from onnxmark_torch.objectives import Objective, SoftLabels, hard_labels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.structural import examples_of, prune_channels_
from onnxmark_torch.training import train
from onnxmark_torch.watermark import Watermark

_COPIES: Final = 4
"""Of each carrier, varied."""
_CARRIERS: Final = IngrainOptions().carriers
_FROM_SCRATCH: Final = (Embedding.TRAINING, Embedding.DISTILLING)


@dataclass(frozen=True, slots=True, eq=False)
class Commission:
    """A mark to train in, with everything that takes.

    Args:
        order: The mark.
        key: Its key.
        task: What the network is for.
        start: The network that the training starts from; left as it is.
        teacher: The finished network, where the order is to distil.
    """

    order: Order
    key: Key
    task: Portion
    start: nn.Module
    teacher: nn.Module | None

    @property
    def plan(self) -> TrainingPlan:
        """How to train."""
        return training_plan(self.order.training, self.order.seed)

    @property
    def means(self) -> Mapping[str, Scalar]:
        """What else shapes the embedding."""
        return as_table(self.order.means)


Trained = tuple[nn.Module, tuple[History, ...]]
"""A network and the trainings it took."""


def trained(order: Order, task: Portion, start: nn.Module, teacher: nn.Module | None) -> Trained:
    """Carry out an order.

    Args:
        order: The mark, or none.
        task: What the network is for.
        start: The network that the training starts from; left as it is.
        teacher: The finished network, where the order is to distil.

    Raises:
        LaboratoryError: Marks of the scheme are not trained in this way, or not with these means.
        OnnxmarkError: The mark does not fit the network.
    """
    if order.key is None:
        return _plain(start, task, order, teacher)
    scheme = order.key.scheme
    way = _WAYS.get((scheme, order.embedding))
    if way is None:
        known = ", ".join(embedding for name, embedding in _WAYS if name == scheme)
        instead = (
            f"its marks are embedded by {known}" if known else "only embedding in closed form works with any scheme"
        )
        raise LaboratoryError(f"marks of scheme {scheme!r} are not embedded by {order.embedding} here; {instead}")
    commission = Commission(order, order.key, task, start, teacher)
    if unknown := sorted(commission.means.keys() - way.means):
        raise LaboratoryError(
            f"embedding scheme {scheme!r} by {order.embedding} has no {unknown[0]!r}; its means are "
            f"{', '.join(sorted(way.means)) or 'none'}"
        )
    return way.carry_out(commission)


def effort(scheme: SchemePlan, n_training: int) -> float:
    """What it takes to train in a mark, an unmarked training of as many epochs being 1.

    Args:
        scheme: Whose mark, and how it is embedded; 1 where it cannot be embedded so.
        n_training: The task's own images.
    """
    way = _WAYS.get((scheme.scheme, scheme.embedding))
    return 1.0 if way is None else way.effort(scheme, n_training)


def training_plan(training: Training, seed: int) -> TrainingPlan:
    """How to train, for the training loop."""
    return TrainingPlan(training.epochs, training.batch_size, training.rate, seed=seed)


def _plain(start: nn.Module, task: Portion, order: Order, teacher: nn.Module | None) -> Trained:
    model = copy.deepcopy(start)
    plan = training_plan(order.training, order.seed)
    return model, (train(model, task, plan, objective=_objective(teacher), show=False),)


def _projection(commission: Commission) -> Trained:
    """Uchida's regulariser, on the weights as they will be exported."""
    model = copy.deepcopy(commission.start)
    strength = float(commission.means.get("strength", 0.01))
    mark = Watermark(commission.key, strength=strength, view="folded")
    objective = _objective(commission.teacher)
    return model, (train(model, commission.task, commission.plan, mark, objective=objective, show=False),)


def _constant_weight(commission: Commission) -> Trained:
    """The word, put back after every step."""
    model = copy.deepcopy(commission.start)
    given: dict[str, Any] = dict(commission.means)
    try:
        mark = ConstantWeightMark(commission.key, view="folded", **given)
    except (TypeError, ValueError) as error:
        raise LaboratoryError(f"a constant weight mark: {error}") from error
    objective = _objective(commission.teacher)
    history = train(model, commission.task, commission.plan, objective=objective, hooks=mark.hooks, show=False)
    return model, (history,)


def _structural(commission: Commission) -> Trained:
    """Prune to the widths, and train the loss away."""
    examples = examples_of(commission.task, commission.start)
    model = prune_channels_(copy.deepcopy(commission.start), examples, commission.key)
    return model, (train(model, commission.task, commission.plan, show=False),)


def _ingrained(commission: Commission) -> Trained:
    """An ingrainer that learns the carriers, then the host that it teaches."""
    means, carriers = commission.means, _carriers(commission)
    lesson = Lesson(float(means.get("strength", 1.0)), float(means.get("temperature", 1.0)))
    ingrainer = train_ingrainer(commission.start, commission.task, carriers, commission.plan, show=False)
    host = train_host(
        commission.start,
        ingrainer.model,
        commission.task,
        commission.plan,
        lesson=lesson,
        carriers=carriers,
        show=False,
    )
    return host.model, (ingrainer.history, host.history)


def _backdoored(commission: Commission) -> Trained:
    """The carriers learnt beside the task, without an ingrainer."""
    made = train_ingrainer(commission.start, commission.task, _carriers(commission), commission.plan, show=False)
    return made.model, (made.history,)


def _share_of_carriers(scheme: SchemePlan, n_training: int) -> float:
    """Carriers that a network is shown, over the task's own images."""
    n_carriers = scheme.bits if scheme.scheme == "trigger" else setting(scheme.settings, "carriers", _CARRIERS)
    return float(n_carriers * setting(scheme.means, "copies", _COPIES) / n_training)


def _as_usual(scheme: SchemePlan, n_training: int) -> float:
    return 1.0


def _besides(scheme: SchemePlan, n_training: int) -> float:
    return 1 + _share_of_carriers(scheme, n_training)


def _twice(scheme: SchemePlan, n_training: int) -> float:
    return (1 + TAUGHT) * _besides(scheme, n_training)


@dataclass(frozen=True, slots=True)
class _Way:
    carry_out: Callable[[Commission], Trained]
    means: frozenset[str]
    effort: Callable[[SchemePlan, int], float] = _as_usual


_PULLED: Final = _Way(_projection, frozenset({"strength"}))
_LEARNT: Final = _Way(_backdoored, frozenset({"copies"}), _besides)
_HELD: Final = _Way(_constant_weight, frozenset({"margin", "every"}))
_WAYS: Final[Mapping[tuple[str, Embedding], _Way]] = MappingProxyType(
    {
        **{("projection", each): _PULLED for each in (*_FROM_SCRATCH, Embedding.FINE_TUNING)},
        **{("constant-weight", each): _HELD for each in (*_FROM_SCRATCH, Embedding.FINE_TUNING)},
        ("structural", Embedding.FINE_TUNING): _Way(_structural, frozenset()),
        ("ingrain", Embedding.TRAINING): _Way(_ingrained, frozenset({"strength", "temperature", "copies"}), _twice),
        **{("trigger", each): _LEARNT for each in (Embedding.TRAINING, Embedding.FINE_TUNING)},
        # A thief's means are the owner's; a finished network has no ingrainer whose strength there could be.
        ("ingrain", Embedding.FINE_TUNING): _Way(
            _backdoored, frozenset({"strength", "temperature", "copies"}), _besides
        ),
    }
)


def _objective(teacher: nn.Module | None) -> Objective:
    return hard_labels if teacher is None else SoftLabels(teacher.eval())


def _carriers(commission: Commission) -> Any:
    if commission.task.pool is None:
        raise LaboratoryError("the plan keeps no images apart for carriers; give n_pool in [task]")
    found = keyed_carriers(commission.key, commission.task.pool, commission.task)
    return varied(found, int(commission.means.get("copies", _COPIES)), seed=commission.order.seed)
