"""What an HDF5 file of Keras says of itself: whether it holds a model, and how it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxmark.errors import ConversionError
from onnxmark_tf.frameworks import first_line, imported


def configuration(path: Path) -> str | None:
    """The configuration of the model in the file, as JSON; None where it holds weights only.

    Raises:
        ConversionError: It is damaged, or not HDF5.
    """
    with opened(path) as file:
        config = file.attrs.get("model_config")
        return config.decode("utf-8") if isinstance(config, bytes) else config


def is_legacy(path: Path) -> bool:
    """Whether the file is laid out as by Keras 2, after layers, and not as by Keras 3, after objects."""
    with opened(path) as file:
        return "layer_names" in file.attrs or "model_weights" in file


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading.

    Raises:
        ConversionError: It is damaged, not HDF5, or does not hold what is read of it.
        MissingExtra: h5py is not installed.
    """
    h5py = imported("h5py", "tf", "reading HDF5")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ConversionError(f"{str(path)!r}: damaged, or no HDF5 file of Keras ({first_line(error)})") from error
