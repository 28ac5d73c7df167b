"""What does it take to list a model's layers, and to read one kernel, with onnxmark and with what else there is?

Whole processes, interleaved: onnxmark against ``onnx.load``, ``onnx_ir.load`` and a session of ONNX Runtime, on a model
of 1.8 GB in one file, of 3 GB beside it, of 3.5 GB in one file (two models one after the other: legal protobuf, but
more than its libraries take), and on a graph of 20,000 nodes and 20,000 initializers. The seconds inside count from
the call on, without interpreter and imports.

    python -m benchmarks.reading [--rounds 3] [--small] [--only KIND] [--workdir DIR] [--json PATH]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.display import spread, wide_console, write_json
from benchmarks.paired import Command, interleaved, ratio

_READERS: Final = Path(__file__).with_name("readers.py")
_CANNOT: Final = 3
_KERNEL: Final = "conv3.weight"
_OURS: Final = "onnxmark"
LIBRARIES: Final = (_OURS, "onnx.load", "onnx.load, data left out", "onnx_ir.load", "ONNX Runtime session")
TASKS: Final = {"list": "listing", "read": "one kernel, mean over filters"}
MODELS: Final = {
    "inline": (100, 1.8, "1.8 GB in one file"),
    "external": (318, 3.0, "3 GB of external data"),
    "concatenated": (372, 3.5, "3.5 GB in one file"),
    "numerous": (10_000, 0.1, "20,000 nodes and 20,000 initializers"),
}
"""Convolutions, gigabytes on disk, and what it is."""


def compared(path: Path, kind: str, rounds: int, console: Console) -> dict[str, Any]:
    """Measure all readers on one model, print a table; the figures."""
    commands: dict[str, Command] = {}
    failed: dict[str, str] = {}
    for library in LIBRARIES:
        if library.endswith("left out") and kind != "external":
            continue
        for task in TASKS:
            times = path.parent / f"{len(commands)}.times"
            command = (sys.executable, str(_READERS), library, task, str(path), _KERNEL, str(times))
            why = _tried(command)
            if why is None:
                commands[f"{library}: {task}"] = Command(command)
            else:
                failed[f"{library}: {task}"] = why
    runs = interleaved(commands, rounds, kind)
    inside = {name: _times(Path(command.arguments[-1]), rounds) for name, command in commands.items()}
    figures: dict[str, Any] = {"bytes": path.stat().st_size, "failed": failed, "runs": {}, "ratios": {}}
    for name, one in runs.items():
        ours = f"{_OURS}: {name.rpartition(': ')[2]}"
        figures["runs"][name] = {**one.as_json(), "inside": inside[name]}
        figures["ratios"][name] = {
            "wall": ratio(one.seconds, runs[ours].seconds),
            "inside": ratio(inside[name], inside[ours]),
            "cpu": ratio(one.cpu_seconds, runs[ours].cpu_seconds),
            "memory": ratio(one.megabytes, runs[ours].megabytes),
        }
    for task in TASKS:
        console.print(_table(kind, task, figures))
    return figures


def _table(kind: str, task: str, figures: dict[str, Any]) -> Table:
    columns = ("library", "wall s", "inside s", "CPU s", "peak MB", "wall", "inside", "CPU", "memory")
    table = Table(*columns, title=f"{MODELS[kind][2]}, {TASKS[task]}; on the right, over {_OURS}")
    for library in LIBRARIES:
        name = f"{library}: {task}"
        if name in figures["runs"]:
            run, over = figures["runs"][name], figures["ratios"][name]
            table.add_row(
                library, spread(run["seconds"]), f"{median(run['inside']):.4f}", f"{run['median_cpu_seconds']:.2f}",
                f"{run['median_megabytes']:.0f}", *(f"{one['ratio']:.2f}" for one in over.values()),
            )  # fmt: skip
    for name, why in figures["failed"].items():
        if name.endswith(task):
            table.caption = f"{table.caption or ''}{name.rpartition(': ')[0]}: {why}\n"
    return table


def _tried(command: tuple[str, ...]) -> str | None:
    """Why the library cannot, or None if it can.

    Raises:
        RuntimeError: It found nothing, or what it died of says nothing about the model.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _CANNOT):
        raise RuntimeError(f"{' '.join(command[2:4])}: {done.stderr[-1000:]}")
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:160]


def _times(path: Path, rounds: int) -> list[float]:
    """Seconds of the rounds that count: the trial and the round that warms up come before them."""
    return [float(line) for line in path.read_text(encoding="utf-8").split()][-rounds:]


def measured_models(kinds: list[str], workdir: Path | None, rounds: int, scale: int, console: Console) -> Any:
    """Make one model after the other, measure, delete."""
    figures = {}
    for kind in kinds:
        convs, gigabytes, _ = MODELS[kind]
        with tempfile.TemporaryDirectory(prefix="onnxmark-", dir=workdir) as name:
            needed, free = gigabytes * 1.1e9 / scale + 200e6, shutil.disk_usage(name).free
            if free < needed:
                where = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"
                raise typer.BadParameter(where, param_hint="--workdir")
            path = Path(name) / "model.onnx"
            maker = [sys.executable, "-m", "benchmarks.reading_models", kind, str(path), str(max(convs // scale, 6))]
            subprocess.run(maker, check=True)
            figures[kind] = compared(path, kind, rounds, console)
    return figures


def main(
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each command.")] = 3,
    small: Annotated[
        bool, typer.Option("--small", help="Models of a twentieth of the size, for a quick look.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(MODELS)}; repeatable; all.")] = None,
    workdir: Annotated[Path | None, typer.Option(help="Where to put the models, if not among temporary files.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """What does it take to list a model's layers, and to read one kernel, with onnxmark and with what else there is?"""
    kinds = only if only else list(MODELS)
    if unknown := set(kinds) - set(MODELS):
        raise typer.BadParameter(f"no such model: {', '.join(sorted(unknown))}", param_hint="--only")
    console = wide_console()
    try:
        figures = measured_models(kinds, workdir, rounds, 20 if small else 1, console)
    except RuntimeError as error:
        console.print(f"[bold red]failed:[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    write_json(json, {"rounds": rounds, "small": small, "models": figures})


if __name__ == "__main__":
    typer.run(main)
