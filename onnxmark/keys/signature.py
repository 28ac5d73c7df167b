"""A compact record of a layer as it was *before* it was marked, kept in the key so that the layer can be put in order.

Permuting or rescaling channels destroys the reading of a mark, not the mark; aligned to the layer's own past it comes
back (:mod:`onnxmark.recovery`). Only the past may be used: aligning to the marked layer or to the key manufactures
evidence on strangers. The record holds low-order statistics of the filters and stays with the secret key.

Everything but the norms is taken from the *balanced* layer, whose filters and input channels all have the same energy:
no positive rescaling of either leaves a trace in it (Sinkhorn 1964; the use is our own, as are the statistics).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import AnyArray, Float32Array, Float64Array, frozen
from onnxmark.keys.derivation import signs
from onnxmark.keys.secret import Secret

MAX_CHANNELS: Final = 1024
"""Of either side that are told apart: matching more with a stranger's takes seconds, and a balanced copy gigabytes."""
SKETCH_WIDTH: Final = 32
"""Projections per channel: with 32 a reading is intact under 30 % noise where with 16 it is lost."""
PROFILE_WIDTH: Final = 16
"""Sorted magnitudes kept of an input channel that has no kernel."""

Side = Literal["inputs", "outputs"]

_TINY: Final = 1e-30
_BALANCED: Final = 1e-7
"""Relative change of the scales at which balancing ends."""
_MOST_ROUNDS: Final = 100
_FIRST_INPUT: Final = 1 << 16
"""Index of the first sketch of input channels; those of filters come before."""


@dataclass(frozen=True, slots=True, eq=False)
class PremarkSignature:
    """Statistics of one layer before marking; ``O`` filters, ``I`` inputs per group, ``k`` kernel elements.

    Of a layer with more than :data:`MAX_CHANNELS` channels on either side the norms alone, the rest with ``O = I = 0``.

    Args:
        sha256: Digest of the canonical float32 weights, little-endian, 32 bytes.
        input_profile: Per input channel what no order of filters changes, shape (I, P), float16: see :func:`profiles`.
        input_sketch: Per input channel, its sign projections divided by its norm; shape (I, 32), float16.
        input_scale: Per input channel, what the balanced layer is multiplied by; shape (I,), float32.
        output_sketch: As ``input_sketch`` per filter; shape (O, 32), float16.
        output_scale: As ``input_scale`` per filter; shape (O,), float32.
        output_norm: Per filter, its Euclidean norm; shape (O,), float32, however many there are.
    """

    sha256: bytes
    input_profile: NDArray[np.float16]
    input_sketch: NDArray[np.float16]
    input_scale: Float32Array
    output_sketch: NDArray[np.float16]
    output_scale: Float32Array
    output_norm: Float32Array

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            frozen(array)

    @property
    def arrays(self) -> dict[str, AnyArray]:
        """Everything but the digest, by name."""
        names = ("input_profile", "input_sketch", "input_scale", "output_sketch", "output_scale", "output_norm")
        return {name: getattr(self, name) for name in names}

    def describes(self, shape: tuple[int, ...]) -> bool:
        """Whether it is of a layer of this shape."""
        n_outputs, n_inputs = (0, 0) if max(shape[:2]) > MAX_CHANNELS else shape[:2]
        of_inputs = [(n_inputs, _profile_width(shape)), (n_inputs, SKETCH_WIDTH), (n_inputs,)]
        of_outputs = [(n_outputs, SKETCH_WIDTH), (n_outputs,), shape[:1]]
        return [array.shape for array in self.arrays.values()] == of_inputs + of_outputs


