"""CIFAR-10 in its binary version: 60,000 colour images, 32x32, ten classes.

Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009). A record is one byte of label and 3,072 of
image, channel by channel. The version "for Python" is pickled, and a pickle runs whatever its author likes: only the
binary version is read. From an archive nothing is extracted: six members are read by name, each of the size it must
have.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import numpy as np

from onnxmark.errors import DataError
from onnxmark_torch.data.examples import DataSet, Examples
from onnxmark_torch.data.idx import opened

CLASS_NAMES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS: Final = 10_000
_SHAPE: Final = (3, 32, 32)
_RECORD_BYTES: Final = 1 + 3 * 32 * 32
_FOLDER: Final = "cifar-10-batches-bin"
_TRAINING: Final = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST: Final = "test_batch.bin"
_FILES: Final = (*_TRAINING, _TEST)
_MAX_BYTES: Final = 256 << 20
"""The whole archive has 184 MB, unpacked; one that goes on beyond this is something else."""


def load_cifar10(path: Path | str, *, records: int = RECORDS) -> DataSet:
    """Read the binary version of CIFAR-10.

    Args:
        path: The directory ``cifar-10-batches-bin``, the one it lies in, or the archive (``.tar.gz`` or ``.tar``).
        records: Images in each of the six files, at least 1; the set itself has 10,000.

    Returns:
        Five files' images of shape (3, 32, 32) to learn from, one file's to judge by.

    Raises:
        DataError: A file is missing, not of its size, or has a label above 9; or the archive is broken.
    """
    if records < 1:
        raise ValueError(f"records must be at least 1, not {records}")
    place, size = Path(path), records * _RECORD_BYTES
    try:
        batches = _from_directory(place, size) if place.is_dir() else _from_archive(place, size)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"data set {str(place)!r}: cannot be read ({error}); get it again") from error
    lacking = [name for name in _FILES if name not in batches]
    if lacking:
        raise DataError(
            f"data set {str(place)!r}: lacks {', '.join(lacking)}; take CIFAR-10's binary version, not the pickled one"
        )
    return DataSet(_examples(b"".join(batches[name] for name in _TRAINING)), _examples(batches[_TEST]))


def _from_directory(directory: Path, size: int) -> Mapping[str, bytes]:
    folder = directory / _FOLDER if (directory / _FOLDER).is_dir() else directory
    batches = {}
    for path in (folder / name for name in _FILES):
        if path.is_file():
            _check_size(str(path), path.stat().st_size, size)
            batches[path.name] = path.read_bytes()
    return batches


def _from_archive(path: Path, size: int) -> Mapping[str, bytes]:
    with opened(path) as file:
        return _members(_Bounded(file, str(path)), str(path), size)


def _members(stream: _Bounded, where: str, size: int) -> Mapping[str, bytes]:
    batches: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if folder != _FOLDER or name not in _FILES or not member.isreg() or member.issparse():
                continue
            _check_size(f"{where}: {member.name}", member.size, size)
            file = archive.extractfile(member)
            batches[name] = b"" if file is None else file.read()
    return batches


class _Bounded:
    """A stream that refuses to go on beyond ``_MAX_BYTES``: a header may claim any size, and gzip packs 1,000 to 1."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where, self._left = file, where, _MAX_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"data set {self._where!r}: unpacks to more than {_MAX_BYTES >> 20} MiB; not CIFAR-10")
        return data


def _check_size(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"data set {where}: has {found:,} bytes, expected {expected:,} "
            f"({expected // _RECORD_BYTES:,} records of {_RECORD_BYTES:,}); get it again"
        )


def _examples(data: bytes) -> Examples:
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, _RECORD_BYTES)
    return Examples(records[:, 1:].reshape(-1, *_SHAPE), records[:, 0].astype(np.int64), CLASS_NAMES)
