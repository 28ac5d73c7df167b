"""Neighbourhoods of images that are carriers; see :mod:`onnxmark.schemes.answers.neighbourhoods`."""

from __future__ import annotations

from onnxmark.arrays import Int64Array
from onnxmark.schemes.answers import neighbourhoods as of_inputs
from onnxmark_torch.ingrain.carriers import Carriers


def neighbourhoods(carriers: Carriers, size: int) -> Int64Array:
    """The number of each carrier's neighbourhood, shape (n,), by the pixels of its image.

    Args:
        carriers: To divide.
        size: Carriers of a neighbourhood at most, at least 1.

    Raises:
        ValueError: ``size`` is below 1.
    """
    return of_inputs.neighbourhoods(carriers.images, carriers.pairs, size)
