"""Carriers that share a coin because they look alike: what a student learns of a region it cannot learn of a point.

A coin for every carrier asks a network to lean one way here and the other way next door. A student sees other images,
and what it takes over of its teacher is smooth: the leaning of a whole region gets through where that of single images
averages out. The price is that there are fewer coins, and no evidence is worth more than one bit a coin.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array, Int64Array


def neighbourhoods(inputs: AnyArray, pairs: Int64Array, size: int) -> Int64Array:
    """Divide carriers of the same pair of classes into neighbourhoods of similar inputs.

    The carriers of a pair are halved at the median along the direction in which their values vary most, and the halves
    likewise, until none is larger than ``size``. Nothing is drawn: the same carriers give the same neighbourhoods.

    Args:
        inputs: The carriers, shape (n, ...).
        pairs: The two classes of each, shape (n, 2), the smaller first.
        size: Carriers of a neighbourhood at most, at least 1. Divided parts have at least half of that.

    Returns:
        The number of each carrier's neighbourhood, shape (n,), int64, from 0 without gaps, in the order of their
        first carriers: with ``size`` 1 every carrier has its own number.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"a neighbourhood has at least 1 carrier, not {size}")
    values = inputs.reshape(len(inputs), -1).astype(np.float64)
    alike = (np.flatnonzero((pairs == pair).all(axis=1)) for pair in np.unique(pairs, axis=0))
    parts = [part for members in alike for part in _divided(values, members, size)]
    numbers = np.empty(len(inputs), dtype=np.int64)
    for number, part in enumerate(sorted(parts, key=lambda part: int(part[0]))):
        numbers[part] = number
    return numbers


def _divided(values: Float64Array, members: Int64Array, size: int) -> Iterator[Int64Array]:
    if len(members) <= size:
        yield members
        return
    ordered = members[np.argsort(_along_most_variance(values[members]), kind="stable")]
    for half in np.array_split(ordered, 2):
        yield from _divided(values, np.sort(half), size)


def _along_most_variance(values: Float64Array) -> Float64Array:
    """Where each row lies along the first principal axis."""
    centred = values - values.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    along: Float64Array = centred @ axis
    return along
