"""What a layer's weights look like: sparsity, spread, and the trace a mark leaves in the mean over filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmark.arrays import Float32Array


@dataclass(frozen=True, slots=True)
class WeightProfile:
    """Distribution of one layer's weights.

    Args:
        sparsity: Share of weights that are exactly zero, in [0, 1].
        std: Standard deviation.
        low: Smallest weight.
        high: Largest weight.
        n_levels: Number of different values, counted up to 65,536: few mean quantised or clustered weights.
        mean_filter_ratio: ``std(mean over filters) * sqrt(filters) / std(weights)``: 1 for independent filters, above
            where they share a shift, as Uchida's regulariser makes them (after Wang and Kerschbaum, ICASSP 2019). An
            indicator and never a verdict: unmarked layers with biased filters raise it, too. None without spread.
    """

    sparsity: float
    std: float
    low: float
    high: float
    n_levels: int
    mean_filter_ratio: float | None


MAX_LEVELS = 65536


def profile(values: Float32Array) -> WeightProfile:
    """The profile of canonical weights, shape (out, in / group, *spatial), finite or not."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return WeightProfile(0.0, 0.0, 0.0, 0.0, 0, None)
    spread = float(finite.std(dtype=np.float64))
    ratio = None
    if spread > 0 and finite.size == values.size:
        shared = float(values.mean(axis=0, dtype=np.float64).std())
        ratio = shared * float(np.sqrt(values.shape[0])) / spread
    return WeightProfile(
        sparsity=float(np.mean(values == 0)),
        std=spread,
        low=float(finite.min()),
        high=float(finite.max()),
        n_levels=min(len(np.unique(finite)), MAX_LEVELS),
        mean_filter_ratio=ratio,
    )
