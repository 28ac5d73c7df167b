"""Converters that need no other framework: ONNX in another coat."""

from __future__ import annotations

from onnxmark.conversion.converter import Converted, Request


def convert_ort(request: Request) -> Converted:
    """An ``.ort`` flatbuffer, through ONNX Runtime; see :mod:`onnxmark.model.deploying.flatbuffers`."""
    from onnxmark.model.deploying.flatbuffers import write_as_onnx

    return Converted(write_as_onnx(request.source, request.target), ())


def convert_text(request: Request) -> Converted:
    """ONNX as text; see :mod:`onnxmark.model.deploying.texts`."""
    from onnxmark.model.deploying.texts import write_as_binary

    return Converted(write_as_binary(request.source, request.target), ())
