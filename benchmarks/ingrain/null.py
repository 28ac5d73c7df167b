"""How often do answers of an unmarked network agree with a key by chance? Random keys' coins on unmarked networks.

Carriers, pairs and references are the experiment's, and the suspects its unmarked networks and students of one of them:
what the coins meet is as lopsided and as correlated as it gets. Nothing is trained that the experiment does not train.

    python -m benchmarks.ingrain.null [--coins 10000] [--resume DIR] [--json FILE]
"""

from __future__ import annotations

from typing import Final

import numpy as np
from rich.console import Console
from torch import nn

from benchmarks.calibration import Calibration, calibrated, rate_table
from benchmarks.display import progress, write_json
from benchmarks.ingrain.evidence import Evidence, evidence, pooled, votes_of
from benchmarks.ingrain.experiment import arguments_of, opened, unmarked
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import Choice, coins_of
from benchmarks.ingrain.readings import READINGS
from onnxmark.arrays import Float64Array

FIRST: Final = 1_000_000
"""Keys of this benchmark are this one and the next; no network was trained with them."""
STATISTICS: Final = {
    "ARG": "argmax",
    "SGN": "signs",
    "Z, Hoeffding (bound)": "hoeffding",
    "Z, sign-flip (bound)": "flips",
}


def evidences(lab: Laboratory, choice: Choice, reading: str, n_keys: int) -> list[Evidence]:
    """``n_keys`` random keys, against unmarked suspects in turn."""
    suspects = [_read(lab, choice, reading, suspect.model()) for suspect in unmarked(lab)]
    found = []
    with progress(f"{choice.name}, {reading}", n_keys) as step:
        for number in range(n_keys):
            votes, leanings = suspects[number % len(suspects)]
            coins = coins_of(FIRST + number, len(leanings))
            found.append(evidence(votes, leanings, coins, agreement=0.5))
            step(1)
    return found


def _read(lab: Laboratory, choice: Choice, reading: str, model: nn.Module) -> tuple[Float64Array, Float64Array]:
    logits = lab.on_carriers(model, choice)
    votes = pooled(votes_of(logits.argmax(axis=1), lab.carriers(choice).pairs), lab.groups(choice))
    return votes, READINGS[reading](lab.log_ratios(logits, choice), lab.expected(choice), lab.pairs(choice))


def calibrations(found: list[Evidence]) -> dict[str, Calibration]:
    """Each statistic's p-values against what they promise."""
    return {name: calibrated(_column(found, field)) for name, field in STATISTICS.items()}


def _column(found: list[Evidence], field: str) -> Float64Array:
    return np.array([getattr(one, field) for one in found], dtype=np.float64)


def main() -> None:
    """Read the command line, throw coins, print the tables."""
    parser = arguments_of(__doc__)
    parser.add_argument("--coins", type=int, default=10_000, help="random keys for each table")
    arguments = parser.parse_args()
    console = Console(width=150)
    lab, figures = opened(arguments, console), {}
    for choice, reading in ((Choice(), "plain"), (Choice(count=2000, neighbours=8), "studentised")):
        found = evidences(lab, choice, reading, arguments.coins)
        rows = calibrations(found)
        deviation = float(np.std([one.z for one in found]))
        console.print(rate_table(f"{choice.name}, {reading}: standard deviation of Z {deviation:.3f}", rows))
        figures[choice.name] = {"deviation": deviation, **{name: one.as_json() for name, one in rows.items()}}
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
