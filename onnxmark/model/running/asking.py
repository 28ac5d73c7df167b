"""A classifier asked for its decisions, whatever it gives: logits, probabilities, or labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array, Int64Array
from onnxmark.errors import CalibrationError
from onnxmark.model.running.calibration import BATCH_SIZE, Calibration, bind
from onnxmark.model.running.runtime import answers, open_session

_LEAST_PROBABILITY: Final = 1e-7
"""Quantised outputs round small probabilities to 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a classifier answered.

    Args:
        decisions: Classes, shape (n,).
        scores: Logits, or logarithms of probabilities, shape (n, classes); None from a model that gives labels.
        provider: Execution provider that ran it.
    """

    decisions: Int64Array
    scores: Float64Array | None
    provider: str


def ask(path: Path, inputs: AnyArray, *, provider: str | None = None, batch_size: int = BATCH_SIZE) -> Asked:
    """Run a classifier of one input through ONNX Runtime.

    Args:
        path: The model.
        inputs: What to ask, shape (n, ...), in the model's own form.
        provider: Execution provider, as ONNX Runtime names it; None takes the best there is.
        batch_size: Inputs at a time, where the model leaves it open.

    Raises:
        CalibrationError: The inputs do not fit, the model fails on them, or gives no classes.
        MissingExtra: onnxruntime is not installed.
        ModelError: The model cannot be loaded.
    """
    session = open_session(path, provider=provider)
    bound = bind(Calibration({"": inputs}, "the key's inputs"), session.inputs)
    parts: list[AnyArray] = []
    for batch, found in answers(session, bound, batch_size):
        name = next((name for name, value in found.items() if _is_classes(value, batch.count)), None)
        if name is None:
            raise CalibrationError(f"{session.source}: gives neither scores of shape (n, classes) nor n labels")
        parts.append(found[name])
    whole = np.concatenate(parts)
    if whole.dtype.kind != "f":
        return Asked(whole.reshape(-1).astype(np.int64), None, session.provider)
    scores = _logarithms(whole.astype(np.float64))
    return Asked(scores.argmax(axis=1).astype(np.int64), scores, session.provider)


def _is_classes(value: AnyArray, count: int) -> bool:
    scores = value.dtype.kind == "f" and value.ndim == 2 and len(value) == count and value.shape[1] > 1
    return scores or (value.dtype.kind in "iu" and value.shape in ((count,), (count, 1)))


def _logarithms(scores: Float64Array) -> Float64Array:
    """Scores as they are, or their logarithms where every row is a distribution."""
    sums = scores.sum(axis=1)
    if np.isfinite(sums).all() and scores.min() >= 0 and np.allclose(sums, 1, atol=0.02):
        logs: Float64Array = np.log(np.maximum(scores, _LEAST_PROBABILITY))
        return logs
    return scores
