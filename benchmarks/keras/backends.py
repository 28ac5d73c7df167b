"""Does the regularizer train the same mark on TensorFlow, PyTorch and JAX?

The same network, weights, images and batches on each backend of Keras, in a process of its own; what differs is
rounding. Every model is exported to ONNX by Keras and the file is audited. JAX may live in another environment:

    python -m benchmarks.keras.backends [--jax-python VENV/bin/python] [--images 3000] [--epochs 3] [--json PATH]
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from benchmarks.display import wide_console, write_json

BACKENDS: Final = ("tensorflow", "torch", "jax")
KINDS: Final = (("rademacher", "full", 256), ("gaussian", "mean-hwi", 64), ("rademacher", "fold:4096", 256))
"""Generator, carrier and bits; the mean over filters has room for fewer."""
DATA: Final = Path("/usr/share/datasets/fashion-mnist")


def main(
    images: Annotated[int, typer.Option(help="Images to train on.")] = 3000,
    epochs: Annotated[int, typer.Option(help="Times each is seen.")] = 3,
    jax_python: Annotated[str, typer.Option(help="Interpreter that has JAX.")] = sys.executable,
    data: Annotated[Path, typer.Option(help="Folder with Fashion-MNIST's IDX files.")] = DATA,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Train, export and audit on every backend."""
    if worker:
        print(json.dumps([trained(data, images, epochs, *each) for each in KINDS]))
        return
    options = ["--worker", "--images", str(images), "--epochs", str(epochs), "--data", str(data)]
    found = {backend: _on(backend, jax_python if backend == "jax" else sys.executable, options) for backend in BACKENDS}
    wide_console().print(table(found))
    write_json(out, {"images": images, "epochs": epochs, "backends": found})


def trained(data: Path, images: int, epochs: int, generator: str, carrier: str, n_bits: int) -> dict[str, Any]:
    """What training with one kind of key gives on the backend of this process."""
    import keras
    from onnxmark_tf.marks import report
    from onnxmark_tf.regularizer import WatermarkRegularizer

    from benchmarks.keras.fashion import fashion_net, load_images, public_key, train

    key = public_key("backends", carrier, generator, n_bits)
    model = fashion_net(WatermarkRegularizer(key))
    known = load_images(data, "train", images)
    first = float(model.test_on_batch(known.pixels[:64], known.labels[:64])[0])
    mark = float(model.losses[0])
    started = time.perf_counter()
    history = train(model, known, epochs)
    seconds = time.perf_counter() - started
    reading = report(model)
    return {
        "keras": keras.__version__,
        "carrier": f"{n_bits} bits, {generator}, {carrier}",
        "first_loss": first,
        "first_mark": mark,
        "losses": history["loss"],
        "last_mark": float(model.losses[0]),
        "bit_error_rate": reading.bit_error_rate,
        "min_margin": reading.min_margin,
        "log10_p": reading.log10_p,
        "seconds": seconds,
        "exported": exported(model, key),
    }


def exported(model: Any, key: Any) -> str:
    """The verdict of an audit of the ONNX file that Keras exports, with the wrong bits."""
    from onnxmark.audit import audit_file

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(path := Path(folder, "model.onnx"), format="onnx", verbose=False)
        (finding,) = audit_file(path, [key]).findings
    evidence = None if finding.best is None else finding.best.evidence
    return f"{finding.verdict.value}, {'–' if evidence is None else evidence.n_errors} wrong"


def _on(backend: str, python: str, options: list[str]) -> list[dict[str, Any]] | str:
    """What a worker on a backend says, or why there is none."""
    # One thread: on a busy machine PyTorch's wait for each other longer than they compute.
    threads = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **threads, "KERAS_BACKEND": backend}
    command = [python, "-m", "benchmarks.keras.backends", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(found: dict[str, list[dict[str, Any]] | str]) -> Table:
    """A row for each backend and kind of key; losses beside those of the first backend."""
    headings = ("key", "backend", "first loss", "mark", "last loss", "mark", "BER", "margin", "s", "ONNX file")
    shown = Table(*headings, title="The same training on every backend of Keras")
    for number, _ in enumerate(KINDS):
        for backend, rows in found.items():
            if isinstance(rows, str):
                shown.add_row("", backend, *([""] * 7), rows)
                continue
            row = rows[number]
            losses = [row["first_loss"], row["first_mark"], row["losses"][-1], row["last_mark"]]
            figures = (f"{row['min_margin']:.3f}", f"{row['seconds']:.0f}", row["exported"])
            ber = f"{row['bit_error_rate']:.3f}"
            shown.add_row(row["carrier"], backend, *(f"{loss:.5f}" for loss in losses), ber, *figures)
        shown.add_section()
    return shown


if __name__ == "__main__":
    typer.run(main)
