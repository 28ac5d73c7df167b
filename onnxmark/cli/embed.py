"""``onnxmark embed``: a mark into a finished ONNX file, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs
from onnxmark.report.formats import Kind


def embed(
    model: Annotated[Path, typer.Argument(help="ONNX file to mark; it is not changed.", show_default=False)],
    key: Annotated[Path, typer.Option("--key", "-k", help="Key file.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Marked model to write.", show_default=False)],
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="A few hundred model inputs (.npz by input name): spares and measures the outputs."
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            help="Margin of every symbol: for a projection standard deviations of a random key's score (default 2).",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer to mark; by default the one the key was made for.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    report: Annotated[list[str] | None, typer.Option("--report", help=OUTPUT_HELP)] = None,
) -> None:
    """Embed the message of a key into a finished model, without training.

    A projection key takes the smallest change of the weights that gives every bit its margin; with --calibration it is
    steered to where the layer's inputs do not see it. A constant weight key makes chosen weights large and small. A
    structural key prunes channels. Whatever the scheme, --calibration measures what became of the outputs. Keys that
    ask the model (ingrain, trigger) are trained in, with the PyTorch adapter.

    Examples:

      onnxmark embed model.onnx --key key.npy -o marked.onnx

      onnxmark embed model.onnx --key key.npy --calibration inputs.npz --margin 3 -o marked.onnx
    """
    outputs = parse_outputs(report or [])
    check_formats(Kind.MARKING, format_, outputs)
    if margin is not None and not 0 < margin <= 100:
        raise typer.BadParameter(f"{margin:g} does not lie between 0 and 100", param_hint="--margin")

    from onnxmark.keys import load_key
    from onnxmark.marking import embed_file
    from onnxmark.plugins import scheme
    from onnxmark.report.documents.marking import marking_document

    marking = embed_file(
        model, load_key(key), output, margin=margin, calibration=calibration, layer=layer, schemes=scheme
    )
    emit(marking_document(marking, str(output)), format_, outputs)
