"""ONNX written as text: protobuf's text form, JSON, or ONNX's own syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from onnxmark.errors import ConversionError

_FORMATS: Final = {".onnxtxt": "onnxtxt", ".onnxtext": "onnxtxt", ".onnxjson": "json"}


def write_as_binary(source: Path, target: Path) -> str:
    """Write a model kept as text as a binary ONNX file.

    Args:
        source: A file called ``.onnxtxt``, ``.onnxtext`` (ONNX's syntax or protobuf's) or ``.onnxjson``.
        target: The file to write.

    Returns:
        The program that wrote it, with its version.

    Raises:
        ConversionError: The text is no model.
    """
    import onnx

    problems = []
    for form in dict.fromkeys((_FORMATS.get(source.suffix.lower(), "onnxtxt"), "textproto")):
        try:
            model = onnx.load_model(source, format=form)
        except Exception as error:  # each form's parser raises classes of its own
            problems.append((str(error).strip().splitlines() or [type(error).__name__])[0][:150])
            continue
        onnx.save_model(model, target)
        return f"onnx {onnx.__version__}"
    raise ConversionError(f"{str(source)!r} is not ONNX as text: {problems[0]}; write it again with onnx.save_model")
