"""A compact record of a layer as it was *before* it was marked, kept in the key for later realignment.

Permuting or rescaling channels destroys the reading of a mark, not the mark; aligned to the layer's own past it comes
back. Only the past may be used: aligning to the marked layer or to the key manufactures evidence on strangers. The
record holds low-order statistics of the filters and stays with the secret key.

Method: our own (normalised Gram matrices of the centred filters per input channel, seeded sign projections per filter).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float32Array, frozen
from onnxmark.keys.derivation import signs
from onnxmark.keys.secret import Secret

SKETCH_WIDTH: Final = 32
"""Projections per output filter: 32 keep the reading intact under 30 % noise where 8 begin to fail."""

_TINY: Final = np.float32(1e-30)


@dataclass(frozen=True, slots=True, eq=False)
class PremarkSignature:
    """Statistics of one layer before marking; ``O`` filters, ``I`` inputs per group, ``k`` kernel elements.

    Args:
        sha256: Digest of the canonical float32 weights, little-endian, 32 bytes.
        input_gram: Per input channel, the upper triangle of the k x k Gram matrix of the centred filters, divided by
            its trace; shape (I, k (k + 1) / 2), float16.
        input_rms: Per input channel, root mean square of the centred filters; shape (I,), float32.
        output_sketch: Per filter, its sign projections divided by its norm; shape (O, 32), float16.
        output_norm: Per filter, its Euclidean norm; shape (O,), float32.
    """

    sha256: bytes
    input_gram: NDArray[np.float16]
    input_rms: Float32Array
    output_sketch: NDArray[np.float16]
    output_norm: Float32Array

    def __post_init__(self) -> None:
        for array in (self.input_gram, self.input_rms, self.output_sketch, self.output_norm):
            frozen(array)


def weights_digest(values: Float32Array) -> bytes:
    """SHA-256 of canonical weights as little-endian float32 in C order, 32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).digest()


def premark_signature(values: Float32Array, seed: Secret) -> PremarkSignature:
    """The signature of a layer.

    Args:
        values: Canonical weights before marking, shape (O, I, *spatial), finite.
        seed: Seeds the sign projections, so that the sketch says nothing to those without the key.
    """
    filters = values.reshape(values.shape[0], values.shape[1], -1)
    centred = filters - filters.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = np.einsum("oik,oil->ikl", centred, centred, optimize=True)
    trace = np.trace(gram, axis1=1, axis2=2)
    rows, columns = np.triu_indices(filters.shape[2])
    flat = values.reshape(values.shape[0], -1)
    norm = np.linalg.norm(flat, axis=1).astype(np.float32)
    directions = np.stack([signs(seed, "sketch", index, flat.shape[1]) for index in range(SKETCH_WIDTH)], axis=1)
    sketch = flat @ directions.astype(np.float32) / np.maximum(norm, _TINY)[:, None]
    return PremarkSignature(
        sha256=weights_digest(values),
        input_gram=(gram[:, rows, columns] / np.maximum(trace, _TINY)[:, None]).astype(np.float16),
        input_rms=np.sqrt(np.mean(centred**2, axis=(0, 2), dtype=np.float64)).astype(np.float32),
        output_sketch=sketch.astype(np.float16),
        output_norm=norm,
    )
