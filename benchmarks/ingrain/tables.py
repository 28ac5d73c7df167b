"""Tables of the ingrain experiments: a line a suspect, a column a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.ingrain.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Row:
    """A suspect against a key.

    Args:
        host: ``ingrained``, ``backdoor`` or ``unmarked``.
        key: Number of the key.
        suspect: What it is.
        accuracy: On the test images, 0 to 1.
        evidence: What its answers are worth.
    """

    host: str
    key: int
    suspect: str
    accuracy: float
    evidence: Evidence

    @property
    def figures(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def table(rows: Sequence[Row], host: str) -> Table:
    """Accuracy, agreement and the three statistics' log10 p of every suspect; median over keys, then each."""
    those = [row for row in rows if row.host == host]
    title = f"{host}: log10 p, each key"
    drawn = Table("suspect", "accuracy", "agreement", "ARG", "SGN", "Z (sign-flip bound)", title=title)
    for suspect in dict.fromkeys(row.suspect for row in those):
        same = [row for row in those if row.suspect == suspect]
        drawn.add_row(
            suspect,
            _each([row.accuracy for row in same], ".4f"),
            _each([row.evidence.agreement for row in same], ".3f"),
            _each([row.evidence.argmax for row in same], ".1f"),
            _each([row.evidence.signs for row in same], ".1f"),
            _each([row.evidence.flips for row in same], ".1f"),
        )
    return drawn


def comparison(rows: Sequence[Row]) -> Table:
    """Ingrained against backdoor, the same key, theft and seeds: Z of both and how often the ingrained one is ahead."""
    drawn = Table("suspect", "Z ingrained", "Z backdoor", "ahead", title="ingrained against the plain backdoor, paired")
    pairs = {(row.host, row.key, row.suspect): row.evidence.z for row in rows}
    for suspect in dict.fromkeys(row.suspect for row in rows if row.host == "backdoor"):
        keys = sorted({row.key for row in rows})
        ours, theirs = ([pairs[host, key, suspect] for key in keys] for host in ("ingrained", "backdoor"))
        ahead = sum(one > other for one, other in zip(ours, theirs, strict=True))
        drawn.add_row(suspect, _each(ours, ".1f"), _each(theirs, ".1f"), f"{ahead} of {len(keys)}")
    return drawn


def _each(figures: Sequence[float], style: str) -> str:
    return "  ".join(format(figure, style) for figure in figures)
