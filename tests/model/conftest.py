"""Real models found inside installed wheels; the packages themselves are never imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel_models() -> dict[str, Path]:
    """File name → path of the ONNX models of two wheels."""
    found: dict[str, Path] = {}
    for package in ("rapidocr-onnxruntime", "silero-vad"):
        try:
            entries = files(package) or []
        except PackageNotFoundError:
            pytest.skip(f"needs real models: pip install --no-deps {package}")
        found |= {Path(str(entry)).name: Path(str(entry.locate())) for entry in entries if str(entry).endswith(".onnx")}
    return found
