"""Naming files that are not ONNX models, with what to do about each: the most common support question of model zoos.

Formats with an unmistakable signature are recognised before parsing. Text is judged only after parsing failed, because
a protobuf message of printable bytes is possible.
"""

from __future__ import annotations

HEAD = 512
"""Bytes needed to recognise a format."""

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the model itself: git lfs pull"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it first: onnxmark convert model.tflite -o model.onnx"),
    (4, b"ORTM", "an ONNX Runtime flatbuffer (.ort)", "convert it first: onnxmark convert model.ort -o model.onnx"),
    (
        0,
        b"PK\x03\x04",
        "a zip archive (PyTorch checkpoint, Keras model or NumPy archive)",
        "if it is a model, convert it first: onnxmark convert MODEL -o model.onnx",
    ),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file (Keras model or weights)",
        "convert it first: onnxmark convert model.h5 -o model.onnx",
    ),
    (0, b"GGUF", "a GGUF model", "export the original model to ONNX"),
    (0, b"\x93NUMPY", "a NumPy array", "name the model, not the key or the data"),
    (0, b"\x1f\x8b", "gzip-compressed data", "unpack it first"),
    (0, b"\x89PNG", "a PNG image", "name the model"),
    (0, b"%PDF", "a PDF document", "name the model"),
    (0, b"\x7fELF", "an executable", "name the model"),
    *(
        (
            0,
            b"\x80" + bytes([version]),
            "a pickle (PyTorch or scikit-learn)",
            "export it to ONNX, or let it run: onnxmark convert model.pt --trust -o model.onnx",
        )
        for version in range(2, 6)
    ),
)


def recognised(head: bytes) -> tuple[str, str] | None:
    """What a file with an unmistakable signature is, and what to do; None when it may be a model."""
    for offset, signature, what, advice in _SIGNATURES:
        if head.startswith(signature, offset):
            return what, advice
    if (head[8:9] == b"{" and b'"dtype"' in head) or head[8:22] == b'{"__metadata__':
        return "a safetensors file", "convert it first: onnxmark convert model.safetensors -o model.onnx"
    return None


def guessed(head: bytes) -> tuple[str, str] | None:
    """What a file that did not parse seems to be, and what to do; None when there is no telling."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text or not _printable(text):
        return None
    lowered = text[:64].lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, probably a failed download", "download it again"
    if text[:1] in b"{[":
        return "JSON text", "name the .onnx file"
    if text.startswith(b"<"):
        return "an XML document", "name the .onnx file"
    return "a text file", "name the .onnx file"


def _printable(text: bytes) -> bool:
    # A multi-byte character may be cut at the end of the head, hence "ignore".
    decoded = text.decode("utf-8", "ignore")
    return len(decoded.encode()) + 3 >= len(text) and all(char.isprintable() or char in "\t\r\n\f" for char in decoded)
