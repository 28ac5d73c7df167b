"""SavedModels of TensorFlow to ONNX, through tf2onnx, and the variables that their convolutions and products take.

A SavedModel keeps variables by the path of the object that owns them; what kind of layer takes one, only the graph of
its signature says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from onnxmark.conversion import Converted, Request
from onnxmark.errors import ConversionError, TrustRequired
from onnxmark_tf.backends import versions
from onnxmark_tf.exchange import ExportRefused
from onnxmark_tf.exporting import require_groups
from onnxmark_tf.frameworks import first_line, imported
from onnxmark_tf.mending import mended
from onnxmark_tf.operations import dangers
from onnxmark_tf.variables import host_weights
from onnxmark_tf.written import check_written

_PURPOSE: Final = "converting a SavedModel"
_USUAL: Final = "serving_default"
_KEPT_APART: Final = ("_XlaMustCompile", "_noinline")
"""Attributes by which a function stays a function."""


def convert_saved_model(request: Request) -> Converted:
    """Write the ONNX file of the signature ``serving_default``, or of the only one.

    Raises:
        ConversionError: The SavedModel is damaged, has no such signature, or uses what ONNX has not.
        TrustRequired: Loading it could do more than compute.
        MissingExtra: TensorFlow or tf2onnx is not installed.
    """
    tensorflow = imported("tensorflow", "tf", _PURPOSE)
    imported("tf2onnx.convert", "tf", _PURPOSE)
    directory = request.source if request.source.is_dir() else request.source.parent
    where = repr(str(request.source))
    with _loadable(_judged(directory, request, where), directory) as copy:
        try:
            loaded = tensorflow.saved_model.load(copy)
        except Exception as error:
            raise ConversionError(f"{where}: TensorFlow cannot load it: {first_line(error)}") from error
        name, signature = _signature(loaded, where)
        try:
            weights = host_weights(signature)
            require_groups(request, weights)
            with mended():
                _write(tensorflow, signature, request)
        except ExportRefused:
            raise
        except Exception as error:
            raise ExportRefused(f"{where}: tf2onnx cannot convert {name!r}: {first_line(error)}") from error
    check_written(request, where)
    return Converted(versions(("tensorflow", "tf2onnx")), weights)


def _judged(directory: Path, request: Request, where: str) -> Any:
    """The parsed message, refused where it could act when it is loaded, unless it is trusted."""
    parse = imported("tensorflow.python.saved_model.loader_impl", "tf", _PURPOSE).parse_saved_model
    try:
        saved_model = parse(str(directory))
    except Exception as error:
        raise ConversionError(f"{where}: damaged, or no SavedModel ({first_line(error)}); export it anew") from error
    found = () if request.trust else dangers(saved_model)
    if found:
        raise TrustRequired(
            f"{where} holds {', '.join(found[:4])}: loading it runs code of the file, which can read and write others; "
            "pass --trust if you trust whoever made it, or export it anew without that"
        )
    return saved_model


@contextmanager
def _loadable(saved_model: Any, directory: Path) -> Iterator[str]:
    """A copy to load in its place: the very message that was judged, without what keeps functions from being inlined.

    Keras runs grouped convolutions in a function that XLA compiles; tf2onnx would leave the call in the ONNX file.
    """
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        for holder in (function, *function.node_def):
            for name in _KEPT_APART:
                holder.attr.pop(name, None)
    with TemporaryDirectory(prefix="onnxmark-") as folder:
        Path(folder, "saved_model.pb").write_bytes(saved_model.SerializeToString())
        for part in ("variables", "assets"):
            if (directory / part).is_dir():
                Path(folder, part).symlink_to((directory / part).resolve(), target_is_directory=True)
        yield folder


def _signature(loaded: Any, where: str) -> tuple[str, Any]:
    signatures = {name: one for name, one in loaded.signatures.items() if not name.startswith("_")}
    if _USUAL in signatures:
        return _USUAL, signatures[_USUAL]
    if len(signatures) == 1:
        return next(iter(signatures.items()))
    found = ", ".join(sorted(signatures)) or "none"
    raise ConversionError(f"{where}: has no signature {_USUAL!r} to convert (it has: {found}); export it with one")


def _write(tensorflow: Any, signature: Any, request: Request) -> None:
    """Have tf2onnx write the file, inputs and outputs called as in the signature."""
    from tf2onnx import convert

    specs = signature.structured_input_signature[1]
    named = [tensorflow.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()]

    def called(*values: Any) -> Any:
        return signature(**dict(zip(specs, values, strict=True)))

    function = tensorflow.function(called, input_signature=named)
    convert.from_function(function, named, opset=request.opset, output_path=str(request.target))
