"""How much faster, and in how much less memory, is a whole audit than loading the model with onnx?

Whole processes on a generated model of 1.8 GB: ``onnxmark audit MODEL --key K --attacks none`` against a script of
``onnx.load`` and NumPy that reads the same layers with the same matrix (:mod:`benchmarks.onnx_load_reader`) and skips
scrypt, row generation and statistics. Both first prove that they read the same bits. Interleaved, file cache warm.

Four keys: one layer fits or 99 do, read from the mean over filters or through a keyed fold of all weights. The targets
are for one layer.

    python -m benchmarks.audit_speed [--rounds 5] [--workdir DIR] [--json PATH]
"""

from __future__ import annotations

import json as json_format
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.display import wide_console, write_json
from benchmarks.paired import Command, Runs, interleaved, ratio, row, shown

FASTER: Final = 5.0
SMALLER: Final = 30.0
READINGS: Final = {
    "one-mean": "one layer, mean over filters",
    "one-fold": "one layer, fold:65536",
    "all-mean": "all equal layers, mean over filters",
    "all-fold": "all equal layers, fold:65536",
}
_READER: Final = Path(__file__).with_name("onnx_load_reader.py")
N_BITS: Final = 256
_BYTES_A_LAYER: Final = 17_000_000


def audit_command(folder: Path, key: str) -> Command:
    """A whole audit, as the console script starts it."""
    start = "from onnxmark.cli import main; main()"
    options = ("audit", str(folder / "model.onnx"), "--key", str(folder / f"{key}.npy"), "--attacks", "none")
    return Command((sys.executable, "-c", start, *options), exit_codes=(0, 1))


def load_command(folder: Path, key: str) -> Command:
    """``onnx.load`` and the same reading."""
    return Command((sys.executable, str(_READER), str(folder / "model.onnx"), str(folder / key)))


def check_agreement(folder: Path, key: str) -> int:
    """Both must read the same bits right; the number of layers read.

    Raises:
        RuntimeError: They do not.
    """
    audit = subprocess.run(
        [*audit_command(folder, key).arguments, "--format", "json"], capture_output=True, text=True, check=False
    )
    candidates = json_format.loads(audit.stdout)["findings"][0]["candidates"]
    rates = [candidate["bit_error_rate"] for candidate in candidates]
    loaded = subprocess.run(load_command(folder, key).arguments, capture_output=True, text=True, check=True)
    counts = loaded.stdout.split()
    if rates != [1 - int(count) / N_BITS for count in counts]:
        raise RuntimeError(f"{key}: bit error rates {rates[:3]} in onnxmark, {counts[:3]} bits right by onnx.load")
    return len(counts)


def compared(folder: Path, keys: list[str], rounds: int, console: Console) -> dict[str, Any]:
    """Measure and print, key by key."""
    layers = {key: check_agreement(folder, key) for key in keys}
    commands: dict[str, Command] = {}
    for key in keys:
        commands |= {f"onnxmark {key}": audit_command(folder, key), f"onnx.load {key}": load_command(folder, key)}
    runs = interleaved(commands, rounds, "auditing")
    times = Table("command", "wall s", "CPU s", "peak MB", title=f"median (min–max) of {rounds} rounds")
    for name, found in runs.items():
        times.add_row(*row(name, found))
    ratios = Table("reading", "layers", "times faster", "times less memory", title="onnx.load over onnxmark")
    figures = {key: _figures(key, layers[key], runs) for key in keys}
    for key, found_ratio in figures.items():
        cells = (_judged(found_ratio["wall"], FASTER, key), _judged(found_ratio["memory"], SMALLER, key))
        ratios.add_row(READINGS[key], str(layers[key]), *cells)
    console.print(times, ratios)
    console.print(f"targets for one layer: ≥ {FASTER:g} times faster, ≥ {SMALLER:g} times less memory")
    return {"rounds": rounds, "ratios": figures, "runs": {name: one.as_json() for name, one in runs.items()}}


def _figures(key: str, n_layers: int, runs: dict[str, Runs]) -> dict[str, Any]:
    ours, theirs = runs[f"onnxmark {key}"], runs[f"onnx.load {key}"]
    return {
        "layers": n_layers,
        "wall": ratio(theirs.seconds, ours.seconds),
        "cpu": ratio(theirs.cpu_seconds, ours.cpu_seconds),
        "memory": ratio(theirs.megabytes, ours.megabytes),
    }


def _judged(found: dict[str, float], target: float, key: str) -> str:
    if not key.startswith("one"):
        return shown(found)
    return f"[{'green' if found['ratio'] >= target else 'bold red'}]{shown(found)}[/]"


def _missed(figures: dict[str, Any]) -> bool:
    return any(
        found["wall"]["ratio"] < FASTER or found["memory"]["ratio"] < SMALLER
        for key, found in figures["ratios"].items()
        if key.startswith("one")
    )


def _in_large_model(workdir: Path | None, convs: int, matmuls: int, work: Callable[[Path], Any]) -> Any:
    """Do ``work`` in a folder with the model and the keys, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="onnxmark-", dir=workdir) as name:
        needed, free = (convs + matmuls) * _BYTES_A_LAYER + 500_000_000, shutil.disk_usage(name).free
        if free < needed:
            raise typer.BadParameter(f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed", param_hint="--workdir")
        maker = [sys.executable, "-m", "benchmarks.large_model", name, str(convs), str(matmuls)]
        subprocess.run(maker, check=True)
        return work(Path(name))


def main(
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each command.")] = 5,
    key: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(READINGS)}; repeatable; all.")] = None,
    convs: Annotated[int, typer.Option(min=2, help="Convolutions, the first of a shape of its own.")] = 100,
    matmuls: Annotated[int, typer.Option(min=1, help="Fully connected layers.")] = 50,
    workdir: Annotated[Path | None, typer.Option(help="Where to put the model, if not among temporary files.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """How much faster, and in how much less memory, is a whole audit than loading the model with onnx?"""
    keys = key if key else list(READINGS)
    if unknown := set(keys) - set(READINGS):
        raise typer.BadParameter(f"no such key: {', '.join(sorted(unknown))}", param_hint="--key")
    console = wide_console()

    def work(folder: Path) -> dict[str, Any]:
        size = (folder / "model.onnx").stat().st_size
        console.print(f"model of {size / 1e9:.2f} GB, {convs} convolutions, {matmuls} fully connected layers")
        return {"bytes": size, **compared(folder, keys, rounds, console)}

    try:
        figures = _in_large_model(workdir, convs, matmuls, work)
    except RuntimeError as error:
        console.print(f"[bold red]failed:[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    write_json(json, figures)
    raise typer.Exit(int(_missed(figures)))


if __name__ == "__main__":
    typer.run(main)
