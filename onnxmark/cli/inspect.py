"""``onnxmark inspect``: the layers of a model that can carry a mark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs, progress, remark
from onnxmark.cli.sources import SOURCE_HELP, Backend, Factory, Opening, Shapes, Trust, as_onnx
from onnxmark.errors import ModelError, ModelUnavailable
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.model import Model, WeightSite


def inspect(
    models: Annotated[list[Path], typer.Argument(help=SOURCE_HELP, show_default=False)],
    bits: Annotated[
        int, typer.Option("--bits", min=1, max=65536, help="Message length the capacity is judged for.")
    ] = 256,
    list_only: Annotated[
        bool, typer.Option("--list", help="Do not read the weights: names, shapes and storage only, at once.")
    ] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="Also show nodes, the folding evidence and the distribution of each layer.")
    ] = False,
    trust: Trust = False,
    factory: Factory = None,
    shapes: Shapes = None,
    backend: Backend = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
) -> None:
    """List the layers that can carry a mark: operator, shape, how the weights are stored and look, and their capacity.

    BN says whether batch normalisation is folded into the weights; --detail shows on what evidence. "shared" is 1 where
    filters are independent and larger where they share a shift: an indicator, never a verdict.

    Examples:

      onnxmark inspect model.onnx

      onnxmark inspect *.onnx --bits 128 --format json

      onnxmark inspect model.onnx --detail

      onnxmark inspect huge.onnx --list

      onnxmark inspect model.tflite
    """
    outputs = parse_outputs(output or [])
    check_formats(Kind.INSPECT, format_, outputs)
    opening = Opening.of(trust=trust, factory=factory, shapes=shapes, backend=backend)
    entries = [_entry(path, bits, opening, list_only=list_only) for path in models]
    failed = [entry for entry in entries if entry["problem"] is not None]
    status = "complete" if not failed else "failed" if len(failed) == len(entries) else "partial"
    document = {
        **head(Kind.INSPECT),
        "status": status,
        "bits": bits,
        "detail": detail,
        "models": entries,
    }
    if len(failed) < len(entries) or format_ is not Format.RICH or outputs:
        emit(document, format_, outputs)
    raise typer.Exit(ExitCode.INCONCLUSIVE if failed else ExitCode.DONE)


def _entry(path: Path, bits: int, opening: Opening, *, list_only: bool) -> dict[str, Any]:
    from onnxmark.model import open_model
    from onnxmark.report.documents.conversion import conversion_facts

    try:
        with (
            as_onnx(path, opening, quiet=list_only) as (readable, conversion),
            open_model(readable) as model,
            progress("reading layers", quiet=list_only) as report,
        ):
            sites = model.sites()
            layers = []
            for count, site in enumerate(sites):
                if report is not None:
                    report(count, len(sites))
                layers.append(_layer(model, site, bits, list_only))
            facts = {
                "bytes": model.size,
                "producer": model.producer,
                "opset": model.opset,
                "conversion": None if conversion is None else conversion_facts(conversion),
            }
    except ModelUnavailable:
        raise
    except ModelError as error:
        remark(f"onnxmark: inconclusive: {error}")
        return {"path": str(path), "problem": str(error), "layers": []}
    return {"path": str(path), "problem": None, **facts, "layers": layers}


def _layer(model: Model, site: WeightSite, bits: int, list_only: bool) -> dict[str, Any]:
    from onnxmark.model.profile import profile
    from onnxmark.report.documents.models import capacity_document, folding_document, profile_document, site_document
    from onnxmark.schemes.constant_weight.lengths import roomiest
    from onnxmark.schemes.constant_weight.parameters import DEFAULT_RATE
    from onnxmark.schemes.projection.capacity import capacity
    from onnxmark.schemes.projection.carriers import default_kind

    document = site_document(site)
    room = capacity(site.shape, bits, default_kind(site.shape)) if site.shape else None
    looks = None
    if not list_only and site.problem is None:
        try:
            looks = profile_document(profile(model.read(site).values))
        except ModelError as error:
            document["problem"] = str(error)
    return {
        **document,
        "folding": folding_document(model.folding(site)),
        "profile": looks,
        "carrier": None if room is None else default_kind(site.shape),
        "capacity": None if room is None else capacity_document(room),
        "constant_weight": None
        if room is None
        else {"rate": DEFAULT_RATE, "bits": roomiest(room.n_weights, DEFAULT_RATE)},
    }
