"""``onnxmark keygen``: a key for a layer of a model, or for a shape where there is no model yet."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from onnxmark import __version__
from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs, remark
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.keys import Carrier, Key
    from onnxmark.schemes.projection import Generator
    from onnxmark.weights import WeightTensor


class Generators(StrEnum):
    """How a key's rows are drawn."""

    RADEMACHER = "rademacher"
    GAUSSIAN = "gaussian"
    DIRECT = "direct"
    DIFF = "diff"


def keygen(
    output: Annotated[Path, typer.Option("-o", "--output", help="Key file to write (mode 0600).", show_default=False)],
    model: Annotated[Path | None, typer.Option("--model", help="The model before it is marked.")] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="Layer of the model (weights or node name); by default the best suited."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="O,I,KH,KW of the layer where there is no model yet.")
    ] = None,
    bits: Annotated[int, typer.Option("--bits", min=1, max=65536, help="Length of the message.")] = 256,
    generator: Annotated[
        Generators, typer.Option("--generator", help="How rows are drawn; gaussian, direct and diff are Uchida's.")
    ] = Generators.RADEMACHER,
    carrier: Annotated[
        str | None,
        typer.Option(
            "--carrier", help="full, fold:<buckets>, mean-ihw or mean-hwi; by default full, folded where large."
        ),
    ] = None,
    message: Annotated[
        Path | None, typer.Option("--message", help="Your own bits to carry (.npy of 0 and 1); zeros otherwise.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    report: Annotated[list[str] | None, typer.Option("--report", help=OUTPUT_HELP)] = None,
) -> None:
    """Make a key and print its commitment, the SHA-256 of the key file.

    Time-stamp the commitment before you publish the model: it dates the key.

    Examples:

      onnxmark keygen --model model.onnx -o key.npy

      onnxmark keygen --model model.onnx --layer conv3.weight --bits 128 -o key.npy

      onnxmark keygen --shape 64,32,3,3 --carrier mean-ihw --generator gaussian -o uchida.npy
    """
    import numpy as np

    from onnxmark.keymaking import make_key
    from onnxmark.keys import save_key

    outputs = parse_outputs(report or [])
    check_formats(Kind.KEY, format_, outputs)
    if (model is None) == (shape is None):
        raise typer.BadParameter("give either --model or --shape", param_hint="--model / --shape")
    payload = np.zeros(bits, dtype=np.uint8) if message is None else _payload(message)
    record, weights = _from_shape(str(shape)) if model is None else _from_model(model, layer, payload.size)
    key = make_key(record, payload, generator=generator.value, kind=carrier, premark=weights)
    if carrier is not None and carrier.startswith("mean"):
        remark(
            "onnxmark: warning: the mean carrier is public knowledge: subtracting the mean over filters and "
            "fine-tuning erases it at no cost in accuracy; --carrier full does not have this weakness"
        )
    emit(_document(save_key(key, output), output), format_, outputs)


def _payload(path: Path) -> Any:
    from onnxmark.keys import load_message

    return load_message(path)


def _from_shape(text: str) -> tuple[Carrier, None]:
    from onnxmark.keys import Carrier

    parts = text.split(",")
    if not 2 <= len(parts) <= 8 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise typer.BadParameter(f"{text!r} is not a shape like 64,32,3,3", param_hint="--shape")
    sizes = tuple(int(part) for part in parts)
    if min(sizes) < 1 or max(sizes) >= 2**31:
        raise typer.BadParameter(f"{text!r}: every size must be at least 1", param_hint="--shape")
    return Carrier(sizes), None


def _from_model(path: Path, layer: str | None, n_bits: int) -> tuple[Carrier, WeightTensor]:
    from onnxmark.audit import named_sites
    from onnxmark.keymaking import carrier_of, suggest_site
    from onnxmark.model import open_model

    with open_model(path) as model:
        sites = model.sites()
        site = suggest_site(sites, n_bits) if layer is None else named_sites(sites, layer)[0]
        return carrier_of(site), model.read(site)


def _document(key: Key, path: Path) -> dict[str, Any]:
    from onnxmark.embedding import capacity
    from onnxmark.report.document import capacity_document

    generator, kind = cast("Generator", key.parameters["generator"]), str(key.parameters["carrier"])
    return {
        "schema": Kind.KEY.value,
        "tool": {"name": "onnxmark", "version": __version__},
        "path": str(path),
        "commitment": key.commitment,
        "scheme": key.scheme,
        "n_bits": key.n_bits,
        "generator": generator,
        "carrier": {
            "kind": kind,
            "name": key.carrier.name,
            "node": key.carrier.node,
            "op": key.carrier.op,
            "shape": list(key.carrier.shape),
        },
        "premark_signature": key.premark is not None,
        "capacity": capacity_document(capacity(key.carrier.shape, key.n_bits, kind, generator)),
    }
