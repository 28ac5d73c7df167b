"""The laboratory of PyTorch: networks are trained on the CPU, exported, and from then on seen as files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.laboratory import MODEL, Network, Order, Rehearsal, Score, Spent, TaskFacts
from onnxmark.evaluation.measuring import measured
from onnxmark.evaluation.modifications import FINE_TUNING, TRANSFER, Settings
from onnxmark.evaluation.plan import Architecture, Embedding, Plan, SchemePlan, TaskPlan, Training, as_table
from onnxmark.model.running.calibration import Calibration, bind
from onnxmark.model.running.runtime import answers, open_session
from onnxmark_torch.attacks import CrossDomain, Distillation, FineTuneAll, TrainingAttack, TrainingMeans, carry_out
from onnxmark_torch.attacks.trials import EXPORTED_BATCH
from onnxmark_torch.evaluation import adopting, folders
from onnxmark_torch.evaluation.marks import effort, trained
from onnxmark_torch.evaluation.supplies import Portion, elsewhere, portion, untrained
from onnxmark_torch.ingrain import write_pool
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import train

_REHEARSED: Final = 20
"""Batches of a rehearsal."""
_DISTILLING: Final = frozenset({"temperature", "share", "student", "rate"})
_FINE_TUNING: Final = frozenset({"rate", "elsewhere", "path"})


def laboratory(plan: Plan) -> TorchLaboratory:
    """The laboratory of a plan.

    Raises:
        LaboratoryError: There is no such task, or not so many images.
        DataError: The task's files cannot be used.
        MissingExtra: A package that holds the task's data is not installed.
    """
    made = TorchLaboratory(plan, portion(plan.task))
    for row in plan.modifications:
        if row.name in (FINE_TUNING, TRANSFER):
            # What is wrong with another task should be known before hours of training.
            made.elsewhere(row.settings)
    return made


class TorchLaboratory:
    """See :class:`onnxmark.evaluation.laboratory.Laboratory`.

    Args:
        plan: The plan.
        task: What networks are for.
    """

    packages = ("torch", "onnxscript")

    def __init__(self, plan: Plan, task: Portion) -> None:
        self._plan = plan
        self._portion = task

    def __repr__(self) -> str:
        return f"TorchLaboratory({self._portion.name!r})"

    @property
    def name(self) -> str:
        """The framework and its version."""
        return f"PyTorch {torch.__version__} on the CPU"

    @property
    def task(self) -> TaskFacts:
        """What its networks are for."""
        task = self._portion
        return TaskFacts(task.name, task.metric, len(task.training), len(task.test), task.n_classes)

    def n_parameters(self, architecture: Architecture) -> int:
        """Trainable parameters of an architecture."""
        model = untrained(architecture, self._portion, seed=0)
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    def train(self, network: Network, folder: Path) -> Spent:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        order = Order(Embedding.TRAINING, None, self._plan.training, (), network.seed)
        return self._made(order, untrained(network.architecture, self._portion, network.seed), None, network, folder)

    def embed(self, order: Order, network: Network, source: Path, folder: Path) -> Spent:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        if order.embedding is Embedding.TRAINING:
            start = untrained(network.architecture, self._portion, network.seed)
            return self._made(order, start, None, network, folder)
        finished, _ = folders.restore(source, self._portion)
        if order.embedding is Embedding.FINE_TUNING:
            return self._made(order, finished, None, network, folder)
        student = untrained(network.architecture, self._portion, order.seed)
        return self._made(order, student, finished, network, folder)

    def adopt(self, source: Path, folder: Path) -> None:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        model, architecture = folders.restore(source, self._portion)
        adopting.adopt(model, source / MODEL, folder / MODEL)
        folders.keep(model, architecture, folder)

    def fine_tune(self, training: Training, means: Settings, seed: int, source: Path, folder: Path) -> None:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`; means are elsewhere and the path of its files."""
        other = self.elsewhere(means)
        attack = FineTuneAll if other is None else CrossDomain
        thief = TrainingMeans(self._portion, elsewhere=other, seed=seed)
        self._attacked(attack(training.epochs, training.rate, training.batch_size), thief, source, folder)

    def distil(self, training: Training, means: Settings, seed: int, source: Path, folder: Path) -> None:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`; means are temperature, share and student."""
        given = as_table(means)
        if unknown := sorted(given.keys() - _DISTILLING):
            raise LaboratoryError(
                f"distillation has no {unknown[0]!r}; its settings are {', '.join(sorted(_DISTILLING))}"
            )
        student = self._student(str(given["student"])) if "student" in given else None
        try:
            attack = Distillation(
                temperature=float(given.get("temperature", 3.0)),
                share=float(given.get("share", 1.0)),
                epochs=training.epochs,
                rate=training.rate,
                batch_size=training.batch_size,
                other_architecture=student is not None,
            )
        except ValueError as error:
            raise LaboratoryError(f"distillation: {error}") from error
        build = None if student is None else lambda: untrained(student, self._portion, seed)
        self._attacked(attack, TrainingMeans(self._portion, student=build, seed=seed), source, folder, student)

    def score(self, model: Path) -> Score:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        task, session = self._portion, open_session(model)
        inputs = task.inputs(torch.tensor(task.test.images)).numpy()
        bound = bind(Calibration({"": inputs}, f"test images of {task.name}"), session.inputs)
        started = time.perf_counter()
        parts = [found[session.outputs[0]] for _, found in answers(session, bound, EXPORTED_BATCH)]
        seconds = time.perf_counter() - started
        logits = torch.from_numpy(np.concatenate(parts))
        return Score(task.score(logits, torch.tensor(task.test.labels)), seconds)

    def write_pool(self, path: Path) -> None:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        if self._portion.pool is None:
            raise LaboratoryError("the plan keeps no images apart to be asked about; give n_pool in [task]")
        write_pool(path, self._portion.pool, self._portion)

    def effort(self, scheme: SchemePlan) -> float:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        return effort(scheme, len(self._portion.training))

    def rehearse(self, network: Network, folder: Path) -> Rehearsal:
        """See :class:`onnxmark.evaluation.laboratory.Laboratory`."""
        task, plan = self._portion, self._plan.training
        few = replace(task, training=task.training.first(min(len(task.training), _REHEARSED * plan.batch_size)))
        model = untrained(network.architecture, task, network.seed)
        once = TrainingPlan(1, plan.batch_size, plan.rate)
        # The first time of anything libraries are still being loaded.
        for _ in range(2):
            history = train(model, few, once, show=False)
            started = time.perf_counter()
            folders.save(model, network.architecture, task, folder)
        return Rehearsal(history.seconds / once.steps(len(few.training)), time.perf_counter() - started)

    def _made(self, order: Order, start: nn.Module, teacher: nn.Module | None, network: Network, folder: Path) -> Spent:
        made, footprint = measured(lambda: trained(order, self._portion, start, teacher))
        model, histories = made
        folders.save(model, network.architecture, self._portion, folder)
        return Spent(
            epochs=sum(len(history.epochs) for history in histories),
            batches=sum(history.n_steps for history in histories),
            seconds=sum(history.seconds for history in histories),
            memory_bytes=footprint.memory_bytes,
        )

    def _attacked(
        self,
        attack: TrainingAttack,
        means: TrainingMeans,
        source: Path,
        folder: Path,
        other: Architecture | None = None,
    ) -> None:
        model, architecture = folders.restore(source, self._portion)
        folders.save(carry_out(attack, model, means), other or architecture, self._portion, folder)

    def elsewhere(self, means: Settings) -> Task | None:
        """The other task that fine-tuning leads to; None where it stays at home.

        Args:
            means: As a plan has them.

        Raises:
            LaboratoryError: There are others, or there is no such task.
        """
        given = as_table(means)
        if unknown := sorted(given.keys() - _FINE_TUNING):
            raise LaboratoryError(
                f"fine-tuning has no {unknown[0]!r}; its settings are {', '.join(sorted(_FINE_TUNING))}"
            )
        if "elsewhere" not in given:
            return None
        path = given.get("path")
        return elsewhere(TaskPlan(str(given["elsewhere"]), None if path is None else str(path)), self._portion)

    def _student(self, name: str) -> Architecture:
        for architecture in self._plan.architectures:
            if architecture.name == name:
                return architecture
        names = ", ".join(architecture.name for architecture in self._plan.architectures)
        raise LaboratoryError(f"distillation: there is no architecture {name!r} in the plan; there are {names}")
