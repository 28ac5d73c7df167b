"""What does a file lose when it is pruned or stored in fewer bits? Hosts as ONNX, attacked, asked by ONNX Runtime.

The hosts are those of :mod:`benchmarks.ingrain.experiment`, which trains them; here nothing is trained.

    python -m benchmarks.ingrain.files [--keys 3] [--resume DIR] [--json FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnxmark_torch import export
from onnxmark_torch.data import Examples
from rich.console import Console
from rich.table import Table

from benchmarks.display import write_json
from benchmarks.ingrain.evidence import Evidence
from benchmarks.ingrain.experiment import FIRST_KEY, arguments_of, opened
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import Marking
from onnxmark.arrays import Float32Array
from onnxmark.attacking import attack_file
from onnxmark.attacks import MagnitudePruning, Recipe
from onnxmark.attacks.pruning import GlobalPruning
from onnxmark.model.running.asking import ask
from onnxmark.tools.precision import DynamicQuantisation, HalfPrecision, StaticQuantisation

RECIPES: Final[tuple[Recipe, ...]] = (
    MagnitudePruning(0.5),
    MagnitudePruning(0.8),
    GlobalPruning(0.5),
    GlobalPruning(0.8),
    DynamicQuantisation(),
    StaticQuantisation(),
    HalfPrecision(),
)
_CALIBRATING: Final = 256
"""The thief's images that static quantisation looks at."""


@dataclass(frozen=True, slots=True)
class Row:
    """An attacked file against its key.

    Args:
        key: Number of the key.
        attack: In words.
        accuracy: On the test images, 0 to 1.
        evidence: What its answers are worth.
    """

    key: int
    attack: str
    accuracy: float
    evidence: Evidence


def rows(lab: Laboratory, keys: Sequence[int]) -> Iterator[Row]:
    """Every attack on every key's host."""
    with tempfile.TemporaryDirectory(prefix="onnxmark-") as room:
        for key in keys:
            yield from _of_key(lab, Marking(key), Path(room))


def _of_key(lab: Laboratory, marking: Marking, room: Path) -> Iterator[Row]:
    host, attacked, calibration = room / "host.onnx", room / "attacked.onnx", room / "calibration.npy"
    images = _inputs(lab, lab.parts.thief.training.first(_CALIBRATING))
    np.save(calibration, images)
    export(lab.host(marking), (torch.from_numpy(images[:2]),), host, external_data=False, dynamic_shapes=({0: "n"},))
    yield _row(lab, marking, "none", host)
    for recipe in RECIPES:
        attack_file(host, [recipe], attacked, calibration=calibration)
        yield _row(lab, marking, recipe.label, attacked)


def _row(lab: Laboratory, marking: Marking, attack: str, path: Path) -> Row:
    test = lab.parts.owner.test
    accuracy = float(np.mean(ask(path, _inputs(lab, test)).decisions == test.labels))
    asked = ask(path, _inputs(lab, lab.shown(marking.choice)))
    if asked.scores is None:
        raise ValueError(f"{path} gives no scores")
    return Row(marking.key, attack, accuracy, lab.evidence(asked.scores.astype(np.float32), marking))


def _inputs(lab: Laboratory, examples: Examples) -> Float32Array:
    inputs: Float32Array = lab.parts.owner.inputs(torch.tensor(examples.images)).numpy()
    return inputs


def table(rows: Sequence[Row]) -> Table:
    """A line an attack; each key's figures side by side."""
    drawn = Table("attack on the file", "accuracy", "agreement", "ARG", "SGN", "Z (sign-flip bound)", title="log10 p")
    for attack in dict.fromkeys(row.attack for row in rows):
        same = [row for row in rows if row.attack == attack]
        figures = [
            (row.accuracy, row.evidence.agreement, row.evidence.argmax, row.evidence.signs, row.evidence.flips)
            for row in same
        ]
        styles = (".4f", ".3f", ".1f", ".1f", ".1f")
        cells = (
            "  ".join(format(one, style) for one in column)
            for column, style in zip(zip(*figures, strict=True), styles, strict=True)
        )
        drawn.add_row(attack, *cells)
    return drawn


def main() -> None:
    """Read the command line, attack, print the table."""
    parser = arguments_of(__doc__)
    parser.add_argument("--keys", type=int, default=3, help="how many")
    arguments = parser.parse_args()
    console = Console(width=150)
    found = list(rows(opened(arguments, console), range(FIRST_KEY, FIRST_KEY + arguments.keys)))
    console.print(table(found))
    write_json(arguments.json, {"rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
