"""The containers that other frameworks keep models in, told by content; the name decides where content does not.

Nothing is unpickled or parsed here: magic bytes are compared, and of a zip archive the names of its members are listed.
"""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

from onnxmark.errors import ModelUnavailable
from onnxmark.model.outline import begins_like_a_message, has_outline
from onnxmark.model.source import Source

_HEAD: Final = 512
_TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt", ".torchscript")
_TEXT_SUFFIXES: Final = (".onnxtxt", ".onnxtext", ".onnxjson")
_PICKLE_VERSIONS: Final = b"\x02\x03\x04\x05"


class Container(StrEnum):
    """What a model comes in; each is also the name of its converter in ``onnxmark.adapters``."""

    KERAS = "keras"
    HDF5 = "hdf5"
    SAVED_MODEL = "saved-model"
    TFLITE = "tflite"
    TORCH = "torch"
    EXPORTED_PROGRAM = "pt2"
    SAFETENSORS = "safetensors"
    ORT = "ort"
    ONNX_TEXT = "onnx-text"

    @property
    def words(self) -> str:
        """What users call it, with its article."""
        return _WORDS[self]


_WORDS: Final = {
    Container.KERAS: "a Keras archive",
    Container.HDF5: "an HDF5 file of Keras",
    Container.SAVED_MODEL: "a TensorFlow SavedModel",
    Container.TFLITE: "a TensorFlow Lite model",
    Container.TORCH: "a PyTorch archive",
    Container.EXPORTED_PROGRAM: "a PyTorch exported program",
    Container.SAFETENSORS: "a safetensors file",
    Container.ORT: "an ONNX Runtime flatbuffer",
    Container.ONNX_TEXT: "ONNX as text",
}


def container_of(path: Path) -> Container | None:
    """What container a file or directory is; None for an ONNX file and for anything else.

    Raises:
        ModelUnavailable: It cannot be read.
    """
    if path.is_dir():
        marks = ("saved_model.pb", "saved_model.pbtxt")
        return Container.SAVED_MODEL if any((path / mark).is_file() for mark in marks) else None
    if not path.is_file():
        # A FIFO would block; the reader of ONNX files says what is wrong.
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ModelUnavailable(f"{str(path)!r} cannot be read ({error.strerror}); check its permissions") from error
    container = _by_content(path, head)
    if container is None or not begins_like_a_message(head, path.stat().st_size):
        return container
    with Source(path) as source:
        return None if has_outline(source) else container


def _by_content(path: Path, head: bytes) -> Container | None:
    name = path.name.lower()
    if head.startswith(b"TFL3", 4):
        return Container.TFLITE
    if head.startswith(b"ORTM", 4):
        return Container.ORT
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Container.HDF5
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head[8:10] == b'{"' or name.endswith((".safetensors", ".safetensors.index.json")):
        return Container.SAFETENSORS
    if name == "saved_model.pb":
        # Users point at the file as often as at its directory; the converter takes both.
        return Container.SAVED_MODEL
    if name.endswith(_TEXT_SUFFIXES):
        return Container.ONNX_TEXT
    pickled = head[:1] == b"\x80" and head[1:2] in _PICKLE_VERSIONS and name.endswith(_TORCH_SUFFIXES)
    return Container.TORCH if pickled else None


def _zipped(path: Path) -> Container | None:
    """Whose archive it is, from the names of its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        # A torn archive goes by its name, so that its converter says what is wrong with it.
        members = []
    inner = {member.partition("/")[2] for member in members}
    name = path.name.lower()
    if {"config.json", "metadata.json"} <= set(members) or name.endswith(".keras"):
        return Container.KERAS
    if "archive_format" in inner or "serialized_exported_program.json" in members or name.endswith(".pt2"):
        return Container.EXPORTED_PROGRAM
    return Container.TORCH if "data.pkl" in inner or name.endswith(_TORCH_SUFFIXES) else None
