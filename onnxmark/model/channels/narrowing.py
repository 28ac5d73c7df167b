"""Bringing layers of a model to given widths: channels of smallest L1 norm go, with everything that belongs to them.

Filters are ranked by the sum of their absolute weights (Li, Kadav, Durdanovic, Samet, Graf, ICLR 2017, arXiv
1608.08710). A channel that is gone is one that the layers after it hear nothing of: the narrow model computes what the
wide one would with their weights for it set to zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmark.arrays import AnyArray, Int64Array
from onnxmark.errors import EmbeddingError
from onnxmark.model.channels.eligible import Eligible, eligible_layers
from onnxmark.model.channels.groups import Role
from onnxmark.model.channels.moving import constant, take_channels
from onnxmark.model.editing.editable import EditableModel


def narrow(model: EditableModel, widths: Mapping[str, int]) -> None:
    """Remove channels of layers until they have given widths.

    All choices are made before anything is removed, so that the order of layers does not matter.

    Args:
        model: The model; changed in place.
        widths: By name of an eligible layer's stored tensor, the number of output channels it is to have.

    Raises:
        EmbeddingError: A layer is not there, cannot be narrowed, or has fewer channels already.
    """
    layers = {layer.name: layer for layer in eligible_layers(model)}
    plan = [(layer.group, _kept(model, layer, width)) for layer, width in _found(layers, widths)]
    for group, kept in plan:
        take_channels(model, group, kept)


def kept_channels(weights: AnyArray, width: int) -> Int64Array:
    """The channels to keep: those of largest L1 norm, the earlier one where two have the same.

    Args:
        weights: Weights of the layer that makes them, one channel an index of the first axis, finite.
        width: How many, 1 to ``len(weights)``.

    Returns:
        Indices in ascending order, shape (width,).

    Raises:
        ValueError: There are fewer channels, or none is to be kept.
    """
    if not 1 <= width <= len(weights):
        raise ValueError(f"of {len(weights)} channels 1 to {len(weights)} can be kept, not {width}")
    norms = np.abs(weights.reshape(len(weights), -1)).sum(axis=1, dtype=np.float64)
    return np.sort(np.argsort(-norms, kind="stable")[:width])


def _found(layers: Mapping[str, Eligible], widths: Mapping[str, int]) -> list[tuple[Eligible, int]]:
    for name, width in widths.items():
        if name not in layers:
            raise EmbeddingError(
                f"the channels of layer {name!r} cannot be removed in this model, only those of "
                f"{', '.join(map(repr, layers)) or 'no layer'}; make a key for this model"
            )
        if not 1 <= width <= layers[name].shape[0]:
            raise EmbeddingError(
                f"layer {name!r} has {layers[name].shape[0]} channels and cannot be given {width}; take the model "
                "the key was made for"
            )
    return [(layers[name], width) for name, width in widths.items()]


def _kept(model: EditableModel, layer: Eligible, width: int) -> Int64Array:
    (maker,) = layer.group.having(Role.PRODUCER)
    return kept_channels(constant(model, maker), width)
