"""How much work a cell is, before it is done: counted in steps whose durations can be measured."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final

from onnxmark.evaluation.cells import Cell, Kind, looked_for
from onnxmark.evaluation.laboratory import Laboratory
from onnxmark.evaluation.modifications import DISTILLATION, FINE_TUNING, TRANSFER
from onnxmark.evaluation.plan import Embedding, Plan, Training

TAUGHT: Final = 1.4
"""A step with a teacher over one without: he answers the same images."""

_FACTORS: Final = MappingProxyType({FINE_TUNING: 1.0, TRANSFER: 2.0, DISTILLATION: TAUGHT})
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


@dataclass(frozen=True, slots=True)
class Loads:
    """What the cells of a plan take.

    Args:
        plan: The plan.
        n_training: Images to train on.
        efforts: What it takes to train in a mark of each scheme, an unmarked training of as many epochs being 1.
        thieves: The same for a thief, who fine-tunes.
    """

    plan: Plan
    n_training: int
    efforts: tuple[float, ...]
    thieves: tuple[float, ...]

    @classmethod
    def of(cls, plan: Plan, laboratory: Laboratory) -> Loads:
        """What they take in a laboratory."""
        thieves = [replace(entry, embedding=Embedding.FINE_TUNING) for entry in plan.schemes]
        efforts, thefts = (tuple(map(laboratory.effort, entries)) for entries in (plan.schemes, thieves))
        return cls(plan, laboratory.task.n_training, efforts, thefts)

    @property
    def steps_an_epoch(self) -> float:
        """Optimizer steps, where networks are trained from scratch."""
        return self._steps(self.plan.training, epochs=1)

    def load(self, cell: Cell) -> Steps:
        """What a cell takes."""
        if cell.kind is Kind.TRAIN:
            return Steps(batch=self._steps(self.plan.training), export=1, score=1)
        if cell.kind is Kind.TWIN:
            return self._trained(cell.embedding) + Steps(score=1)
        if cell.kind is Kind.EMBED:
            return self._marked(cell.scheme or 0) + Steps(score=1)
        return self._modified(cell) + Steps(score=1, read=len(looked_for(self.plan, cell)))

    def _steps(self, training: Training, epochs: float | None = None) -> float:
        return (training.epochs if epochs is None else epochs) * max(1, self.n_training // training.batch_size)

    def _trained(self, embedding: Embedding | None, effort: float = 1.0) -> Steps:
        plan = self.plan
        n_steps = self._steps(plan.fine_tuning if embedding is Embedding.FINE_TUNING else plan.training)
        return Steps(batch=n_steps * effort * (TAUGHT if embedding is Embedding.DISTILLING else 1), export=1)

    def _marked(self, scheme: int) -> Steps:
        embedding = self.plan.schemes[scheme].embedding
        return Steps(embed=1) if embedding is Embedding.CLOSED_FORM else self._trained(embedding, self.efforts[scheme])

    def _modified(self, cell: Cell) -> Steps:
        change = cell.changed(self.plan)
        if change is None:
            return Steps()
        if not change.modification.trains:
            return Steps(rewrite=1)
        if (factor := _FACTORS.get(change.modification.name)) is not None:
            return Steps(batch=self._steps(self.plan.training, change.value * factor), export=1)
        if self.plan.schemes[cell.scheme or 0].embedding is Embedding.CLOSED_FORM:
            return Steps(embed=change.value)
        one = self._trained(Embedding.FINE_TUNING, self.thieves[cell.scheme or 0])
        return Steps(batch=one.batch * change.value, export=change.value)
