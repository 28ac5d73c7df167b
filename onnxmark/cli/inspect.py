"""``onnxmark inspect``: the layers of a model that can carry a mark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import Format, emit, parse_outputs, remark
from onnxmark.errors import ModelError, ModelUnavailable

if TYPE_CHECKING:
    from rich.console import Console


def inspect(
    models: Annotated[list[Path], typer.Argument(help="ONNX files.", show_default=False)],
    bits: Annotated[
        int, typer.Option("--bits", min=1, max=65536, help="Message length the capacity is judged for.")
    ] = 256,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help="Also write FMT=PATH; repeatable.")] = None,
) -> None:
    """List the layers that can carry a mark: operator, shape, how the weights are stored, and their capacity.

    Examples:

      onnxmark inspect model.onnx

      onnxmark inspect *.onnx --bits 128 --format json
    """
    outputs = parse_outputs(output or [])
    entries = [_entry(path, bits) for path in models]
    failed = [entry for entry in entries if entry["problem"] is not None]
    status = "complete" if not failed else "failed" if len(failed) == len(entries) else "partial"
    document = {"schema": "onnxmark/inspect/v1", "status": status, "bits": bits, "models": entries}
    if len(failed) < len(entries) or format_ is Format.JSON or outputs:
        emit(document, _print, format_, outputs)
    raise typer.Exit(ExitCode.INCONCLUSIVE if failed else ExitCode.DONE)


def _entry(path: Path, bits: int) -> dict[str, Any]:
    from onnxmark.embedding import capacity
    from onnxmark.model import open_model
    from onnxmark.report.document import capacity_document, site_document
    from onnxmark.schemes.carriers import default_kind

    try:
        with open_model(path) as model:
            layers = [
                {
                    **site_document(site),
                    "carrier": default_kind(site.shape),
                    "capacity": capacity_document(capacity(site.shape, bits, default_kind(site.shape))),
                }
                for site in model.sites()
            ]
            facts = {"bytes": model.size, "producer": model.producer, "opset": model.opset}
    except ModelUnavailable:
        raise
    except ModelError as error:
        remark(f"onnxmark: inconclusive: {error}")
        return {"path": str(path), "problem": str(error), "layers": []}
    return {"path": str(path), "problem": None, **facts, "layers": layers}


def _print(document: dict[str, Any], console: Console) -> None:
    from onnxmark.report.listing import print_layers

    print_layers(document, console)
