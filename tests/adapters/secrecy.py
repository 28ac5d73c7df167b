"""Whether anything of a key shows in what a training leaves behind, in the forms in which a program may write it."""

from __future__ import annotations

import base64
import zipfile

from onnxmark.schemes.projection.projection import own_projection


def traces(key):
    """The secret seed and the first row derived from it, as bytes, hexadecimal, base64 and a Python list."""
    seed = key.seed.reveal()
    row = own_projection(key, key.carrier.shape).rows(0, 1)[0, :32]
    derived = [row.astype(dtype).tobytes() for dtype in ("int8", "float32", "float64")]
    texts = [seed.hex(), base64.b64encode(seed).decode().rstrip("="), repr(seed)[2:-1], str(list(seed))[1:-1]]
    return [seed, *derived, *(text.encode() for text in texts)]


def leaks(key, data):
    """The traces of a key found in bytes."""
    return [trace for trace in traces(key) if trace in data]


def leaking_files(key, folder):
    """The files in a folder, and the members of archives there, in which a key shows; there must be files at all."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(leaks(key, data) for data in _contents(path))]


def _contents(path):
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())