def weights_digest(values: Float32Array) -> bytes:
    """SHA-256 of canonical weights as little-endian float32 in C order, 32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).digest()


def premark_signature(values: Float32Array, seed: Secret) -> PremarkSignature:
    """The signature of a layer.

    Args:
        values: Canonical weights before marking, shape (O, I, *spatial), finite.
        seed: Seeds the sign projections, so that the sketches say nothing to those without the key.
    """
    flat = values.reshape(len(values), -1)
    norms = np.sqrt(np.einsum("oi,oi->o", flat, flat, dtype=np.float64))
    if max(values.shape[:2]) > MAX_CHANNELS:
        none, nobody = np.zeros(0, np.float32), np.zeros((0, SKETCH_WIDTH), np.float16)
        profile = np.zeros((0, _profile_width(values.shape)), np.float16)
        return PremarkSignature(weights_digest(values), profile, nobody, none, nobody, none, single(norms))
    layer = balanced(values)
    return PremarkSignature(
        sha256=weights_digest(values),
        input_profile=profiles(layer.values).astype(np.float16),
        input_sketch=sketches(layer.values, seed, "inputs").astype(np.float16),
        input_scale=single(layer.input_scale),
        output_sketch=sketches(layer.values, seed, "outputs").astype(np.float16),
        output_scale=single(layer.output_scale),
        output_norm=single(norms),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Balanced:
    """A layer as the product of a balanced one and scales.

    Args:
        values: Shape (O, I, *spatial), float64: filters and input channels have the mean square 1, or are zero.
        output_scale: Shape (O,), not negative.
        input_scale: Shape (I,), not negative; the layer is ``output_scale values input_scale``.
    """

    values: Float64Array
    output_scale: Float64Array
    input_scale: Float64Array


def balanced(values: Float32Array) -> Balanced:
    """Scale filters and input channels in turn until all have the same energy.

    Args:
        values: Canonical weights, shape (O, I, *spatial), finite.
    """
    weights = values.astype(np.float64)
    size = max(float(np.abs(weights).max(initial=0)), _TINY)
    weights /= size
    energy = np.mean(weights.reshape(*weights.shape[:2], -1) ** 2, axis=2)
    outputs, inputs = np.ones(energy.shape[0]), np.ones(energy.shape[1])
    for _ in range(_MOST_ROUNDS):
        before = inputs
        outputs = np.sqrt(energy @ _inverse(inputs) ** 2 / energy.shape[1])
        inputs = np.sqrt(_inverse(outputs) ** 2 @ energy / energy.shape[0])
        if np.all(np.abs(inputs - before) <= _BALANCED * before):
            break
    return Balanced(scaled(weights, _inverse(outputs), _inverse(inputs)), size * outputs, inputs)


def single(values: Float64Array) -> Float32Array:
    """In single precision; what is too large for that is as large as can be."""
    large = np.finfo(np.float32).max
    return np.clip(values, -large, large).astype(np.float32)


def scaled(values: AnyArray, outputs: AnyArray, inputs: AnyArray) -> Float64Array:
    """Weights (O, I, *spatial) times factors of filters (O,) and of input channels (I,)."""
    ones = (1,) * (values.ndim - 2)
    product: Float64Array = values * outputs.reshape(-1, 1, *ones) * inputs.reshape(1, -1, *ones)
    return product


def profiles(values: Float64Array) -> Float64Array:
    """What tells input channels apart and does not depend on the order or the signs of filters, shape (I, P).

    Where there is a kernel, the upper triangle of its k x k Gram matrix over the centred filters, divided by its trace;
    elsewhere 16 of the sorted magnitudes.

    Args:
        values: A balanced layer, shape (O, I, *spatial).
    """
    filters = values.reshape(values.shape[0], values.shape[1], -1)
    if filters.shape[2] == 1:
        ordered = np.sort(np.abs(filters[:, :, 0]), axis=0)
        places = (np.arange(PROFILE_WIDTH) + 0.5) / PROFILE_WIDTH * len(ordered) - 0.5
        return np.stack([np.interp(places, np.arange(len(ordered)), channel) for channel in ordered.T])
    centred = (filters - filters.mean(axis=0)).transpose(1, 2, 0)
    gram = centred @ centred.transpose(0, 2, 1)
    trace = np.trace(gram, axis1=1, axis2=2)
    rows, columns = np.triu_indices(filters.shape[2])
    triangle: Float64Array = gram[:, rows, columns] / np.maximum(trace, _TINY)[:, None]
    return triangle


def sketches(values: AnyArray, seed: Secret, side: Side) -> Float64Array:
    """Sign projections of each channel of one side, less the mean of all, divided by the norm: shape (channels, 32).

    Args:
        values: A balanced layer, shape (O, I, *spatial).
        seed: Seeds the signs.
        side: Whose channels.
    """
    first, moved = (0, values) if side == "outputs" else (_FIRST_INPUT, np.moveaxis(values, 1, 0))
    flat = moved.reshape(len(moved), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    drawn = np.stack([signs(seed, "sketch", first + index, flat.shape[1]) for index in range(SKETCH_WIDTH)], axis=1)
    found: Float64Array = flat @ drawn / np.maximum(np.linalg.norm(flat, axis=1), _TINY)[:, None]
    return found


def _profile_width(shape: tuple[int, ...]) -> int:
    k = math.prod(shape[2:])
    return PROFILE_WIDTH if k == 1 else k * (k + 1) // 2


def _inverse(scales: Float64Array) -> Float64Array:
    """One over each; zero for zero."""
    return np.divide(1.0, scales, out=np.zeros_like(scales), where=scales > 0)
