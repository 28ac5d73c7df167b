"""The inputs a key asks: in the key where they are small, else their digest, and the owner brings them along."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.errors import KeyFileError
from onnxmark.keys import Key

INLINE_BYTES: Final = 2**26
"""Inputs of more bytes (64 MiB) stay outside of the key."""
INPUTS: Final = "inputs"
DIGEST: Final = "inputs_sha256"


def stored_inputs(inputs: AnyArray) -> Mapping[str, AnyArray]:
    """What a key keeps of its inputs, shape (n, ...).

    Raises:
        KeyFileError: They are no numbers, not finite, or there are none.
    """
    if inputs.ndim < 2 or inputs.size == 0 or inputs.dtype.kind not in "biuf":
        raise KeyFileError(f"inputs must be numbers of shape (n, ...), found {inputs.dtype} of shape {inputs.shape}")
    if not np.isfinite(inputs).all():
        raise KeyFileError("inputs must be finite")
    if inputs.nbytes <= INLINE_BYTES:
        return {INPUTS: inputs.copy()}
    return {DIGEST: np.frombuffer(_digest(inputs), dtype=np.uint8).copy()}


def inputs_of(key: Key, count: int, given: AnyArray | None) -> AnyArray:
    """The inputs of a key.

    Args:
        key: The key.
        count: How many there should be.
        given: The inputs, for a key that holds their digest.

    Raises:
        KeyFileError: They are missing, or not those the key was made with.
    """
    kept = key.arrays.get(INPUTS)
    if kept is not None:
        if kept.ndim < 2 or len(kept) != count:
            raise KeyFileError(f"the key has {count:,} carriers and inputs of shape {kept.shape}")
        return kept
    wanted = key.arrays.get(DIGEST)
    if wanted is None or wanted.dtype != np.uint8 or wanted.shape != (32,):
        raise KeyFileError("the key holds neither inputs nor their digest")
    if given is None:
        raise KeyFileError("the key holds the digest of its inputs only; give the inputs themselves with --carriers")
    if len(given) != count or _digest(given) != wanted.tobytes():
        raise KeyFileError(f"these are not the {count:,} inputs that the key was made with (their SHA-256 differs)")
    return given


def _digest(inputs: AnyArray) -> bytes:
    kind = f"{inputs.dtype.str}|{inputs.shape}|".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(inputs).tobytes()).digest()
