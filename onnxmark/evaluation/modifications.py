"""What the standard does to networks before a mark is looked for again: a table, so that a plan can say otherwise.

MPAI-NNW 1.0 (IEEE Std 3304-2023), evaluation of robustness. Ids 0 and 4 were seen in the reference software, the others
follow the order of its list; parameter ranges are those of the table as far as we could read it, and where we could
not, the default grid is ours. Whatever is wrong here is put right in a plan and not in code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

Value = int | float
Scalar = str | int | float | bool
Settings = tuple[tuple[str, Scalar], ...]
"""Names with values, in the order of names."""

FINE_TUNING: Final = "fine-tuning"
TRANSFER: Final = "transfer"
DISTILLATION: Final = "distillation"
OVERWRITING: Final = "overwriting"


@dataclass(frozen=True, slots=True)
class Modification:
    """One row of the table.

    Args:
        id: Its number in the standard; None for a modification that is not in it.
        name: What plans call it.
        words: What reports call it.
        parameter: The letter of its parameter.
        unit: What the parameter counts.
        values: The grid, weakest first, at least one value.
        attack: The attack on a file that carries it out, by its name in ``onnxmark attack --list``, on every
            convolution and linear layer; None where networks are trained (the names above) or marks embedded.
        divisor: What a value is divided by to give the attack's main parameter: 100 for percentages.
        of_epochs: The values are shares of the epochs that a network is trained, not numbers of epochs.
        most: Largest parameter that the standard has, as a share of those epochs; None where it is none.
        settings: What else carries it out, by name: ``rate``, ``temperature``, ...
    """

    id: int | None
    name: str
    words: str
    parameter: str
    unit: str
    values: tuple[Value, ...]
    attack: str | None = None
    divisor: int = 1
    of_epochs: bool = False
    most: float | None = None
    settings: Settings = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"modification {self.name!r} has no values; a grid has one or more")
        if self.attack is None and self.name not in (FINE_TUNING, TRANSFER, DISTILLATION, OVERWRITING):
            raise ValueError(f"modification {self.name!r} needs the name of an attack that carries it out")

    @property
    def trains(self) -> bool:
        """Whether networks are trained for it."""
        return self.attack is None

    def strength(self, value: Value) -> Value:
        """A value of the grid as the attack's main parameter."""
        return value if self.divisor == 1 else value / self.divisor

    def counted(self, epochs: int) -> Modification:
        """The same with epochs counted: shares of ``epochs`` become whole numbers from 1, each once."""
        if not self.of_epochs:
            return self
        counts = dict.fromkeys(max(1, round(value * epochs)) for value in self.values)
        return replace(self, values=tuple(counts), of_epochs=False)

    def excess(self, epochs: int) -> tuple[Value, ...]:
        """Values beyond what the standard has for networks trained for ``epochs`` epochs."""
        return () if self.most is None else tuple(value for value in self.values if value > max(1, self.most * epochs))


STANDARD: Final = (
    Modification(0, "noise", "Gaussian noise", "S", "standard deviations of the layer", (0.1, 0.2, 0.3), "noise"),
    Modification(1, "pruning", "L1 pruning", "P", "%", (1, 10, 30, 50, 70, 90), "prune", divisor=100),
    Modification(2, "random-pruning", "random pruning", "R", "%", (1, 5, 10), "prune-random", divisor=100),
    Modification(3, "quantizing", "quantizing", "B", "bits", (16, 8, 4, 2), "quantize"),
    Modification(4, FINE_TUNING, "fine tuning", "E", "epochs", (0.25, 0.5), of_epochs=True, most=0.5),
    Modification(5, DISTILLATION, "knowledge distillation", "E", "epochs", (0.5, 1.0), of_epochs=True, most=1.0),
    Modification(6, OVERWRITING, "watermark overwriting", "W", "marks", (2, 4)),
)
"""The seven modifications with default grids."""
ROWS: Final = (
    *STANDARD,
    Modification(4, TRANSFER, "transfer learning", "E", "epochs", (0.25, 0.5), of_epochs=True, most=0.5),
)
"""What a plan can name: the standard's, and the other half of its fourth, which needs another task to be named."""
