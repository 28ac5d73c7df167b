"""From another framework's container to an ONNX file that says where its weights came from, and back."""

from onnxmark.conversion.containers import Container, container_of
from onnxmark.conversion.converter import Converted, Converter, Request, SourceWeights
from onnxmark.conversion.converting import Conversion, convert
from onnxmark.conversion.restoring import RestoredWeights, restored_weights

__all__ = [
    "Container",
    "Conversion",
    "Converted",
    "Converter",
    "Request",
    "RestoredWeights",
    "SourceWeights",
    "container_of",
    "convert",
    "restored_weights",
]
