"""``onnxmark report``: a saved result in another form, without the model and without the key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from onnxmark.cli.output import OUTPUT_HELP, Format, emit, parse_outputs
from onnxmark.errors import ReportError
from onnxmark.report.formats import Kind


def report(
    saved: Annotated[
        Path | None,
        typer.Argument(help="Result saved as JSON by any command; - reads standard input.", show_default=False),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema", metavar="KIND", help=f"Print a JSON Schema: {', '.join(kind.word for kind in Kind)}; and stop."
        ),
    ] = None,
) -> None:
    """Render a saved result: the same bytes that the command would have written itself.

    Formats: rich, json, jsonl, md and html for every result; csv where it has rows (all but keys and markings);
    sarif and junit for audits and scans. The file is checked first: it may come from anybody.

    Exit code 0: rendered, whatever the verdict. 2: error.

    Examples:

      onnxmark audit model.onnx --key key.npy -o json=result.json

      onnxmark report result.json --format html

      onnxmark report result.json -o html=result.html -o result.sarif

      onnxmark audit model.onnx -k key.npy --format json | onnxmark report -

      onnxmark report --schema audit
    """
    outputs = parse_outputs(output or [])
    if schema is not None:
        _print_schema(schema)
        return
    if saved is None:
        raise typer.BadParameter("name a saved result, or ask for a --schema", param_hint="SAVED")

    from onnxmark.report.saved import load_document

    emit(load_document(saved), format_, outputs)


def _print_schema(word: str) -> None:
    from onnxmark.report.schema import schema_text

    found = next((kind for kind in Kind if kind.word == word), None)
    if found is None:
        raise ReportError(f"there is no schema {word!r}; choose one of {', '.join(kind.word for kind in Kind)}")
    sys.stdout.write(schema_text(found))
