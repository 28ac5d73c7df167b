"""Is a mark trained by Keras found in every file the model may be published as, and is the converted model the same?

A small network is marked while it is trained on Fashion-MNIST with Keras on TensorFlow, and saved in every container of
that world: as Keras archive, HDF5, SavedModel, and TensorFlow Lite in three precisions. Each is converted by ``onnxmark
convert``'s own function and audited; ONNX Runtime's answers stand beside those of the framework that the container
belongs to.

    python -m benchmarks.keras.containers [--images 6000] [--epochs 4] [--json PATH]
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnxruntime as ort
import typer
from onnxmark_tf.marks import Report, remove_regularizers, report
from onnxmark_tf.regularizer import WatermarkRegularizer
from rich.table import Table

from benchmarks.display import wide_console, write_json
from benchmarks.keras.fashion import DATA, Images, fashion_net, load_images, public_key, train
from onnxmark.arrays import Float32Array
from onnxmark.audit import audit_file
from onnxmark.conversion import Container, Request, convert
from onnxmark.keys import Key
from onnxmark.plugins import converter

Answers = Callable[[Float32Array], Float32Array]
"""From images (N, 28, 28, 1) to logits (N, 10)."""

_N_CALIBRATION: Final = 200


@dataclass(frozen=True, slots=True)
class Published:
    """The model in one container.

    Args:
        name: In words.
        container: Which container it is.
        path: The file, or a folder.
        answers: The model as the container's own framework runs it.
    """

    name: str
    container: Container
    path: Path
    answers: Answers


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the mark and of the model in one container.

    Args:
        name: The container.
        route: Programs it was converted by.
        followed: Weights of the framework found in the ONNX file, and how many there are.
        verdict: Of an audit with the key.
        errors: Bits read wrong.
        min_margin: Smallest margin, in standard deviations of a random key's score.
        log10_p: Probability of such a reading by chance after correction, base 10.
        difference: Largest absolute difference between the framework's logits and ONNX Runtime's.
        spread: Standard deviation of the framework's logits.
        agreement: Share of equal decisions.
        accuracy: Of ONNX Runtime's decisions.
    """

    name: str
    route: str
    followed: str
    verdict: str
    errors: int
    min_margin: float
    log10_p: float
    difference: float
    spread: float
    agreement: float
    accuracy: float


def main(
    images: Annotated[int, typer.Option(help="Images to train on.")] = 6000,
    epochs: Annotated[int, typer.Option(help="Times each is seen.")] = 4,
    tests: Annotated[int, typer.Option(help="Images to compare answers on.")] = 1000,
    data: Annotated[Path, typer.Option(help="Folder with Fashion-MNIST's IDX files.")] = DATA,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Mark, save, convert, audit, compare."""
    key = public_key("owner of a Keras model")
    model, trained = marked_model(load_images(data, "train", images), key, epochs)
    asked = load_images(data, "t10k", tests)
    with tempfile.TemporaryDirectory() as folder:
        published = publications(model, Path(folder), load_images(data, "train", _N_CALIBRATION))
        rows = [followed(each, key, asked) for each in published]
    wide_console().print(table(rows, f"256 bits in 64x32x3x3; after training: {trained}"))
    write_json(
        out, {"images": images, "epochs": epochs, "trained": str(trained), "rows": [asdict(row) for row in rows]}
    )


def marked_model(images: Images, key: Key, epochs: int) -> tuple[Any, Report]:
    """A model trained with a mark, its regularizer taken out again, and how the mark stood then."""
    model = fashion_net(WatermarkRegularizer(key))
    train(model, images, epochs)
    found = report(model)
    remove_regularizers(model)
    return model, found


def publications(model: Any, folder: Path, calibration: Images) -> Iterator[Published]:
    """The model in every container, written when it is asked for."""
    import tensorflow as tf

    def ours(pixels: Float32Array) -> Float32Array:
        return np.asarray(model.predict(pixels, verbose=0), dtype=np.float32)

    for name, container, ending in (
        ("Keras archive", Container.KERAS, "keras"),
        ("HDF5", Container.HDF5, "h5"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras calls HDF5 a legacy format.
            model.save(folder / f"model.{ending}")
        yield Published(name, container, folder / f"model.{ending}", ours)
    saved = folder / "saved"
    model.export(saved, verbose=False)
    loaded = tf.saved_model.load(str(saved))
    yield Published("SavedModel", Container.SAVED_MODEL, saved, lambda pixels: loaded.serve(pixels).numpy())
    for precision in ("float", "dynamic", "int8"):
        path = folder / f"{precision}.tflite"
        path.write_bytes(_lite(saved, precision, calibration))
        yield Published(f"TensorFlow Lite, {precision}", Container.TFLITE, path, _interpreted(path))


def followed(published: Published, key: Key, asked: Images) -> Row:
    """One container converted, audited, and compared with its framework."""
    target = published.path.with_suffix(".onnx")
    made = convert(Request(published.path, published.container, target), converter)
    (finding,) = audit_file(target, [key]).findings
    if finding.best is None or finding.best.evidence is None:
        raise RuntimeError(f"{published.name}: {finding.judgement.reason}")
    evidence = finding.best.evidence
    theirs, found = published.answers(asked.pixels), answers(target, asked.pixels)
    return Row(
        name=published.name,
        route=made.route,
        followed=f"{made.n_found}/{made.n_weights}",
        verdict=str(finding.verdict.value),
        errors=evidence.n_errors,
        min_margin=float(evidence.margins.min()),
        log10_p=finding.judgement.log10_p_value,
        difference=float(np.abs(theirs - found).max()),
        spread=float(theirs.std()),
        agreement=float(np.mean(theirs.argmax(axis=1) == found.argmax(axis=1))),
        accuracy=float(np.mean(found.argmax(axis=1) == asked.labels)),
    )


def answers(path: Path, pixels: Float32Array) -> Float32Array:
    """What ONNX Runtime answers, image by image where the file asks for that."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    size = len(pixels) if not isinstance(given.shape[0], int) else given.shape[0]
    parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    return np.concatenate([session.run(None, {given.name: part})[0] for part in parts])


def _lite(saved: Path, precision: str, calibration: Images) -> bytes:
    import tensorflow as tf

    lite = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if precision != "float":
        lite.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        lite.representative_dataset = lambda: ([image[None]] for image in calibration.pixels)
        lite.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content: bytes = lite.convert()
    return content


def _interpreted(path: Path) -> Answers:
    import tensorflow as tf

    def ask(pixels: Float32Array) -> Float32Array:
        interpreter = tf.lite.Interpreter(str(path))
        given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(wanted["index"]))

    return ask


def table(rows: list[Row], title: str) -> Table:
    """The rows, as they are shown."""
    headings = (
        "container",
        "weights found",
        "audit",
        "wrong bits",
        "margin",
        "log10 p",
        "max |Δ|",
        "σ",
        "equal",
        "right",
    )
    shown = Table(*headings, title=title)
    for row in rows:
        figures = (f"{row.min_margin:.2f}", f"{row.log10_p:.1f}", f"{row.difference:.1e}", f"{row.spread:.1f}")
        shares = (f"{row.agreement:.4f}", f"{row.accuracy:.4f}")
        shown.add_row(row.name, row.followed, row.verdict, str(row.errors), *figures, *shares)
    return shown


if __name__ == "__main__":
    typer.run(main)
