"""Rows of evaluations: points of the standard's tables, and pairs of networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.rows import Row, Table

_EVALUATION: Final = (
    *("kind", "name", "scheme", "embedding", "bits", "id", "modification", "parameter", "unit", "value"),
    *("n_unmarked", "n_marked", "n_networks", "n_failed"),
    *("false_positives", "false_negatives", "false_positive_rate", "false_negative_rate"),
    *("symbol_error_rate", "symbol_error_rate_low", "symbol_error_rate_high"),
    *("unmarked_symbol_error_rate", "unmarked_symbol_error_rate_low", "unmarked_symbol_error_rate_high"),
    *("score", "score_low", "score_high", "unmarked_score", "unmarked_score_low", "unmarked_score_high"),
    *("network", "payload", "unmarked", "marked", "problem"),
)


_MEANS: Final = ("symbol_error_rate", "unmarked_symbol_error_rate", "score", "unmarked_score")


def _evaluation(document: Document) -> Iterator[Row]:
    for scheme in document["schemes"]:
        named = {name: scheme[name] for name in ("name", "scheme", "embedding", "bits")}
        if scheme["problem"] is not None:
            yield {**named, "kind": "not applicable", "problem": scheme["problem"]}
        for pair in (scheme["imperceptibility"] or {"cells": ()})["cells"]:
            yield {**pair, **named, "kind": "pair"}
        for modified in scheme["robustness"]:
            for point in modified["points"]:
                means = {name: value for mean in _MEANS for name, value in _mean(mean, point[mean])}
                problems = "; ".join(point["problems"]) or None
                yield {**modified, **point, **means, **named, "kind": "point", "problem": problems}


def _mean(name: str, mean: Document | None) -> Iterator[tuple[str, float | None]]:
    """A mean and its limits, each in a column."""
    for column, field in ((name, "mean"), (f"{name}_low", "low"), (f"{name}_high", "high")):
        yield column, None if mean is None else mean[field]


EVALUATION: Final = Table(_EVALUATION, _evaluation)
"""A network and payload each, and a modification and value each."""
