"""Keys of structural marks for tests: from a number instead of the operating system, and without the time of scrypt."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.scheme import Layer
from onnxmark.schemes.structural.parameters import Options
from onnxmark.schemes.structural.scheme import StructuralScheme

SCHEME = StructuralScheme()
CHANNELS = (16, 32, 32, 64, 48, 128, 100)


def carriers(*channels: int) -> tuple[Carrier, ...]:
    """A chain of 3x3 convolutions."""
    inputs = (3, *channels)
    return tuple(
        Carrier((n_out, n_in, 3, 3), f"conv{place}.weight", f"node{place}", "Conv", place)
        for place, (n_in, n_out) in enumerate(zip(inputs, channels, strict=False))
    )


def layers(*channels: int) -> list[Layer]:
    return [Layer(carrier) for carrier in carriers(*channels)]


def key(number: int = 0, channels: tuple[int, ...] = CHANNELS, payload=None, options: Options | None = None) -> Key:
    """The key of a number."""
    made = SCHEME.make_key(layers(*channels), payload, options or Options())
    digest = hashlib.sha256(f"test {number}".encode()).digest()
    made = replace(made, seed=Secret(digest), salt=bytes(32))
    made.__dict__["master"] = Secret(hashlib.sha256(digest).digest())
    return made


def bits(number: int, count: int) -> np.ndarray:
    """``count`` bits of a number, the lowest first."""
    return np.array([number >> place & 1 for place in range(count)], dtype=np.uint8)
