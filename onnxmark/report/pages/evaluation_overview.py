"""An evaluation at a glance: a row a scheme, and the worst that every modification did to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Notes, Part, Table, Tone
from onnxmark.report.pages.evaluation_words import (
    UNMODIFIED,
    counted_of,
    doubts_of,
    guessing_of,
    metric_of,
    modification_of,
    scheme_of,
)
from onnxmark.report.pages.figures import NOTHING, change, interval, rate
from onnxmark.report.pages.phrases import SENTENCE
from onnxmark.report.text import shortened

_AS_THEY_ARE: Final = "Networks that nobody modified. Change: marked minus unmarked, mean with 95 % limits."
_WORST: Final = (
    "The mean at the value where it is highest; {guessing}. ✓ every mark was detected at every value, ? some were "
    "not, ✗ at some value none was. Read it with the charts below: what destroys the network may destroy the mark."
)


def glance(document: Document, schemes: Sequence[Document]) -> tuple[Part, ...]:
    """The table of the schemes that apply, and why the others do not.

    Args:
        document: Of an evaluation.
        schemes: Those of its schemes that apply.
    """
    left_out = tuple(
        f"{scheme_of(scheme)} does not apply: {shortened(scheme['problem'], SENTENCE)}"
        for scheme in document["schemes"]
        if scheme["problem"] is not None
    )
    tables = (_unmodified(document["plan"], schemes), *_modified(schemes)) if schemes else ()
    return (*tables, *((Notes(left_out),) if left_out else ()))


def _unmodified(plan: Document, schemes: Sequence[Document]) -> Table:
    columns = (
        Column("scheme"),
        Column(f"change of {metric_of(plan)}", numeric=True),
        Column("false positives", numeric=True),
        Column("false negatives", numeric=True),
        Column("symbol error rate", numeric=True),
    )
    return Table("Schemes compared", columns, tuple(map(_plain, schemes)), _AS_THEY_ARE)


def _plain(scheme: Document) -> tuple[Cell, ...]:
    points, found = _points(scheme, UNMODIFIED), scheme["imperceptibility"]
    return (
        Cell(scheme_of(scheme), Tone.DOUBT if doubts_of(scheme) else Tone.NEUTRAL),
        Cell(interval(found["difference"] if found else None, change)),
        _errors(points, "false_positives"),
        _errors(points, "false_negatives"),
        Cell(interval(points[0]["symbol_error_rate"] if points else None, rate)),
    )


def _modified(schemes: Sequence[Document]) -> tuple[Table, ...]:
    """The worst of every modification; no table where none was tried."""
    entries = {entry["modification"]: modification_of(entry) for scheme in schemes for entry in scheme["robustness"]}
    entries.pop(UNMODIFIED, None)
    if not entries:
        return ()
    names, worst = (
        [scheme_of(one) for one in schemes],
        [[_worst(_points(one, name)) for name in entries] for one in schemes],
    )
    # The longer list goes down the page: a terminal has rows enough, and few columns.
    if len(names) > len(entries):
        corner, across, down = "scheme", list(entries.values()), list(zip(names, worst, strict=True))
    else:
        columnwise = [list(row) for row in zip(*worst, strict=True)]
        corner, across, down = "modification", names, list(zip(entries.values(), columnwise, strict=True))
    columns = (Column(corner), *(Column(title, numeric=True) for title in across))
    rows = tuple((Cell(title), *cells) for title, cells in down)
    return (
        Table(
            "Highest symbol error rate under each modification",
            columns,
            rows,
            _WORST.format(guessing=guessing_of(schemes)),
        ),
    )


def _points(scheme: Document, modification: str) -> list[Document]:
    found = (entry["points"] for entry in scheme["robustness"] if entry["modification"] == modification)
    return next(found, [])


def _errors(points: Sequence[Document], errors: str) -> Cell:
    """Errors of the detector in networks that nobody modified, where there should be none."""
    if not points:
        return Cell(NOTHING)
    return Cell(counted_of(points[0], errors), Tone.BAD if points[0][errors] else Tone.GOOD)


def _worst(points: Sequence[Document]) -> Cell:
    """The highest symbol error rate at any value of a modification."""
    read = [point for point in points if point["symbol_error_rate"] is not None]
    if not read:
        return Cell(NOTHING)
    return Cell(rate(max(point["symbol_error_rate"]["mean"] for point in read)), _kept(read))


def _kept(points: Sequence[Document]) -> Tone:
    if not any(point["false_negatives"] for point in points):
        return Tone.GOOD
    return Tone.BAD if any(point["false_negatives"] >= point["n_marked"] > 0 for point in points) else Tone.DOUBT
