"""Read a ``.npy`` file nobody vouches for: header first, types from an allow-list, sizes exact, nothing unpickled.

``np.load`` on a hostile file of 200 bytes can ask for terabytes or fail with any of half a dozen exception types; a
key file often comes from the other side of a dispute.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format

from onnxmark.arrays import AnyArray, frozen
from onnxmark.errors import KeyFileError

MAX_KEY_BYTES: Final = 2 * 1024**3
_MAX_HEADER_BYTES: Final = 16 * 1024
"""Ours have at most 4 KiB; parsing grows faster than the text."""
_MAX_FIELDS: Final = 64
_MAX_AXES: Final = 8


def read_key_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most 2 GiB.

    Raises:
        KeyFileError: The file is missing, unreadable, not a regular file, empty or too large.
    """
    try:
        # Without O_NONBLOCK opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KeyFileError(f"key file {str(path)!r} cannot be opened: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory (give a directory of keys with --keys)" if stat.S_ISDIR(status.st_mode) else "no file"
            raise KeyFileError(f"key file {str(path)!r} is {kind}")
        if status.st_size > MAX_KEY_BYTES:
            raise KeyFileError(
                f"key file {str(path)!r} has {status.st_size:,} bytes; keys have at most {MAX_KEY_BYTES:,}"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_KEY_BYTES)
    finally:
        os.close(descriptor)


def parse_npy(data: bytes, where: str) -> AnyArray:
    """The array in the bytes of a ``.npy`` file, read-only.

    Args:
        data: The whole file.
        where: How to name the file in messages.

    Raises:
        KeyFileError: Not a ``.npy`` file, an object or otherwise unexpected type, or a size that does not fit.
    """
    shape, fortran, dtype, offset = _header(data, where)
    _check_dtype(dtype, where)
    if len(shape) > _MAX_AXES:
        raise KeyFileError(f"{where} declares {len(shape):,} axes; a key has at most {_MAX_AXES}")
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 1 << 63 for n in shape):
        # A number written in hexadecimal may be too long for Python to write it out.
        shown = shape if all(abs(n) < 1 << 63 for n in shape) else "of astronomical size"
        raise KeyFileError(f"{where} declares the impossible shape {shown}")
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(data) - offset:
        raise KeyFileError(
            f"{where} declares {expected:,} bytes of data and holds {len(data) - offset:,}; the file is damaged "
            "or cut short"
        )
    # No data, yet axes whose product NumPy cannot count.
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > MAX_KEY_BYTES:
        raise KeyFileError(f"{where} declares the impossible shape {shape!r}")
    flat = np.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=offset)
    return frozen(flat.reshape(shape, order="F" if fortran else "C").copy())


def _header(data: bytes, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    if not data.startswith(b"\x93NUMPY"):
        raise KeyFileError(f"{where} is not a .npy file; keys are made with 'onnxmark keygen' or numpy.save")
    file = BytesIO(data)
    try:
        version = npy_format.read_magic(file)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        # Parsing Python literals and old type names warns; the text is a stranger's, and the outcome says it all.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER_BYTES)
    except Exception as error:
        # NumPy's header parser answers hostile text with ValueError, TypeError, IndexError, KeyError, OverflowError,
        # SyntaxError, RecursionError, MemoryError and tokenizer errors. All of them mean the same thing here.
        raise KeyFileError(f"{where} has a .npy header that cannot be read ({type(error).__name__})") from error
    return shape, fortran, dtype, file.tell()


def _check_dtype(dtype: np.dtype[Any], where: str) -> None:
    if dtype.hasobject:
        raise KeyFileError(
            f"{where} holds pickled Python objects; onnxmark never unpickles. Save plain numbers instead"
        )
    if dtype.names is not None:
        if len(dtype.names) > _MAX_FIELDS:
            raise KeyFileError(f"{where} has {len(dtype.names)} fields; a key has at most {_MAX_FIELDS}")
        leaves = [dtype[name].base for name in dtype.names]
    else:
        leaves = [dtype]
    plain = all(leaf.kind in "biufS" and leaf.names is None and leaf.itemsize > 0 for leaf in leaves)
    if not plain or dtype.itemsize == 0:
        raise KeyFileError(f"{where} has an unexpected element type; keys hold numbers and short byte strings only")
