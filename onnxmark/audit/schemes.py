"""The schemes that come with onnxmark, without looking at what else is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from onnxmark.errors import CarrierError
from onnxmark.schemes.answers.ingrain import IngrainScheme
from onnxmark.schemes.answers.trigger import TriggerScheme
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.schemes.scheme import Scheme
from onnxmark.schemes.structural.scheme import StructuralScheme

Schemes = Callable[[str], Scheme]
"""Gives the scheme of a name."""


def built_in(name: str) -> Scheme:
    """The scheme of a name, among our own.

    Raises:
        CarrierError: It is none of them.
    """
    if name in _OWN:
        return _OWN[name]
    raise CarrierError(f"the key is of scheme {name!r}, which is not loaded here")


_OWN: Final[dict[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (ProjectionScheme(), ConstantWeightScheme(), StructuralScheme(), IngrainScheme(), TriggerScheme())
}
