"""How much faster is a full robustness sweep than rewriting and reloading the model with onnx for each of its points?

A file of ResNet-50's size (102 MB, :mod:`benchmarks.resnet50`), marked in one layer, and every recipe and draw of
``onnxmark audit --attacks full`` that needs nothing but weights. The other way takes each point through the file:
``onnx.load``, attack, ``onnx.save``, ``onnx.load``, read the layer. Attacks, generators and reading are the same, so
both ways must give the same margins, and it is checked that they do; only the way to the weights differs. What is done
once whichever way (the key's rows, the magnitudes of the whole model) is done before the clock starts. It is timed
twice: attacking the carrier alone, which is the least that can be done, and attacking every layer, which is what
compressing a model means.

Three carriers: the smaller the layer, the more the file weighs. One process, interleaved point by point.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.sweep_speed [--share 1] [--json PATH]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnx
import typer
from onnx import numpy_helper
from rich.table import Table

from benchmarks.display import progress, wide_console, write_json
from benchmarks.resnet50 import resnet50
from onnxmark.arrays import Float32Array
from onnxmark.attacker import Attacker, is_weight_attack
from onnxmark.attacks import Attack, GlobalPruning, apply_attack
from onnxmark.audit import Finding, audit_model, seen_weights
from onnxmark.errors import AttackError
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.recipes import select
from onnxmark.robustness import DRAWS, sweep
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.verdict import Policy
from onnxmark.weights import WeightTensor

TARGET: Final = 20.0
CARRIERS: Final = ("stage1.block1.conv2.weight", "stage3.block1.conv2.weight", "stage4.block1.conv2.weight")
N_BITS: Final = 256
OURS, CARRIER, MODEL = "onnxmark", "onnx, carrier attacked", "onnx, every layer attacked"


@dataclass(frozen=True, slots=True)
class Point:
    """One draw of one recipe."""

    recipe: Attack
    draw: int

    def rng(self) -> np.random.Generator:
        """The generator that a sweep with seed 0 gives this draw."""
        return np.random.default_rng((0, self.draw))


@dataclass(slots=True)
class Sums:
    """Seconds spent on each way, over the points timed."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys((OURS, CARRIER, MODEL), 0.0))
    points: int = 0


def points(attacker: Attacker, share: float) -> list[Point]:
    """Every point of a full sweep that works without reference and inputs, or an even share of them."""
    recipes = [one for one in select("full").recipes if is_weight_attack(one) and attacker.lacks(one) is None]
    found = [Point(one, draw) for one in recipes for draw in range(DRAWS if one.random else 1)]
    step = max(1, round(1 / share))
    return found[::step]


def marked(folder: Path, layer: str) -> tuple[Path, Finding, WeightTensor]:
    """The model marked in one layer, what an audit finds in it, and the layer."""
    plain, path = folder / "resnet50.onnx", folder / f"{layer}.onnx"
    if not plain.exists():
        onnx.save(resnet50(), plain)
    with open_model(plain) as model:
        site = model.site(layer)
        key = make_key(carrier_of(site), np.zeros(N_BITS, np.uint8))
    embed_file(plain, key, path, layer=layer)
    with open_model(path) as model:
        finding = audit_model(model, [key], Policy(), layer=layer).findings[0]
        return path, finding, seen_weights(model, finding)[0]


