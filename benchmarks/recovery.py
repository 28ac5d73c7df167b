"""Does a mark come back when channels were moved, rescaled, added or dropped, and does it stay away from strangers?

*Owners*: kernels of real models (:mod:`benchmarks.real_kernels`) are marked in closed form (64 bits, full carrier,
margin 1) with a key that remembers them, then attacked, and read as they are and aligned to what the key remembers.

*Strangers*: keys that remember one kernel read another, or the very kernel without its mark, aligned. The master secret
is SHA-256 of what scrypt would stretch, as in :mod:`benchmarks.null_audits`: its cost is for forgers.

    python -m benchmarks.recovery [--strangers 20000] [--json PATH]
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from unittest.mock import patch

import numpy as np
import typer
from rich.table import Table

from benchmarks.calibration import Calibration, calibrated, rate_table
from benchmarks.display import progress, wide_console, write_json
from benchmarks.kernel_changes import Change, in_turn, permuted, rescaled
from benchmarks.real_kernels import real_kernels
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import GaussianNoise, MagnitudePruning, Means, UniformQuantisation
from onnxmark.errors import EmbeddingError
from onnxmark.keys import Carrier, Key, Secret, premark_signature
from onnxmark.recovery import Past, recovered
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.schemes.scheme import EmbeddingMeans
from onnxmark.statistics import LOG10_2
from onnxmark.weights import Origin, WeightTensor

N_BITS: Final = 64
MATCH: Final = -6.0
_SCHEME: Final = ProjectionScheme()
_LEAST: Final = 4096
"""Weights of a kernel that holds 64 bits at ease."""


def narrowed(part: float) -> Change:
    """The filters and input channels of least norm taken away."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        for axis in (0, 1):
            norms = np.linalg.norm(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1), axis=1)
            kept = np.sort(np.argsort(norms)[round(part * len(norms)) :])
            values = values.take(kept, axis=axis)
        return values

    return change


def widened(part: float) -> Change:
    """Filters and input channels added that are copies of others in another order of the other side, among the rest."""

    def change(values: Float32Array, means: Means) -> Float32Array:
        for axis in (0, 1):
            width = values.shape[axis]
            copies = values.take(means.rng.permutation(width)[: round(part * width)], axis=axis)
            mixed = copies.take(means.rng.permutation(values.shape[1 - axis]), axis=1 - axis)
            values = np.concatenate([values, mixed], axis=axis)
        return values

    return change


def noisy(strength: float) -> Change:
    """Gaussian noise, in standard deviations of the weights."""
    return lambda values, means: GaussianNoise(strength).change(values, means)


def _pruned(values: Float32Array, means: Means) -> Float32Array:
    return MagnitudePruning(0.5).change(values, means)


def _in_bytes(values: Float32Array, means: Means) -> Float32Array:
    return UniformQuantisation(8, per_channel=True).change(values, means)


