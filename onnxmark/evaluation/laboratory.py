"""Where networks are trained: what an evaluation asks of a framework, and nothing more.

The evaluation knows files only. A network under test is a folder with its file, ``model.onnx``, which detectors,
decoders and scorers see; what the laboratory needs to train it on lies beside it and is nobody else's concern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from onnxmark.evaluation.modifications import Settings
from onnxmark.evaluation.plan import Architecture, Embedding, Plan, SchemePlan, Training
from onnxmark.keys import Key

MODEL: Final = "model.onnx"
"""The file in a network's folder."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What networks are for.

    Args:
        name: What tables call it.
        metric: Figure of merit, larger being better.
        n_training: Images to train on.
        n_test: Images to judge by.
        n_classes: Number of classes.
    """

    name: str
    metric: str
    n_training: int
    n_test: int
    n_classes: int


@dataclass(frozen=True, slots=True)
class Score:
    """How well a network does its task.

    Args:
        value: The metric.
        seconds: To answer all test images once.
    """

    value: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What a training took.

    Args:
        epochs: Times the training images were seen.
        batches: Optimizer steps of all epochs.
        seconds: Of all epochs, evaluation not included.
        memory_bytes: Peak of the process's resident memory.
    """

    epochs: int
    batches: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Network:
    """An untrained network.

    Args:
        architecture: What it is.
        seed: Decides its initial weights and the order of its images.
    """

    architecture: Architecture
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A mark to embed by training, or the same training without one.

    Args:
        embedding: How; never in closed form.
        key: The key; None for the unmarked twin.
        training: How long and how fast.
        means: What else shapes the embedding, by name.
        seed: Decides everything that is drawn.
    """

    embedding: Embedding
    key: Key | None
    training: Training
    means: Settings
    seed: int


class Laboratory(Protocol):
    """Trains the networks of one plan; made once in each process, by the factory that an entry point names.

    Every method leaves the folders it reads as they are, fills the folder it is given, which exists and is empty, and
    draws nothing that a seed does not decide. Each raises :class:`~onnxmark.errors.LaboratoryError` where it cannot do
    what is asked, and any other error of onnxmark as it comes.
    """

    @property
    def name(self) -> str:
        """The framework and its version."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose versions shape its results."""
        ...

    @property
    def task(self) -> TaskFacts:
        """What its networks are for."""
        ...

    def n_parameters(self, architecture: Architecture) -> int:
        """Trainable parameters of an architecture."""
        ...

    def train(self, network: Network, folder: Path) -> Spent:
        """Train an unmarked network from scratch."""
        ...

    def embed(self, order: Order, network: Network, source: Path, folder: Path) -> Spent:
        """Make a marked network, or its unmarked twin.

        Args:
            order: The mark.
            network: The untrained network, for marks that are trained in from scratch.
            source: Folder of the finished, unmarked network.
            folder: Where the marked one goes.
        """
        ...

    def adopt(self, source: Path, folder: Path) -> None:
        """Make what lies beside a file agree with it, so that its network can be trained on.

        Args:
            source: Folder of the network that the file was made from.
            folder: Holds a ``model.onnx`` whose weights were changed without the laboratory.
        """
        ...

    def fine_tune(self, training: Training, means: Settings, seed: int, source: Path, folder: Path) -> None:
        """Train a network on, as a thief would.

        Args:
            training: How; with ``elsewhere`` among the means, there and back each.
            means: As the plan has them; ``elsewhere`` names a task to train on first, with a head for its classes.
            seed: Decides the order of images, and the other task's head.
            source: Folder of the network.
            folder: Where the trained one goes, which answers as before.
        """
        ...

    def distil(self, training: Training, means: Settings, seed: int, source: Path, folder: Path) -> None:
        """Train a fresh network on the answers of another, as a thief would."""
        ...

    def score(self, model: Path) -> Score:
        """Run a file on the test images."""
        ...

    def write_pool(self, path: Path) -> None:
        """Write the images kept apart, as networks take them (``.npy``)."""
        ...

    def effort(self, scheme: SchemePlan) -> float:
        """What it takes to train in a mark of a scheme, an unmarked training of as many epochs being 1."""
        ...

    def rehearse(self, network: Network, folder: Path) -> Rehearsal:
        """Train a network for a moment, to tell how long more of it would take."""
        ...


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was measured in a moment.

    Args:
        batch_seconds: An optimizer step.
        export_seconds: From a trained network to its file.
    """

    batch_seconds: float
    export_seconds: float


LaboratoryOf = Callable[[Plan], Laboratory]
"""What the entry point names; it travels to other processes by reference."""
