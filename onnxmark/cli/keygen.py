"""``onnxmark keygen``: a key for a model, or for a shape where there is no model yet."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs, remark
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.arrays import BitArray
    from onnxmark.keys import Key
    from onnxmark.schemes.scheme import Layer, Scheme, WeightScheme, WidthScheme

DEFAULT_BITS: Final = 256


class Generators(StrEnum):
    """How a key's rows are drawn."""

    RADEMACHER = "rademacher"
    GAUSSIAN = "gaussian"
    DIRECT = "direct"
    DIFF = "diff"


def keygen(
    output: Annotated[Path, typer.Option("-o", "--output", help="Key file to write (mode 0600).", show_default=False)],
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme", help="projection, constant-weight, structural, ingrain, trigger, or one that is installed."
        ),
    ] = "projection",
    model: Annotated[Path | None, typer.Option("--model", help="The model before it is marked.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layer of the model (weights or node name); by default the best suited."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="O,I,KH,KW of the layer where there is no model yet.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", min=1, max=65536, help=f"Length of the message; {DEFAULT_BITS} by default.")
    ] = None,
    generator: Annotated[
        Generators | None,
        typer.Option("--generator", help="Rows of a projection key: rademacher, or Uchida's gaussian, direct, diff."),
    ] = None,
    carrier: Annotated[
        str | None,
        typer.Option(
            "--carrier", help="full, fold:<buckets>, mean-ihw or mean-hwi; by default full, folded where large."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for anything else the scheme knows; repeatable.")
    ] = None,
    message: Annotated[
        Path | None, typer.Option("--message", help="Your own bits to carry (.npy of 0 and 1); zeros otherwise.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", help="Inputs as the model takes them (.npy, .npz): ingrain's pool, or the triggers."),
    ] = None,
    reference: Annotated[
        list[Path] | None, typer.Option("--reference", help="Unmarked network (.onnx) that ingrain compares with.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="The classes of your own triggers (.npy).")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    report: Annotated[list[str] | None, typer.Option("--report", help=OUTPUT_HELP)] = None,
) -> None:
    """Make a key and print its commitment, the SHA-256 of the key file.

    Time-stamp the commitment before you publish the model: it dates the key.

    Examples:

      onnxmark keygen --model model.onnx -o key.npy

      onnxmark keygen --model model.onnx --layer conv3.weight --bits 128 -o key.npy

      onnxmark keygen --shape 64,32,3,3 --carrier mean-ihw --generator gaussian -o uchida.npy

      onnxmark keygen --scheme constant-weight --model model.onnx --set rate=0.99 -o key.npy

      onnxmark keygen --scheme structural --model model.onnx --set least=0.6 -o key.npy

      onnxmark keygen --scheme ingrain --inputs pool.npy --reference a.onnx --reference b.onnx -o key.npy

      onnxmark keygen --scheme trigger --inputs triggers.npy --set classes=10 -o key.npy
    """
    from onnxmark.keys import load_message, save_key
    from onnxmark.plugins import scheme as scheme_of
    from onnxmark.report.documents.key import key_document
    from onnxmark.schemes.scheme import Reads
    from onnxmark.settings import settings

    outputs = parse_outputs(report or [])
    check_formats(Kind.KEY, format_, outputs)
    found = scheme_of(scheme)
    given = [*_projection(found, generator, carrier), *(setting or [])]
    options = settings(found.options, given, f"scheme {scheme!r}")
    payload = None if message is None else load_message(message)
    if found.reads is Reads.ANSWERS:
        _refuse(scheme, model=model, layer=layer, shape=shape, bits=bits, message=message)
        key = _asking(found, options, inputs, reference or [], labels)
    else:
        _refuse(scheme, inputs=inputs, reference=reference, labels=labels)
        key = _reading(found, options, payload, bits, model, layer or [], shape)
    if carrier is not None and carrier.startswith("mean"):
        remark(
            "onnxmark: warning: the mean carrier is public knowledge: subtracting the mean over filters and "
            "fine-tuning erases it at no cost in accuracy; --carrier full does not have this weakness"
        )
    emit(key_document(found, save_key(key, output), output), format_, outputs)


def _projection(scheme: Scheme, generator: Generators | None, carrier: str | None) -> list[str]:
    """The two options that have names of their own, as settings."""
    named = {"generator": generator and generator.value, "carrier": carrier}
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    if given and scheme.name != "projection":
        raise typer.BadParameter(f"scheme {scheme.name!r} has no rows and no carrier", param_hint="--generator")
    return given


def _refuse(scheme: str, **given: object) -> None:
    for name, value in given.items():
        if value:
            raise typer.BadParameter(f"means nothing to scheme {scheme!r}", param_hint=f"--{name}")


def _reading(
    scheme: Scheme,
    options: Any,
    payload: BitArray | None,
    bits: int | None,
    model: Path | None,
    names: list[str],
    shape: str | None,
) -> Key:
    """A key that reads layers."""
    import numpy as np

    from onnxmark.keymaking import weight_layers, width_layers
    from onnxmark.schemes.scheme import Reads

    if (model is None) == (shape is None):
        raise typer.BadParameter("give either --model or --shape", param_hint="--model / --shape")
    if payload is None and bits is not None:
        payload = np.zeros(bits, dtype=np.uint8)
    if scheme.reads is Reads.WIDTHS:
        if model is None:
            raise typer.BadParameter(f"scheme {scheme.name!r} is made for a model", param_hint="--model")
        return cast("WidthScheme", scheme).make_key(width_layers(model, names), payload, options)
    payload = np.zeros(DEFAULT_BITS, dtype=np.uint8) if payload is None else payload
    layers = _from_shape(str(shape)) if model is None else weight_layers(model, names, payload.size)
    return cast("WeightScheme", scheme).make_key(layers, payload, options)


def _asking(scheme: Scheme, options: Any, inputs: Path | None, references: list[Path], labels: Path | None) -> Key:
    """A key that asks the model."""
    from onnxmark.keymaking import ingrain_key, trigger_key
    from onnxmark.schemes.answers.ingrain import IngrainScheme
    from onnxmark.schemes.answers.trigger import TriggerScheme

    if inputs is None:
        raise typer.BadParameter(f"scheme {scheme.name!r} needs inputs to ask", param_hint="--inputs")
    if isinstance(scheme, IngrainScheme):
        _refuse(scheme.name, labels=labels)
        return ingrain_key(inputs, references, options)
    if isinstance(scheme, TriggerScheme):
        _refuse(scheme.name, reference=references)
        return trigger_key(inputs, labels, options)
    raise typer.BadParameter(f"keys of scheme {scheme.name!r} are made by its own package", param_hint="--scheme")


def _from_shape(text: str) -> tuple[Layer, ...]:
    from onnxmark.keys import Carrier
    from onnxmark.schemes.scheme import Layer

    parts = text.split(",")
    if not 2 <= len(parts) <= 8 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise typer.BadParameter(f"{text!r} is not a shape like 64,32,3,3", param_hint="--shape")
    sizes = tuple(int(part) for part in parts)
    if min(sizes) < 1 or max(sizes) >= 2**31:
        raise typer.BadParameter(f"{text!r}: every size must be at least 1", param_hint="--shape")
    return (Layer(Carrier(sizes)),)
