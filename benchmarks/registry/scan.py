"""Thousands of models against hundreds of keys: is every planted mark found, and nothing else, and how fast?

A registry of ResNet-18, MobileNetV2 and wide residual networks (see :mod:`benchmarks.registry.population`) is scanned
by ``onnxmark scan`` as its users run it, in processes of its own. Beside it stands what one would write first:
``onnx.load`` of every file, every key's rows kept in memory, one product for each initializer of the right shape — over
a part of the same files, in the same run.

    python -m benchmarks.registry.scan [--models 10000] [--keys 200] [--planted 25] [--room DIR] [--json PATH]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnx
import typer
from onnx import numpy_helper

from benchmarks.registry.population import Population, populate
from onnxmark.keys import Key, load_key
from onnxmark.keys.derivation import gaussian, signs
from onnxmark.schemes.projection.carriers import carrier_map, fitting_shape

_NAIVE_MODELS: Final = 24


def main(
    models: Annotated[int, typer.Option(help="Number of models.")] = 10_000,
    keys: Annotated[int, typer.Option(help="Number of keys.")] = 200,
    planted: Annotated[int, typer.Option(help="Keys whose mark is in a model.")] = 25,
    room: Annotated[
        Path | None, typer.Option(help="Where the registry goes; kept. A temporary place otherwise.")
    ] = None,
    engines: Annotated[str, typer.Option(help="Engines and workers to time, as local:2,dask://local:2.")] = "local:2",
    subset: Annotated[int, typer.Option(help="Time further engines on so many models only.")] = 1000,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Make a registry, scan it, and check what was found."""
    place = Path(tempfile.mkdtemp(prefix="onnxmark-registry-")) if room is None else room
    try:
        population = _population(place, models, keys, planted)
        figures: dict[str, Any] = {"models": models, "keys": keys, "logical_bytes": population.logical}
        first, *others = engines.split(",")
        figures["scan"] = scanned(population.models, population, first)
        figures["found"] = checked(figures["scan"].pop("document"), population)
        some = _subset(population, place / "subset", subset)
        figures["engines"] = [
            {name: value for name, value in scanned(some, population, one).items() if name != "document"}
            for one in others
        ]
        # Last: Linux counts the memory of the process that starts a program towards the program's own peak.
        figures["naive_s_per_model"] = naive(population)
        figures["ratio"] = figures["naive_s_per_model"] * models / figures["scan"]["seconds"]
        print(json.dumps(figures, indent=2))
        if out is not None:
            out.write_text(json.dumps(figures, indent=2) + "\n")
    finally:
        if room is None:
            shutil.rmtree(place, ignore_errors=True)


def _population(place: Path, models: int, keys: int, planted: int) -> Population:
    listing = place / "population.json"
    if listing.exists():
        known = json.loads(listing.read_text())
        return Population(place / "models", place / "keys", known["planted"], known["logical"])
    started = time.perf_counter()
    population = populate(place, models, keys, planted)
    listing.write_text(json.dumps({"planted": population.planted, "logical": population.logical}))
    print(f"made {models:,} models of {population.logical / 1e9:,.0f} GB in {time.perf_counter() - started:.0f} s")
    return population


def scanned(models: Path, population: Population, engine: str) -> dict[str, Any]:
    """One scan in a process of its own: seconds, models a second, peak memory of it and of its largest worker."""
    address, _, jobs = engine.rpartition(":")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "scan.json"
        command = [sys.executable, "-m", "onnxmark", "scan", str(models), "--keys", str(population.keys)]
        options = ["--engine", address, "-j", jobs, "--db", f"{folder}/scan.sqlite", "-o", str(report)]
        started = time.perf_counter()
        done = subprocess.run([*command, *options, "--format", "json"], check=False, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        journal = (Path(folder) / "scan.sqlite").stat().st_size
        document = json.loads(report.read_text())
    n_models = document["summary"]["models"]
    return {
        "engine": engine,
        "exit": done.returncode,
        "models": n_models,
        "seconds": round(seconds, 1),
        "models_per_s": round(n_models / seconds, 1),
        "largest_process_mb": round(max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024),
        "journal_mb": round(journal / 1e6, 1),
        "n_hypotheses": document["policy"]["n_hypotheses"],
        "document": document,
    }


def checked(document: dict[str, Any], population: Population) -> dict[str, Any]:
    """What was found against what was planted.

    Raises:
        RuntimeError: They differ.
    """
    names = {load_key(path).commitment: path.name for path in population.keys.glob("*.npy")}
    found = {
        (entry["model"]["identity"], names[finding["key"]["commitment"]]): finding["log10_p_value"]
        for entry in document["entries"]
        for finding in entry["findings"]
        if finding["verdict"] == "match"
    }
    missed = sorted(set(population.planted.items()) - set(found))
    false = sorted(set(found) - set(population.planted.items()))
    if missed or false or document["status"] != "complete":
        raise RuntimeError(f"missed {missed}, found besides {false}, status {document['status']}")
    return {"planted": len(population.planted), "weakest_log10_p": round(max(found.values()), 1)}


def naive(population: Population) -> float:
    """Seconds a model of the straightforward loop, over the first models, one thread."""
    keys = [key for path in sorted(population.keys.glob("*.npy")) if isinstance(key := load_key(path), Key)]
    rows = [_rows(key) for key in keys]
    files = sorted(population.models.rglob("*.onnx"))[:_NAIVE_MODELS]
    started = time.perf_counter()
    for path in files:
        weights = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
        for key, matrix in zip(keys, rows, strict=True):
            for values in weights:
                _naive_bits(key, matrix, values)
    return (time.perf_counter() - started) / len(files)


def _rows(key: Key) -> Any:
    """A key's rows as small as they come without packing: made once, outside of what is timed."""
    carrier = carrier_map(str(key.parameters["carrier"]), key.carrier.shape, lambda: key.master)
    draw: Any = signs if key.parameters["generator"] == "rademacher" else gaussian
    return carrier, np.stack([draw(key.master, "row", index, carrier.size) for index in range(key.n_bits)])


def _naive_bits(key: Key, rows: Any, values: Any) -> int | None:
    carrier, matrix = rows
    shape = fitting_shape(str(key.parameters["carrier"]), key.carrier.shape, values.shape)
    if shape is None or shape != values.shape:
        return None
    fitted = carrier if carrier.shape == shape else carrier_map(carrier.kind, shape, lambda: key.master)
    scores = matrix.astype(np.float64) @ fitted.fold(values)
    return int(np.sum((scores > 0) == (key.message == 1)))


def _subset(population: Population, place: Path, count: int) -> Path:
    """Hard links to the first models, for timing the engines."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    files: Sequence[Path] = sorted(population.models.rglob("*.onnx"))[:count]
    for path in files:
        os.link(path, place / path.name)
    return place


if __name__ == "__main__":
    typer.run(main)
