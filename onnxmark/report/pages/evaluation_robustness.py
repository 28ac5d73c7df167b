"""The robustness of an evaluation: for each modification a table of every scheme at every value, and charts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Notes, Section, Table, Tone
from onnxmark.report.pages.evaluation_charts import charts_of
from onnxmark.report.pages.evaluation_words import (
    UNMODIFIED,
    Measured,
    counted_of,
    metric_of,
    modification_of,
    points_of,
    symbol_of,
    value_of,
)
from onnxmark.report.pages.figures import interval, rate, score
from onnxmark.report.pages.phrases import LABEL, SENTENCE, many
from onnxmark.report.text import shortened

_LISTED: Final = 8
"""Reasons of failures that are told of a modification."""

_LEGEND: Final = (
    "False positives and false negatives of the detector are counted over the networks of both kinds, M(D+1) where "
    "none failed, as the standard has it. An unmarked network is a false positive if any key is detected in it, a "
    "marked one a false negative if its own is not: at most M and MD of them.",
    "The symbol error rate of the decoder is the share of the payload's symbols that differ, averaged over the marked "
    "networks; from unmarked networks it should be what guessing gives, as which it counts where nothing can be read. "
    "Means stand with their 95 % confidence limits.",
    "The task metric of the same networks stands beside it: where the network is gone, a mark that is lost is no loss.",
)


def robustness_section(plan: Document, schemes: Sequence[Document]) -> Section:
    """A subsection a modification, in the order in which the schemes have them."""
    found = {entry["modification"]: entry for scheme in schemes for entry in scheme["robustness"]}
    return Section("Robustness", (Notes(_LEGEND),), tuple(_modification(one, plan, schemes) for one in found.values()))


def _modification(entry: Document, plan: Document, schemes: Sequence[Document]) -> Section:
    points = points_of(schemes, entry["modification"])
    identity = "" if entry["id"] is None else f" (modification {entry['id']})"
    charts = () if entry["modification"] == UNMODIFIED else charts_of(entry, plan, schemes)
    return Section(f"{modification_of(entry)}{identity}", (*charts, _table(entry, plan, points), *_problems(points)))


def _table(entry: Document, plan: Document, points: Sequence[Measured]) -> Table:
    valued = any(one.point["value"] is not None for one in points)
    columns = (
        Column("scheme"),
        *((Column(symbol_of(entry), numeric=True),) if valued else ()),
        Column("false positives", numeric=True),
        Column("false negatives", numeric=True),
        Column("symbol error rate", numeric=True),
        Column("of unmarked", numeric=True, detail=True),
        Column(metric_of(plan), numeric=True),
        Column("of unmarked", numeric=True, detail=True),
        Column("failed", numeric=True, detail=True),
    )
    rows = tuple(_row(one, valued=valued) for one in points)
    return Table(_caption(entry) if valued else modification_of(entry), columns, rows)


def _caption(entry: Document) -> str:
    """What was done, and what its parameter counts."""
    unit = f" in {shortened(entry['unit'], LABEL)}" if entry["unit"] else ""
    return f"{modification_of(entry)}: {symbol_of(entry)}{unit}"


def _row(measured: Measured, *, valued: bool) -> tuple[Cell, ...]:
    point = measured.point
    return (
        Cell(measured.scheme),
        *((Cell(value_of(point)),) if valued else ()),
        _errors(point, "false_positive"),
        _errors(point, "false_negative"),
        Cell(interval(point["symbol_error_rate"], rate)),
        Cell(interval(point["unmarked_symbol_error_rate"], rate)),
        Cell(interval(point["score"], score)),
        Cell(interval(point["unmarked_score"], score)),
        Cell(f"{point['n_failed']:,}", Tone.DOUBT if point["n_failed"] else Tone.NEUTRAL),
    )


def _errors(point: Document, kind: str) -> Cell:
    """``1/15 (0.067)``; a count of none needs no rate, and only a false alarm is a fault by itself."""
    share, count = point[f"{kind}_rate"], counted_of(point, f"{kind}s")
    tone = Tone.BAD if kind == "false_positive" and point[f"{kind}s"] else Tone.NEUTRAL
    return Cell(f"{count} ({rate(share)})" if share else count, tone)


def _problems(points: Sequence[Measured]) -> tuple[Notes, ...]:
    """Why networks failed, each reason once."""
    sentences = tuple(
        dict.fromkeys(
            f"{one.scheme} at {value_of(one.point)}: {shortened(problem, SENTENCE)}"
            for one in points
            for problem in one.point["problems"]
        )
    )
    if not sentences:
        return ()
    left = len(sentences) - _LISTED
    more = (f"{many(left, 'more reason')}: the JSON report has all",) if left > 0 else ()
    return (Notes((*sentences[:_LISTED], *more)),)
