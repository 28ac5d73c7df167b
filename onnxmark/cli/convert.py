"""``onnxmark convert``: a model of another framework as an ONNX file that says where its weights came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs
from onnxmark.cli.sources import Backend, Factory, Opening, Shapes, Trust, converted
from onnxmark.report.formats import Kind


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Keras (.keras, .h5), SavedModel directory, TensorFlow Lite, PyTorch (.pt2, .safetensors, .pt), .ort, "
            "or ONNX as text.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.", show_default=False)],
    opset: Annotated[int | None, typer.Option("--opset", min=7, help="Operator set version to ask for.")] = None,
    trust: Trust = False,
    factory: Factory = None,
    shapes: Shapes = None,
    backend: Backend = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    report: Annotated[list[str] | None, typer.Option("--report", help=OUTPUT_HELP)] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No spinner.")] = False,
) -> None:
    """Convert a model of another framework to ONNX.

    The file says which of its layers holds which weights of the framework, so that after 'onnxmark embed' they can be
    put back (onnxmark_torch.load_weights, onnxmark_tf.load_weights). Where only weights can be had, it holds the
    weights and no graph. Nothing is unpickled, and no code that a container brings runs, without --trust.

    Examples:

      onnxmark convert model.keras -o model.onnx

      onnxmark convert saved_model/ -o model.onnx --opset 17

      onnxmark convert model.safetensors --model mynet:build --input 1x3x224x224 -o model.onnx

      onnxmark convert checkpoint.pt --trust -o weights.onnx
    """
    from onnxmark.conversion import container_of
    from onnxmark.errors import ConversionError
    from onnxmark.report.documents.conversion import conversion_document

    outputs = parse_outputs(report or [])
    check_formats(Kind.CONVERSION, format_, outputs)
    opening = Opening.of(trust=trust, factory=factory, shapes=shapes, backend=backend, opset=opset)
    container = container_of(source)
    if container is None:
        raise ConversionError(f"{str(source)!r} {_why_not(source)}")
    conversion = converted(source, container, output, opening, quiet=no_progress)
    emit(conversion_document(conversion), format_, outputs)


def _why_not(source: Path) -> str:
    from onnxmark.model import open_model

    if not source.exists():
        return "does not exist; check the path"
    if source.is_dir():
        return "is a directory without saved_model.pb; name the model in it"
    with open_model(source):
        return "is an ONNX model already; use it as it is"
