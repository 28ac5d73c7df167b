"""Which inputs should carry? One key, a host for each kind of carrier, and the easiest theft there is.

The student is a twin of the host and asks about the owner's own images, for softened answers: a kind that does not
survive this survives no distillation. Hosts are trained on the carriers, so all know them by heart.

    python -m benchmarks.ingrain.kinds [--first 0] [--resume DIR] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from onnxmark_torch.ingrain import KINDS
from rich.console import Console
from rich.table import Table

from benchmarks.display import write_json
from benchmarks.ingrain.experiment import Suspect, arguments_of, judged, opened
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import Choice, Marking, Theft
from benchmarks.ingrain.tables import Row

EASIEST: Final = Theft()


def rows(lab: Laboratory, key: int) -> Iterator[Row]:
    """Host and student of every kind, ingrained and as plain backdoor."""
    for kind in ("boundary", *KINDS):
        marking = Marking(key, Choice(kind))
        for host, one in (("ingrained", marking), ("backdoor", marking.backdoor)):
            yield judged(lab, host, one, Suspect(f"{kind}: host", one.host, lambda one=one: lab.host(one)))  # type: ignore[misc]
            name = f"{one.host}--{EASIEST.name}"
            student = Suspect(f"{kind}: student", name, lambda one=one: lab.student(one, EASIEST))  # type: ignore[misc]
            yield judged(lab, host, one, student)


def table(rows: Sequence[Row]) -> Table:
    """A line a kind and host; agreement and log10 p of host and student."""
    drawn = Table("carriers", "marked", "accuracy", "agreement", "SGN", "Z (sign-flip bound)", title="log10 p")
    for row in rows:
        found = row.evidence
        figures = (f"{row.accuracy:.4f}", f"{found.agreement:.3f}", f"{found.signs:.1f}", f"{found.flips:.1f}")
        drawn.add_row(row.suspect, row.host, *figures)
    return drawn


def main() -> None:
    """Read the command line, train what is left, print the table."""
    parser = arguments_of(__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the key")
    arguments = parser.parse_args()
    console = Console(width=150)
    found = list(rows(opened(arguments, console), arguments.first))
    console.print(table(found))
    write_json(arguments.json, {"rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
