"""Which weights of a framework lie in which layer of the file that was converted from it: found by value.

Exporters rename, transpose and fold, each in its own way and differently in every version. What they keep is what a
layer computes: its weights, perhaps with a factor for each output filter where a batch normalisation was folded in.
The record of it travels in the file's ``metadata_props``, so that marked weights find their way back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.conversion.converter import ORDERS, SourceWeights
from onnxmark.errors import ConversionError, WeightsUnresolved
from onnxmark.model import Model, WeightSite

ORIGINS: Final = "onnxmark.origins"
"""Key of the record in ``metadata_props``."""
FARTHEST: Final = 0.05
"""Largest relative distance of weights that are taken for the same: rounding to 8 bits leaves about .01."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightOrigin:
    """Where the weights of a layer come from.

    Args:
        site: Name of the layer's weights in the ONNX file.
        weights: Their path in the framework.
        shape: Canonical shape there; it may lack spatial axes of length 1 that the exporter added.
        order: Axis order there, one of :data:`onnxmark.conversion.converter.ORDERS`.
        error: Norm of what the factors leave unexplained over the norm of the layer, at most :data:`FARTHEST`.
        factors: What each output filter was multiplied by, shape ``(out,)``; None where all are as they were.
    """

    site: str
    weights: str
    shape: tuple[int, ...]
    order: str
    error: float
    factors: Float32Array | None = None


def match(model: Model, weights: Sequence[SourceWeights]) -> tuple[WeightOrigin, ...]:
    """The origin of every layer of a file that comes from one of the framework's weights.

    Of weights that fit a layer equally well, those that no layer before it came from are taken, in the framework's
    order. Weights may be found in several layers, as exporters write copies.

    Raises:
        ModelError: The file cannot be read.
    """
    taken: set[str] = set()
    found = []
    for site in model.sites():
        values = _values(model, site)
        fits = [] if values is None else [_fit(site, values, one) for one in weights]
        known = [fit for fit in fits if fit is not None]
        if known:
            best = min(known, key=lambda fit: (fit.error, fit.factors is not None, fit.weights in taken))
            taken.add(best.weights)
            found.append(best)
    return tuple(found)


def _values(model: Model, site: WeightSite) -> Float32Array | None:
    if site.problem is not None:
        return None
    try:
        return model.read(site).values
    except WeightsUnresolved:
        return None


def _fit(site: WeightSite, values: Float32Array, weights: SourceWeights) -> WeightOrigin | None:
    if _essential(values.shape) != _essential(weights.values.shape):
        return None
    origin = (site.name, weights.name, weights.values.shape, weights.order)
    here = values.reshape(values.shape[0], -1)
    there = weights.values.reshape(here.shape)
    if np.array_equal(here, there):
        return WeightOrigin(*origin, error=0.0)
    if not (np.isfinite(here).all() and np.isfinite(there).all()):
        return None
    unscaled = _distance(here, there)
    factors = _factors(here, there)
    # Filters of a single weight are proportional to whatever they are compared with.
    scaled = _distance(here, factors[:, np.newaxis] * there) if here.shape[1] > 1 else np.inf
    # Factors always fit a little better: they are believed where they explain what nothing else does.
    if unscaled <= FARTHEST and unscaled < 10 * scaled:
        return WeightOrigin(*origin, error=unscaled)
    return WeightOrigin(*origin, error=scaled, factors=factors.astype(np.float32)) if scaled <= FARTHEST else None


def _essential(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without spatial axes of length 1, which one-dimensional convolutions gain on their way."""
    return (*shape[:2], *(length for length in shape[2:] if length > 1))


def _factors(here: Float32Array, there: Float32Array) -> Float64Array:
    """What makes each row of ``there`` as much like that of ``here`` as a factor can; 1 where both are zero."""
    one, other = here.astype(np.float64), there.astype(np.float64)
    energy = np.einsum("ij,ij->i", other, other)
    silent = (energy == 0) & ~one.any(axis=1)
    product = np.einsum("ij,ij->i", one, other)
    return np.where(silent, 1.0, product / np.where(energy > 0, energy, 1.0))


def _distance(here: Float32Array, there: Float32Array | Float64Array) -> float:
    norm = float(np.linalg.norm(here))
    return float(np.linalg.norm(here.astype(np.float64) - there)) / norm if norm else np.inf


def to_record(origins: Sequence[WeightOrigin]) -> str:
    """The record as it is kept in a file: JSON, factors as base64 of little-endian float32."""
    return json.dumps([_entry(origin) for origin in origins], separators=(",", ":"))


def _entry(origin: WeightOrigin) -> dict[str, Any]:
    coded = None if origin.factors is None else base64.b64encode(origin.factors.astype("<f4").tobytes()).decode()
    return {
        "site": origin.site,
        "weights": origin.weights,
        "shape": list(origin.shape),
        "order": origin.order,
        "error": origin.error,
        "factors": coded,
    }


def from_record(metadata: Mapping[str, str], where: str) -> tuple[WeightOrigin, ...]:
    """The record in a model's metadata.

    Args:
        metadata: The model's ``metadata_props``.
        where: The file, for messages.

    Raises:
        ConversionError: There is none, or it is damaged.
    """
    text = metadata.get(ORIGINS)
    if text is None:
        raise ConversionError(
            f"{where} does not say where its weights came from; convert the original with 'onnxmark convert' and mark "
            "that file"
        )
    try:
        return tuple(_origin(entry) for entry in json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConversionError(
            f"{where}: its record of where the weights came from is damaged ({error}); convert the original anew"
        ) from error


def _origin(entry: Any) -> WeightOrigin:
    shape = tuple(entry["shape"])
    if len(shape) < 2 or not all(type(length) is int and length > 0 for length in shape):
        raise ValueError(f"no shape of weights: {shape}")
    if entry["order"] not in ORDERS:
        raise ValueError(f"unknown axis order {entry['order']!r}")
    factors = None
    if entry["factors"] is not None:
        factors = np.frombuffer(base64.b64decode(entry["factors"], validate=True), dtype="<f4").astype(np.float32)
        if factors.shape != shape[:1] or not np.isfinite(factors).all():
            raise ValueError(f"{len(factors)} factors for {shape[0]} filters, or not finite")
    return WeightOrigin(
        str(entry["site"]), str(entry["weights"]), shape, entry["order"], float(entry["error"]), factors
    )
