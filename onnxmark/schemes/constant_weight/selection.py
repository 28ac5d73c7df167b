"""Which weights hold the symbols of a word: the secret of the scheme, and the reason why its null is exact.

The weights of all carriers stand in one row, layer after layer in canonical order; the key takes L distinct places in
*random order*. So to anybody without the key the order of the symbols tells nothing of the weights: whatever set of
symbols looks large in a model that knows nothing of the key, every other set of that size was equally likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import AnyArray, Float32Array, Int64Array, frozen
from onnxmark.keys import Key
from onnxmark.keys.derivation import distinct_positions
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.weights import WeightTensor


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The weights that hold a word.

    Args:
        sizes: Number of weights of each layer.
        layers: For each symbol the index of its layer, shape (L,).
        positions: For each symbol the place in that layer's canonical flatten order, shape (L,).
    """

    sizes: tuple[int, ...]
    layers: Int64Array
    positions: Int64Array

    def __post_init__(self) -> None:
        frozen(self.layers)
        frozen(self.positions)

    def within(self, layer: int) -> tuple[NDArray[np.bool_], Int64Array]:
        """The symbols that a layer holds, shape (L,), and where in it they stand."""
        here = self.layers == layer
        return here, self.positions[here]

    def take(self, layers: Sequence[AnyArray]) -> Float32Array:
        """Symbols from canonical layers: shape (L,), float32.

        Raises:
            ValueError: The layers are of other sizes.
        """
        self._check(layers)
        symbols = np.empty(self.layers.size, dtype=np.float32)
        for index, layer in enumerate(layers):
            here, positions = self.within(index)
            symbols[here] = layer.reshape(-1)[positions]
        return symbols

    def put(self, layers: Sequence[WeightTensor], symbols: Float32Array) -> tuple[WeightTensor, ...]:
        """Copies of layers that hold ``symbols``, shape (L,).

        Raises:
            ValueError: The layers are of other sizes.
        """
        self._check([layer.values for layer in layers])
        changed = []
        for index, layer in enumerate(layers):
            here, positions = self.within(index)
            flat = layer.values.flatten()
            flat[positions] = symbols[here]
            changed.append(layer.with_values(flat.reshape(layer.shape)))
        return tuple(changed)

    def _check(self, layers: Sequence[AnyArray]) -> None:
        found = tuple(layer.size for layer in layers)
        if found != self.sizes:
            raise ValueError(f"the word is spread over layers of {self.sizes} weights, not {found}")


@lru_cache(maxsize=4)
def selection_of(key: Key) -> Selection:
    """The weights a key chooses; takes about 24 bytes for a moment for every weight of its carriers.

    Raises:
        KeyFileError: The key's parameters make no sense.
    """
    length = parameters_of(key).code.length
    sizes = tuple(math.prod(carrier.shape) for carrier in key.carriers)
    places = distinct_positions(key.master, length, sum(sizes))
    starts = np.cumsum([0, *sizes])
    layers = np.searchsorted(starts, places, side="right") - 1
    return Selection(sizes, layers.astype(np.int64), places - starts[layers])
