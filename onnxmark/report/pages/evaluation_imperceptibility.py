"""The imperceptibility of an evaluation: what the task loses when a network is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Section, Table
from onnxmark.report.pages.evaluation_words import metric_of, scheme_of
from onnxmark.report.pages.figures import change, interval, score

_LEGEND: Final = (
    "Means with 95 % confidence limits (Student's t). The change is paired: the same network with and without a mark."
)


def imperceptibility_section(plan: Document, schemes: Sequence[Document]) -> Section:
    """A row a scheme, and below it, folded away, a row a network and payload."""
    metric = metric_of(plan)
    columns = (
        Column("scheme"),
        Column(f"{metric}, unmarked", numeric=True),
        Column(f"{metric}, marked", numeric=True),
        Column("change", numeric=True),
        Column("pairs", numeric=True),
    )
    table = Table(f"Marked against unmarked networks: {metric}", columns, tuple(map(_noticed, schemes)), _LEGEND)
    every = Section("Each network and payload", (_pairs(schemes),), detail=True)
    return Section("Imperceptibility", (table,), (every,))


def _noticed(scheme: Document) -> tuple[Cell, ...]:
    found = scheme["imperceptibility"] or {"unmarked": None, "marked": None, "difference": None, "cells": ()}
    return (
        Cell(scheme_of(scheme)),
        Cell(interval(found["unmarked"], score)),
        Cell(interval(found["marked"], score)),
        Cell(interval(found["difference"], change)),
        Cell(f"{len(found['cells']):,}"),
    )


_PAIRS: Final = (
    Column("scheme"),
    Column("network", numeric=True),
    Column("payload", numeric=True),
    Column("unmarked", numeric=True),
    Column("marked", numeric=True),
    Column("change", numeric=True),
)


def _pairs(schemes: Sequence[Document]) -> Table:
    rows = tuple(
        (
            Cell(scheme_of(scheme)),
            Cell(str(cell["network"])),
            Cell(str(cell["payload"])),
            Cell(score(cell["unmarked"])),
            Cell(score(cell["marked"])),
            Cell(change(cell["marked"] - cell["unmarked"])),
        )
        for scheme in schemes
        for cell in (scheme["imperceptibility"] or {"cells": ()})["cells"]
    )
    return Table("Task metric of every pair", _PAIRS, rows)
