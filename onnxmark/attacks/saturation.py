"""Where an attack's arithmetic ends: float64 values become weights a model can store.

A layer may hold weights near the largest float32, and an attack that scales or adds would make infinities of them; a
real tool saturates.
"""

from __future__ import annotations

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array


def saturated(values: Float64Array) -> Float32Array:
    """The nearest finite float32 of each value; ``values`` may be infinite but not NaN."""
    limits = np.finfo(np.float32)
    return np.clip(values, limits.min, limits.max).astype(np.float32)
