"""Convert a container: have its adapter write an ONNX file, find the framework's weights in it, and write both down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from onnxmark.conversion.containers import Container
from onnxmark.conversion.converter import Converted, Converter, Request
from onnxmark.conversion.origins import ORIGINS, WeightOrigin, match, to_record
from onnxmark.errors import ConversionError, ModelError, OnnxmarkError, WriteBackError
from onnxmark.model import open_model
from onnxmark.model.editing.provenance import append_metadata
from onnxmark.model.editing.publishing import publish, room_beside
from onnxmark.model.external import is_same_file

SOURCE: Final = "onnxmark.source"
"""Key in ``metadata_props`` of what a file was converted from."""

Converters = Callable[[Container], Converter]
"""Gives the converter of a container."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What was converted, and how.

    Args:
        source: The container.
        container: What it is.
        output: The ONNX file.
        route: Programs it went through, with versions.
        has_graph: False where the file holds the weights only.
        notes: Sentences the user should read.
        n_layers: Layers of the file that can carry a mark.
        weights: Names of the layers' weights that the framework has, in its order.
        origins: Where the layers' weights come from; none for a layer whose weights the framework does not have.
    """

    source: Path
    container: Container
    output: Path
    route: str
    has_graph: bool
    notes: tuple[str, ...]
    n_layers: int
    weights: tuple[str, ...]
    origins: tuple[WeightOrigin, ...]

    @property
    def n_weights(self) -> int:
        """Weights of layers that the framework has."""
        return len(self.weights)

    @property
    def n_found(self) -> int:
        """Those of them that are in the file."""
        return len({origin.weights for origin in self.origins})

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that are not, in the framework's order."""
        found = {origin.weights for origin in self.origins}
        return tuple(name for name in self.weights if name not in found)


def convert(request: Request, converters: Converters) -> Conversion:
    """Convert a container to ONNX.

    The file is written beside its place and moved there when it is complete. It says in its metadata what it was made
    from, through what, and which of its layers holds which weights of the framework.

    Args:
        request: What to convert, and where the file goes.
        converters: Gives the converter of a container.

    Raises:
        ConversionError: It cannot be converted.
        TrustRequired: It could run code of its own.
        MissingExtra: A framework is not installed.
        PluginError: The converter is missing or broken.
        ModelError: The result cannot be read or written.
    """
    source, output = request.source, request.target
    if not source.exists():
        raise ConversionError(f"there is no {str(source)!r}; check the path")
    if is_same_file(source, output):
        raise WriteBackError(f"{str(output)!r} is the model itself; write the ONNX file elsewhere")
    converter = converters(request.container)
    with room_beside(output) as room:
        made = room / output.name
        converted = _called(converter, replace(request, target=made))
        n_layers, origins = _origins(made, converted, request)
        append_metadata(made, _metadata(request.container, converted, origins))
        publish(made, output, source)
    return Conversion(
        source=source,
        container=request.container,
        output=output,
        route=converted.route,
        has_graph=converted.has_graph,
        notes=converted.notes,
        n_layers=n_layers,
        weights=tuple(one.name for one in converted.weights),
        origins=origins,
    )


def _called(converter: Converter, request: Request) -> Converted:
    """What a converter made; what a framework lets through as an error of its own becomes one line of ours."""
    try:
        return converter(request)
    except (OnnxmarkError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["it says no more"]
        raise ConversionError(
            f"{str(request.source)!r}, {request.container.words}, cannot be converted: {type(error).__name__}: "
            f"{lines[0][:300]}; see --debug, or export it to ONNX with the framework it comes from"
        ) from error


def _origins(made: Path, converted: Converted, request: Request) -> tuple[int, tuple[WeightOrigin, ...]]:
    try:
        with open_model(made) as model:
            return len(model.sites()), match(model, converted.weights)
    except ModelError as error:
        raise ConversionError(
            f"{str(request.source)!r} was converted by {converted.route}, and the file cannot be read: {error}"
        ) from error


def _metadata(container: Container, converted: Converted, origins: tuple[WeightOrigin, ...]) -> dict[str, str]:
    said = {
        "container": str(container),
        "route": converted.route,
        "has_graph": converted.has_graph,
        "notes": list(converted.notes),
    }
    return {SOURCE: json.dumps(said, sort_keys=True), ORIGINS: to_record(origins)}
