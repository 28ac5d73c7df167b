"""The three ways to embed of the literature, and the unmarked twin that each must be compared with.

Uchida, Nagai, Sakazawa, Satoh: Embedding Watermarks into Deep Neural Networks (ICMR 2017, arXiv 1701.04082): while
training from scratch, while fine-tuning a finished network, while distilling it into another. What a mark costs is the
difference to the same recipe without a mark, from the same weights, with the same images in the same order; so every
recipe takes ``None`` for a mark, works on a copy, and draws nothing that its plan's seed does not decide.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, Unpack

from torch import nn

from onnxmark.arrays import BitArray
from onnxmark.keymaking import make_key
from onnxmark.keys import Carrier, Key
from onnxmark.schemes.projection.carriers import FULL, MEAN_IHW
from onnxmark.schemes.projection.projection import Generator
from onnxmark_torch.history import History
from onnxmark_torch.layers import host_layers
from onnxmark_torch.objectives import Objective, SoftLabels, hard_labels
from onnxmark_torch.plan import FINE_TUNING, TrainingPlan
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.report import Report
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import train
from onnxmark_torch.watermark import Watermark

_FROM_SCRATCH: Final = TrainingPlan()


@dataclass(frozen=True, slots=True)
class KeyKind:
    """How a key reads a layer.

    Args:
        name: What tables call it.
        generator: How its rows are drawn.
        carrier: What of the layer they read.
    """

    name: str
    generator: Generator
    carrier: str

    @property
    def parameters(self) -> dict[str, str]:
        """As a key stores them."""
        return {"generator": self.generator, "carrier": self.carrier}


KEY_KINDS: Final = (
    KeyKind("direct", "direct", MEAN_IHW),
    KeyKind("diff", "diff", MEAN_IHW),
    KeyKind("random", "gaussian", MEAN_IHW),
    KeyKind("full", "rademacher", FULL),
)
"""The three keys of Uchida et al. on their mean over output filters, in the order of their table, and ours."""


class Watching(TypedDict, total=False):
    """Arguments that recipes pass on to :func:`onnxmark_torch.training.train`; none changes the weights."""

    evaluate_every: int
    checkpoint: Path | None
    show: bool


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What a recipe gives.

    Args:
        model: A new model, in evaluation mode.
        history: How it was trained, with its score.
        report: How the mark stands; None for an unmarked control.
    """

    model: nn.Module
    history: History
    report: Report | None


def key_for(model: nn.Module, layer: str, kind: KeyKind, payload: BitArray) -> Key:
    """A fresh key of a kind for a layer of a model.

    Args:
        model: The model.
        layer: Name of the layer, as in ``named_modules()``.
        kind: Kind of key.
        payload: The owner's bits, shape (T,).

    Raises:
        TargetError: The model has no such layer.
        KeyFileError: The bits do not fit into it.
    """
    found = [host for host in host_layers(model) if layer in host.names]
    if not found:
        names = ", ".join(host.name for host in host_layers(model)) or "none"
        raise TargetError(Problem(f"the model has no linear or convolution layer {layer!r}", f"there are {names}"))
    carrier = Carrier(found[0].shape, f"{layer}.weight", op=found[0].op)
    return make_key(carrier, payload, generator=kind.generator, kind=kind.carrier)


def train_to_embed(
    model: nn.Module,
    task: Task,
    watermark: Watermark | None,
    plan: TrainingPlan = _FROM_SCRATCH,
    **watching: Unpack[Watching],
) -> Embedded:
    """Train a fresh network with the mark.

    Args:
        model: The network with its initial weights, on the device to train on; left as it is.
        task: What it is for.
        watermark: The mark; None trains the control.
        plan: How to train.
        **watching: See :class:`Watching`.

    Raises:
        TargetError: The mark does not fit the model.
    """
    return _embedded(model, task, watermark, plan, hard_labels, watching)


def fine_tune_to_embed(
    model: nn.Module,
    task: Task,
    watermark: Watermark | None,
    plan: TrainingPlan = FINE_TUNING,
    **watching: Unpack[Watching],
) -> Embedded:
    """Train a finished network on, with the mark: for owners who meet watermarks late.

    Args:
        model: The finished network, on the device to train on; left as it is.
        task: What it is for, or another task of as many classes.
        watermark: The mark; None trains the control.
        plan: How to train; the default is a reconstruction.
        **watching: See :class:`Watching`.

    Raises:
        TargetError: The mark does not fit the model.
    """
    return _embedded(model, task, watermark, plan, hard_labels, watching)


def distill_to_embed(
    student: nn.Module,
    teacher: nn.Module,
    task: Task,
    watermark: Watermark | None,
    plan: TrainingPlan = _FROM_SCRATCH,
    *,
    temperature: float = 1.0,
    **watching: Unpack[Watching],
) -> Embedded:
    """Train a network with the mark on what a finished one says of the images: no label is used.

    Args:
        student: The network to mark, with its initial weights, on the device to train on; left as it is.
        teacher: The finished network, on the same device; left as it is.
        task: Its images.
        watermark: The mark; None trains the control.
        plan: How to train.
        temperature: Of both networks' softmax, above 0; 1 in the paper.
        **watching: See :class:`Watching`.

    Raises:
        TargetError: The mark does not fit the student.
    """
    objective = SoftLabels(copy.deepcopy(teacher).eval(), temperature)
    return _embedded(student, task, watermark, plan, objective, watching)


def _embedded(
    model: nn.Module,
    task: Task,
    watermark: Watermark | None,
    plan: TrainingPlan,
    objective: Objective,
    watching: Watching,
) -> Embedded:
    trained = copy.deepcopy(model)
    history = train(trained, task, plan, watermark, objective=objective, **watching)
    return Embedded(trained, history, None if watermark is None else watermark.report(trained))
