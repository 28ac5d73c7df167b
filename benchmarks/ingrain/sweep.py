"""How much do lambda and T matter? One key, a host for each pair of them, and two students of each.

Lambda 0 is the plain backdoor with the same carriers; ``unseen`` hosts never see a carrier, only what the ingrainer
says of the owner's own images.

    python -m benchmarks.ingrain.sweep [--strengths .1 1 5] [--temperatures 1 20] [--unseen] [--resume DIR]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.display import write_json
from benchmarks.ingrain.evidence import Evidence
from benchmarks.ingrain.experiment import Suspect, arguments_of, judged, opened
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import WEAKEST, Marking, Theft

THEFTS: Final = (Theft(disjoint=True), WEAKEST)


@dataclass(frozen=True, slots=True)
class Point:
    """One suspect of one host.

    Args:
        strength: Lambda; 0 for the plain backdoor.
        temperature: T.
        suspect: ``host``, or how it was stolen.
        accuracy: On the test images.
        evidence: What its answers are worth.
    """

    strength: float
    temperature: float
    suspect: str
    accuracy: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Grid:
    """Which hosts.

    Args:
        strengths: Lambdas, above 0.
        temperatures: T, above 0.
        unseen: Hosts see no carrier; else the plain backdoor comes first.
    """

    strengths: tuple[float, ...]
    temperatures: tuple[float, ...]
    unseen: bool = False

    def markings(self, key: int) -> Iterator[Marking]:
        """The plain backdoor, then every pair of lambda and T."""
        if not self.unseen:
            yield Marking(key).backdoor
        for strength in self.strengths:
            for temperature in self.temperatures:
                yield Marking(key, strength=strength, temperature=temperature, unseen=self.unseen)


def points(lab: Laboratory, key: int, grid: Grid) -> Iterator[Point]:
    """Every host and its students."""
    for marking in grid.markings(key):
        for suspect in _suspects(lab, marking):
            row = judged(lab, "swept", marking, suspect)
            yield Point(marking.strength, marking.temperature, suspect.label, row.accuracy, row.evidence)


def _suspects(lab: Laboratory, marking: Marking) -> Iterator[Suspect]:
    yield Suspect("host", marking.host, lambda: lab.host(marking))
    for theft in THEFTS:
        name = f"{marking.host}--{theft.name}"
        yield Suspect(theft.name, name, lambda theft=theft: lab.student(marking, theft))  # type: ignore[misc]


def table(points: Sequence[Point]) -> Table:
    """A line a host; accuracy, agreement, SGN and sign-flip bound of it and of its students."""
    suspects = list(dict.fromkeys(point.suspect for point in points))
    drawn = Table("lambda", "T", *suspects, title="accuracy, agreement, log10 p of SGN / Z")
    for pair in dict.fromkeys((point.strength, point.temperature) for point in points):
        same = {point.suspect: point for point in points if (point.strength, point.temperature) == pair}
        drawn.add_row(f"{pair[0]:g}", f"{pair[1]:g}", *(_cell(same[suspect]) for suspect in suspects))
    return drawn


def _cell(point: Point) -> str:
    found = point.evidence
    return f"{point.accuracy:.4f}  {found.agreement:.3f}  {found.signs:.1f} / {found.flips:.1f}"


def main() -> None:
    """Read the command line, train what is left, print the table."""
    parser = arguments_of(__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the key")
    parser.add_argument("--unseen", action="store_true", help="hosts that never see a carrier")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.1, 1.0, 5.0], help="lambdas")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 20.0], help="of the lesson")
    arguments = parser.parse_args()
    console = Console(width=150)
    grid = Grid(tuple(arguments.strengths), tuple(arguments.temperatures), arguments.unseen)
    found = list(points(opened(arguments, console), arguments.first, grid))
    console.print(table(found))
    write_json(arguments.json, {"points": [asdict(point) for point in found]})


if __name__ == "__main__":
    main()
