"""The marks that are compared: constant weight codes, and Uchida's projection in closed form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from onnxmark_torch.networks import ConvNet

from onnxmark.keys import Carrier, Key, Secret
from onnxmark.keys.key import Parameter
from onnxmark.schemes.constant_weight.embedding import embedded
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.projection.carriers import FULL, MEAN_IHW
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.schemes.scheme import PlainReading
from onnxmark.weights import WeightTensor

SHAPE: Final = (64, 64, 3, 3)
N_BITS: Final = 256
CODES: Final = ((560, 56), (1850, 37))
MADE_FOR: Final = (0.8, 0.95, 0.99)


class Mark(Protocol):
    """256 bits in the host layer."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    def key(self, seed: int) -> Key:
        """A key grown from a public seed."""
        ...

    def embed(self, key: Key, weights: WeightTensor) -> WeightTensor:
        """The layer with the mark in it, in closed form."""
        ...

    def read(self, key: Key, weights: WeightTensor) -> Evidence:
        """What a layer says of the mark."""
        ...


@dataclass(frozen=True, slots=True)
class Word:
    """A constant weight code made for a pruning rate."""

    length: int
    weight: int
    rate: float

    @property
    def name(self) -> str:
        """Length, weight and rate."""
        return f"code {self.length}/{self.weight} for {100 * self.rate:g} %"

    def key(self, seed: int) -> Key:
        """See :class:`Mark`."""
        return public_key("constant-weight", seed, {"length": self.length, "weight": self.weight, "rate": self.rate})

    def embed(self, key: Key, weights: WeightTensor) -> WeightTensor:
        """See :class:`Mark`."""
        return embedded(key, [weights])[0]

    def read(self, key: Key, weights: WeightTensor) -> Evidence:
        """See :class:`Mark`."""
        return ConstantWeightScheme().extract(key, (weights,), PlainReading(""))


@dataclass(frozen=True, slots=True)
class Projected:
    """Uchida's projection in closed form, for comparison."""

    carrier: str
    margin: float

    @property
    def name(self) -> str:
        """Carrier and margin."""
        return f"projection, {self.carrier}, margin {self.margin:g}"

    def key(self, seed: int) -> Key:
        """See :class:`Mark`."""
        return public_key("projection", seed, {"generator": "rademacher", "carrier": self.carrier})

    def embed(self, key: Key, weights: WeightTensor) -> WeightTensor:
        """See :class:`Mark`."""
        return embed_message(weights, own_projection(key, SHAPE), self.margin).weights

    def read(self, key: Key, weights: WeightTensor) -> Evidence:
        """See :class:`Mark`."""
        return read_message(own_projection(key, SHAPE), weights, fair=True)


WORDS: Final = tuple(Word(length, weight, rate) for length, weight in CODES for rate in MADE_FOR)
PROJECTIONS: Final = (Projected(MEAN_IHW, 1.0), Projected(FULL, 1.0), Projected(FULL, 2.0))
MARKS: Final[tuple[Mark, ...]] = (*WORDS, *PROJECTIONS)
TUNED: Final = (*(Word(560, 56, rate) for rate in MADE_FOR), Word(1850, 37, 0.95))
FROM_SCRATCH: Final = (Word(560, 56, 0.95), Word(560, 56, 0.99))
STOLEN: Final[tuple[Mark, ...]] = (Word(560, 56, 0.95), Word(1850, 37, 0.95), PROJECTIONS[0], PROJECTIONS[2])


def public_key(scheme: str, seed: int, parameters: dict[str, Parameter]) -> Key:
    """A key for the host layer, grown from a *public* seed: for benchmarks only."""
    label = f"onnxmark benchmark constant weight: {scheme} {seed}"
    draws = [hashlib.sha256(f"{label} {part}".encode()).digest() for part in ("seed", "salt")]
    carrier = Carrier(SHAPE, f"{ConvNet.host}.weight")
    return Key(scheme, Secret(draws[0]), draws[1], np.zeros(N_BITS, dtype=np.uint8), (carrier,), parameters)
