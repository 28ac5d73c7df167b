"""A layer put back in the order and scale that it had before it was marked.

A thief may permute channels, rescale them, add dummies or drop some: the network answers as before, and whoever reads
the weights where they used to be reads nothing. The key remembers the layer's past
(:class:`onnxmark.keys.PremarkSignature`), and the suspect's channels are matched with that: input channels by what no
order of filters changes, filters by sign projections over the matched inputs, then each side again by projections over
the other until they fit no better. The order in which the inputs are is tried as well, and what fits better is taken.

Only the past is looked at, never the message or its projection, and the past is bound into the secret that both grow
from. So whatever the matching makes of a stranger's layer, each sign of the message stays a fair coin.

Design: our own. Matching against a reference goes back to re-synchronisation by cosine similarity (De Sousa Trias et
al. 2023, arXiv 2312.14182).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from onnxmark.arrays import AnyArray, Float32Array, Float64Array, Int64Array
from onnxmark.keys import AnyKey, Key, PremarkSignature, Secret
from onnxmark.keys.signature import MAX_CHANNELS, Side, balanced, profiles, scaled, single, sketches

MAX_RATIO: Final = 2
"""Layers with more than twice or less than half the channels are other layers."""

_MOST_ROUNDS: Final = 8
_MOST_PASSES: Final = 128
"""A dozen or two are usual; a suspect made so that every pair waits for the one before shall not take hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What a key remembers of its layer.

    Args:
        signature: Statistics of the layer before it was marked.
        shape: Its canonical shape, (O, I, *spatial).
        seed: Seeds the statistics' projections.
    """

    signature: PremarkSignature
    shape: tuple[int, ...]
    seed: Secret

    @classmethod
    def of(cls, key: AnyKey) -> Self | None:
        """What a key remembers; None for keys of several layers, of none, or made without the model."""
        if not isinstance(key, Key) or len(key.carriers) != 1 or key.premark is None:
            return None
        return cls(key.premark, key.carrier.shape, key.seed)

    def may_be(self, shape: tuple[int, ...]) -> bool:
        """Whether a layer of this shape may be the layer, with channels moved, added or taken away.

        Without a kernel there is little to tell input channels by, and additions are not recognised.
        """
        if len(shape) != len(self.shape) or shape[2:] != self.shape[2:]:
            return False
        pairs = list(zip(shape[:2], self.shape[:2], strict=True))
        if any(max(pair) > MAX_CHANNELS or max(pair) > MAX_RATIO * min(pair) for pair in pairs):
            return False
        return math.prod(shape[2:]) > 1 or shape == self.shape


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Which channels of a suspect are those of the past.

    Args:
        places: For each channel of the past the suspect's, or -1; shape (channels,).
        signs: 1.0, -1.0 where the suspect's is turned round; shape (channels,).
        fit: Mean similarity of the pairs; 0 where it was not measured in this way.
    """

    places: Int64Array
    signs: Float64Array
    fit: float = 0.0

    @classmethod
    def by(cls, similarity: Float64Array) -> Self:
        """The most similar pairs, turned round where the similarity is negative."""
        places = matched(np.abs(similarity))
        chosen = np.take_along_axis(similarity, np.maximum(places, 0)[:, None], axis=1)[:, 0]
        fit = float(np.mean(np.abs(chosen) * (places >= 0)))
        return cls(places, np.where((places >= 0) & (chosen < 0), -1.0, 1.0), fit)

    def put(self, values: Float64Array, axis: int) -> Float64Array:
        """The suspect's channels along an axis in the order of the past; zeros where one is missing."""
        there = (self.signs * (self.places >= 0)).reshape([-1 if at == axis else 1 for at in range(values.ndim)])
        moved: Float64Array = np.take(values, np.maximum(self.places, 0), axis=axis) * there
        return moved


def recovered(values: Float32Array, past: Past) -> Float32Array:
    """A suspect's layer as it would be in the order and scale of the past.

    Args:
        values: Canonical weights, (O', I', *spatial), of a shape that :meth:`Past.may_be` accepts.
        past: What the key remembers.

    Returns:
        Shape ``past.shape``: zeros for channels that are not found; not a number anywhere if the suspect is not finite.
    """
    if not np.isfinite(values).all():
        return np.full(past.shape, np.nan, dtype=np.float32)
    signature, suspect = past.signature, balanced(values).values
    starts = [matched(_likeness(signature.input_profile, profiles(suspect)))]
    if values.shape[1] == past.shape[1]:
        starts.append(np.arange(past.shape[1]))
    found = [_settled(Matching(start, np.ones(past.shape[1])), suspect, past) for start in starts]
    inputs, outputs = max(found, key=lambda pair: pair[0].fit + pair[1].fit)
    ordered = outputs.put(inputs.put(suspect, 1), 0)
    return single(scaled(ordered, signature.output_scale.astype(np.float64), signature.input_scale))


def matched(similarity: Float64Array) -> Int64Array:
    """Pairs of rows and columns, the most similar ones first, each in one pair at most.

    Args:
        similarity: Shape (rows, columns), finite.

    Returns:
        For each row its column, or -1 where there are fewer columns or no end of hesitating; shape (rows,).
    """
    places = np.full(len(similarity), -1, dtype=np.int64)
    left = similarity.copy()
    for _ in range(_MOST_PASSES):
        # Pairs that prefer each other to all that is left are among the most similar ones, whatever comes later.
        columns, rows = left.argmax(axis=1), left.argmax(axis=0)
        mutual = np.flatnonzero((rows[columns] == np.arange(len(left))) & (left.max(axis=1) > -np.inf))
        if not mutual.size:
            break
        places[mutual] = columns[mutual]
        left[mutual] = -np.inf
        left[:, columns[mutual]] = -np.inf
    return places


def _settled(inputs: Matching, suspect: Float64Array, past: Past) -> tuple[Matching, Matching]:
    """Inputs and outputs, matched in turn until they fit no better."""
    outputs = _outputs(inputs, suspect, past)
    for _ in range(_MOST_ROUNDS):
        sketch = past.signature.input_sketch
        again = Matching.by(_resemblance(sketch, outputs.put(suspect, 0), past.seed, "inputs"))
        if again.fit <= inputs.fit:
            break
        inputs, outputs = again, _outputs(again, suspect, past)
    return inputs, outputs


def _outputs(inputs: Matching, suspect: Float64Array, past: Past) -> Matching:
    return Matching.by(_resemblance(past.signature.output_sketch, inputs.put(suspect, 1), past.seed, "outputs"))


def _resemblance(before: AnyArray, now: Float64Array, seed: Secret, side: Side) -> Float64Array:
    """Similarity of sketches before and now: large where channels are alike, negative where one is turned round."""
    resemblance: Float64Array = before.astype(np.float64) @ sketches(now, seed, side).T
    return resemblance


def _likeness(before: AnyArray, now: Float64Array) -> Float64Array:
    """Minus the squared distances between profiles before (I, P) and now (I', P)."""
    known = before.astype(np.float64)
    middle = known.mean(axis=0)
    known, found = known - middle, now - middle
    distances: Float64Array = np.sum(known**2, axis=1)[:, None] + np.sum(found**2, axis=1) - 2 * known @ found.T
    return -distances
