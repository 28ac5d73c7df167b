"""Which framework Keras is to run on, told without importing any: what is asked for, else what is installed.

Each needs an exporter of its own to ONNX, so that a framework alone does not make a backend.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from onnxmark.errors import MissingExtra, SettingError

BACKENDS: Final = MappingProxyType(
    {"tensorflow": ("tensorflow", "tf2onnx"), "torch": ("torch", "onnxscript"), "jax": ("jax", "jax2onnx")}
)
"""Backends of Keras that can export to ONNX, best first, and the packages each needs."""

_EXTRAS: Final = MappingProxyType({"tensorflow": "tf", "torch": "torch", "jax": "jax"})
_DISTRIBUTIONS: Final = MappingProxyType({"tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos")})


def candidates(asked: str | None) -> tuple[str, ...]:
    """Backends to try, in order: only the one asked for here or in KERAS_BACKEND, else every one installed.

    Raises:
        SettingError: The one asked for cannot export to ONNX.
    """
    asked = asked or os.environ.get("KERAS_BACKEND")
    if not asked:
        return tuple(backend for backend in BACKENDS if not _absent(backend)) or ("tensorflow",)
    if asked not in BACKENDS:
        raise SettingError(f"Keras cannot export to ONNX on the backend {asked!r}; there are: {', '.join(BACKENDS)}")
    return (asked,)


def require(backend: str, purpose: str) -> None:
    """Refuse a backend that is not installed.

    Raises:
        MissingExtra: It is not, or its exporter is not.
    """
    for package in _absent(backend):
        raise MissingExtra(package, _EXTRAS[backend], purpose)


def versions(packages: Iterable[str]) -> str:
    """Packages with their versions, in words (``keras 3.15.1, tf2onnx 1.17.0``)."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _absent(backend: str) -> tuple[str, ...]:
    """What a backend lacks."""
    return tuple(package for package in BACKENDS[backend] if find_spec(package) is None)


def _version(package: str) -> str:
    for distribution in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "(version unknown)"
