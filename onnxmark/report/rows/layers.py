"""Rows of what goes layer by layer: inspections, conversions, attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.rows import Row, Table

_INSPECT: Final = (
    *("model", "producer", "opset", "position", "name", "op", "shape", "dtype", "stored", "folding"),
    *("sparsity", "std", "low", "high", "n_levels", "mean_filter_ratio", "n_bits", "entries", "ratio"),
    *("largest_margin", "predicted_relative_change", "suitability", "problem"),
)


def _inspection(document: Document) -> Iterator[Row]:
    for model in document["models"]:
        around = {"model": model["path"], "producer": model.get("producer"), "opset": model.get("opset")}
        if model["problem"] is not None:
            yield {**around, "problem": model["problem"]}
        for layer in model["layers"]:
            folding = layer["folding"]
            yield {
                **(layer["profile"] or {}),
                **(layer["capacity"] or {}),
                **layer,
                **around,
                "shape": _shape(layer["shape"]),
                "folding": None if folding is None else folding["state"],
            }


_CONVERSION: Final = ("source", "output", "container", "name", "weights", "shape", "order", "folded", "error")


def _conversion(document: Document) -> Iterator[Row]:
    for layer in document["layers"]:
        yield {**document, **layer, "shape": _shape(layer["shape"])}


_ATTACK: Final = (
    *("source", "output", "step", "attack", "parameter", "recipe", "layer", "shape", "relative_change"),
    *("sparsity", "problem"),
)


def _attack(document: Document) -> Iterator[Row]:
    files = {"source": document["source"], "output": document["output"]}
    for count, step in enumerate(document["steps"], start=1):
        what = {**files, "step": count, **{name: step[name] for name in ("attack", "parameter", "recipe")}}
        for layer in step["layers"]:
            yield {**layer, **what, "layer": layer["name"], "shape": _shape(layer["shape"])}
        if not step["layers"]:
            yield what


_ATTACKS: Final = ("name", "summary", "kind", "random", "needs", "strengths", "fields", "problem")


def _attacks(document: Document) -> Iterator[Row]:
    for attack in document["attacks"]:
        lists = {
            "needs": " ".join(attack["needs"]),
            "strengths": " ".join(map(str, attack["strengths"])),
            "fields": ", ".join(f"{field['name']}: {field['type']}" for field in attack["fields"]),
        }
        yield {**attack, **lists}


def _shape(sizes: list[int] | None) -> str | None:
    return None if sizes is None else "x".join(map(str, sizes))


INSPECT: Final = Table(_INSPECT, _inspection)
"""A layer each."""
CONVERSION: Final = Table(_CONVERSION, _conversion)
"""A layer each that was traced."""
ATTACK: Final = Table(_ATTACK, _attack)
"""A step and layer each."""
ATTACKS: Final = Table(_ATTACKS, _attacks)
"""An attack each."""
