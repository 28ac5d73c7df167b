"""What makes the weakest cell reliable: a smaller student, the thief's own images, only the class he is told?

Variants of the marking are tried on keys for trying, and what is chosen on them is judged on fresh keys. What an owner
may vary when he *reads* costs no training and is tried on all networks alike (:mod:`benchmarks.ingrain.readings`).

    python -m benchmarks.ingrain.weakest [--keys 2] [--first 0] [--variants NAME ...] [--tuned] [--resume DIR]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.display import write_json
from benchmarks.ingrain.evidence import Evidence
from benchmarks.ingrain.experiment import arguments_of, opened
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import WEAKEST, Choice, Marking, Theft
from benchmarks.ingrain.readings import READINGS

VARIANTS: Final = {
    "as in the main table": Marking(0),
    "2,000 carriers": Marking(0, Choice(count=2000)),
    "six references agree on the pair": Marking(0, Choice(agreeing=6)),
    "2,000 carriers, three references agree": Marking(0, Choice(count=2000, agreeing=3)),
    "ingrainer's lesson at T = 20": Marking(0, temperature=20.0),
    "eight copies": Marking(0, copies=8),
    "1,000 by 4": Marking(0, Choice(neighbours=4)),
    "1,000 by 16": Marking(0, Choice(neighbours=16)),
    "2,000 by 8": Marking(0, Choice(count=2000, neighbours=8)),
    "2,000 by 8, two copies": Marking(0, Choice(count=2000, neighbours=8), copies=2),
    "2,000 by 16": Marking(0, Choice(count=2000, neighbours=16)),
    "plain backdoor": Marking(0).backdoor,
    "plain backdoor, 2,000 by 8": Marking(0, Choice(count=2000, neighbours=8)).backdoor,
    "4,000 by 16, two copies": Marking(0, Choice(count=4000, neighbours=16), copies=2),
}
"""Each changes a thing or two of the first; *2,000 by 8* has a coin for every neighbourhood of up to 8 carriers."""

THEFTS: Final = (WEAKEST, Theft(disjoint=True, hard=True), Theft(small=True, hard=True))
"""With the owner's own images, a host's class is nearly always the label: there is little to learn from it but that."""


@dataclass(frozen=True, slots=True)
class Row:
    """A student of one variant, read in one way.

    Args:
        variant: Which.
        key: Number of the key.
        theft: How the student was made.
        reading: How it was read.
        host_accuracy: Of the network stolen, on the test images.
        accuracy: Of the student.
        evidence: What its answers are worth.
    """

    variant: str
    key: int
    theft: str
    reading: str
    host_accuracy: float
    accuracy: float
    evidence: Evidence


def rows(lab: Laboratory, keys: Sequence[int], variants: Sequence[str], *, tuned: bool = False) -> Iterator[Row]:
    """Every variant with every key, read in every way; ``tuned`` students were trained on with the thief's labels."""
    for variant in variants:
        for key in keys:
            marking = replace(VARIANTS[variant], key=key)
            for theft in THEFTS:
                yield from readings_of(lab, variant, marking, theft, tuned=tuned)


def readings_of(lab: Laboratory, variant: str, marking: Marking, theft: Theft, *, tuned: bool) -> Iterator[Row]:
    """One student, read in every way."""
    student, name = lab.student(marking, theft), f"{marking.host}--{theft.name}"
    if tuned:
        student, name = lab.tuned(name, student, small=theft.small), f"{name}-tuned"
    logits, records = lab.on_carriers(student, marking.choice), lab.store.records()
    host_accuracy, accuracy = records[marking.host].accuracy, records[name].accuracy
    for way, reading in READINGS.items():
        found = lab.evidence(logits, marking, reading)
        yield Row(variant, marking.key, theft.name, way, host_accuracy, accuracy, found)


def table(rows: Sequence[Row], theft: Theft) -> Table:
    """A line a variant, a column a reading; log10 p of SGN and of the sign-flip bound, key by key."""
    drawn = Table("variant", "host", "student", "ARG", *READINGS, title=f"{theft.name}: log10 p, SGN / Z")
    those = [row for row in rows if row.theft == theft.name]
    for variant in dict.fromkeys(row.variant for row in those):
        same = [row for row in those if row.variant == variant]
        first = [row for row in same if row.reading == next(iter(READINGS))]
        cells = (
            "\n".join(f"{row.evidence.signs:.1f} / {row.evidence.flips:.1f}" for row in same if row.reading == name)
            for name in READINGS
        )
        host, student = (np.mean([getattr(row, name) for row in first]) for name in ("host_accuracy", "accuracy"))
        arg = "\n".join(f"{row.evidence.argmax:.1f}" for row in first)
        drawn.add_row(variant, f"{host:.4f}", f"{student:.4f}", arg, *cells, end_section=True)
    return drawn


def main() -> None:
    """Read the command line, train what is left, print the tables."""
    parser = arguments_of(__doc__)
    parser.add_argument("--keys", type=int, default=2, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first key")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="only these")
    parser.add_argument("--tuned", action="store_true", help="students trained on with the thief's own labels")
    arguments = parser.parse_args()
    console = Console(width=150)
    keys = range(arguments.first, arguments.first + arguments.keys)
    found = list(rows(opened(arguments, console), keys, arguments.variants, tuned=arguments.tuned))
    for theft in THEFTS:
        console.print(table(found, theft))
    write_json(arguments.json, {"rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
