"""What an evaluation does, as a value: M networks, D payloads, the modifications, the schemes, and one seed for all.

A plan holds everything that shapes a figure, so that its digest names an evaluation, a journal can be taken up again,
and whoever has the plan can repeat it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from onnxmark.evaluation.modifications import TRANSFER, Modification, Scalar, Settings
from onnxmark.verdict import Policy


class Embedding(StrEnum):
    """How a mark gets into a network."""

    CLOSED_FORM = "closed-form"
    """Into the finished file, by what the scheme itself does to weights or widths."""
    TRAINING = "training"
    """While the network is trained from scratch."""
    FINE_TUNING = "fine-tuning"
    """While the finished network is trained on."""
    DISTILLING = "distilling"
    """While the finished network teaches a fresh one."""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What the networks are for.

    Args:
        name: As the laboratory calls it.
        path: Where its files are; None where the laboratory knows.
        n_training: Images to train on; None for all that are not kept apart.
        n_test: Images to judge by; None for all.
        n_pool: Training images kept apart, on which no network is trained, for schemes that ask questions.
    """

    name: str
    path: str | None = None
    n_training: int | None = None
    n_test: int | None = None
    n_pool: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of network.

    Args:
        name: As the laboratory calls it.
        settings: Its sizes, by name.
    """

    name: str
    settings: Settings = ()

    @property
    def words(self) -> str:
        """``conv-net (width 16)``."""
        sizes = ", ".join(f"{name} {value}" for name, value in self.settings)
        return f"{self.name} ({sizes})" if sizes else self.name


@dataclass(frozen=True, slots=True)
class Training:
    """How long and how fast networks learn.

    Args:
        epochs: Times every training image is seen, at least 1.
        batch_size: Images a step, at least 2.
        rate: Learning rate at the start, above 0.
    """

    epochs: int
    batch_size: int
    rate: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs are at least 1 and batches at least 2, not {self.epochs} and {self.batch_size}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"the rate must be above 0 and finite, not {self.rate}")


@dataclass(frozen=True, slots=True)
class SchemePlan:
    """A scheme under evaluation.

    Args:
        name: What tables call it; of its own within the plan.
        scheme: Its entry point in ``onnxmark.schemes``.
        embedding: How its marks get into networks.
        bits: Length of its payloads, at least 1.
        layers: Names of the layers to mark; none lets the scheme or the keymaker choose.
        settings: How its keys are made, by the names of the scheme's options.
        means: How its marks are embedded, by name: ``margin`` in closed form, else what the laboratory knows.
    """

    name: str
    scheme: str
    embedding: Embedding
    bits: int
    layers: tuple[str, ...] = ()
    settings: Settings = ()
    means: Settings = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """An evaluation.

    Args:
        title: What the report is called.
        seed: Everything drawn is drawn from it.
        networks: M, at least 1.
        payloads: D, at least 1.
        task: What the networks are for.
        architectures: At least one; network m has the one at m modulo their number.
        training: How networks are trained from scratch.
        fine_tuning: How a mark is fine-tuned into a finished network, and how a thief overwrites one.
        modifications: What is done to networks, with epochs counted.
        schemes: At least one.
        policy: What is asked of a reading for a mark to count as detected.
        laboratory: Entry point in ``onnxmark.laboratories``.
    """

    title: str
    seed: int
    networks: int
    payloads: int
    task: TaskPlan
    architectures: tuple[Architecture, ...]
    training: Training
    fine_tuning: Training
    modifications: tuple[Modification, ...]
    schemes: tuple[SchemePlan, ...]
    policy: Policy
    laboratory: str = "torch"

    def __post_init__(self) -> None:
        if self.networks < 1 or self.payloads < 1:
            raise ValueError(f"there is at least one network and one payload, not {self.networks}, {self.payloads}")
        if not self.architectures or not self.schemes:
            raise ValueError("a plan has at least one architecture and one scheme")
        for kind in ("schemes", "modifications"):
            names = [each.name for each in getattr(self, kind)]
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind} are called alike among {', '.join(map(repr, names))}")
        if any(row.name == TRANSFER and "elsewhere" not in as_table(row.settings) for row in self.modifications):
            raise ValueError('transfer learning takes another task: settings = { elsewhere = "..." }')

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical plan, hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def architecture(self, network: int) -> Architecture:
        """What network m is."""
        return self.architectures[network % len(self.architectures)]


def as_table(settings: Settings) -> Mapping[str, Scalar]:
    """Settings by name."""
    return dict(settings)


def setting(settings: Settings, name: str, default: Any) -> Any:
    """One of the settings, or its default."""
    return as_table(settings).get(name, default)
