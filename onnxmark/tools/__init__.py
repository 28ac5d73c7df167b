"""Attacks that are no simulation: the deployment tools a thief would use anyway, run on the file.

What such a tool does to a mark is decided by its graph rewriting and its storage, not by arithmetic on one layer.
Each recipe hands the file to the tool and says what became of it; the audit then reads what is left.
"""

from onnxmark.tools.graphs import PassOptimisation, RuntimeOptimisation, Simplification, Slimming
from onnxmark.tools.precision import (
    DynamicQuantisation,
    HalfPrecision,
    Int4Quantisation,
    StaticQuantisation,
)

__all__ = [
    "DynamicQuantisation",
    "HalfPrecision",
    "Int4Quantisation",
    "PassOptimisation",
    "RuntimeOptimisation",
    "Simplification",
    "Slimming",
    "StaticQuantisation",
]
