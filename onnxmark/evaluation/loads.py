"""How much work a cell is, before it is done: counted in steps whose durations can be measured."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from onnxmark.evaluation.cells import Cell, Kind, looked_for
from onnxmark.evaluation.modifications import DISTILLATION, FINE_TUNING, TRANSFER
from onnxmark.evaluation.plan import Embedding, Plan

_TAUGHT = 1.4
"""A step with a teacher over one without: he answers the same images."""

_FACTORS: Final = MappingProxyType({FINE_TUNING: 1.0, TRANSFER: 2.0, DISTILLATION: _TAUGHT})
"""What modifications that train take: there and back is twice the way."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Numbers of steps, or the seconds that each takes.

    Args:
        batch: Optimizer steps.
        export: Networks written to files.
        score: Passes over the test images.
        rewrite: Files modified.
        embed: Marks embedded in closed form.
        read: Detections, with the decoding of the same network.
    """

    batch: float = 0.0
    export: float = 0.0
    score: float = 0.0
    rewrite: float = 0.0
    embed: float = 0.0
    read: float = 0.0

    def __matmul__(self, seconds: Steps) -> float:
        """Seconds in all."""
        return float(sum(getattr(self, field.name) * getattr(seconds, field.name) for field in fields(self)))

    def __add__(self, other: Steps) -> Steps:
        return Steps(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


USUAL = Steps(batch=0.01, export=2.0, score=0.5, rewrite=0.2, embed=0.5, read=0.3)
"""Seconds a step of a small network, where nothing was measured."""


def load_of(plan: Plan, cell: Cell, n_training: int) -> Steps:
    """What a cell takes.

    Args:
        plan: The plan.
        cell: One of its cells.
        n_training: Images to train on.
    """
    n_steps = max(1, n_training // plan.training.batch_size)
    if cell.kind is Kind.TRAIN:
        return Steps(batch=n_steps * plan.training.epochs, export=1, score=1)
    if cell.kind is Kind.TWIN:
        return _trained(plan, cell.embedding, n_training) + Steps(score=1)
    if cell.kind is Kind.EMBED:
        return _marked(plan, cell, n_training) + Steps(score=1)
    return _modified(plan, cell, n_training) + Steps(score=1, read=len(looked_for(plan, cell)))


def _trained(plan: Plan, embedding: Embedding | None, n_training: int) -> Steps:
    training = plan.fine_tuning if embedding is Embedding.FINE_TUNING else plan.training
    n_steps = training.epochs * max(1, n_training // training.batch_size)
    return Steps(batch=n_steps * (_TAUGHT if embedding is Embedding.DISTILLING else 1), export=1)


def _marked(plan: Plan, cell: Cell, n_training: int) -> Steps:
    embedding = plan.schemes[cell.scheme or 0].embedding
    return Steps(embed=1) if embedding is Embedding.CLOSED_FORM else _trained(plan, embedding, n_training)


def _modified(plan: Plan, cell: Cell, n_training: int) -> Steps:
    change = cell.changed(plan)
    if change is None:
        return Steps()
    if not change.modification.trains:
        return Steps(rewrite=1)
    n_steps = max(1, n_training // plan.training.batch_size)
    if (factor := _FACTORS.get(change.modification.name)) is not None:
        return Steps(batch=n_steps * change.value * factor, export=1)
    if plan.schemes[cell.scheme or 0].embedding is Embedding.CLOSED_FORM:
        return Steps(embed=change.value)
    one = _trained(plan, Embedding.FINE_TUNING, n_training)
    return Steps(batch=one.batch * change.value, export=change.value)
