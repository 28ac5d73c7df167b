"""What passes between a conversion and the process it runs in: a request one way, weights or an error the other.

TensorFlow and Keras settle their backend, their log level and their devices when they are first imported, and a damaged
file can take the whole process down in their C++ code. So a conversion has a process of its own, and this is the
protocol: JSON for words, an .npz for numbers, in a folder that only the two know; nothing is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from onnxmark.conversion import Container, Converted, Request, SourceWeights
from onnxmark.errors import ConversionError, MissingExtra, ModelUnavailable, OnnxmarkError, SettingError, TrustRequired

_REQUEST: Final = "request.json"
_OUTCOME: Final = "outcome.json"
_WEIGHTS: Final = "weights.npz"


class ExportRefused(ConversionError):
    """This backend's exporter cannot write the model; another one may."""


_ERRORS: Final = MappingProxyType(
    {kind.__name__: kind for kind in (ConversionError, ExportRefused, ModelUnavailable, SettingError, TrustRequired)}
)


def write_request(folder: Path, request: Request) -> None:
    """Leave a request in the folder."""
    fields = asdict(request) | {"source": str(request.source.absolute()), "target": str(request.target.absolute())}
    (folder / _REQUEST).write_text(json.dumps(fields), encoding="utf-8")


def read_request(folder: Path) -> Request:
    """The request that was left in the folder."""
    fields = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    fields["source"], fields["target"] = Path(fields["source"]), Path(fields["target"])
    fields["container"] = Container(fields["container"])
    fields["shapes"] = tuple((name, tuple(shape)) for name, shape in fields["shapes"])
    return Request(**fields)


def write_converted(folder: Path, converted: Converted) -> None:
    """Leave the outcome of a conversion in the folder."""
    arrays = {str(index): weights.values for index, weights in enumerate(converted.weights)}
    np.savez(folder / _WEIGHTS, allow_pickle=False, **arrays)
    weights = [{"name": w.name, "order": w.order, "group": w.group} for w in converted.weights]
    fields = {"route": converted.route, "has_graph": converted.has_graph, "notes": converted.notes, "weights": weights}
    _write_outcome(folder, fields)


def write_error(folder: Path, error: OnnxmarkError) -> None:
    """Leave the reason why there is none in the folder."""
    fields = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, MissingExtra):
        purpose = str(error).partition(f" needs {error.package}, ")[0]
        fields |= {"package": error.package, "extra": error.extra, "purpose": purpose}
    _write_outcome(folder, fields)


def read_outcome(folder: Path) -> Converted | None:
    """The outcome that was left in the folder; None where the process ended without leaving one.

    Raises:
        ConversionError: The conversion failed.
        TrustRequired: Likewise.
        MissingExtra: Likewise.
    """
    path = folder / _OUTCOME
    if not path.is_file():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    if "error" in fields:
        raise _error(fields)
    with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
        weights = tuple(
            SourceWeights(values=arrays[str(index)], **described) for index, described in enumerate(fields["weights"])
        )
    return Converted(fields["route"], weights, fields["has_graph"], tuple(fields["notes"]))


def _write_outcome(folder: Path, fields: dict[str, Any]) -> None:
    unfinished = folder / f"{_OUTCOME}.part"
    unfinished.write_text(json.dumps(fields), encoding="utf-8")
    unfinished.replace(folder / _OUTCOME)


def _error(fields: dict[str, str]) -> OnnxmarkError:
    if fields["error"] == MissingExtra.__name__:
        return MissingExtra(fields["package"], fields["extra"], fields["purpose"])
    return _ERRORS[fields["error"]](fields["message"])
