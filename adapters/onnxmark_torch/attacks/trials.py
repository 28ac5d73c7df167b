"""Attacked networks as trials of the one robustness report, read as any suspect is: from an exported file.

What the network in memory says of its mark would leave out what exporting does to it. So a trial needs a file, and
asks of the file both things: whether the key's mark is found, and how well the model still answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from onnxmark.arrays import Float64Array
from onnxmark.attacking import relative_change
from onnxmark.attacks import Recipe
from onnxmark.audit import Audit, Finding, audit_file
from onnxmark.errors import AttackError
from onnxmark.keys import AnyKey
from onnxmark.model import open_model
from onnxmark.model.running.calibration import Calibration, bind
from onnxmark.model.running.runtime import Fidelity, answers, open_session
from onnxmark.report.documents.audit import audit_document, simulation_document
from onnxmark.robustness import Trial
from onnxmark.schemes.evidence import Evidence
from onnxmark.statistics import mean_interval
from onnxmark.verdict import Policy
from onnxmark.weights import WeightTensor
from onnxmark_torch.exporting import export
from onnxmark_torch.tasks import Task

EXPORTED_BATCH: Final = 100
"""Images a call in exported files; the exporter fixes the batch unless it is told otherwise."""


def export_for(task: Task, model: nn.Module, path: Path) -> None:
    """Export a network of a task with torch's default exporter, weights inside the file, without asking for a mark.

    Raises:
        MissingExtra: onnxscript is not installed.
    """
    device = next(model.parameters()).device
    _, *shape = task.training.images.shape
    images = torch.zeros(EXPORTED_BATCH, *shape, dtype=torch.uint8, device=device)
    export(model, (task.inputs(images),), path, external_data=False)


@dataclass(frozen=True, slots=True, eq=False)
class TrialBench:
    """A marked model's file, and what all trials on it are compared with.

    Args:
        path: The file.
        key: The key of its mark.
        task: What the model is for; the test images are asked.
        policy: What is asked of a reading.
        audit: The audit of the file before any attack.
        logits: Its answers to the test images, shape (N, classes).
        provider: Execution provider that gave them.
    """

    path: Path
    key: AnyKey
    task: Task
    policy: Policy
    audit: Audit
    logits: Float64Array
    provider: str

    @classmethod
    def of(cls, path: Path, key: AnyKey, task: Task, policy: Policy | None = None) -> TrialBench:
        """Audit and ask the file of a marked model.

        Raises:
            CalibrationError: The model does not take the task's images.
            MissingExtra: onnxruntime is not installed.
            ModelError: The file cannot be read.
        """
        policy = policy or Policy()
        logits, provider = _answers(path, task)
        return cls(path, key, task, policy, audit_file(path, [key], policy), logits, provider)

    def trial(self, recipe: Recipe, paths: Sequence[Path]) -> Trial:
        """What an attack left of the mark and of the model.

        Args:
            recipe: The attack.
            paths: Files of attacked models, one for each time that the attack was carried out, at least one.

        Raises:
            AttackError: An attacked model answers in another form than the marked one.
            CalibrationError: An attacked model does not take the task's images.
            ModelError: A file cannot be read.
        """
        if not paths:
            raise ValueError("a trial takes at least one attacked model, found none")
        findings = [audit_file(path, [self.key], self.policy).findings[0] for path in paths]
        rates = [evidence.bit_error_rate for evidence in _evidence(findings)]
        changes = [self._change(path, found) for path, found in zip(paths, findings, strict=True)]
        known = [change for change in changes if change is not None]
        return Trial(
            recipe=recipe,
            bit_error_rate=float(np.mean(rates)) if rates else None,
            interval=_interval(rates),
            judgements=tuple(finding.judgement for finding in findings),
            relative_change=float(np.mean(known)) if known else None,
            fidelity=self._fidelity(paths[0]),
        )

    def document(self, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        """The audit of the marked model with trials, as ``onnxmark report`` renders it.

        Args:
            trials: In the order of the report.
            seed: What the attacks were seeded with.
        """
        if not self.key.commitment:
            raise ValueError("the key has no commitment, which a report names; save it with save_key() first")
        n_draws = max((trial.n_draws for trial in trials), default=1)
        simulation = simulation_document("training", seed, n_draws, spread=True)
        return audit_document(self.audit, {0: trials}, simulation=simulation)

    def _change(self, path: Path, found: Finding) -> float | None:
        """How far the carrier has moved, where both files have one of the same shape."""
        before, after = _carrier(self.path, self.audit.findings[0]), _carrier(path, found)
        return None if before is None or after is None else relative_change(before, after)

    def _fidelity(self, path: Path) -> Fidelity:
        logits, _ = _answers(path, self.task)
        if logits.shape != self.logits.shape:
            raise AttackError(f"{str(path)!r} answers in shape {logits.shape}, expected {self.logits.shape}")
        old, new, labels = self.logits.argmax(axis=1), logits.argmax(axis=1), self.task.test.labels
        return Fidelity(
            relative_change=float(np.linalg.norm(logits - self.logits) / np.linalg.norm(self.logits)),
            decisions_changed=int(np.sum(old != new)),
            n_inputs=len(labels),
            accuracy_before=float(np.mean(old == labels)),
            accuracy_after=float(np.mean(new == labels)),
            provider=self.provider,
        )


def _answers(path: Path, task: Task) -> tuple[Float64Array, str]:
    """Logits (N, classes) for the test images, and the provider that gave them.

    The first output, whatever it is called: two architectures seldom name theirs alike.
    """
    session = open_session(path)
    inputs = task.inputs(torch.tensor(task.test.images)).numpy()
    bound = bind(Calibration({"": inputs}, f"test images of {task.name}"), session.inputs)
    parts = [found[session.outputs[0]] for _, found in answers(session, bound, EXPORTED_BATCH)]
    return np.concatenate(parts).astype(np.float64), session.provider


def _evidence(findings: Sequence[Finding]) -> list[Evidence]:
    best = (finding.best for finding in findings)
    return [one.evidence for one in best if one is not None and one.evidence is not None]


def _carrier(path: Path, found: Finding) -> WeightTensor | None:
    if found.best is None or found.best.problem is not None or len(found.best.sites) != 1:
        return None
    with open_model(path) as model:
        return model.read(found.best.sites[0])


def _interval(rates: Sequence[float]) -> tuple[float, float] | None:
    if len(rates) < 2:
        return None
    low, high = mean_interval(np.array(rates))
    return max(0.0, low), min(1.0, high)
