"""From the records of cells to the figures of the standard's tables: a pure function, whatever order the cells had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from onnxmark.evaluation.cells import Cell, Kind, twin_of, unmarked_look
from onnxmark.evaluation.plan import Plan
from onnxmark.statistics import mean_interval

Record = Mapping[str, Any]
Mean = dict[str, Any]

_SHOWN: Final = 3
"""Problems told of at one point."""


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Records, looked up by what they are about.

    Args:
        plan: The plan.
        records: By name of the cell.
        is_share: The task metric lies in [0, 1].
    """

    plan: Plan
    records: Mapping[str, Record]
    is_share: bool = False

    def score(self, values: Sequence[float | None]) -> Mean | None:
        """The mean of the task metric."""
        return rate(values) if self.is_share else mean(values)

    def of(self, cell: Cell) -> Record | None:
        """What came of a cell; None where nothing has yet, or nothing could."""
        found = self.records.get(cell.name)
        return None if found is None or "problem" in found else found

    def problem(self, cell: Cell) -> str | None:
        """Why a cell cannot be carried out."""
        return self.records.get(cell.name, {}).get("problem")

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every network with every payload."""
        for network in range(self.plan.networks):
            for payload in range(self.plan.payloads):
                yield network, payload

    def embedded(self, scheme: int) -> list[Record]:
        """What came of a scheme's embeddings."""
        cells = (Cell(Kind.EMBED, network, scheme, payload) for network, payload in self.pairs())
        return [found for cell in cells if (found := self.of(cell)) is not None]

    def obstacles(self, scheme: int) -> list[str]:
        """Why marks of a scheme could not be embedded, one for each."""
        cells = (Cell(Kind.EMBED, network, scheme, payload) for network, payload in self.pairs())
        return [problem for cell in cells if (problem := self.problem(cell)) is not None]

    def marked_looks(self, scheme: int, change: tuple[int, int] | None) -> list[Cell]:
        """The cells in which a scheme's marked networks are looked at."""
        return [Cell(Kind.LOOK, network, scheme, payload, change=change) for network, payload in self.pairs()]

    def unmarked_looks(self, scheme: int, change: tuple[int, int] | None) -> list[Cell]:
        """The cells in which a scheme's keys are looked for in unmarked networks."""
        return [unmarked_look(self.plan, network, scheme, change) for network in range(self.plan.networks)]

    def readings(self, cells: Iterable[Cell], scheme: int) -> list[list[Record]]:
        """For each cell that came to something what the scheme's keys read in it, without those that could not read."""
        found = (self.of(cell) for cell in cells)
        return [readings_of(record, scheme) for record in found if record is not None]


def readings_of(record: Record, scheme: int) -> list[Record]:
    """What a scheme's keys read in a network."""
    return [each for each in record["readings"] if each["scheme"] == scheme and "problem" not in each]


