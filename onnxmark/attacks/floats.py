"""Weights stored in fewer bits of floating point: half precision, bfloat16, the 8-bit formats of accelerators.

Every conversion tool offers the 16-bit formats, so a mark must pass them unharmed; the 8-bit ones are the harshest that
models still ship in. As for the integers, an audit reads what the stored numbers stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import ml_dtypes
import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.saturation import saturated

_TYPES: Final[dict[str, Any]] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
_BITS: Final = {"float16": 16, "bfloat16": 16, "float8_e4m3": 8, "float8_e5m2": 8}


@dataclass(frozen=True, slots=True)
class FloatRounding(Attack):
    """Round to the nearest number of a smaller format, ties to even; beyond its range, to its largest finite number.

    The 16-bit formats hold the weights as they are. Weights of a usual size lie near the bottom of what 8 bits can
    hold, so those formats get a scale for the layer, as deployment gives them: ``max|w|`` over the format's largest
    number (448 or 57,344).

    Args:
        format: ``float16``, ``bfloat16``, ``float8_e4m3`` (ONNX FLOAT8E4M3FN) or ``float8_e5m2``.
    """

    name: ClassVar[str] = "float"
    summary: ClassVar[str] = "round to a smaller float format; float16, bfloat16, float8_e4m3 or float8_e5m2"
    strengths: ClassVar[tuple[str, ...]] = tuple(_TYPES)

    format: str

    def __post_init__(self) -> None:
        if self.format not in _TYPES:
            raise ValueError(f"the format must be one of {', '.join(_TYPES)}, found {self.format!r}")

    @property
    def parameter(self) -> float:
        """Bits a weight."""
        return float(_BITS[self.format])

    @property
    def label(self) -> str:
        """``rounding to bfloat16``."""
        return f"rounding to {self.format}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        kind = _TYPES[self.format]
        largest = float(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]
        scale = (float(np.abs(values).max()) / largest or 1.0) if _BITS[self.format] == 8 else 1.0
        rounded = np.clip(values / np.float64(scale), -largest, largest).astype(kind)
        return saturated(rounded.astype(np.float64) * scale)
