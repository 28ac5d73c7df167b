"""The robustness experiment's table: the same attack on both carriers side by side, mark and model always together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table

from onnxmark.robustness import Trial

RECALLED: Final = {
    ("prune", 0.65): "0 %",
    ("overwrite-trained", 1.0): "30.9 / 8.6 / 0.4 %",
}
"""Bit error rates of Uchida et al., overwriting by layer (conv2, conv3, conv4): as remembered, not read again."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attack on one carrier.

    Args:
        carrier: Name of the key's kind.
        label: The attack in words.
        attack: Its name.
        parameter: Its strength.
        trial: What was left.
        seconds: Wall time of the attack.
        ratio: Compression ratio of the host weights; None where coding makes them no smaller.
    """

    carrier: str
    label: str
    attack: str
    parameter: float
    trial: Trial
    seconds: float
    ratio: float | None

    @property
    def figures(self) -> dict[str, Any]:
        """The row as plain data."""
        trial, fidelity = self.trial, self.trial.fidelity
        return {
            "carrier": self.carrier,
            "attack": self.label,
            "recipe": repr(trial.recipe),
            "bit_error_rate": trial.bit_error_rate,
            "verdict": str(trial.verdict),
            "log10_p_value": trial.worst.log10_p_value,
            "relative_change": trial.relative_change,
            "accuracy_before": None if fidelity is None else fidelity.accuracy_before,
            "accuracy_after": None if fidelity is None else fidelity.accuracy_after,
            "compression_ratio": self.ratio,
            "seconds": self.seconds,
        }

    @property
    def cells(self) -> tuple[str, ...]:
        """BER, verdict with its log10 p, accuracy after, compression ratio."""
        found = self.figures
        return (
            _shown(self.trial.bit_error_rate, ".3f"),
            f"{self.trial.verdict} {self.trial.worst.log10_p_value:.1f}",
            _shown(found["accuracy_after"], ".4f"),
            _shown(self.ratio, ".1f"),
        )

    @property
    def summary(self) -> str:
        """The row as a line."""
        before = _shown(self.figures["accuracy_before"], ".4f")
        return f"{self.label}: {', '.join(self.cells)} (accuracy {before} before; {self.seconds:.0f} s)"


def table(rows: Sequence[Row], title: str) -> Table:
    """One line an attack, with the figures of each carrier in a line of its own."""
    drawn = Table("attack", "carrier", "BER", "verdict", "accuracy", "smaller by", "s", "paper (recalled)", title=title)
    for label in dict.fromkeys(row.label for row in rows):
        those = [row for row in rows if row.label == label]
        cells = [(row.carrier, *row.cells, f"{row.seconds:.0f}", _recalled(row)) for row in those]
        drawn.add_row(label, *("\n".join(column) for column in zip(*cells, strict=True)))
    return drawn


def _recalled(row: Row) -> str:
    """The paper's figure, beside its own kind of carrier."""
    return RECALLED.get((row.attack, float(row.parameter)), "") if row.carrier == "random" else ""


def _shown(figure: float | None, style: str) -> str:
    return "-" if figure is None else format(figure, style)
