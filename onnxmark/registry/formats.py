"""What a file is, from its name and first bytes: an ONNX model, a model of another format, a pointer, or none of these.

Parsing proves nothing here: every field of an ONNX model is optional, so an empty file is a valid one, as many a text
is. A file called ``.onnx`` is taken for a model unless it is recognised as something else, and what is broken about it
is for the audit to say. Any other file is taken for one only if its outermost fields are those of a model, fill the
file exactly, and hold a graph; or if among them are all that a runtime asks for, whatever else there is. That comes
before any signature of another format, with which a model may begin (:mod:`onnxmark.model.outline`). Nothing is
unpickled, unzipped or loaded.

Reasons are fixed texts without the path, so that a report can count them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onnxmark.errors import ModelError
from onnxmark.model import foreign
from onnxmark.model.outline import begins_like_a_message
from onnxmark.model.source import Source
from onnxmark.model.wire import Wire
from onnxmark.registry.entries import Outcome

HEAD: Final = foreign.HEAD
"""Bytes from the beginning of a file that are looked at."""

MODEL_TAGS: Final = frozenset([0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xA2, 0xCA, 0xD2])
"""Field number << 3 | wire type of every field of ONNX's ModelProto."""
GRAPH_TAGS: Final = frozenset([0x0A, 0x12, 0x2A, 0x52, 0x5A, 0x62, 0x6A, 0x72, 0x7A, 0x82])
"""The same of GraphProto."""
_GRAPH: Final = 0x3A
_MOST_FIELDS: Final = 4096


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a file that looks like a model.

    Args:
        outcome: What.
        reason: Why, unless it is audited.
        convertible: It is a model of another format, for which there is a converter that asks for no trust.
    """

    outcome: Outcome
    reason: str | None = None
    convertible: bool = False

    @property
    def converted(self) -> Judgement:
        """The same where models of other formats are converted."""
        return Judgement(Outcome.MODEL) if self.convertible else self


@dataclass(frozen=True, slots=True)
class _Format:
    words: str
    suffixes: tuple[str, ...]
    advice: str
    convertible: bool = False

    @property
    def judgement(self) -> Judgement:
        return Judgement(Outcome.UNSUPPORTED, f"{self.words}; {self.advice}", self.convertible)


def _convertible(words: str, *suffixes: str) -> _Format:
    advice = f"scan with --convert, or convert it: onnxmark convert MODEL{suffixes[0]} -o MODEL.onnx"
    return _Format(words, suffixes, advice, convertible=True)


_TFLITE = _convertible("TensorFlow Lite", ".tflite", ".lite")
_ORT = _convertible("ONNX Runtime flatbuffer", ".ort")
_TORCH = _Format(
    "PyTorch archive",
    (".pt", ".pth", ".ckpt", ".torchscript"),
    "opening it may run code, so convert it where you trust it: onnxmark convert MODEL.pt --trust -o MODEL.onnx",
)
_EXPORTED = _convertible("PyTorch exported program", ".pt2")
_KERAS = _convertible("Keras archive", ".keras")
_HDF5 = _convertible("HDF5 (Keras model or weights)", ".h5", ".hdf5")
_ONNX_TEXT = _convertible("ONNX as text", ".onnxtxt", ".onnxtext", ".onnxjson")
_SAVED_MODEL = _Format(
    "TensorFlow SavedModel",
    (),
    "scan it where it is a folder of this machine with --convert, or convert it: onnxmark convert SAVED_MODEL_DIR "
    "-o MODEL.onnx",
    convertible=True,
)
_SAFETENSORS = _convertible("safetensors", ".safetensors")
_GGUF = _Format("GGUF", (".gguf",), "holds weights without a graph: export the model it belongs to to ONNX")
_PICKLE = _Format(
    "pickle, which is never opened here because it may run code",
    (".pkl", ".pickle", ".joblib"),
    "export the model in it to ONNX where you trust it",
)
_OTHER_TOOL = _Format(
    "model of another tool",
    (".mlmodel", ".pdmodel", ".caffemodel", ".engine", ".trt", ".pte"),
    "export the original model to ONNX",
)
_MARKED = (_TFLITE, _ORT, _KERAS, _HDF5, _SAFETENSORS, _GGUF)
"""Formats whose files all begin with a mark of theirs."""
_TEXTUAL = (_PICKLE, _ONNX_TEXT)
"""Formats whose files may be text."""
_FORMATS = (*_MARKED, *_TEXTUAL, _TORCH, _EXPORTED, _OTHER_TOOL)

_MAGIC: tuple[tuple[int, bytes, _Format], ...] = (
    (4, b"TFL3", _TFLITE),
    (4, b"ORTM", _ORT),
    (0, b"\x89HDF\r\n\x1a\n", _HDF5),
    (0, b"GGUF", _GGUF),
)
# The opcodes that begin a dictionary, list, tuple, class, string or, in torch's files before 1.6, a long number. Raw
# weights may begin with the two bytes before.
_PICKLED = re.compile(rb"\x80(?:[\x02\x03][}\](c)X\x8a]|[\x04\x05]\x95)")
_LFS = b"version https://git-lfs"


def named_like_a_model(name: str) -> bool:
    """Whether the last part of a path ends as those of models do, or says that an ONNX model is packed in it."""
    lowered = name.lower()
    if lowered in ("saved_model.pb", "saved_model.pbtxt") or _packed(lowered):
        return True
    return _is_onnx(lowered) or _by_suffix(lowered) is not None


def is_saved_model(name: str) -> bool:
    """Whether a file of this name makes its directory a TensorFlow SavedModel."""
    return name in ("saved_model.pb", "saved_model.pbtxt")


def judged(
    name: str, head: bytes, size: int, holds_graph: Callable[[], bool], has_outline: Callable[[], bool]
) -> Judgement | None:
    """What becomes of a file; None for one that is no model.

    Args:
        name: Last part of its path.
        head: Its first :data:`HEAD` bytes, or all of them.
        size: Bytes it has.
        holds_graph: Whether its content has the form of an ONNX model with a graph; asked only where it matters.
        has_outline: Whether among what it holds is all that a runtime asks of a model; asked only where it matters.
    """
    lowered = name.lower()
    if not size:
        return Judgement(Outcome.FAILED, "is empty; get it again") if named_like_a_model(name) else None
    if head.startswith(_LFS):
        pointer = Judgement(Outcome.POINTER, "is a Git LFS pointer; fetch the model: git lfs pull")
        return pointer if named_like_a_model(name) else None
    known = _SAVED_MODEL if is_saved_model(name) else _by_content(lowered, head, size)
    signed = known is not None or foreign.recognised(head) is not None
    if (signed or head[0] not in MODEL_TAGS) and begins_like_a_message(head, size) and has_outline():
        return Judgement(Outcome.MODEL)
    if known is not None:
        return known.judgement
    if _is_onnx(lowered) or _packed(lowered):
        return _called_onnx(head, holds_graph)
    if head[0] in MODEL_TAGS and holds_graph():
        return Judgement(Outcome.MODEL)
    return _called_otherwise(lowered, head)


def holds_graph(source: Source) -> bool:
    """Whether a file's outermost fields are those of an ONNX model, fill it exactly, and include a graph's."""
    wire, graph = Wire(source), None
    try:
        for count, (tag, start, end) in enumerate(wire.stream(0, source.size)):
            if tag not in MODEL_TAGS or count == _MOST_FIELDS:
                return False
            if tag == _GRAPH:
                graph = (start, end)
        return graph is not None and next((tag for tag, _, _ in wire.stream(*graph)), None) in GRAPH_TAGS
    except ModelError:
        return False


def _is_onnx(lowered: str) -> bool:
    return lowered.endswith(".onnx")


def _packed(lowered: str) -> bool:
    return lowered.endswith((".onnx.gz", ".onnx.xz", ".onnx.bz2", ".onnx.zst", ".onnx.zip"))


def _by_suffix(lowered: str) -> _Format | None:
    return next((each for each in _FORMATS if lowered.endswith(each.suffixes)), None)


def _by_content(lowered: str, head: bytes, size: int) -> _Format | None:
    for offset, magic, known in _MAGIC:
        if head.startswith(magic, offset):
            return known
    if head.startswith(b"PK\x03\x04"):
        return _zipped(lowered, head)
    if _PICKLED.match(head):
        return _TORCH if lowered.endswith(_TORCH.suffixes) else _PICKLE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") + 8 <= size:
        return _SAFETENSORS
    return None


def _zipped(lowered: str, head: bytes) -> _Format | None:
    """Whose archive it is, from its first member: zip files of other kinds are none of ours."""
    end = 30 + int.from_bytes(head[26:28], "little")
    first = head[30:end]
    if lowered.endswith(_EXPORTED.suffixes):
        return _EXPORTED
    # PyTorch aligns its members with an extra field of its own, "FB".
    if first.endswith(b"/data.pkl") or head.startswith(b"FB", end) or lowered.endswith(_TORCH.suffixes):
        return _TORCH
    if lowered.endswith(_KERAS.suffixes) or (first == b"metadata.json" and b'"keras_version"' in head):
        return _KERAS
    return None


def _called_onnx(head: bytes, holds_graph: Callable[[], bool]) -> Judgement:
    other = foreign.recognised(head)
    if other is not None:
        return Judgement(Outcome.UNSUPPORTED, f"is {other[0]}, not an ONNX model; {other[1]}")
    text = foreign.guessed(head)
    if text is not None and not holds_graph():
        return Judgement(Outcome.FAILED, f"is {text[0]}, not an ONNX model; {text[1]}")
    return Judgement(Outcome.MODEL)


def _called_otherwise(lowered: str, head: bytes) -> Judgement | None:
    known = _by_suffix(lowered)
    if known is None:
        return None
    if known in _MARKED:
        return Judgement(Outcome.FAILED, f"is named like {known.words} but does not begin like it; get it again")
    # Python keeps search paths in text files that end in .pth.
    return known.judgement if known in _TEXTUAL or foreign.guessed(head) is None else None
