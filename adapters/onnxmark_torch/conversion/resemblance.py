"""Which layer of an ONNX file is which layer of a module, where no record says so: told by what a mark leaves alone.

A mark moves weights by some percent. Weights of different layers of one shape are as far from each other as vectors of
random directions are, 1.4 times their length, so there is much room between a marked layer and another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from onnxmark.arrays import Float32Array
from onnxmark.conversion import RestoredWeights
from onnxmark.errors import ConversionError, WeightsUnresolved
from onnxmark.model import Model, WeightSite, open_model
from onnxmark.model.folding import FoldingState
from onnxmark_torch.conversion.module_weights import array, is_floating, order_of
from onnxmark_torch.layers import HostLayer, host_layers
from onnxmark_torch.normalisation import folding_scale, following_norm
from onnxmark_torch.problems import TargetError

FARTHEST: Final = 0.5
"""Largest relative distance of a marked layer from the module's own."""
_RIVAL: Final = 2.0
"""How much farther than the nearest another candidate must be."""
_INDIFFERENT: Final = 1e-3
"""Relative distance of two ways to read a layer below which either will do."""
_CURE: Final = "export with 'onnxmark convert', mark that file, and load its weights: it says which is which"


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """A layer's weights as an exporter may have written them.

    Args:
        layer: The layer.
        values: Canonical.
        scale: What batch normalisation multiplied the filters by, shape ``(out,)``; None where it is not folded in.
    """

    layer: HostLayer
    values: Float32Array
    scale: Float32Array | None = None


def resembling_weights(module: nn.Module, path: Path) -> tuple[RestoredWeights, ...]:
    """The weights of every layer of a file that is like one layer of a module and like no other.

    Args:
        module: The module with the weights it was exported with.
        path: The ONNX file, perhaps marked since.

    Raises:
        ConversionError: A layer of the file is like several of the module, or two that differ are like one.
        ModelError: The file cannot be read.
    """
    expected = [each for layer in host_layers(module) if is_floating(layer.weight) for each in _expected(module, layer)]
    found: dict[str, RestoredWeights] = {}
    with open_model(path) as model:
        for site in model.sites():
            values = _values(model, site)
            nearest = None if values is None else _nearest(model, site, values, expected)
            if values is None or nearest is None:
                continue
            restored = _restored(values, nearest)
            if not np.allclose(found.setdefault(restored.name, restored).values, restored.values, rtol=1e-4, atol=1e-6):
                raise ConversionError(f"{str(path)!r}: two layers that differ are like {nearest.layer.name!r}; {_CURE}")
    return tuple(found.values())


def _expected(module: nn.Module, layer: HostLayer) -> Iterator[_Expected]:
    values = array(layer.canonical(layer.weight))
    yield _Expected(layer, values)
    try:
        norm = following_norm(module, layer)
    except TargetError:
        # A module that does not trace: its weights are recognised where nothing is folded into them.
        return
    if norm is not None:
        scale = array(folding_scale(norm))
        yield _Expected(layer, values * scale.reshape(-1, *[1] * (values.ndim - 1)), scale)


def _values(model: Model, site: WeightSite) -> Float32Array | None:
    try:
        return None if site.problem is not None else model.read(site).values
    except WeightsUnresolved:
        return None


def _nearest(model: Model, site: WeightSite, values: Float32Array, expected: Sequence[_Expected]) -> _Expected | None:
    """The layer a site is of; None where it is like none."""
    distances = {each: _distance(values, each.values) for each in _candidates(model, site, values, expected)}
    near = {each: distance for each, distance in distances.items() if distance <= FARTHEST}
    if not near:
        return None
    best = min(near, key=near.__getitem__)
    for rival, distance in near.items():
        if rival is not best and distance <= _RIVAL * near[best]:
            _check_rival(model, site, best, rival)
    return best


def _candidates(
    model: Model, site: WeightSite, values: Float32Array, expected: Sequence[_Expected]
) -> Iterator[_Expected]:
    """What a site may be by its shape and by what the file says of batch normalisation."""
    folding = model.folding(site)
    normalised = {each.layer for each in expected if each.scale is not None}
    for each in expected:
        if _essential(each.values.shape) != _essential(values.shape):
            continue
        is_folded = each.scale is not None
        if folding is not None and each.layer in normalised:
            if folding.state is FoldingState.SEPARATE and is_folded:
                continue
            if folding.state in (FoldingState.FOLDED, FoldingState.PROBABLY_FOLDED) and not is_folded:
                continue
        yield each


def _check_rival(model: Model, site: WeightSite, best: _Expected, rival: _Expected) -> None:
    """Refuse where another candidate is as near, unless it makes no difference."""
    where = f"{str(model.path)!r}: "
    if rival.layer is not best.layer:
        raise ConversionError(
            f"{where}{site.name!r} is like {best.layer.name!r} and {rival.layer.name!r} both; {_CURE}"
        )
    if _distance(best.values, rival.values) > _INDIFFERENT:
        raise ConversionError(
            f"{where}whether batch normalisation is folded into {site.name!r} cannot be told; {_CURE}"
        )


def _restored(values: Float32Array, expected: _Expected) -> RestoredWeights:
    own = values.reshape(expected.values.shape)
    lost: tuple[int, ...] = ()
    if expected.scale is not None:
        lost = tuple(int(index) for index in np.flatnonzero(expected.scale == 0))
        divisors = np.where(expected.scale == 0, np.inf, expected.scale).astype(np.float64)
        own = (own / divisors.reshape(-1, *[1] * (own.ndim - 1))).astype(np.float32)
    return RestoredWeights(expected.layer.parameters[0], own.copy(), order_of(expected.layer), lost)


def _distance(values: Float32Array, other: Float32Array) -> float:
    """Norm of the difference over the norm of ``other``; infinite where that is zero or anything is not finite."""
    one, two = values.astype(np.float64).reshape(-1), other.astype(np.float64).reshape(-1)
    norm = float(np.linalg.norm(two))
    distance = float(np.linalg.norm(one - two)) / norm if norm else np.inf
    return distance if np.isfinite(distance) else np.inf


def _essential(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without spatial axes of length 1, which one-dimensional convolutions gain on their way."""
    return (*shape[:2], *(length for length in shape[2:] if length > 1))
