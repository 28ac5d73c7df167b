"""Detector and decoder: who looks for marks holds these two, and neither shows the key it was made with.

The standard keeps the roles apart, and the key from the tester. A detector says whether the mark is there; a decoder
says which payload it reads. Both see a file, as an auditor would, and both have the audit's one reading of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from onnxmark.audit import Oracle, Schemes, audit_file
from onnxmark.keys import Key
from onnxmark.schemes.evidence import Evidence
from onnxmark.verdict import Policy, Verdict


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a decoder read.

    Args:
        n_symbols: Symbols of the payload.
        n_errors: Symbols that differ from the payload's; None where nothing could be read.
        decoded: What was read, a 0 or 1 a symbol; None where the scheme tells errors only, or nothing was read.
        chance: Share of the symbols that would differ by chance.
    """

    n_symbols: int
    n_errors: int | None
    decoded: str | None = None
    chance: float = 0.5


class _Role:
    """Holds what answers for a key, not the key."""

    __slots__ = ("_answer",)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__.lower()} holds a key and cannot be pickled; make it where it is used")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Detector(_Role):
    """Says whether a mark is in a network.

    Args:
        detect: From a file to the answer.
    """

    __slots__ = ()
    _answer: Callable[[Path], bool]

    def __init__(self, detect: Callable[[Path], bool]) -> None:
        self._answer = detect

    def detect(self, model: Path) -> bool:
        """Whether the mark is there.

        Raises:
            ModelError: The file cannot be read.
        """
        return self._answer(model)


class Decoder(_Role):
    """Says which payload a network carries.

    Args:
        decode: From a file to what was read.
    """

    __slots__ = ()
    _answer: Callable[[Path], Decoding]

    def __init__(self, decode: Callable[[Path], Decoding]) -> None:
        self._answer = decode

    def decode(self, model: Path) -> Decoding:
        """What is read.

        Raises:
            ModelError: The file cannot be read.
        """
        return self._answer(model)


def roles_of(key: Key, policy: Policy, schemes: Schemes) -> tuple[Detector, Decoder]:
    """The two roles of one key.

    Args:
        key: The key; nothing that is returned shows it.
        policy: What is asked of a reading for a mark to count as detected.
        schemes: Gives the scheme of a name.
    """

    def detect(model: Path) -> bool:
        audit = audit_file(model, [key], policy, oracle=Oracle.of_file(model), schemes=schemes)
        return audit.verdict is Verdict.MATCH

    def decode(model: Path) -> Decoding:
        (finding,) = audit_file(model, [key], policy, oracle=Oracle.of_file(model), schemes=schemes).findings
        return decoding(key, None if finding.best is None else finding.best.evidence)

    return Detector(detect), Decoder(decode)


def decoding(key: Key, evidence: Evidence | None) -> Decoding:
    """What a reading says of the payload.

    Args:
        key: The key.
        evidence: The reading; None where there was nothing to read.
    """
    if evidence is None:
        return Decoding(key.n_bits, None)
    chance, message = evidence.chance, evidence.message
    if evidence.degenerate is not None:
        return Decoding(key.n_bits, None, chance=chance)
    if message is not None:
        return Decoding(evidence.n_bits, None if message.rejected else evidence.n_bit_errors, chance=chance)
    wrong = np.asarray(evidence.margins <= 0)
    if wrong.size != key.n_bits:
        return Decoding(evidence.n_symbols, evidence.n_errors, chance=chance)
    # Counted from the symbols themselves: what a scheme says of its own errors is not asked.
    read = key.payload ^ wrong
    return Decoding(key.n_bits, int(wrong.sum()), "".join(map(str, read)), chance)
