"""What a scheme is: it reads a key in a model, and the policy decides what that is worth.

Schemes differ in what they read: weights of layers, the widths of layers, or the answers of the model to inputs of the
key. Each kind is a protocol of its own, so that a scheme sees exactly what it reads and never a file or a graph. A
third party's scheme is a class with these members, registered under the entry-point group ``onnxmark.schemes``;
:mod:`onnxmark.testing` holds it to its duties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from onnxmark.arrays import AnyArray, BitArray, Float64Array, Int64Array, frozen
from onnxmark.keys import AnyKey, Carrier, Key
from onnxmark.schemes.evidence import Evidence
from onnxmark.weights import WeightTensor

Shape = tuple[int, ...]


class Reads(StrEnum):
    """What a scheme reads."""

    WEIGHTS = "weights"
    WIDTHS = "widths"
    ANSWERS = "answers"


class Reading(Protocol):
    """One way in which a key can be read from layers of given shapes; hashable."""

    @property
    def kind(self) -> str:
        """What is read of the weights, in a word."""
        ...

    @property
    def label(self) -> str:
        """The reading in words."""
        ...

    @property
    def resized(self) -> bool:
        """Whether the weights in the file have another size than the key knows."""
        ...


@dataclass(frozen=True, slots=True)
class PlainReading:
    """The one way of reading a key that has no other.

    Args:
        kind: What is read of the weights.
    """

    kind: str

    @property
    def label(self) -> str:
        """The kind."""
        return self.kind

    @property
    def resized(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to make a key for.

    Args:
        carrier: What the key will remember of it.
        weights: Its weights before marking; None where the key is made from shapes alone.
    """

    carrier: Carrier
    weights: WeightTensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMeans:
    """What is at hand when a mark is embedded.

    Args:
        margin: How surely each symbol is to be read, in the unit of the scheme's margins, above 0; None takes the
            scheme's default.
        second_moments: Gives for each layer the mean of ``patch patch'`` over its inputs, shape (groups, M, M) with
            ``M = in / group * spatial``, at the cost of running the model; None without calibration inputs.
    """

    margin: float | None = None
    second_moments: Callable[[], tuple[Float64Array, ...]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Layers that carry a message.

    Args:
        layers: The layers, in the order of the key's carriers.
        asked: The margin asked for, or the scheme's default.
        solved: Smallest margin of any symbol in the weights returned.
        metric: What the change was minimal in, in words.
    """

    layers: tuple[WeightTensor, ...]
    asked: float
    solved: float
    metric: str


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model answers to the inputs of a key.

    Args:
        decisions: Its classes, shape (n,).
        scores: Logits or logarithms of probabilities, shape (n, classes), float64; None where it gives classes only.
    """

    decisions: Int64Array
    scores: Float64Array | None = None

    def __post_init__(self) -> None:
        frozen(self.decisions)
        if self.scores is not None:
            frozen(self.scores)


class Scheme(Protocol):
    """What all schemes have in common."""

    name: ClassVar[str]
    """Its name in keys, options and reports."""

    summary: ClassVar[str]
    """One line for help texts: what it does, and whose it is."""

    reads: ClassVar[Reads]
    """Which of the protocols below it is."""

    signs_tested: ClassVar[int]
    """How many hypotheses one extraction tests (2 where a complement counts as evidence, too)."""

    options: ClassVar[type[Any]]
    """A frozen dataclass of what ``make_key`` may be told, each field with a default."""

    def facts(self, key: Key) -> dict[str, str]:
        """What may be told of a key, by name: nothing that helps to find or remove the mark.

        Raises:
            KeyFileError: The key's parameters make no sense.
        """
        ...


class WeightScheme(Scheme, Protocol):
    """Reads weights of the layers a key was made for."""

    def make_key(self, layers: Sequence[Layer], payload: BitArray, options: Any) -> Key:
        """A fresh key.

        Args:
            layers: The layers to mark, at least one.
            payload: The owner's bits, shape (T,).
            options: An instance of ``options``.

        Raises:
            KeyFileError: The message does not fit the layers; says what would.
        """
        ...

    def readings(self, key: AnyKey, shapes: tuple[Shape, ...]) -> tuple[Reading, ...]:
        """The ways in which a key can be read from layers of these shapes; none where it does not fit.

        Raises:
            KeyFileError: The key's parameters make no sense.
        """
        ...

    def extract(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading) -> Evidence:
        """Read the message. A pure function of its arguments."""
        ...

    def embed(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading, means: EmbeddingMeans) -> Embedded:
        """Change finished weights so that they carry the message. A pure function of its arguments.

        Raises:
            EmbeddingError: The message does not fit.
        """
        ...


class WidthScheme(Scheme, Protocol):
    """Reads how many output channels the layers of a key have; their weights do not matter."""

    def make_key(self, layers: Sequence[Layer], payload: BitArray | None, options: Any) -> Key:
        """A fresh key.

        Args:
            layers: Layers whose number of channels can be changed, in graph order.
            payload: The owner's bits, shape (T,); None for as many zeros as fit comfortably.
            options: An instance of ``options``.

        Raises:
            KeyFileError: The message does not fit the layers; says what would.
        """
        ...

    def widths(self, key: Key) -> tuple[int, ...]:
        """Channels that each of the key's layers has in a marked model."""
        ...

    def extract(self, key: Key, widths: tuple[int | None, ...]) -> Evidence:
        """Read the message from the channels of each of the key's layers; None for a layer that is not there."""
        ...


class AnswerScheme(Scheme, Protocol):
    """Reads a model's answers to inputs that the key holds."""

    def inputs(self, key: Key, given: AnyArray | None) -> AnyArray:
        """The inputs to ask, shape (n, ...).

        Args:
            key: The key.
            given: For a key that holds a digest of its inputs only: the inputs.

        Raises:
            KeyFileError: The key's arrays make no sense, or the inputs are missing or not those of the digest.
        """
        ...

    def extract(self, key: Key, answers: Answers) -> Evidence:
        """Weigh the answers. A pure function of its arguments."""
        ...
