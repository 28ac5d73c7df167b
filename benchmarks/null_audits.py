"""How often does an audit find a mark that is not there? Random keys against real kernels, a hundred thousand times.

Three campaigns over the layers of real models (see :mod:`benchmarks.real_kernels`):

* *readings*: a fresh key of every generator and carrier, read and judged by the code an audit runs. One thing is
  replaced, because it costs a tenth of a second a key: the master secret is SHA-256 of the seed instead of scrypt of
  it. The null needs no more of it than that it was not chosen with the weights in view; its cost is for forgers.
* *audits*: whole audits of whole files, with scrypt, every layer that fits and the correction for having tried them.
* *foreign*: matrices made elsewhere (direct, diff, dense, dense with a mean), with all-ones and random messages, which
  have nulls of their own.

P-values are two-sided (a mark may be read as its complement). Every draw is a function of ``--seed`` and its number,
whatever the number of processes.

    python -m benchmarks.null_audits [--audits 100000] [--json PATH]
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console

from benchmarks.calibration import Calibration, breakdown_table, calibrated, histogram, rate_table
from benchmarks.display import progress, wide_console, write_json
from benchmarks.real_kernels import RealKernels, real_kernels
from onnxmark.arrays import BitArray, Float64Array
from onnxmark.audit import audit_file
from onnxmark.keys import Carrier, ForeignKey, Key, Secret
from onnxmark.model import open_model
from onnxmark.schemes.projection.carriers import FULL, MEAN_HWI, MEAN_IHW, default_kind, vector_size
from onnxmark.schemes.projection.projection import GENERATORS, required_entries
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.statistics import LOG10_2, log10_binomial_tail
from onnxmark.verdict import Policy, Verdict, judge
from onnxmark.weights import WeightTensor

BITS: Final = (64, 256)
CARRIERS: Final = (FULL, "fold:1024", MEAN_IHW, MEAN_HWI)
FOREIGN: Final = ("direct", "direct, repeated", "diff", "dense", "dense + 0.2")
MESSAGES: Final = ("ones", "random")
_LARGEST_VECTOR: Final = 2**14
_LARGEST_FOLDED: Final = 2**17
_CHUNK: Final = 200
_SCHEME: Final = ProjectionScheme()
_COLUMNS: Final = ("cell", "estimate", "bound", "count", "match", "inconclusive")

Row = tuple[float, ...]
"""One audit: number of its cell, base-10 logarithms of three p-values, whether it matched, whether inconclusive."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of key, and the kernels it can be tried on."""

    name: str
    generator: str
    carrier: str
    n_bits: int
    kernels: tuple[WeightTensor, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Task:
    """A run of consecutive audits of one campaign."""

    campaign: str
    seed: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """All audits of one campaign, and the names of its cells."""

    rows: Float64Array
    cells: tuple[str, ...]

    def column(self, name: str) -> Float64Array:
        """One column of :data:`_COLUMNS`, conclusive audits only."""
        conclusive = self.rows[:, _COLUMNS.index("inconclusive")] == 0
        return np.asarray(self.rows[conclusive, _COLUMNS.index(name)], dtype=np.float64)

    def count(self, name: str) -> int:
        """How many audits have a flag."""
        return int(self.rows[:, _COLUMNS.index(name)].sum())


# --- the audits, in a worker ----------------------------------------------------------------------------------------

_found: RealKernels | None = None


def _prepare(found: RealKernels) -> None:
    global _found  # noqa: PLW0603 - set once, when a worker starts
    _found = found


def _kernels() -> RealKernels:
    assert _found is not None
    return _found


def run_task(task: Task) -> list[Row]:
    """Every audit of a task."""
    one = {"readings": _reading, "audits": _whole_audit, "foreign": _foreign}[task.campaign]
    return [one(task.seed, number) for number in range(task.start, task.stop)]


def own_cells(kernels: tuple[WeightTensor, ...]) -> tuple[Cell, ...]:
    """Every generator, carrier and message length that fits some kernel."""
    cells = [
        Cell(
            f"{generator} {carrier} {n_bits}", generator, carrier, n_bits, _fitting(kernels, carrier, generator, n_bits)
        )
        for generator in GENERATORS
        for carrier in CARRIERS
        for n_bits in BITS
    ]
    return tuple(cell for cell in cells if cell.kernels)


def foreign_cells(kernels: tuple[WeightTensor, ...]) -> tuple[Cell, ...]:
    """Every kind of matrix, message and message length; matrices are read from the mean over filters."""
    return tuple(
        Cell(f"{matrix}, {message}, {n_bits}", matrix, message, n_bits, _fitting(kernels, MEAN_IHW, "diff", n_bits))
        for matrix in FOREIGN
        for message in MESSAGES
        for n_bits in BITS
    )


def _fitting(kernels: tuple[WeightTensor, ...], carrier: str, generator: str, n_bits: int) -> tuple[WeightTensor, ...]:
    needed = required_entries(generator, n_bits)
    return tuple(
        kernel
        for kernel in kernels
        if needed <= vector_size(carrier, kernel.shape) <= _LARGEST_VECTOR
        and kernel.values.size <= _LARGEST_FOLDED
        and (carrier != MEAN_HWI or math.prod(kernel.shape[2:]) > 1)
        and (not carrier.startswith("fold") or kernel.values.size > vector_size(carrier, kernel.shape))
    )


@lru_cache(maxsize=1)
def _own_cells() -> tuple[Cell, ...]:
    return own_cells(_kernels().kernels)


@lru_cache(maxsize=1)
def _foreign_cells() -> tuple[Cell, ...]:
    return foreign_cells(_kernels().kernels)


def _drawn(seed: int, campaign: str, number: int) -> tuple[Secret, np.random.Generator]:
    """A secret and a generator of its own for each audit."""
    digest = hashlib.sha256(f"onnxmark null audit|{campaign}|{seed}|{number}".encode()).digest()
    return Secret(digest), np.random.default_rng(list(digest))


def _own_key(secret: Secret, shape: tuple[int, ...], generator: str, carrier: str, n_bits: int) -> Key:
    parameters = {"generator": generator, "carrier": carrier}
    return Key("projection", secret, bytes(32), np.zeros(n_bits, np.uint8), (Carrier(shape),), parameters)


def _reading(seed: int, number: int) -> Row:
    cells = _own_cells()
    index = number % len(cells)
    cell = cells[index]
    secret, rng = _drawn(seed, "readings", number)
    kernel = cell.kernels[rng.integers(len(cell.kernels))]
    key = _own_key(secret, kernel.shape, cell.generator, cell.carrier, cell.n_bits)
    # The stand-in for scrypt: a cached property is looked up here first.
    key.__dict__["master"] = Secret(hashlib.sha256(secret.reveal()).digest())
    (reading,) = _SCHEME.readings(key, (kernel.shape,))
    evidence = _SCHEME.extract(key, (kernel,), reading)
    judgement = judge(evidence, _SCHEME.signs_tested, Policy())
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return index, 0.0, 0.0, 0.0, 0, 1
    estimate = min(0.0, evidence.tests[1].log10_p + LOG10_2)
    return index, estimate, judgement.log10_p_value, _two_sided_count(evidence.margins), _is_match(judgement.verdict), 0


def _two_sided_count(margins: Float64Array) -> float:
    right, wrong = int(np.sum(margins > 0)), int(np.sum(margins < 0))
    return min(0.0, _binomial_tail(max(right, wrong), margins.size) + LOG10_2)


_binomial_tail = lru_cache(maxsize=1024)(log10_binomial_tail)


def _is_match(verdict: Verdict) -> int:
    return int(verdict is Verdict.MATCH)


def _whole_audit(seed: int, number: int) -> Row:
    secret, rng = _drawn(seed, "audits", number)
    generator, n_bits = GENERATORS[number % len(GENERATORS)], BITS[number // len(GENERATORS) % len(BITS)]
    choices = _carriers(required_entries(generator, n_bits), mean=bool(rng.integers(2)))
    path, shape, kind = choices[rng.integers(len(choices))]
    audit = audit_file(path, [_own_key(secret, shape, generator, kind, n_bits)])
    log10_p = audit.findings[0].judgement.log10_p_value
    return 0, log10_p, log10_p, 0.0, _is_match(audit.verdict), int(audit.verdict is Verdict.INCONCLUSIVE)


@lru_cache
def _carriers(needed: int, *, mean: bool) -> tuple[tuple[Path, tuple[int, ...], str], ...]:
    """Every layer of every file with room enough, and the carrier a key for it would have."""
    found = []
    for path in _kernels().models:
        with open_model(path) as model:
            shapes = [site.shape for site in model.sites()]
        kinds = [MEAN_IHW if mean else default_kind(shape) for shape in shapes]
        found += [
            (path, shape, kind) for shape, kind in zip(shapes, kinds, strict=True) if needed <= vector_size(kind, shape)
        ]
    return tuple(found)


def _foreign(seed: int, number: int) -> Row:
    cells = _foreign_cells()
    index = number % len(cells)
    cell = cells[index]
    _, rng = _drawn(seed, "foreign", number)
    kernel = cell.kernels[rng.integers(len(cell.kernels))]
    size = vector_size(MEAN_IHW, kernel.shape)
    bits: BitArray | None = None if cell.carrier == "ones" else rng.integers(0, 2, cell.n_bits, dtype=np.uint8)
    # Stored one row a weight, as the original code does.
    key = ForeignKey(np.ascontiguousarray(_matrix(cell.generator, cell.n_bits, size, rng).T), bits, "null", "")
    evidence = _SCHEME.extract(key, (kernel,), _SCHEME.readings(key, (kernel.shape,))[0])
    judgement = judge(evidence, _SCHEME.signs_tested, Policy())
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return index, 0.0, 0.0, 0.0, 0, 1
    count = _two_sided_count(evidence.margins)
    return index, judgement.log10_p_value, judgement.log10_p_value, count, _is_match(judgement.verdict), 0


def _matrix(kind: str, n_bits: int, size: int, rng: np.random.Generator) -> Float64Array:
    """A matrix of shape (n_bits, size), drawn without a look at the weights."""
    if kind.startswith("dense"):
        return rng.standard_normal((n_bits, size)) + (0.2 if kind.endswith("0.2") else 0.0)
    rows, each = np.zeros((n_bits, size)), np.arange(n_bits)
    if kind == "direct, repeated":
        rows[each, rng.integers(0, size, n_bits)] = 1
        return rows
    positions = rng.permutation(size)
    rows[each, positions[:n_bits]] = 1
    if kind == "diff":
        rows[each, positions[n_bits : 2 * n_bits]] = -1
    return rows


# --- the campaigns ----------------------------------------------------------------------------------------------------


def campaigns(found: RealKernels, sizes: dict[str, int], seed: int, processes: int) -> dict[str, Campaign]:
    """Run every campaign over a pool of processes."""
    # Workers inherit this: one thread each, or their threads fight over the cores.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    names = {
        "readings": tuple(cell.name for cell in own_cells(found.kernels)),
        "audits": ("whole audits",),
        "foreign": tuple(cell.name for cell in foreign_cells(found.kernels)),
    }
    results = {}
    with get_context("spawn").Pool(processes, _prepare, (found,)) as pool:
        for campaign, n in sizes.items():
            chunk = max(1, min(_CHUNK, n // (8 * processes)))
            tasks = [Task(campaign, seed, start, min(start + chunk, n)) for start in range(0, n, chunk)]
            rows = _collected(pool.imap_unordered(run_task, tasks), campaign, n)
            results[campaign] = Campaign(rows, names[campaign])
    return results


def _collected(parts: Iterable[list[Row]], label: str, total: int) -> Float64Array:
    rows: list[Row] = []
    with progress(label, total) as done:
        for part in parts:
            rows.extend(part)
            done(len(part))
    # Processes finish in any order; what is printed must not depend on it.
    return np.array(sorted(rows), dtype=np.float64).reshape(-1, len(_COLUMNS))


def _grouped(campaign: Campaign, column: str) -> dict[str, Calibration]:
    """Calibration by generator and carrier (or matrix and message), message lengths together."""
    cells, values = campaign.column("cell").astype(int), campaign.column(column)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(campaign.cells):
        groups.setdefault(name.rsplit(" ", 1)[0].rstrip(","), []).append(index)
    return {name: calibrated(values[np.isin(cells, members)]) for name, members in groups.items()}


def show(results: dict[str, Campaign], found: RealKernels, seconds: float, console: Console) -> dict[str, Any]:
    """Print every table; the same figures as plain values."""
    for line in found.skipped:
        console.print(f"[yellow]skipped: {line}")
    shapes = len({kernel.shape for kernel in found.kernels})
    console.print(f"{len(found.kernels)} distinct kernels of {shapes} shapes, {len(found.models)} ONNX files\n")
    figures: dict[str, Any] = {"kernels": len(found.kernels), "models": len(found.models), "seconds": seconds}
    for name, campaign in results.items():
        kinds = ("estimate", "bound", "count") if name == "readings" else ("bound",)
        titles = {"estimate": "saddle point", "bound": "verdict (bound)", "count": "bit count"}
        rates = {titles[kind]: calibrated(campaign.column(kind)) for kind in kinds}
        matches, doubts, n = campaign.count("match"), campaign.count("inconclusive"), len(campaign.rows)
        console.print(rate_table(f"{name}: {n:,}; hits (over those promised)", rates))
        style = "bold red" if matches else "bold green"
        console.print(f"[{style}]{matches} matches[/] at alpha 1e-6 after correction; {doubts} inconclusive\n")
        groups = {} if name == "audits" else _grouped(campaign, kinds[0])
        if groups:
            heading = "generator carrier" if name == "readings" else "matrix, message"
            console.print(breakdown_table(f"{name}: {titles[kinds[0]]}, rates over those promised", groups, heading))
        if name == "readings":
            console.print(histogram(campaign.column("estimate")))
        figures[name] = {
            "n": n,
            "matches": matches,
            "inconclusive": doubts,
            "rates": {key: value.as_json() for key, value in rates.items()},
            "groups": {key: value.as_json() for key, value in groups.items()},
        }
    console.print(f"{seconds:.0f} s")
    return figures


def main(
    audits: Annotated[int, typer.Option(min=1, help="Readings of onnxmark keys.")] = 100_000,
    whole: Annotated[int, typer.Option(min=1, help="Whole audits of whole files, with scrypt.")] = 500,
    foreign: Annotated[int, typer.Option(min=1, help="Readings of foreign matrices.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Every draw depends on it.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """How often does an audit find a mark that is not there? Random keys against the layers of real models."""
    started = time.perf_counter()
    try:
        found = real_kernels()
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from error
    results = campaigns(found, {"readings": audits, "audits": whole, "foreign": foreign}, seed, processes)
    figures = show(results, found, time.perf_counter() - started, wide_console())
    write_json(json, {"seed": seed, **figures})
    raise typer.Exit(int(any(campaign.count("match") for campaign in results.values())))


if __name__ == "__main__":
    typer.run(main)
