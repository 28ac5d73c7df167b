"""The data that testers of neural network traceability exchange: payloads, parameters, datasets, inferences, errors.

MPAI-NNT, the successor of MPAI-NNW, names these five types. Reconstruction: of their fields we know that a payload is a
text of zeros and ones; the others here hold what the type's name asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from onnxmark.evaluation.cells import changes
from onnxmark.evaluation.concluding import Book, readings_of
from onnxmark.evaluation.drawing import payload_of
from onnxmark.evaluation.laboratory import TaskFacts

_PAYLOAD: Final = re.compile(r"[01]+")


@dataclass(frozen=True, slots=True)
class Payload:
    """What is embedded.

    Args:
        id: Its number, and its length where schemes take payloads of several.
        payload: Zeros and ones, at least one of them.
    """

    id: str
    payload: str

    def __post_init__(self) -> None:
        if not _PAYLOAD.fullmatch(self.payload):
            raise ValueError(f"a payload is a text of zeros and ones, not {self.payload!r}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """One modification at one value.

    Args:
        id: What inferences and errors call it.
        modification_id: Its number in the standard's table; None where it has none.
        modification: Its name.
        parameter: The letter of its parameter.
        unit: What the parameter counts.
        value: Its value; None for networks as they are.
    """

    id: str
    modification_id: int | None
    modification: str
    parameter: str
    unit: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled data of the task.

    Args:
        id: What inferences call it.
        name: Of the task.
        n_examples: How many.
        n_classes: Number of classes.
    """

    id: str
    name: str
    n_examples: int
    n_classes: int


@dataclass(frozen=True, slots=True)
class Inference:
    """What one network answered, and what one key read in it.

    Args:
        network: Number of the network, from 1.
        marked_with: The payload in it; None for an unmarked network.
        scheme: The scheme looked for, as the plan calls it.
        payload: The payload looked for.
        parameters: What was done to the network before.
        dataset: What it was asked.
        metric: Name of the figure of merit.
        score: Its value.
        detected: What the detector said.
        decoded: The payload that the decoder read; None where it tells errors only, or read nothing.
        symbol_errors: Symbols that differ; None where nothing was read.
        symbols: Symbols of the payload.
    """

    network: int
    marked_with: str | None
    scheme: str
    payload: str
    parameters: str
    dataset: str
    metric: str
    score: float
    detected: bool
    decoded: str | None
    symbol_errors: int | None
    symbols: int


@dataclass(frozen=True, slots=True)
class CountError:
    """How often a scheme's detector erred.

    Args:
        scheme: As the plan calls it.
        parameters: What was done to the networks before.
        networks: How many were looked at.
        false_positives: Unmarked ones in which a mark was found.
        false_negatives: Marked ones in which their own was not.
    """

    scheme: str
    parameters: str
    networks: int
    false_positives: int
    false_negatives: int


def exchanged(
    book: Book, task: TaskFacts, results: Mapping[int, list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """The five types of an evaluation, as JSON has them.

    Args:
        book: The records.
        task: What networks are for.
        results: For each scheme its rows of :func:`onnxmark.evaluation.concluding.robustness`.
    """
    parts: dict[str, Iterable[Any]] = {
        "payloads": _payloads(book),
        "parameters": _parameters(book),
        "datasets": (
            Dataset("training", task.name, task.n_training, task.n_classes),
            Dataset("test", task.name, task.n_test, task.n_classes),
        ),
        "inferences": _inferences(book, task),
        "count_errors": _errors(book, results),
    }
    return {name: [asdict(each) for each in found] for name, found in parts.items()}


def payload_id(number: int, n_bits: int) -> str:
    """What a payload is called: ``2 of 64 bits``."""
    return f"{number + 1} of {n_bits} bits"


def _payloads(book: Book) -> Iterator[Payload]:
    lengths = sorted({record["bits"] for scheme in range(len(book.plan.schemes)) for record in book.embedded(scheme)})
    for n_bits in lengths:
        for number in range(book.plan.payloads):
            yield Payload(payload_id(number, n_bits), "".join(map(str, payload_of(book.plan, number, n_bits))))


def _name(book: Book, change: tuple[int, int] | None) -> str:
    if change is None:
        return "none"
    row = book.plan.modifications[change[0]]
    return f"{row.name} {row.values[change[1]]:g}"


def _parameters(book: Book) -> Iterator[Parameters]:
    for change in changes(book.plan):
        if change is None:
            yield Parameters(_name(book, change), None, "none", "", "", None)
        else:
            row = book.plan.modifications[change[0]]
            yield Parameters(_name(book, change), row.id, row.name, row.parameter, row.unit, row.values[change[1]])


def _inferences(book: Book, task: TaskFacts) -> Iterator[Inference]:
    for number, entry in enumerate(book.plan.schemes):
        for change in changes(book.plan):
            for cell in (*book.unmarked_looks(number, change), *book.marked_looks(number, change)):
                record = book.of(cell)
                for reading in () if record is None else readings_of(record, number):
                    payload = payload_id(reading["payload"], reading["n_symbols"])
                    yield Inference(
                        network=cell.network + 1,
                        marked_with=None if cell.payload is None else payload,
                        scheme=entry.name,
                        payload=payload,
                        parameters=_name(book, change),
                        dataset="test",
                        metric=task.metric,
                        score=(record or {})["score"],
                        detected=reading["detected"],
                        decoded=reading["decoded"],
                        symbol_errors=reading["n_errors"],
                        symbols=reading["n_symbols"],
                    )


def _errors(book: Book, results: Mapping[int, list[dict[str, Any]]]) -> Iterator[CountError]:
    places = list(changes(book.plan))
    for number, rows in results.items():
        points = [point for row in rows for point in row["points"]]
        for change, point in zip(places, points, strict=True):
            yield CountError(
                scheme=book.plan.schemes[number].name,
                parameters=_name(book, change),
                networks=point["n_networks"] - point["n_failed"],
                false_positives=point["false_positives"],
                false_negatives=point["false_negatives"],
            )