def through_the_file(
    path: Path, scratch: Path, point: Point, attacker: Attacker, layer: WeightTensor, *, whole: bool
) -> Float32Array:
    """The carrier's weights after the model was loaded, attacked, written and loaded again."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == layer.name or (whole and tensor.name.endswith(".weight")):
            values = np.array(numpy_helper.to_array(tensor))
            host = layer.with_values(values)
            try:
                attacked = apply_attack(point.recipe, host, attacker.means(point.recipe, host, point.rng()))
            except AttackError:
                continue  # a second message has no room in a small layer
            tensor.CopyFrom(numpy_helper.from_array(attacked.values, tensor.name))
    onnx.save(model, scratch)
    again = onnx.load(scratch)
    found = next(tensor for tensor in again.graph.initializer if tensor.name == layer.name)
    return np.array(numpy_helper.to_array(found))


def timed(path: Path, finding: Finding, layer: WeightTensor, some: Sequence[Point]) -> Iterator[tuple[str, float]]:
    """Seconds of each way for each point.

    Raises:
        RuntimeError: Two ways read different bits.
    """
    assert finding.best is not None
    scheme, attacker = ProjectionScheme(), Attacker(path)
    scratch = path.with_name("scratch.onnx")
    scheme.extract(finding.key, (layer,), finding.best.reading)
    attacker.means(GlobalPruning(0.5), layer, np.random.default_rng())
    for point in some:
        started = time.perf_counter()
        attacked = apply_attack(point.recipe, layer, attacker.means(point.recipe, layer, point.rng()))
        ours = scheme.extract(finding.key, (attacked,), finding.best.reading)
        yield OURS, time.perf_counter() - started
        for name, whole in ((CARRIER, False), (MODEL, True)):
            started = time.perf_counter()
            values = through_the_file(path, scratch, point, attacker, layer, whole=whole)
            theirs = scheme.extract(finding.key, (layer.with_values(values),), finding.best.reading)
            yield name, time.perf_counter() - started
            if not np.array_equal(ours.margins, theirs.margins):
                raise RuntimeError(f"{point}: {ours.n_errors} bits wrong, {theirs.n_errors} through the file")


def compared(path: Path, finding: Finding, layer: WeightTensor, share: float) -> dict[str, Any]:
    """All ways on one carrier, and the sweep as a user gets it."""
    attacker = Attacker(path)
    some = points(attacker, share)
    sums = Sums(points=len(some))
    with progress(layer.name, 3 * len(some)) as advance:
        for name, seconds in timed(path, finding, layer, some):
            sums.seconds[name] += seconds
            advance(1)
    recipes = list(dict.fromkeys(point.recipe for point in points(attacker, 1.0)))
    started = time.perf_counter()
    trials = sweep(finding, (layer,), recipes, Policy(), attacker=attacker)
    whole = time.perf_counter() - started
    return {
        "shape": list(layer.shape),
        "points": sums.points,
        "seconds": sums.seconds,
        "ratio_carrier": sums.seconds[CARRIER] / sums.seconds[OURS],
        "ratio_model": sums.seconds[MODEL] / sums.seconds[OURS],
        "sweep_seconds": whole,
        "sweep_trials": sum(trial.n_draws for trial in trials),
    }


def table(figures: dict[str, dict[str, Any]]) -> Table:
    """The figures beside each other."""
    made = Table(title="a point of a full sweep, mean over all points timed")
    for heading in ("carrier", "points", OURS, CARRIER, "times faster", MODEL, "times faster", "whole sweep"):
        made.add_column(heading, justify="left" if heading == "carrier" else "right")
    for found in figures.values():
        each = {name: f"{1000 * seconds / found['points']:.1f} ms" for name, seconds in found["seconds"].items()}
        made.add_row(
            "x".join(map(str, found["shape"])),
            str(found["points"]),
            each[OURS],
            each[CARRIER],
            _judged(found["ratio_carrier"]),
            each[MODEL],
            _judged(found["ratio_model"]),
            f"{found['sweep_seconds']:.1f} s, {found['sweep_trials']} points",
        )
    return made


def _judged(ratio: float) -> str:
    return f"[{'green' if ratio >= TARGET else 'bold red'}]{ratio:.1f}[/]"


def main(
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the points to time.")] = 1.0,
    carrier: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CARRIERS)}; repeatable; all.")] = None,
    workdir: Annotated[Path | None, typer.Option(help="Where to put the models, if not among temporary files.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """How much faster is a full sweep than rewriting and reloading the model for each of its points?"""
    console = wide_console()
    with tempfile.TemporaryDirectory(prefix="onnxmark-", dir=workdir) as folder:
        figures = {layer: compared(*marked(Path(folder), layer), share) for layer in carrier or CARRIERS}
    console.print(table(figures))
    console.print(f"target: ≥ {TARGET:g} times faster")
    write_json(json, figures)


if __name__ == "__main__":
    typer.run(main)
