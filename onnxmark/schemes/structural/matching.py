"""Which layers of a suspect are those of a key: told from graph order, kernels, names and widths.

Optimisers rename and fold, thieves rename on purpose, and both may add layers or remove them. So no single sign is
trusted: layers are paired in graph order, once led by names, once by positions, once by which have lost channels. Where
a model is as it was marked all three agree; where they do not, each is a hypothesis of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Protocol

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.keys import Carrier

Alignment = tuple[int | None, ...]
"""For each layer of a key the index of the suspect's, None where there is none."""


class Suspect(Protocol):
    """A layer of a suspect, as the model's reader lists it."""

    @property
    def name(self) -> str:
        """Name of the stored tensor."""
        ...

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that use it."""
        ...

    @property
    def op(self) -> str:
        """Operator."""
        ...

    @property
    def position(self) -> int:
        """Index among the model's layers."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Canonical shape, (out, in / group, *spatial); empty if unknown."""
        ...


class _Sign(IntEnum):
    """What speaks for a pair; the value is its place in the tuples below."""

    FITTING = 0
    """Its kernel has the size it had, and it takes no more input channels than it did."""
    NAMED = 1
    """The tensor or its node has the name it had."""
    PLACED = 2
    """It has the position it had among all layers."""
    NARROWED = 3
    """It has fewer output channels than the key's."""


_LEADS: Final = (
    (_Sign.FITTING, _Sign.NAMED, _Sign.PLACED, _Sign.NARROWED),
    (_Sign.FITTING, _Sign.PLACED, _Sign.NARROWED, _Sign.NAMED),
    (_Sign.FITTING, _Sign.NARROWED, _Sign.PLACED, _Sign.NAMED),
)
_DIGIT: Final = 12
"""Bits kept for the count of a sign: keys have 4,096 layers at most, real ones some hundreds."""


def match_layers(carriers: Sequence[Carrier], suspects: Sequence[Suspect]) -> Alignment:
    """Pair the layers of a key with those of a suspect, names before other signs: the first of :func:`alignments`."""
    return alignments(carriers, suspects)[0]


def alignments(carriers: Sequence[Carrier], suspects: Sequence[Suspect]) -> tuple[Alignment, ...]:
    """The one to three ways in which the layers of a key may be those of a suspect.

    Kernels must not have shrunk; they, and the number of input channels, may have grown, as zeros and idle neurons make
    them without a change of function. Of all pairings that keep the graph's order, those with most pairs are
    considered; of them those with most pairs that fit as they did, and then those that most signs of the leading kind
    speak for. Operators may differ, as fused and quantised ones do. Nothing here depends on the key's seed, so each
    alignment is one hypothesis and no more.

    Args:
        carriers: The layers of the key, in graph order.
        suspects: All layers of the suspect, in graph order.

    Returns:
        Different alignments, the one led by names first.
    """
    if not carriers or not suspects:
        return ((None,) * len(carriers),)
    apart = _apart(suspects)
    signs = [[_signs(carrier, suspects[index]) for index in apart] for carrier in carriers]
    found = [_best(np.array([[_weight(pair, lead) for pair in row] for row in signs])) for lead in _LEADS]
    return tuple(tuple(None if place is None else apart[place] for place in each) for each in dict.fromkeys(found))


def _apart(suspects: Sequence[Suspect]) -> list[int]:
    """Indices of the layers; of several readings of one node, as blocked layouts have them, the first's."""
    nodes = [None, *(suspect.nodes for suspect in suspects)]
    return [index for index, here in enumerate(nodes[1:]) if not any(here or ()) or here != nodes[index]]


def _signs(carrier: Carrier, suspect: Suspect) -> tuple[bool, ...] | None:
    """The signs of a pair, by :class:`_Sign`; None where the suspect's layer cannot be the key's."""
    shape, known = suspect.shape, carrier.shape
    if len(shape) != len(known) or any(size < least for size, least in zip(shape[2:], known[2:], strict=True)):
        return None
    fitting = shape[2:] == known[2:] and shape[1] <= known[1]
    named = (suspect.name == carrier.name != "") or (carrier.node != "" and carrier.node in suspect.nodes)
    return fitting, named, suspect.position == carrier.position, shape[0] < known[0]


def _weight(signs: tuple[bool, ...] | None, lead: tuple[_Sign, ...]) -> int:
    """A pair as a number whose digits are its signs, being a pair before all; sums of a digit never carry over."""
    if signs is None:
        return 0
    weight = 1
    for sign in lead:
        weight = (weight << _DIGIT) + signs[sign]
    return weight


def _best(weights: AnyArray) -> Alignment:
    """The pairing in order with the largest sum of weights, shape (carriers, suspects); 0 forbids a pair."""
    best = np.zeros((weights.shape[0] + 1, weights.shape[1] + 1), np.int64)
    for row, found in enumerate(weights):
        paired = np.where(found > 0, best[row, :-1] + found, 0)
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], paired))
    return _traced(best)


def _traced(best: AnyArray) -> Alignment:
    """The pairing behind the best sum, from the end; where several have it, each layer's earliest partner."""
    pairs: list[int | None] = []
    column = best.shape[1] - 1
    for row in range(best.shape[0] - 1, 0, -1):
        column = int(np.argmax(best[row, : column + 1] == best[row, column]))
        if best[row, column] == best[row - 1, column]:
            pairs.append(None)
        else:
            column -= 1
            pairs.append(column)
    return tuple(reversed(pairs))
