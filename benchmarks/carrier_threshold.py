"""Where should the full carrier give way to a fold? Time and memory of reading and embedding, by size of the layer.

python benchmarks/carrier_threshold.py

Reads and embeds 256 bits with ``full`` and ``fold:65536`` in layers from 2^16 to 2^20 weights, interleaved, and prints
medians and what the full carrier's matrix holds in memory. Set OPENBLAS_NUM_THREADS=1 on a busy machine: threads that
wait for each other cost more than the products. The carrier chosen is recorded in the key when it is made.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from onnxmark.keymaking import make_key
from onnxmark.keys import Carrier, Key
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.weights import Origin, WeightTensor

CARRIERS = ("full", "fold:65536")


def main(
    runs: Annotated[int, typer.Option(min=1, help="Interleaved runs.")] = 3,
    largest: Annotated[int, typer.Option(min=16, max=24, help="Largest layer: 2^N weights.")] = 20,
) -> None:
    """Compare the full carrier with a fold of 65,536 buckets."""
    table = Table(title="256 bits; medians in milliseconds", title_justify="left")
    for name in ("weights", *(f"{what} {carrier}" for what in ("read", "embed") for carrier in CARRIERS), "matrix MB"):
        table.add_column(name, justify="right")
    for exponent in range(16, largest + 1):
        shape = (2 ** (exponent - 8), 256)
        values = np.random.default_rng(exponent).standard_normal(shape).astype(np.float32)
        weights = WeightTensor("w", values, Origin("fc", "Gemm", 0, "generated"))
        keys = {kind: _key(shape, kind) for kind in CARRIERS}
        times: dict[str, list[float]] = {f"{what} {kind}": [] for what in ("read", "embed") for kind in CARRIERS}
        for _ in range(runs):
            for kind, key in keys.items():
                start = time.perf_counter()
                read_message(own_projection(key, shape), weights, fair=True)
                read = time.perf_counter()
                embed_message(weights, own_projection(key, shape), 2.0)
                times[f"read {kind}"].append(read - start)
                times[f"embed {kind}"].append(time.perf_counter() - read)
        megabytes = 256 * values.size / 1e6
        table.add_row(
            f"2^{exponent}", *(f"{1e3 * median(samples):.0f}" for samples in times.values()), f"{megabytes:.0f}"
        )
    Console().print(table)


def _key(shape: tuple[int, ...], kind: str) -> Key:
    key = make_key(Carrier(shape), np.zeros(256, np.uint8), kind=kind)
    _ = key.master  # scrypt is paid once a key, not once a layer
    return key


if __name__ == "__main__":
    typer.run(main)
