"""What do a second worker, Dask and Ray make of a scan? Whole commands on the same models, in turns.

A file that was just read lies in memory, so a first round warms up and is not counted; rounds go forth and back.

    python -m benchmarks.registry.scaling ROOM [--models 1000] [--rounds 2] [--json PATH]
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from benchmarks.display import spread, wide_console, write_json
from benchmarks.registry.growth import linked
from benchmarks.registry.population import Population
from benchmarks.registry.scan import scanned

_ENGINES: Final = "local:1,local:2,dask://local:2,ray://local:2"


def main(
    room: Annotated[Path, typer.Argument(help="Folder of a registry, as benchmarks.registry.scan --room left it.")],
    models: Annotated[int, typer.Option(min=1, help="Models to scan.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Scans with each engine.")] = 2,
    engines: Annotated[
        str, typer.Option(help="Engines and workers; the first is what the others are compared with.")
    ] = (_ENGINES),
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Compare engines and numbers of workers on a part of a registry."""
    known = json.loads((room / "population.json").read_text())
    whole = Population(room / "models", room / "keys", known["planted"], known["logical"])
    part = linked(sorted(whole.models.rglob("*.onnx"))[:models], room / "some")
    names = engines.split(",")
    scanned(part, whole, names[-1])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            seconds[name].append(scanned(part, whole, name)["seconds"])
    figures = {name: _figures(times, seconds[names[0]]) for name, times in seconds.items()}
    table = Table("engine", "seconds", "faster than the first", title=f"{models:,} models, whole commands")
    for name, one in figures.items():
        table.add_row(name, spread(one["seconds"], ".1f"), f"{one['faster']:.2f}")
    wide_console().print(table)
    write_json(out, {"models": models, "engines": figures})


def _figures(times: list[float], first: list[float]) -> dict[str, Any]:
    return {"seconds": times, "faster": statistics.median(first) / statistics.median(times)}


if __name__ == "__main__":
    typer.run(main)
