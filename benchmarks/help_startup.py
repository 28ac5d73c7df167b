"""What does ``onnxmark --help`` cost beyond what any program built on typer and rich pays?

Whole processes, interleaved: ``onnxmark --help`` against ``--help`` of a typer application with one command that does
nothing, with typer's rich help and with its plain help; the bare interpreter and ``onnxmark audit --help`` beside them.

    python -m benchmarks.help_startup [--rounds 25] [--json PATH]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from benchmarks.display import wide_console, write_json
from benchmarks.paired import Command, interleaved, ratio, row, shown

TARGET: Final = 2.0
_OURS: Final = "onnxmark --help"
_RICH: Final = "empty typer app, rich --help"
_PLAIN: Final = "empty typer app, plain --help"
_EMPTY: Final = '''"""An application with nothing in it."""

import sys

import typer

app = typer.Typer(rich_markup_mode=%r)


@app.command()
def command() -> None:
    """Do nothing."""


if __name__ == "__main__":
    sys.exit(app())
'''


def compared(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure, print a table; the figures."""
    empty = {mode: folder / f"empty_{mode}.py" for mode in ("rich", None)}
    for mode, path in empty.items():
        path.write_text(_EMPTY % mode, encoding="utf-8")
    # The console script without its wrapper, so that both are started in the same way.
    start = "from onnxmark.cli import main; main()"
    commands = {
        "python -c pass": Command((sys.executable, "-c", "pass")),
        _RICH: Command((sys.executable, str(empty["rich"]), "--help")),
        _PLAIN: Command((sys.executable, str(empty[None]), "--help")),
        _OURS: Command((sys.executable, "-c", start, "--help")),
        "onnxmark audit --help": Command((sys.executable, "-c", start, "audit", "--help")),
    }
    runs = interleaved(commands, rounds, "starting programs")
    table = Table("command", "wall s", "CPU s", "peak MB", title=f"median (min–max) of {rounds} rounds")
    for name, found in runs.items():
        table.add_row(*row(name, found))
    console = wide_console()
    console.print(table)
    figures: dict[str, Any] = {"rounds": rounds, "target": TARGET}
    for other in (_RICH, _PLAIN):
        wall = ratio(runs[_OURS].seconds, runs[other].seconds)
        cpu = ratio(runs[_OURS].cpu_seconds, runs[other].cpu_seconds)
        style = "green" if wall["ratio"] <= TARGET else "bold red"
        console.print(f"{_OURS} over {other}: [{style}]{shown(wall)}[/] wall, {shown(cpu)} CPU; target ≤ {TARGET:g}")
        figures[other] = {"wall": wall, "cpu": cpu}
    return {**figures, "runs": {name: one.as_json() for name, one in runs.items()}}


def main(
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each command.")] = 25,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """What does onnxmark --help cost beyond what any program built on typer and rich pays?"""
    with tempfile.TemporaryDirectory() as folder:
        figures = compared(Path(folder), rounds)
    write_json(json, figures)
    raise typer.Exit(int(figures[_RICH]["wall"]["ratio"] > TARGET))


if __name__ == "__main__":
    typer.run(main)
