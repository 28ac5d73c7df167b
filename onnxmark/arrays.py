"""Array aliases used in signatures, and the one way to make an array read-only."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int8Array = NDArray[np.int8]
Int64Array = NDArray[np.int64]
BitArray = NDArray[np.uint8]
AnyArray = NDArray[Any]

_Array = TypeVar("_Array", bound=AnyArray)


def frozen(array: _Array) -> _Array:
    """Return ``array`` itself, marked read-only (a view of a writable base stays a view: pass what you own)."""
    array.flags.writeable = False
    return array
