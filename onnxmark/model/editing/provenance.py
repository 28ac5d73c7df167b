"""Saying in a finished model file where it comes from, without reading its weights.

A protobuf message continued by another is the two merged, and ``metadata_props`` is a repeated field. So entries go to
the end of the file as they are: a model of gigabytes costs one short write, and no byte that was there changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import count
from os import PathLike, fspath
from pathlib import Path
from typing import Final

from onnxmark.errors import WriteBackError
from onnxmark.model.limits import MAX_METADATA, MAX_TEXT
from onnxmark.model.opened import open_model

_METADATA_PROPS: Final = 0x72
_KEY: Final = 0x0A
_VALUE: Final = 0x12
_LARGEST: Final = 2**31 - 1
"""Bytes of a message that other protobuf readers accept."""


def append_metadata(path: str | PathLike[str], entries: Mapping[str, str]) -> dict[str, str]:
    """Add ``metadata_props`` entries to a model file.

    Nothing is ever replaced, for what an earlier tool said is part of the history, and ONNX forbids a key that occurs
    twice: an entry that is there already is left out, and a key with another value takes its next free number
    (``attack``, ``attack.2``, ``attack.3``).

    A write that fails is undone. Should the machine stop in the middle of it, the file ends inside an entry and no
    reader accepts it, so append before a file gets the name under which others look for it.

    Args:
        path: The model, changed in place; external data are left alone.
        entries: Values by key; keys have 1 byte to 1 MiB in UTF-8, values at most 16 MiB.

    Returns:
        What was written, by the key it was written under.

    Raises:
        ValueError: A key is empty, or a text is too long or not Unicode.
        ModelError: The file is not a model.
        WriteBackError: It cannot be written, or would grow over 2 GiB and be lost to other readers.
    """
    path = Path(fspath(path))
    with open_model(path) as model:
        known, size = model.metadata, model.size
    fresh = _numbered(entries, known)
    data = b"".join(_field(_METADATA_PROPS, _entry(key, value)) for key, value in fresh.items())
    if size <= _LARGEST < size + len(data):
        raise WriteBackError(f"{str(path)!r}: {len(data)} bytes more are over 2 GiB, which other readers refuse")
    if data:
        _append(path, size, data)
    return fresh


def _numbered(entries: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The entries to add, each under a key of its own."""
    fresh: dict[str, str] = {}
    for key, value in entries.items():
        for name in _names(key):
            present = known.get(name, fresh.get(name))
            if present is None:
                fresh[name] = value
            if present in (None, value):
                break
    return fresh


def _names(key: str) -> Iterator[str]:
    yield key
    yield from (f"{key}.{number}" for number in count(2))


def _entry(key: str, value: str) -> bytes:
    if not key:
        raise ValueError("a metadata key must not be empty")
    return _field(_KEY, _text("key", key, MAX_TEXT)) + _field(_VALUE, _text("value", value, MAX_METADATA))


def _text(what: str, text: str, most: int) -> bytes:
    encoded = text.encode()
    if len(encoded) > most:
        raise ValueError(f"a metadata {what} must have at most {most} bytes, found {len(encoded)}")
    return encoded


def _field(tag: int, content: bytes) -> bytes:
    """A field of a length and that many bytes."""
    return bytes([tag]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _append(path: Path, size: int, data: bytes) -> None:
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(size)
            try:
                _write(file.fileno(), data)
            except BaseException:
                file.truncate(size)
                raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteBackError(f"{str(path)!r} cannot be extended ({reason}); check space and permissions") from error


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)