def mean(values: Sequence[float | None], *, least: float = -math.inf, most: float = math.inf) -> Mean | None:
    """Mean and 95 % confidence limits (Student's t); limits are None for a single value, all is for none.

    Args:
        values: None for what is not known.
        least: No mean can be less: limits end there, which leaves their confidence as it is.
        most: No mean can be more.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if known.size == 0:
        return None
    low, high = (None, None) if known.size == 1 else (min(max(end, least), most) for end in mean_interval(known))
    return {"mean": float(known.mean()), "low": low, "high": high, "n": int(known.size)}


def rate(values: Sequence[float | None]) -> Mean | None:
    """The mean of what lies in [0, 1]."""
    return mean(values, least=0, most=1)


def amount(values: Sequence[float | None]) -> Mean | None:
    """The mean of what is not negative: times, bytes, epochs."""
    return mean(values, least=0)


def imperceptibility(book: Book, scheme: int) -> dict[str, Any]:
    """The task metric of marked networks against that of their unmarked twins."""
    entry, cells = book.plan.schemes[scheme], []
    for network, payload in book.pairs():
        unmarked, marked = book.of(twin_of(entry, network)), book.of(Cell(Kind.EMBED, network, scheme, payload))
        if unmarked is not None and marked is not None:
            scores = {"unmarked": unmarked["score"], "marked": marked["score"]}
            cells.append({"network": network + 1, "payload": payload + 1, **scores})
    return {
        "cells": cells,
        "unmarked": book.score([cell["unmarked"] for cell in cells]),
        "marked": book.score([cell["marked"] for cell in cells]),
        "difference": mean([cell["marked"] - cell["unmarked"] for cell in cells]),
    }


def robustness(book: Book, scheme: int) -> list[dict[str, Any]]:
    """The networks as they are, and every modification with a point for each value."""
    plan, rows = book.plan, [_row(None, "none", "as they are", "", "", [_point(book, scheme, None, None)])]
    for number, row in enumerate(plan.modifications):
        points = [_point(book, scheme, (number, place), value) for place, value in enumerate(row.values)]
        rows.append(_row(row.id, row.name, row.words, row.parameter, row.unit, points))
    return rows


def cost(book: Book, scheme: int) -> dict[str, Any]:
    """What embedding, detecting and decoding take."""
    embedded, entry = book.embedded(scheme), book.plan.schemes[scheme]
    looks = book.readings(book.marked_looks(scheme, None), scheme)
    read = [reading for readings in looks for reading in readings]
    twins = [book.of(twin_of(entry, network)) for network in range(book.plan.networks)]
    known = [twin for twin in twins if twin is not None]
    trained = [record for record in embedded if record["injection"]["epochs"] is not None]
    return {
        "injection": {
            "memory_bytes": amount([record["injection"]["memory_bytes"] for record in embedded]),
            "seconds_per_batch": amount([_per_batch(record) for record in embedded]),
            "seconds_per_epoch": amount([_per_epoch(record) for record in embedded]),
            "batches_per_epoch": float(np.mean([_batches(record) for record in trained])) if trained else None,
            "epochs": amount([record["injection"]["epochs"] for record in embedded]),
            "seconds": amount([record["injection"]["seconds"] for record in embedded]),
            "inference_seconds": amount([record["inference_seconds"] for record in embedded]),
            "unmarked_seconds_per_batch": amount([_per_batch(twin) for twin in known]) if trained else None,
            "unmarked_inference_seconds": amount([twin["inference_seconds"] for twin in known]),
        },
        **{role: _footprint([reading[role] for reading in read]) for role in ("detection", "decoding")},
    }


def _row(
    number: int | None, name: str, words: str, parameter: str, unit: str, points: list[dict[str, Any]]
) -> dict[str, Any]:
    about = {"id": number, "modification": name, "words": words, "parameter": parameter, "unit": unit}
    return {**about, "points": points}


def _point(book: Book, scheme: int, change: tuple[int, int] | None, value: float | None) -> dict[str, Any]:
    unmarked, marked = book.unmarked_looks(scheme, change), book.marked_looks(scheme, change)
    negatives = [readings for readings in book.readings(unmarked, scheme) if readings]
    positives = [reading for readings in book.readings(marked, scheme) for reading in readings]
    n_networks, n_read = len(unmarked) + len(marked), len(negatives) + len(positives)
    false_positives = sum(any(reading["detected"] for reading in readings) for readings in negatives)
    false_negatives = sum(not reading["detected"] for reading in positives)
    return {
        "value": value,
        "n_unmarked": len(unmarked),
        "n_marked": len(marked),
        "n_networks": n_networks,
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "false_positive_rate": false_positives / n_read if n_read else None,
        "false_negative_rate": false_negatives / n_read if n_read else None,
        "symbol_error_rate": rate([error_rate(reading) for reading in positives]),
        "unmarked_symbol_error_rate": rate([_mean_rate(readings) for readings in negatives]),
        "score": book.score(_scores(book, marked)),
        "unmarked_score": book.score(_scores(book, unmarked)),
        "n_failed": n_networks - n_read,
        "problems": _problems(book, [*unmarked, *marked], scheme),
    }


def error_rate(reading: Record) -> float:
    """Differing symbols over the payload's; where none was read, what guessing would give.

    A code word that is rejected and a layer that is gone say nothing of any symbol. Counted as all wrong they would be
    worse than a reading of noise, and schemes could not be compared.
    """
    return float(reading["chance"] if reading["n_errors"] is None else reading["n_errors"] / reading["n_symbols"])


def guessed_rate(book: Book, scheme: int) -> float:
    """Symbol error rate of somebody who knows nothing of the keys; one half where nothing says otherwise."""
    looks = book.readings(book.marked_looks(scheme, None), scheme)
    return float(np.mean([reading["chance"] for readings in looks for reading in readings] or [0.5]))


def _mean_rate(readings: Sequence[Record]) -> float:
    return float(np.mean([error_rate(reading) for reading in readings]))


def _scores(book: Book, cells: Iterable[Cell]) -> list[float | None]:
    return [None if (found := book.of(cell)) is None else found["score"] for cell in cells]


def _problems(book: Book, cells: Iterable[Cell], scheme: int) -> list[str]:
    """The most frequent problems first, a few of them."""
    counts: dict[str, int] = {}
    for cell in cells:
        record = book.records.get(cell.name, {})
        told = [record.get("problem")]
        told += [each.get("problem") for each in record.get("readings", ()) if each["scheme"] == scheme]
        for problem in filter(None, told):
            counts[problem] = counts.get(problem, 0) + 1
    return sorted(counts, key=lambda problem: (-counts[problem], problem))[:_SHOWN]


def _per_epoch(record: Record) -> float | None:
    spent = record["injection"]
    return None if spent["epochs"] is None else spent["seconds"] / spent["epochs"]


def _batches(record: Record) -> float:
    """Per epoch: an epoch with carriers has more of them than one without."""
    return float(record["injection"]["batches"] / record["injection"]["epochs"])


def _per_batch(record: Record) -> float | None:
    spent = record["injection"]
    return None if spent["epochs"] is None else spent["seconds"] / spent["batches"]


def _footprint(taken: Sequence[Record]) -> dict[str, Any]:
    return {name: amount([each[name] for each in taken]) for name in ("memory_bytes", "seconds")}