MOVED: Final = in_turn(rescaled(0.5, 0, 1), permuted(0, 1))
ATTACKS: Final[dict[str, Change]] = {
    "nothing": in_turn(),
    "permuted": permuted(0, 1),
    "rescaled, log-sd 1.5": rescaled(1.5, 0, 1),
    "rescaled .5 and permuted": MOVED,
    "and 10 % noise, int8": in_turn(noisy(0.1), MOVED, _in_bytes),
    "and 30 % noise, int8": in_turn(noisy(0.3), MOVED, _in_bytes),
    "and half of the weights pruned": in_turn(_pruned, MOVED),
    "and 20 % dummies": in_turn(widened(0.2), MOVED),
    "and 20 % dummies, 10 % noise, int8": in_turn(noisy(0.1), widened(0.2), MOVED, _in_bytes),
    "and 10 % of the channels gone": in_turn(narrowed(0.1), MOVED),
    "and 30 % of the channels gone": in_turn(narrowed(0.3), MOVED),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One kernel after one attack.

    Args:
        attack: What was done.
        stored: Symbol error rate as the kernel is; None where its shape does not fit.
        aligned: The same aligned; None where it is not tried.
        log10_p: Of the aligned reading, both signs tested; 0 where it is not tried.
        seconds: Aligning it took.
    """

    attack: str
    stored: float | None
    aligned: float | None
    log10_p: float
    seconds: float


def key_for(kernel: WeightTensor, number: int) -> Key:
    """A key that remembers a kernel."""
    secret = Secret(hashlib.sha256(f"recovery {number}".encode()).digest())
    carriers, parameters = (Carrier(kernel.values.shape),), {"generator": "rademacher", "carrier": "full"}
    past = premark_signature(kernel.values, secret)
    return Key("projection", secret, bytes(32), np.zeros(N_BITS, np.uint8), carriers, parameters, past)


def owners(kernel: WeightTensor, number: int) -> list[Reading]:
    """Every attack on a kernel that was marked; none where it cannot be."""
    key = key_for(kernel, number)
    (reading,) = _SCHEME.readings(key, (kernel.values.shape,))
    try:
        (marked,) = _SCHEME.embed(key, (kernel,), reading, EmbeddingMeans(margin=1.0)).layers
    except EmbeddingError:
        return []
    return [_attacked(key, marked, name, np.random.default_rng((number, place))) for place, name in enumerate(ATTACKS)]


def _attacked(key: Key, marked: WeightTensor, attack: str, rng: np.random.Generator) -> Reading:
    values = ATTACKS[attack](marked.values, Means(rng=rng))
    stored = _read(key, values).symbol_error_rate if values.shape == key.carrier.shape else None
    past = Past.of(key)
    if past is None or not past.may_be(values.shape):
        return Reading(attack, stored, None, 0.0, 0.0)
    started = time.perf_counter()
    found = recovered(values, past)
    seconds = time.perf_counter() - started
    evidence = _read(key, found)
    return Reading(attack, stored, evidence.symbol_error_rate, evidence.log10_p + LOG10_2, seconds)


def _read(key: Key, values: Float32Array) -> Evidence:
    (reading,) = _SCHEME.readings(key, (key.carrier.shape,))
    return _SCHEME.extract(key, (_tensor(values),), reading)


def _tensor(values: Float32Array) -> WeightTensor:
    return WeightTensor("kernel", values, Origin("kernel", "Conv", 0, "array"))


def strangers(kernels: Sequence[WeightTensor], n: int, seed: int) -> Float64Array:
    """Logarithms (base 10) of p-values of keys that remember one kernel and read another aligned to it, shape (n,)."""
    found = []
    with progress("strangers", n) as advance:
        for number in range(n):
            rng = np.random.default_rng((seed, number))
            own = kernels[int(rng.integers(len(kernels)))]
            key = key_for(own, 1_000_000 + number)
            past = Past.of(key)
            assert past is not None
            fitting = [one for one in kernels if past.may_be(one.values.shape)]
            values = MOVED(fitting[int(rng.integers(len(fitting)))].values, Means(rng=rng))
            evidence = _read(key, recovered(values, past))
            if evidence.degenerate is None:
                found.append(min(0.0, evidence.tests[1].log10_p + LOG10_2))
            advance(1)
    return np.array(found)


def table_of(title: str, readings: Sequence[Reading]) -> Table:
    """A line an attack: error rates as stored and aligned, and how many kernels are found."""
    table = Table(title=title, title_justify="left")
    table.add_column("attack")
    for heading in ("BER as stored", "BER aligned (worst)", "found", "median log10 p", "of", "aligning, ms"):
        table.add_column(heading, justify="right")
    for attack in ATTACKS:
        rows = [one for one in readings if one.attack == attack]
        stored = [one.stored for one in rows if one.stored is not None]
        tried = [one for one in rows if one.aligned is not None]
        aligned = [one.aligned for one in tried if one.aligned is not None]
        table.add_row(
            attack,
            f"{np.median(stored):.3f}" if stored else "–",
            f"{np.median(aligned):.3f} ({max(aligned):.3f})" if aligned else "not tried",
            f"{sum(one.log10_p <= MATCH for one in tried)}",
            f"{np.median([one.log10_p for one in tried]):.1f}" if tried else "–",
            f"{len(rows)}",
            f"{1000 * float(np.median([one.seconds for one in tried])):.1f}" if tried else "–",
        )
    return table


def _cheaply(seed: Secret, salt: bytes, context: str) -> Secret:
    return Secret(hashlib.sha256(seed.reveal() + salt + context.encode()).digest())


def main(
    n_strangers: Annotated[int, typer.Option("--strangers", help="Readings of strangers.")] = 20_000,
    seed: Annotated[int, typer.Option(help="What strangers are drawn from.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
) -> None:
    """Align real kernels to what keys remember of them, after attacks and where there is nothing to find."""
    console = wide_console()
    found = real_kernels()
    for words in found.skipped:
        console.print(f"[yellow]{words}")
    kernels = [one for one in found.kernels if one.values.size >= _LEAST and max(one.values.shape[:2]) <= 1024]
    groups = {
        "with a kernel": [one for one in kernels if math.prod(one.values.shape[2:]) > 1],
        "without (1x1, linear)": [one for one in kernels if math.prod(one.values.shape[2:]) == 1],
    }
    figures: dict[str, Any] = {}
    with patch("onnxmark.keys.key.master_secret", _cheaply):
        for name, group in groups.items():
            with progress(name, len(group)) as advance:
                readings: list[Reading] = []
                for number, kernel in enumerate(group):
                    readings += owners(kernel, number)
                    advance(1)
            console.print(table_of(f"Layers {name}", readings))
            figures[name] = [asdict(reading) for reading in readings]
        small = [one for one in kernels if one.values.size <= 1 << 16]
        law: Calibration = calibrated(strangers(small, n_strangers, seed))
    console.print(rate_table("Strangers, aligned: p-values", {"aligned": law}))
    write_json(json_path, {**figures, "strangers": law.as_json()})


if __name__ == "__main__":
    typer.run(main)
