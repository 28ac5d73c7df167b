"""The same layer as it may have been when it was marked: views that an audit tries beside the weights as stored.

Folding batch normalisation multiplies every filter by a positive number. Where the normalisation is still in the file,
the folded weights are a second view; where the key or the owner remembers the filters' norms from before marking,
restoring them is a third, which undoes any positive rescaling of filters. Each view tried counts as a
hypothesis. Norms from the past say nothing of the message, so a view cannot manufacture evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.errors import CarrierError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite
from onnxmark.weights import WeightTensor


class View(StrEnum):
    """How a layer is looked at."""

    STORED = "as stored"
    FOLDED = "batch normalisation folded in"
    NORMS = "filter norms restored"


def views_of(model: Model, sites: Sequence[WeightSite], norms: Float32Array | None) -> tuple[View, ...]:
    """The views there are of some layers, without reading them.

    Args:
        model: The model.
        sites: The layers, which are looked at alike.
        norms: Norms of the filters before marking, shape (out,), for a single layer; or None.
    """
    found = [View.STORED]
    if any(folding is not None and folding.folded is not None for folding in map(model.folding, sites)):
        found.append(View.FOLDED)
    if norms is not None and len(sites) == 1 and sites[0].shape and norms.size == sites[0].shape[0]:
        found.append(View.NORMS)
    return tuple(found)


def look(
    model: Model,
    sites: Sequence[WeightSite],
    view: View,
    weights: tuple[WeightTensor, ...],
    norms: Float32Array | None,
) -> tuple[WeightTensor, ...]:
    """A view of some layers.

    Args:
        model: The model.
        sites: The layers.
        view: One of :func:`views_of`; layers that have no such view are seen as stored.
        weights: The layers as stored.
        norms: As for :func:`views_of`.

    Raises:
        ModelError: The normalisation's parameters cannot be read.
    """
    if view is View.FOLDED:
        folded = [model.read_folded(site) for site in sites]
        return tuple(stored if seen is None else seen for stored, seen in zip(weights, folded, strict=True))
    if view is View.NORMS and norms is not None:
        return tuple(stored.with_values(with_norms(stored.values, norms)) for stored in weights)
    return weights


def with_norms(values: Float32Array, norms: Float32Array) -> Float32Array:
    """Filters scaled to given norms; a filter of zeros stays zero.

    Args:
        values: Canonical weights, (out, …).
        norms: Shape (out,), not negative.
    """
    now = np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), axis=1)
    scale = np.divide(norms, now, out=np.zeros(len(values)), where=now > 0)
    scaled: Float32Array = (values * scale.reshape(-1, *(1 for _ in values.shape[1:]))).astype(np.float32)
    return scaled


def norms_before(key: AnyKey, reference: Model | None) -> Float32Array | None:
    """The filter norms of a key's layer before marking: from the reference where one is given, else from the key.

    Args:
        key: The key.
        reference: The model before it was marked.

    Raises:
        CarrierError: The reference does not hold the layer the key was made for.
        ModelError: The reference's layer cannot be read.
    """
    if not isinstance(key, Key) or len(key.carriers) != 1:
        return None
    if reference is None:
        return None if key.premark is None else key.premark.output_norm
    for site in reference.sites():
        if site.shape == key.carrier.shape and (key.carrier.name == site.name or key.carrier.node in site.nodes):
            values = reference.read(site).values
            norms: Float32Array = np.linalg.norm(values.reshape(len(values), -1), axis=1).astype(np.float32)
            return norms
    shape = "x".join(map(str, key.carrier.shape))
    raise CarrierError(
        f"the reference {str(reference.path)!r} has no layer {key.carrier.name!r} of shape {shape}; give the model the "
        "key was made from"
    )
