"""A mark that the original Keras code trained, put back into a Keras model, converted, and read from the ONNX file.

The kernel (3x3x64x64, as Keras keeps it), its key and its bits come from a replication of Uchida et al. (ICMR 2017,
arXiv 1701.04082) with their own code; they are not shipped. The key flattens (height, width, input), the order of
Keras: read from the file in that order every bit is right, in PyTorch's order (input, height, width) they are coins.

    python -m benchmarks.keras.replication DATA_DIR [--json PATH]
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import typer
from rich.table import Table

from benchmarks.display import wide_console, write_json
from onnxmark.arrays import Float32Array
from onnxmark.audit import audit_file
from onnxmark.conversion import Container, Request, convert
from onnxmark.keys import AnyKey, load_key
from onnxmark.plugins import converter

KERNELS: Final = {"marked": "random_kernel_hwio.npy", "unmarked": "unmarked_kernel_hwio.npy"}
KEY: Final = "random_layer7_w.npy"
BITS: Final = "random_layer7_b.npy"


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of one model.

    Args:
        model: Which kernel, and what follows it.
        reading: In which order the key was read.
        errors: Bits read wrong, of 256.
        bit_error_rate: The same as a share.
        log10_p: Probability of such a reading by chance, before correction, base 10.
    """

    model: str
    reading: str
    errors: int
    bit_error_rate: float
    log10_p: float


def main(
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="Folder with the kernels, the key and its bits.")],
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Convert the models and read them in both orders."""
    rows = measured(data)
    shown = Table("kernel in", "read as", "wrong bits", "BER", "log10 p", title="256 bits, random key, through tf2onnx")
    for row in rows:
        shown.add_row(row.model, row.reading, str(row.errors), f"{row.bit_error_rate:.3f}", f"{row.log10_p:.1f}")
    wide_console().print(shown)
    write_json(out, {"rows": [asdict(row) for row in rows]})


def measured(data: Path) -> list[Row]:
    """Every reading of every model."""
    key = load_key(data / KEY, data / BITS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file in KERNELS.items():
            kernel = np.load(data / file)
            for folded in (False, True):
                label = f"{name} kernel{', normalisation folded in' if folded else ''}"
                path = converted(host_model(kernel, normalised=folded), Path(folder))
                rows += [Row(label, *reading) for reading in readings(path, key)]
    return rows


def host_model(kernel: Float32Array, *, normalised: bool) -> Any:
    """A Keras model with the kernel in its second convolution, perhaps with batch normalisation behind it."""
    layers = keras.layers
    parts = [
        layers.Input((8, 8, 3)),
        layers.Conv2D(kernel.shape[2], 3, padding="same", activation="relu", name="stem"),
        layers.Conv2D(kernel.shape[3], kernel.shape[:2], padding="same", use_bias=False, name="host"),
    ]
    if normalised:
        parts.append(layers.BatchNormalization(name="norm"))
    model = keras.Sequential([*parts, layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(10)])
    model.get_layer("host").set_weights([kernel])
    if normalised:
        rng, width = np.random.default_rng(0), kernel.shape[3]
        statistics = [rng.uniform(0.5, 1.5, width), *rng.standard_normal((2, width)), rng.uniform(0.5, 1.5, width)]
        model.get_layer("norm").set_weights(statistics)
    return model


def converted(model: Any, folder: Path) -> Path:
    """The model as an ONNX file, through a Keras archive."""
    source, target = folder / "model.keras", folder / "model.onnx"
    model.save(source)
    convert(Request(source, Container.KERAS, target, backend="tensorflow"), converter)
    return target


def readings(path: Path, key: AnyKey) -> list[tuple[str, int, float, float]]:
    """Order, wrong bits, bit error rate and probability of each way to read the key."""
    (finding,) = audit_file(path, [key]).findings
    return [
        (candidate.reading.label, evidence.n_errors, evidence.bit_error_rate, evidence.log10_p)
        for candidate in finding.candidates
        if (evidence := candidate.evidence) is not None
    ]


if __name__ == "__main__":
    typer.run(main)
