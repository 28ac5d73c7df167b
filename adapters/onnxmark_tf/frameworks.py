"""Importing what a conversion needs, so that what is missing or does not fit is said in one line.

TensorFlow, tf2onnx and onnx are tied to ranges of protobuf and numpy that do not always meet; the failure then is an
ImportError, a TypeError or an AttributeError out of generated code, and says nothing of versions.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from onnxmark.errors import ConversionError, MissingExtra
from onnxmark_tf.backends import require, versions

_NEIGHBOURS: Final = ("tensorflow", "tf2onnx", "onnx", "protobuf", "numpy")


def imported(package: str, extra: str, purpose: str) -> ModuleType:
    """A package.

    Args:
        package: Its name.
        extra: Extra of onnxmark that installs it.
        purpose: What it is needed for, as the subject of a sentence.

    Raises:
        MissingExtra: It is not installed.
        ConversionError: It does not import beside the others.
    """
    if find_spec(package) is None:
        raise MissingExtra(package, extra, purpose)
    try:
        return import_module(package)
    except Exception as error:
        raise ConversionError(
            f"{package} does not import beside {versions(_NEIGHBOURS)}: {first_line(error)}; "
            f"install versions that fit each other: pip install -U 'onnxmark[{extra}]'"
        ) from error


def keras_on(backend: str | None, purpose: str) -> ModuleType:
    """Keras, on the backend asked for.

    Raises:
        MissingExtra: One of the two is not installed.
        ConversionError: Keras runs on another backend in this process, or is older than version 3.
    """
    if backend is not None:
        require(backend, purpose)
    keras = imported("keras", "tf", purpose)
    if not hasattr(keras, "version") or int(keras.version().partition(".")[0]) < 3:
        raise ConversionError(f"{purpose} needs Keras 3, not {versions(('keras',))}; run: pip install -U keras")
    running = str(keras.backend.backend())
    if backend not in (None, running):
        raise ConversionError(f"{purpose} is to run on {backend}, but Keras runs on {running} in this process already")
    require(running, purpose)
    return keras


def first_line(error: BaseException) -> str:
    """What an error says, as one line of at most 300 characters; Keras colours its messages for a terminal."""
    words = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split()) or type(error).__name__
    return words if len(words) <= 300 else f"{words[:297]}..."
