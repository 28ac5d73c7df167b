"""Converters for tests: a chain of convolutions as other exporters would write it, from known weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from onnxmark.conversion import Container, Converted, Request, SourceWeights
from tests.onnx_models import conv_chain


def source_weights(kernels: Sequence[np.ndarray], names: Sequence[str] | None = None) -> tuple[SourceWeights, ...]:
    names = names or [f"net.{index}.kernel" for index in range(len(kernels))]
    return tuple(SourceWeights(name, kernel.copy(), "OIHW") for name, kernel in zip(names, kernels, strict=True))


def converter(kernels: Sequence[np.ndarray], written: Sequence[np.ndarray] | None = None, **said):
    """A converter that writes ``written`` (or the kernels) and says that the framework's are ``kernels``."""

    def convert(request: Request) -> Converted:
        conv_chain(request.target, list(kernels if written is None else written))
        return Converted("test 1.0", source_weights(kernels), **said)

    return convert


def only(convert: Callable[[Request], Converted]):
    """Gives one converter for every container."""
    return lambda container: convert


def request(source: Path, target: Path, container: Container = Container.TFLITE) -> Request:
    return Request(source, container, target)
