"""The framework's weights out of an ONNX file that was converted from it and has been marked since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxmark.arrays import Float32Array, frozen
from onnxmark.conversion.origins import WeightOrigin, from_record
from onnxmark.errors import ConversionError
from onnxmark.model import Model, open_model


@dataclass(frozen=True, slots=True, eq=False)
class RestoredWeights:
    """Weights of one layer as the framework has to have them.

    Args:
        name: Their path in the framework.
        values: Canonical order ``(out, in / group, *spatial)``, float32; made read-only.
        order: Axis order the framework keeps them in.
        lost: Filters that cannot be told, because a batch normalisation folded into them multiplies by 0: zeros in
            ``values``, where the framework's own are to stay.
    """

    name: str
    values: Float32Array
    order: str
    lost: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        frozen(self.values)


def restored_weights(path: Path | str) -> tuple[RestoredWeights, ...]:
    """The weights of the framework's model, as a converted file has them now.

    Only the weights of layers are restored; biases and normalisations are as they were, which is what a mark in the
    weights leaves alone.

    Args:
        path: A file that ``onnxmark convert`` made, perhaps marked since.

    Raises:
        ConversionError: The file does not say where its weights came from, lacks one of them, or holds two copies of
            one that differ.
        ModelError: It cannot be read.
    """
    with open_model(path) as model:
        origins = from_record(model.metadata, repr(str(path)))
        restored: dict[str, RestoredWeights] = {}
        for origin in origins:
            found = _restored(model, origin)
            first = restored.setdefault(origin.weights, found)
            if not _agree(first, found):
                raise ConversionError(
                    f"{str(path)!r}: {origin.weights!r} is in the file twice, and {origin.site!r} differs from the "
                    "other copy; mark both alike, or a layer that is used once"
                )
    return tuple(restored.values())


def _restored(model: Model, origin: WeightOrigin) -> RestoredWeights:
    site = next((site for site in model.sites() if site.name == origin.site), None)
    if site is None or site.problem is not None:
        raise ConversionError(
            f"{str(model.path)!r} has no readable weights {origin.site!r} any more; optimisers rename them: mark the "
            "file as it was converted"
        )
    values = model.read(site).values
    if values.size != np.prod(origin.shape, dtype=object) or values.shape[:2] != origin.shape[:2]:
        raise ConversionError(
            f"{str(model.path)!r}: {origin.site!r} has shape {values.shape}, {origin.weights!r} had {origin.shape}; "
            "weights that were pruned away cannot be put back"
        )
    lost: tuple[int, ...] = ()
    if origin.factors is not None:
        lost = tuple(int(index) for index in np.flatnonzero(origin.factors == 0))
        divisors = np.where(origin.factors == 0, 1, origin.factors).astype(np.float64)
        kept = (origin.factors != 0).astype(np.float64)
        scale = (kept / divisors).reshape(-1, *[1] * (values.ndim - 1))
        values = (values * scale).astype(np.float32)
    return RestoredWeights(origin.weights, values.reshape(origin.shape).copy(), origin.order, lost)


def _agree(one: RestoredWeights, other: RestoredWeights) -> bool:
    return one is other or bool(np.allclose(one.values, other.values, rtol=1e-4, atol=1e-6))
