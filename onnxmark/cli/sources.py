"""Models in other containers, wherever a command takes a model: converted into a temporary file, and said so."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from onnxmark.cli.output import remark

if TYPE_CHECKING:
    from onnxmark.conversion import Container, Conversion

SOURCE_HELP: Final = "ONNX file, or a model of Keras, TensorFlow (Lite) or PyTorch, which is converted first."

Trust = Annotated[
    bool, typer.Option("--trust", help="Let code in a container of another framework run; for files you trust only.")
]
Factory = Annotated[
    str | None,
    typer.Option("--model", metavar="MODULE:FUNCTION", help="Builds the model whose weights a container holds."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="[NAME=]1x3x224x224", help="Shape of an input, where a container has none; repeatable."
    ),
]
Backend = Annotated[str | None, typer.Option("--backend", help="Framework to run Keras on: tensorflow, torch or jax.")]


@dataclass(frozen=True, slots=True)
class Opening:
    """How containers of other frameworks are opened.

    Args:
        trust: Their code may run.
        factory: ``module:function`` that builds the model.
        shapes: Shapes of inputs, by name or under "".
        backend: Framework that Keras runs on.
        opset: Operator set to ask for.
    """

    trust: bool = False
    factory: str | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    backend: str | None = None
    opset: int | None = None

    @classmethod
    def of(
        cls,
        *,
        trust: bool,
        factory: str | None,
        shapes: list[str] | None,
        backend: str | None,
        opset: int | None = None,
    ) -> Opening:
        """From the options of a command.

        Raises:
            typer.BadParameter: A shape is none, or the factory not of the form ``module:function``.
        """
        if factory is not None and not all(part.strip() for part in (factory + ":").split(":")[:2]):
            raise typer.BadParameter(f"{factory!r} is not MODULE:FUNCTION", param_hint="--model")
        if backend not in (None, *_BACKENDS):
            raise typer.BadParameter(f"{backend!r} is none of {', '.join(_BACKENDS)}", param_hint="--backend")
        return cls(trust, factory, tuple(_shape(text) for text in shapes or ()), backend, opset)


_BACKENDS: Final = ("tensorflow", "torch", "jax")


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.lower().replace(",", "x").split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise typer.BadParameter(f"{text!r} is no shape such as 1x3x224x224", param_hint="--input")
    return name, shape


@contextmanager
def as_onnx(model: Path, opening: Opening, *, quiet: bool) -> Iterator[tuple[Path, Conversion | None]]:
    """An ONNX file to read in place of a model, and how it was made; the model itself where it is ONNX.

    Raises:
        OnnxmarkError: It is a container that cannot be converted; see :func:`onnxmark.conversion.convert`.
    """
    from onnxmark.conversion import container_of

    container = container_of(model)
    if container is None:
        yield model, None
        return
    with tempfile.TemporaryDirectory(prefix="onnxmark-") as room:
        target = Path(room) / f"{model.name}.onnx"
        conversion = converted(model, container, target, opening, quiet=quiet)
        found = f", {conversion.n_found} of {conversion.n_weights} weight tensors found by value"
        remark(
            f"onnxmark: {str(model)!r} is {container.words}: read as ONNX, converted by {conversion.route}"
            f"{found if conversion.n_weights else ''}; 'onnxmark convert' keeps it"
        )
        for note in conversion.notes:
            remark(f"onnxmark: note: {note}")
        yield target, conversion


def converted(model: Path, container: Container, target: Path, opening: Opening, *, quiet: bool) -> Conversion:
    """Convert a model, with a spinner while standard error is a terminal.

    Raises:
        OnnxmarkError: See :func:`onnxmark.conversion.convert`.
    """
    from onnxmark.conversion import Request, convert
    from onnxmark.plugins import converter

    request = Request(
        source=model,
        container=container,
        target=target,
        opset=opening.opset,
        trust=opening.trust,
        factory=opening.factory,
        shapes=opening.shapes,
        backend=opening.backend,
    )
    with _spinning(f"converting {container.words}", quiet=quiet):
        return convert(request, converter)


@contextmanager
def _spinning(label: str, *, quiet: bool) -> Iterator[None]:
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(label):
        yield
