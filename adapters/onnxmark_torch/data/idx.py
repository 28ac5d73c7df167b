"""IDX, the format of the MNIST family: four bytes of magic, the sizes, then the elements.

Magic is ``00 00 08 n``: unsigned bytes in an array of n axes; sizes are 32-bit, big-endian. The header is believed only
as far as the file bears it out, and a compressed file is never expanded beyond what its header promises.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
from numpy.typing import NDArray

from onnxmark.errors import DataError

MAX_ELEMENTS: Final = 1 << 30
_MAX_AXES: Final = 4


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes.

    Args:
        path: The file; gunzipped on the way where its name ends in ``.gz``.

    Returns:
        One to four axes, as the header says, read-only.

    Raises:
        DataError: The file is missing, of another format, larger than 2^30 elements, truncated or too long.
    """
    try:
        with opened(path) as file:
            return _array(file, f"data file {str(path)!r}")
    except FileNotFoundError as error:
        raise DataError(f"data file {str(path)!r}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"data file {str(path)!r}: cannot be read ({error}); get it again") from error


def opened(path: Path) -> IO[bytes]:
    """A data file for reading, gunzipped on the way where its name ends in ``.gz`` or ``.tgz``."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix in (".gz", ".tgz") else path.open("rb")


def _array(file: IO[bytes], where: str) -> NDArray[np.uint8]:
    magic = file.read(4)
    if len(magic) != 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= _MAX_AXES:
        raise DataError(f"{where}: not an IDX file of unsigned bytes (starts with {magic.hex(' ') or 'nothing'})")
    sizes = file.read(4 * magic[3])
    if len(sizes) != 4 * magic[3]:
        raise DataError(f"{where}: ends inside its header; get it again")
    shape = tuple(int.from_bytes(sizes[start : start + 4], "big") for start in range(0, len(sizes), 4))
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise DataError(f"{where}: claims {count:,} elements; at most {MAX_ELEMENTS:,} are read")
    # One byte more than promised, to notice what comes after.
    data = file.read(count + 1)
    if len(data) != count:
        found = "more" if len(data) > count else f"{len(data):,}"
        raise DataError(f"{where}: promises {count:,} elements and holds {found}; get it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
