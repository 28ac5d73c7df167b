"""The same layer as it may have been when it was marked: views that an audit tries beside the weights as stored.

Folding batch normalisation multiplies every filter by a positive number. Where the normalisation is still in the file,
the folded weights are a second view. Where the key remembers the layer from before marking, restoring its filters'
norms is a third, which undoes any positive rescaling of filters, and matching its channels is a fourth, which undoes
what permutes, rescales, adds or drops them. Each view tried counts as a hypothesis. The past says nothing of the
message, and is bound into the secret that the message grows from, so a view cannot manufacture evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.model import Model, WeightSite
from onnxmark.recovery import Past, recovered
from onnxmark.weights import WeightTensor


class View(StrEnum):
    """How a layer is looked at."""

    STORED = "as stored"
    FOLDED = "batch normalisation folded in"
    NORMS = "filter norms restored"
    ALIGNED = "aligned to the layer before marking"


def views_of(model: Model, sites: Sequence[WeightSite], past: Past | None, *, align: bool) -> tuple[View, ...]:
    """The views there are of some layers, without reading them.

    Args:
        model: The model.
        sites: The layers, which are looked at alike.
        past: What the key remembers of its layer, or None.
        align: Whether channels may be matched with the past.
    """
    found = [View.STORED]
    if any(folding is not None and folding.folded is not None for folding in map(model.folding, sites)):
        found.append(View.FOLDED)
    if past is not None and len(sites) == 1:
        if sites[0].shape[:1] == past.shape[:1]:
            found.append(View.NORMS)
        if align and past.may_be(sites[0].shape):
            found.append(View.ALIGNED)
    return tuple(found)


def shapes_seen(sites: Sequence[WeightSite], view: View, past: Past | None) -> tuple[tuple[int, ...], ...]:
    """The shapes of some layers in a view, which may put back channels that are gone."""
    if view is View.ALIGNED and past is not None:
        return (past.shape,)
    return tuple(site.shape for site in sites)


def look(
    model: Model, sites: Sequence[WeightSite], view: View, weights: tuple[WeightTensor, ...], past: Past | None
) -> tuple[WeightTensor, ...]:
    """A view of some layers.

    Args:
        model: The model.
        sites: The layers.
        view: One of :func:`views_of`; layers that have no such view are seen as stored.
        weights: The layers as stored.
        past: As for :func:`views_of`.

    Raises:
        ModelError: The normalisation's parameters cannot be read.
    """
    if view is View.FOLDED:
        folded = [model.read_folded(site) for site in sites]
        return tuple(stored if seen is None else seen for stored, seen in zip(weights, folded, strict=True))
    if view is View.NORMS and past is not None:
        norms = past.signature.output_norm
        return tuple(stored.with_values(with_norms(stored.values, norms)) for stored in weights)
    if view is View.ALIGNED and past is not None:
        return tuple(stored.with_values(recovered(stored.values, past)) for stored in weights)
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
