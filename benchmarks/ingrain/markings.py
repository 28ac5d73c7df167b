"""What the experiments vary, as values: how a host is marked, and how it is stolen. Names are file names and seeds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from onnxmark.arrays import BitArray


@dataclass(frozen=True, slots=True)
class Choice:
    """Which inputs carry; no key has a say in it.

    Args:
        kind: ``boundary``, or a synthetic kind.
        count: Carriers.
        agreeing: References that must name the same two classes first for a boundary image to be chosen.
        neighbours: Carriers that share a coin, at most.
    """

    kind: str = "boundary"
    count: int = 1000
    agreeing: int = 1
    neighbours: int = 1

    @property
    def name(self) -> str:
        """``boundary-1000``."""
        agreed = "" if self.agreeing == 1 else f"-agreed{self.agreeing}"
        return f"{self.kind}-{self.count}{agreed}" + ("" if self.neighbours == 1 else f"-by{self.neighbours}")


@dataclass(frozen=True, slots=True)
class Marking:
    """How a host was made.

    Args:
        key: Number of the public key.
        choice: The carriers.
        copies: Of each carrier in training.
        strength: Lambda; 0 is the plain backdoor, which no ingrainer teaches.
        temperature: Of the ingrainer's lesson.
        unseen: Whether the host is trained on the owner's images alone, and never sees a carrier.
    """

    key: int
    choice: Choice = Choice()
    copies: int = 4
    strength: float = 1.0
    temperature: float = 1.0
    unseen: bool = False

    @property
    def ingrainer(self) -> str:
        """Name of the ingrainer."""
        return f"{self._common}-ingrainer"

    @property
    def host(self) -> str:
        """Name of the host."""
        lesson = f"lambda{self.strength:g}-T{self.temperature:g}" if self.strength else "backdoor"
        return f"{self._common}-{lesson}" + ("-unseen" if self.unseen else "")

    @property
    def backdoor(self) -> Marking:
        """The plain backdoor with the same key and carriers."""
        return replace(self, strength=0.0, temperature=1.0, unseen=False)

    @property
    def _common(self) -> str:
        return f"key{self.key}-{self.choice.name}-x{self.copies}"


@dataclass(frozen=True, slots=True)
class Theft:
    """A distillation into a fresh student, which sees no carrier.

    Args:
        small: Into a smaller network.
        disjoint: With the thief's own images, not the owner's.
        hard: From the class named, not from the softened answers.
        queries: What is asked: ``plain`` images, or one of :data:`benchmarks.ingrain.queries.DOMAINS`.
        temperature: Of softened answers.
    """

    small: bool = False
    disjoint: bool = False
    hard: bool = False
    queries: str = "plain"
    temperature: float = 3.0

    @property
    def name(self) -> str:
        """``small-disjoint-hard``."""
        answers = "hard" if self.hard else f"T{self.temperature:g}"
        asked = "" if self.queries == "plain" else f"-{self.queries}"
        return f"{'small' if self.small else 'same'}-{'disjoint' if self.disjoint else 'owner'}-{answers}{asked}"


THEFTS: Final = tuple(
    Theft(small, disjoint, hard) for hard in (False, True) for small in (False, True) for disjoint in (False, True)
)
"""The eight cells of the main table."""

WEAKEST: Final = Theft(small=True, disjoint=True, hard=True)
"""A smaller network, other images, hard labels."""


def coins_of(key: int, count: int) -> BitArray:
    """The coins of a *public* key, for benchmarks only; the first ones do not depend on how many there are."""
    stream = hashlib.shake_256(f"onnxmark benchmark: ingrain {key}".encode()).digest(-(-count // 8))
    return np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count)


def seed_of(name: str) -> int:
    """Seed of a training: of its initial weights, and of the order of its images."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
