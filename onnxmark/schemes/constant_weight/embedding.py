"""A word into finished weights: ones raised to T1, zeros lowered to T0, signs kept.

Of all changes that make every one at least T1 and every zero at most T0 this one is the smallest, weight by weight; no
norm of the weights prefers another. Weights already on their side of the threshold stay as they are. Our reconstruction
of the rule in Kuribayashi et al. (2021, arXiv 2107.02961; J. Imaging 2023, 9(6):117).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxmark.arrays import BitArray, Float32Array, Int8Array
from onnxmark.errors import EmbeddingError
from onnxmark.keys import Key
from onnxmark.keys.derivation import signs
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.selection import Selection, selection_of
from onnxmark.schemes.constant_weight.thresholds import DEFAULT_MARGIN, Population, Thresholds, thresholds
from onnxmark.weights import WeightTensor


def embed_word(values: Float32Array, word: BitArray, limits: Thresholds, zero_signs: Int8Array) -> Float32Array:
    """The nearest weights that hold a word.

    Args:
        values: The chosen weights, shape (L,).
        word: Shape (L,), 0 or 1.
        limits: Thresholds.
        zero_signs: What a weight of zero becomes where it has to become large, shape (L,), -1 or 1.
    """
    magnitudes = np.abs(values)
    wanted = np.where(word == 1, np.maximum(magnitudes, limits.one), np.minimum(magnitudes, limits.zero))
    return np.where(values == 0, zero_signs.astype(np.float32), np.sign(values)) * wanted


def embedded(key: Key, layers: Sequence[WeightTensor], margin: float = DEFAULT_MARGIN) -> tuple[WeightTensor, ...]:
    """Copies of layers that hold the key's word, and keep it under pruning at the key's rate.

    Args:
        key: The key.
        layers: Its carriers, in order.
        margin: Distance of the thresholds from the boundary midway, in units of that boundary, 0 to 1.

    Raises:
        EmbeddingError: The weights are not finite, or too many of them are zero.
        KeyFileError: The key's parameters make no sense.
    """
    for layer in layers:
        if not np.isfinite(layer.values).all():
            raise EmbeddingError(f"the weights {layer.name!r} are not all finite; mark another layer")
    parameters, selection = parameters_of(key), selection_of(key)
    word = parameters.code.encode_bits(key.message)
    arrays = [layer.values for layer in layers]
    limits = thresholds(populations(arrays, selection, word), parameters.rate, margin)
    zero_signs = signs(key.master, "row", 0, word.size)
    return selection.put(layers, embed_word(selection.take(arrays), word, limits, zero_signs))


def populations(layers: Sequence[Float32Array], selection: Selection, word: BitArray) -> tuple[Population, ...]:
    """For each layer that holds symbols, what pruning it alone would rank: see :class:`Population`."""
    found = []
    for index, layer in enumerate(layers):
        here, positions = selection.within(index)
        if positions.size:
            magnitudes = np.abs(layer.reshape(-1))
            n_ones = int(word[here].sum())
            found.append(Population(magnitudes, np.delete(magnitudes, positions), positions.size - n_ones, n_ones))
    return tuple(found)
