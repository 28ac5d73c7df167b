"""Ways to read the same answers: from log-ratios of a suspect and the references to what is compared with the coins.

All take the answers alone and none the coins, so under the null the coins stay fair and independent of whatever comes
out, and the laws of :mod:`benchmarks.ingrain.evidence` hold for each. They differ in how much of what unmarked networks
do anyway is taken out before the coins are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from onnxmark.arrays import Float64Array, Int64Array

Reading = Callable[[Float64Array, Float64Array, Int64Array], Float64Array]
"""From the suspect's log-ratios (n,), the references' (references, n) and the pairs (n, 2) to leanings (n,)."""


def plain(suspect: Float64Array, references: Float64Array, pairs: Int64Array) -> Float64Array:
    """The difference to the references' mean."""
    difference: Float64Array = suspect - references.mean(axis=0)
    return difference


def studentised(suspect: Float64Array, references: Float64Array, pairs: Int64Array) -> Float64Array:
    """The difference over the references' spread at that carrier, drawn halfway to the typical one."""
    return plain(suspect, references, pairs) / _spread(references)


def fitted(suspect: Float64Array, references: Float64Array, pairs: Int64Array) -> Float64Array:
    """What is left of the suspect after the best mixture of the references, and an offset for each pair of classes."""
    offsets = pairs[:, 0, None] == np.arange(pairs.max() + 1), pairs[:, 1, None] == np.arange(pairs.max() + 1)
    known = np.concatenate([references.T, *offsets], axis=1).astype(np.float64)
    left: Float64Array = suspect - known @ np.linalg.lstsq(known, suspect, rcond=None)[0]
    return left


def fitted_studentised(suspect: Float64Array, references: Float64Array, pairs: Int64Array) -> Float64Array:
    """Both: what is left after the fit, over the references' spread."""
    return fitted(suspect, references, pairs) / _spread(references)


READINGS: Final[Mapping[str, Reading]] = MappingProxyType(
    {"plain": plain, "studentised": studentised, "fitted": fitted, "fitted, studentised": fitted_studentised}
)
"""By name."""


def _spread(references: Float64Array) -> Float64Array:
    variances = references.var(axis=0, ddof=1)
    spread: Float64Array = np.sqrt(variances + np.median(variances))
    return spread
