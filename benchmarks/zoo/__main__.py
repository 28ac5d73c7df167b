"""Is every kernel of every architecture found in the ONNX file made from it, and equal? Asked of a zoo of them.

Fourteen architectures of ``keras.applications``, every variable drawn at random, are saved and converted by ``onnxmark
convert``'s own function; their twins in PyTorch take the same weights through PyTorch's routes. Of each file is asked:
are all kernels in it, does ONNX Runtime answer as the framework does, is a mark found where it is and nowhere else? A
species takes some minutes, as two frameworks start several times over.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.zoo [--only mobilenet,resnet50] [--json PATH]

Exits with 1 where a kernel is missing, an answer differs, or an audit is wrong.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.display import wide_console, write_json
from benchmarks.zoo.species import Species, chosen
from benchmarks.zoo.tables import cells, remarks, table, twin_in_words
from benchmarks.zoo.visits import Twinned, Visit, visit


def main(
    only: Annotated[str | None, typer.Option(help="Species, between commas; all by default.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Visit the zoo."""
    try:
        wanted = chosen(only)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error
    visits, twins = tour(wanted)
    console = wide_console()
    console.print(table(visits))
    for line in [twin_in_words(name, twin) for name, twin in twins.items()] + [
        r for one in visits for r in remarks(one)
    ]:
        console.print(line, markup=False, highlight=False)
    figures = {name: {**asdict(twin), "is_sound": twin.is_sound} for name, twin in twins.items()}
    write_json(out, {"visits": [one.figures() for one in visits], "twins": figures})
    if not (all(one.is_sound for one in visits) and all(twin.is_sound for twin in twins.values())):
        raise typer.Exit(1)


def tour(wanted: Sequence[Species]) -> tuple[list[Visit], dict[str, Twinned]]:
    """Every species by every route, told on standard error as it comes in."""
    visits: list[Visit] = []
    twins: dict[str, Twinned] = {}
    for species in wanted:
        with tempfile.TemporaryDirectory() as folder:
            for found in visit(species, Path(folder)):
                if isinstance(found, Twinned):
                    twins[species.name] = found
                    print(twin_in_words(species.name, found), file=sys.stderr)
                else:
                    visits.append(found)
                    print(" | ".join(cells(found)), file=sys.stderr)
    return visits, twins


if __name__ == "__main__":
    typer.run(main)
