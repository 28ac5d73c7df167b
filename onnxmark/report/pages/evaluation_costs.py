"""The computational cost of an evaluation: what it takes to put a mark in, to find it and to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Section, Table
from onnxmark.report.pages.evaluation_words import scheme_of
from onnxmark.report.pages.figures import BYTES, NOTHING, SECONDS, interval, measured, plain_number
from onnxmark.report.pages.phrases import NAME, many
from onnxmark.report.text import shortened

_INJECTION: Final = (
    Column("scheme"),
    Column("memory", numeric=True),
    Column("time a batch", numeric=True),
    Column("without a mark", numeric=True, detail=True),
    Column("batches an epoch", numeric=True, detail=True),
    Column("epochs", numeric=True),
    Column("time in all", numeric=True),
    Column("inference", numeric=True),
    Column("without a mark", numeric=True, detail=True),
)
_READING: Final = (
    Column("scheme"),
    Column("detection: memory", numeric=True),
    Column("time", numeric=True),
    Column("decoding: memory", numeric=True),
    Column("time", numeric=True),
)
_PER_BATCH: Final = (
    "Time a batch is the time of an epoch divided by its batches, beside that of training without a mark. Inference is "
    "that of the exported network. A scheme that embeds in closed form needs no epochs."
)


def costs_section(document: Document, schemes: Sequence[Document]) -> Section:
    """The tables of costs; figures of one report compare, those of two machines do not."""
    around, n_further = document["environment"], len(document["further_environments"])
    machine = (
        f"Means with 95 % confidence limits, on {shortened(around['processor'], NAME)} with "
        f"{many(around['workers'], 'worker')} of {many(around['threads_per_worker'], 'thread')}: compare "
        "them with each other, not with those of another machine. Memory is the peak of the process."
    )
    if n_further:
        machine += (
            f" The evaluation was interrupted and went on under {many(n_further, 'other condition')} (How it was "
            "done); times and memory of all are mixed in these means."
        )
    injection = Table("Putting a mark in", _INJECTION, tuple(map(_injected, schemes)), _PER_BATCH)
    reading = Table("Finding and reading it", _READING, tuple(map(_read, schemes)), machine)
    return Section("Computational cost", (injection, reading))


def _injected(scheme: Document) -> tuple[Cell, ...]:
    cost = _part(scheme, "injection")
    batches = cost.get("batches_per_epoch")
    return (
        Cell(scheme_of(scheme)),
        Cell(measured(cost.get("memory_bytes"), BYTES)),
        Cell(measured(cost.get("seconds_per_batch"), SECONDS)),
        Cell(measured(cost.get("unmarked_seconds_per_batch"), SECONDS)),
        Cell(NOTHING if batches is None else plain_number(batches)),
        Cell(interval(cost.get("epochs"), plain_number)),
        Cell(measured(cost.get("seconds"), SECONDS)),
        Cell(measured(cost.get("inference_seconds"), SECONDS)),
        Cell(measured(cost.get("unmarked_inference_seconds"), SECONDS)),
    )


def _read(scheme: Document) -> tuple[Cell, ...]:
    return (
        Cell(scheme_of(scheme)),
        *(
            Cell(measured(_part(scheme, role).get(field), units))
            for role in ("detection", "decoding")
            for field, units in (("memory_bytes", BYTES), ("seconds", SECONDS))
        ),
    )


def _part(scheme: Document, name: str) -> Document:
    """One part of the cost; empty where it was not measured."""
    found: Document = (scheme["cost"] or {}).get(name) or {}
    return found
